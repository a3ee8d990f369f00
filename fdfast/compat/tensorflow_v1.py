"""`tf.compat.v1.test.compute_gradient` and `compute_gradient_error`, all rows at once, for tensors of a graph.

References
----------
.. [1] TensorFlow 2.21, ``tf.compat.v1.test.compute_gradient``
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.ops import gradient_checker

from fdfast.compat.graph import Built
from fdfast.compat.numeric import ALLOWED
from fdfast.functions import check_fork, dense, interruptible
from fdfast.tape import InRows

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]
_ROUNDED_AS_SAID = tuple(dtype for dtype in ALLOWED if dtype != tf.bfloat16)


@interruptible()
def compute_gradient(
    x: Any,
    x_shape: Any,
    y: Any,
    y_shape: Any,
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Sequence[Any] | None = None,
    extra_feed_dict: Mapping[Any, Any] | None = None,
) -> Pair | list[Pair]:
    """Theoretical and numerical Jacobian of y, in the caller's graph and default session.

    Parameters
    ----------
    x : tensor or list of tensor
    x_shape : sequence of int, or a list of them
    y : tensor
    y_shape : sequence of int
    x_init_value : ndarray or list of ndarray, optional
        The points; by default drawn from ``np.random.random_sample``, as by TensorFlow. Never written.
    delta : float
        Displacement, in the units of x.
    init_targets : list or tuple of operations, optional
        Run once, before anything else.
    extra_feed_dict : dict, optional
        What else is fed.

    Returns
    -------
    tuple of ndarray, shape (inputs, outputs), real dtype of x; or a list of such pairs
        Transposed, other than `fdfast.compat.tensorflow.compute_gradient`.

    Raises
    ------
    AssertionError, ValueError
        As TensorFlow: for a dtype without a gradient, an x that y does not depend on, a shape that is not that of x;
        for an empty y whose gradient is not zero, or of another shape.
    """
    check_fork()
    several = isinstance(x, list)
    xs: list[Any] = x if isinstance(x, list) else [x]
    if any(tensor.dtype.base_dtype not in _ROUNDED_AS_SAID for tensor in (y, *xs)):
        original: Any = inspect.unwrap(gradient_checker.compute_gradient)
        # TensorFlow has ways of its own for bfloat16, and errors of its own for integers.
        found: list[Pair] = original(x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict)
        return found
    session = tf.compat.v1.get_default_session()
    with y.graph.as_default():
        dy = tf.compat.v1.placeholder(y.dtype, y_shape)
        gradients = tf.gradients([y], xs, [dy])
    if init_targets is not None:
        assert isinstance(init_targets, list | tuple)
        for one in init_targets:
            one.run()
    shapes = x_shape if several else [x_shape]
    points = (x_init_value if several else [x_init_value]) if x_init_value is not None else [None] * len(xs)
    pairs, recorder = [], InRows()
    for one, shape, gradient, point in zip(xs, shapes, gradients, points, strict=True):
        assert gradient is not None, f"dx = {gradient}: y does not depend on {one.name}"
        at = {**(extra_feed_dict or {}), one: _point(one, shape, point)}
        with y.graph.as_default():
            built = Built(session, y, [one], dy, [dense(gradient)], at, recorder)
        ((theoretical,), (numerical,)) = built.theoretical(), built.numerical(delta)
        pairs.append((np.ascontiguousarray(theoretical.T), np.ascontiguousarray(numerical.T)))
    return pairs if several else pairs[0]


def compute_gradient_error(*arguments: Any, **options: Any) -> Any:
    """Largest gap between the theoretical and the numerical Jacobian; arguments as of `compute_gradient`.

    Returns
    -------
    number
        0 for empty arrays; NaN if there is one.
    """
    found = compute_gradient(*arguments, **options)
    error: Any = 0
    for theoretical, numerical in found if isinstance(found, list) else [found]:
        if theoretical.size or numerical.size:
            error = np.maximum(error, np.abs(theoretical - numerical).max())
    return error


def _point(x: Any, shape: Any, given: Any) -> Array:
    dtype = x.dtype.base_dtype.as_numpy_dtype
    if given is not None:
        assert list(shape) == list(given.shape), f"x_shape = {shape}, init_data shape = {list(given.shape)}"
        return np.asarray(given, dtype)
    found: Array = np.random.random_sample(shape).astype(dtype)  # noqa: NPY002 - what TensorFlow draws
    if x.dtype.is_complex:
        found.imag = np.random.random_sample(shape)  # noqa: NPY002
    return found
