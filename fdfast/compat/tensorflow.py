"""`tf.test.compute_gradient` with all perturbed rows at once: the same arguments, results and errors.

References
----------
.. [1] TensorFlow 2.21, ``tf.test.compute_gradient``, https://www.tensorflow.org/api_docs/python/tf/test/compute_gradient
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.ops import gradient_checker_v2

from fdfast.compat.analytic import Autodiff, flat, reals
from fdfast.compat.graph import compute_in_graph
from fdfast.compat.numeric import columns_of, displaced
from fdfast.functions import RowValues, as_array, check_fork, interruptible

Array = npt.NDArray[Any]
Jacobians = tuple[Array, ...]

_ALLOWED = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128)
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
    f is traced once, for one row, and every operation of that trace is run at many rows, by a rule that keeps rows
    apart (`fdfast.functions.stacked`); the values are compared with those of f itself at x and at the first rows. Where
    an operation has no rule, draws random numbers or keeps state, and where rows are many and dear, rows go through f
    by one traced function (`fdfast.functions.over_rows`), fewer of them one by one through that of one row. What was
    traced is kept while f lives and reads the same. Where so few or so cheap calls are due that any tracing would take
    longer, and where f cannot be traced, f is called row by row. What could not be done as was planned is logged to
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
    analytic = Autodiff(f, xs)
    dtype = tf.as_dtype(analytic.value.dtype)
    check_dtypes([t.dtype for t in xs], dtype)
    theoretical = analytic.jacobians()
    for note in analytic.notes:
        _log.info(note)
    value = as_array(analytic.value)
    numerical = [_numerical(f, xs, place, value, dtype, delta) for place in range(len(xs))]
    return tuple(theoretical), tuple(numerical)


def check_dtypes(dtypes: Sequence[Any], result: Any) -> None:
    """Raise AssertionError where TensorFlow does: for dtypes that it has no derivative for."""
    names = ", ".join(dtype.name for dtype in _ALLOWED)
    for place, dtype in enumerate(dtypes):
        if dtype.base_dtype not in _ALLOWED:
            raise AssertionError(f"argument {place} has dtype {dtype.name}, which has no gradient; allowed: {names}")
        if result.base_dtype not in _ALLOWED:
            raise AssertionError(f"f returns {result.name}, which has no gradient; allowed: {names}")


def _numerical(f: Any, xs: list[Any], place: int, value: Array, dtype: Any, delta: float) -> Array:
    x = xs[place].numpy()
    columns = reals(xs[place])
    blocks: Iterable[tuple[int, Array]] = ()
    if value.size and columns:
        rows = RowValues(f, xs, place, value)
        blocks = rows.blocks(displaced(flat(x), x, delta), 2 * columns)
    return columns_of(blocks, xs[place].dtype, dtype, value, columns, delta)


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
    """Let `tf.test.compute_gradient` be the one of this module, wherever a loaded module holds it under that name.

    Everything is put back at the end, after an exception too. For pytest see `fdfast.compat.pytest_fixture`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> with patch():
    ...     theoretical, numerical = tf.test.compute_gradient(tf.sin, [0.5])
    """
    original = gradient_checker_v2.compute_gradient
    if original is compute_gradient:  # already patched
        yield
        return
    before = set(_holders(compute_gradient))
    _replace(_holders(original), compute_gradient)
    try:
        yield
    finally:
        # TensorFlow loads modules when first used: some may have taken the name since.
        _replace([name for name in _holders(compute_gradient) if name not in before], original)


def _holders(function: Any) -> list[str]:
    modules = list(sys.modules.items())
    return [name for name, module in modules if getattr(module, "__dict__", {}).get("compute_gradient") is function]


def _replace(names: list[str], function: Any) -> None:
    for name in names:
        vars(sys.modules[name])["compute_gradient"] = function
