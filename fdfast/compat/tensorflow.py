"""`tf.test.compute_gradient` with all perturbed rows at once: the same arguments, results and errors.

References
----------
.. [1] TensorFlow 2.21, ``tf.test.compute_gradient``, https://www.tensorflow.org/api_docs/python/tf/test/compute_gradient
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.ops import gradient_checker, gradient_checker_v2

from fdfast.compat import tensorflow_v1
from fdfast.compat.eager import Eager, as_tensorflow_does
from fdfast.compat.graph import compute_in_graph
from fdfast.compat.numeric import ALLOWED, reals
from fdfast.functions import check_fork, interruptible

Array = npt.NDArray[Any]
Jacobians = tuple[Array, ...]

_log = logging.getLogger("fdfast")


@interruptible()
def compute_gradient(
    f: Callable[..., Any], x: Sequence[Any], delta: float | None = None
) -> tuple[Jacobians, Jacobians]:
    """Theoretical and numerical Jacobians of f, as `tf.test.compute_gradient` returns them.

    Parameters
    ----------
    f : callable
        Takes as many tensors as x has entries and returns one tensor.
    x : list or tuple
        The arguments: values convertible to tensors, of dtype float16, bfloat16, float32, float64, complex64 or
        complex128. Never written.
    delta : float, optional
        Displacement, in the units of x; by default 2**-10. It is added in the dtype of x.

    Returns
    -------
    theoretical : tuple of ndarray, shape (outputs, inputs)
        TensorFlow's derivative, one array for each argument, in the real dtype of the argument. A complex number
        counts as two, its real and its imaginary part. Zero where f does not depend on the argument.
    numerical : tuple of ndarray, shape (outputs, inputs)
        (f(x + delta e) - f(x - delta e)) / 2 delta, in the dtype that f returns, then cast to that of the argument.

    Raises
    ------
    ValueError
        x is no list or tuple; or f returns an empty tensor and its gradient is not zero, or not of the shape of x.
    AssertionError
        An argument, or what f returns, has another dtype.

    Notes
    -----
    Nothing is traced. f is called once, and what runs is recorded; so is one backward pass. Both then run at many rows,
    each operation once for all of them, by the rules of `fdfast.operations`; one without a rule runs row by row. Before
    that is trusted, what was recorded has to give what f gives, digit by digit, where all elements are displaced at
    once; if it does not, values went through Python, and f is called row by row. Few rows are always called. A function
    that draws random numbers or writes to variables is left to TensorFlow's own checker after the first call, so that
    it is called as often. In a caller's graph f and its gradient are built once, and their operations run in the same
    way; the session is asked for variables only. What did not go as was planned is logged to
    ``logging.getLogger("fdfast")`` as information.

    Kernels may add up the terms of a batch in another order than those of one row: numbers agree with TensorFlow's up
    to some units in the last place of f, over 2 delta.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from fdfast.compat.tensorflow import compute_gradient, max_error
    >>> theoretical, numerical = compute_gradient(lambda x: x * x, [[1.0, 2.0]])
    >>> theoretical[0]
    array([[2., 0.],
           [0., 4.]], dtype=float32)
    >>> bool(max_error(theoretical, numerical) < 1e-3)
    True
    """
    if not isinstance(x, list | tuple):
        raise ValueError(f"x must be a list or tuple with one entry for each argument of f, got {type(x)}")
    delta = 1.0 / 1024 if delta is None else delta
    check_fork()
    if not tf.executing_eagerly():
        return compute_in_graph(f, x, delta, check_dtypes)
    # Two arguments may be the same tensor; the tape has to tell them apart.
    xs = [tf.identity(tf.convert_to_tensor(value)) for value in x]
    found = Eager(f, xs)
    if not hasattr(found.value, "dtype"):
        return as_tensorflow_does(f, xs, found.value, delta)  # which raises
    check_dtypes([t.dtype for t in xs], tf.as_dtype(found.value.dtype))
    if not tf.is_tensor(found.value) or not reals(found.value) or found.keeps_state:
        return as_tensorflow_does(f, xs, found.value, delta)
    return tuple(found.theoretical()), tuple(found.numerical(delta))


def check_dtypes(dtypes: Sequence[Any], result: Any) -> None:
    """Raise AssertionError where TensorFlow does: for dtypes that it has no derivative for."""
    names = ", ".join(dtype.name for dtype in ALLOWED)
    for place, dtype in enumerate(dtypes):
        if dtype.base_dtype not in ALLOWED:
            raise AssertionError(f"argument {place} has dtype {dtype.name}, which has no gradient; allowed: {names}")
        if result.base_dtype not in ALLOWED:
            raise AssertionError(f"f returns {result.name}, which has no gradient; allowed: {names}")


def max_error(grad1: Sequence[Any], grad2: Sequence[Any]) -> Any:
    """Largest elementwise gap between two lists of arrays, as TensorFlow's gradient checker computes it.

    Parameters
    ----------
    grad1, grad2 : sequence of ndarray
        Same shapes in pairs; for instance what `compute_gradient` returns.

    Returns
    -------
    number
        0 for empty arrays; NaN if there is one.
    """
    error: Any = 0
    for one, two in zip(grad1, grad2, strict=False):
        if one.size or two.size:
            error = np.maximum(error, np.abs(one - two).max())
    return error


@contextlib.contextmanager
def patch() -> Iterator[None]:
    """Let TensorFlow's gradient checkers be ours, wherever a loaded module holds them under their names.

    That is ``tf.test.compute_gradient``, in ``tensorflow.python.ops.gradient_checker_v2`` too, and TensorFlow 1's
    ``compute_gradient`` and ``compute_gradient_error``, in ``tf.compat.v1.test`` and
    ``tensorflow.python.ops.gradient_checker``. Everything is put back at the end, after an exception too. For pytest
    see `fdfast.compat.pytest_fixture`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> with patch():
    ...     theoretical, numerical = tf.test.compute_gradient(tf.sin, [0.5])
    """
    pairs = (
        (gradient_checker_v2, "compute_gradient", compute_gradient),
        (gradient_checker, "compute_gradient", tensorflow_v1.compute_gradient),
        (gradient_checker, "compute_gradient_error", tensorflow_v1.compute_gradient_error),
    )
    with contextlib.ExitStack() as stack:
        for module, name, ours in pairs:
            stack.enter_context(_replaced(name, getattr(module, name), ours))
        yield


@contextlib.contextmanager
def _replaced(name: str, original: Any, ours: Any) -> Iterator[None]:
    if original is ours:  # already patched
        yield
        return
    before = set(_holders(name, ours))
    _replace(_holders(name, original), name, ours)
    try:
        yield
    finally:
        # TensorFlow loads modules when first used: some may have taken the name since.
        _replace([module for module in _holders(name, ours) if module not in before], name, original)


def _holders(name: str, function: Any) -> list[str]:
    modules = list(sys.modules.items())
    return [module for module, one in modules if getattr(one, "__dict__", {}).get(name) is function]


def _replace(modules: list[str], name: str, function: Any) -> None:
    for module in modules:
        setattr(sys.modules[module], name, function)  # TensorFlow wraps modules, and keeps what was looked up
