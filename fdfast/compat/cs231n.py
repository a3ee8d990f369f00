"""The numeric gradients of the CS231n assignments (`cs231n/gradient_check.py`): same calls, same numbers."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.compat.rows import displaced, one_each, spans

Array = npt.NDArray[Any]


def rel_error(x: npt.ArrayLike, y: npt.ArrayLike) -> Any:
    """max(abs(x - y) / max(1e-8, abs(x) + abs(y))).

    Parameters
    ----------
    x, y : array_like, shapes that broadcast
        For instance a numeric and an analytic gradient.

    Returns
    -------
    float, in the precision of x and y

    Raises
    ------
    ValueError
        The shapes do not broadcast, or there is nothing in them.

    Notes
    -----
    At an element whose gradient is nearly zero this is nearly 1 whatever the code does: see `fdfast.gradcheck`.
    """
    x, y = np.asarray(x), np.asarray(y)
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))


def eval_numerical_gradient(
    f: Callable[..., Any], x: Array, verbose: bool = True, h: float = 1e-5, *, vectorized: bool = False
) -> Array:
    """(f(x + h e_i) - f(x - h e_i)) / 2h for every element i.

    Parameters
    ----------
    f : callable
        ``f(x)`` returns one number. It may ignore its argument and read x elsewhere, as ``lambda _: net.loss(X, y)``
        does: x is moved in place, element by element, and put back. With ``vectorized=True`` it takes copies,
        shape (rows, *x.shape), and returns one value per row; x is then only read.
    x : ndarray of float
        The point.
    verbose : bool
        Print index and slope of every element.
    h : float
        Step, in the units of x.
    vectorized : bool
        Whether f takes rows, all of them in one call while they fit 512 MB.

    Returns
    -------
    ndarray, shape and dtype of x

    Raises
    ------
    TypeError
        x is not an array of floats: the course's loop gives zeros for integers.
    ValueError
        h is not positive and finite, or f breaks the promise of ``vectorized=True``.

    Warns
    -----
    RuntimeWarning
        A step is lost in rounding, x + h == x; the slope there is 0, as the course's is.

    Notes
    -----
    x is put back bit by bit, also when f raises or the run is interrupted. The divisor is the nominal 2h.
    """
    _check(x, h)
    _warn_of_lost_steps(x, h, np.arange(x.size))
    gradient = np.zeros_like(x)
    with _put_back(x):
        if not vectorized:
            f(x)  # the course's does so too, and an f that fails does it before x is touched
        for index, plus, minus in _numbers(f, x, _indices(x), h, vectorized):
            gradient[index] = (plus - minus) / (2 * h)
            if verbose:
                print(index, gradient[index])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[..., Any], x: Array, df: Any, h: float = 1e-5, *, vectorized: bool = False
) -> Array:
    """sum(df * (f(x + h e_i) - f(x - h e_i))) / 2h for every element i, for an f that returns an array.

    Parameters
    ----------
    f : callable
        ``f(x)`` returns an array; with ``vectorized=True`` it takes (rows, *x.shape) and returns (rows, *out).
    x : ndarray of float
        The point, moved in place and put back as in `eval_numerical_gradient`.
    df : array_like, shape that broadcasts with the output of f
        Gradient with respect to that output.
    h : float
        Step, in the units of x.
    vectorized : bool
        Whether f takes rows.

    Returns
    -------
    ndarray, shape and dtype of x

    Raises
    ------
    TypeError, ValueError
        As in `eval_numerical_gradient`.
    """
    _check(x, h)
    _warn_of_lost_steps(x, h, np.arange(x.size))
    gradient, indices = np.zeros_like(x), _indices(x)
    with _put_back(x):
        if vectorized:
            for span, plus, minus in _blocks(f, x, indices, h):
                weighted = ((plus - minus) * df).reshape(len(plus), -1).sum(axis=1)
                gradient[tuple(np.transpose(indices[span]))] = weighted / (2 * h)
        else:
            for index, plus, minus in _walk(f, x, indices, h):
                gradient[index] = np.sum((plus - minus) * df) / (2 * h)
    return gradient


def grad_check_sparse(
    f: Callable[..., Any],
    x: Array,
    analytic_grad: Any,
    num_checks: int = 10,
    h: float = 1e-5,
    *,
    vectorized: bool = False,
) -> None:
    """Print numeric slope, analytic slope and relative error of `num_checks` random elements.

    Parameters
    ----------
    f, x, h, vectorized
        As in `eval_numerical_gradient`.
    analytic_grad : array_like, shape of x
        Gradient under test.
    num_checks : int
        Elements drawn, with replacement, from Python's `random`: the course's choice for the same `random.seed`.

    Raises
    ------
    TypeError, ValueError
        As in `eval_numerical_gradient`.

    Notes
    -----
    Where both slopes are 0 the relative error is printed as nan; the course's divides by zero. A few elements say
    little about the others: `fdfast.gradcheck` looks at all of them, and names those that are wrong.
    """
    _check(x, h)
    drawn = [tuple(random.randrange(extent) for extent in x.shape) for _ in range(num_checks)]
    _warn_of_lost_steps(x, h, np.unique(_flat(drawn, x.shape)))
    with _put_back(x):
        for index, plus, minus in _numbers(f, x, drawn, h, vectorized):
            numeric, analytic = float((plus - minus) / (2 * h)), float(analytic_grad[index])
            size = abs(numeric) + abs(analytic)
            error = abs(numeric - analytic) / size if size else float("nan")
            print(f"numerical: {numeric:f} analytic: {analytic:f}, relative error: {error:e}")


def _check(x: Any, h: float) -> None:
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f"):
        kind = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x must be an ndarray of floats, which can move by a small step, got {kind}: x.astype(float)")
    if not (np.isfinite(h) and h > 0):
        raise ValueError(f"h={h!r} must be a positive finite number; the course uses 1e-5")


def _warn_of_lost_steps(x: Array, h: float, elements: npt.NDArray[np.intp]) -> None:
    values = x.reshape(-1)[elements]
    lost = np.flatnonzero(np.isfinite(values) & ((values + h).astype(x.dtype) == (values - h).astype(x.dtype)))
    if lost.size:
        at = ", ".join(str(i) for i in np.unravel_index(elements[lost[0]], x.shape))
        value = values[lost[0]]
        warnings.warn(
            f"h={h:g} vanishes in {x.dtype} at x[{at}]={value:g} and {lost.size - 1} other elements: slope 0 "
            f"comes out. Smallest step that moves it: {np.spacing(np.abs(value)):.2g}; float64 has smaller ones",
            RuntimeWarning,
            stacklevel=3,
        )


def _indices(x: Array) -> list[tuple[int, ...]]:
    """All indices in the course's order, which is that of the memory."""
    walk = np.nditer(x, flags=["multi_index", "zerosize_ok"])
    return [walk.multi_index for _ in walk]


def _flat(indices: list[tuple[int, ...]], shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    return np.array([np.ravel_multi_index(index, shape) if index else 0 for index in indices], np.intp)


@contextlib.contextmanager
def _put_back(x: Array) -> Iterator[None]:
    kept = x.copy()
    try:
        yield
    finally:
        if x.tobytes() != kept.tobytes():  # bytes: NaN equals nothing, and -0.0 equals 0.0
            x[...] = kept


def _walk(
    f: Callable[[Array], Any], x: Array, indices: list[tuple[int, ...]], h: float
) -> Iterator[tuple[tuple[int, ...], Array, Array]]:
    """Index, f(x + h e) and f(x - h e), x moved in place and put back."""
    for index in indices:
        value = x[index]
        try:
            x[index] = value + h
            plus = np.array(f(x))  # a copy: the next call of f may write into the same array
            x[index] = value - h
            minus = np.array(f(x))
        finally:
            x[index] = value
        yield index, plus, minus


def _blocks(
    f: Callable[[Array], Any], x: Array, indices: list[tuple[int, ...]], h: float
) -> Iterator[tuple[slice, Array, Array]]:
    """Values at x + h e and at x - h e for a run of indices, from one call of f with copies of x."""
    elements = _flat(indices, x.shape)
    for span in spans(len(elements), x.nbytes):
        values = x.reshape(-1)[elements[span]]
        to = np.stack([values + h, values - h], axis=1).reshape(-1)
        found = one_each(f(displaced(x, np.repeat(elements[span], 2), to)), len(to))
        yield span, found[0::2], found[1::2]


def _numbers(
    f: Callable[[Array], Any], x: Array, indices: list[tuple[int, ...]], h: float, vectorized: bool
) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    """As `_walk`, for an f of one number or of one number per row."""
    if not vectorized:
        yield from _walk(f, x, indices, h)
        return
    for span, plus, minus in _blocks(f, x, indices, h):
        yield from zip(indices[span], plus.reshape(len(plus)), minus.reshape(len(minus)), strict=True)
