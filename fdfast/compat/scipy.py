"""`scipy.optimize.approx_fprime` and `check_grad`: same numbers, and all rows at once where f takes rows."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.compat.rows import displaced, one_each, spans

_EPSILON = float(np.finfo(float).eps ** 0.5)
_NOT_GIVEN: Any = type("_NotGiven", (), {"__repr__": lambda self: "None"})()


def approx_fprime(
    xk: npt.ArrayLike,
    f: Callable[..., Any],
    epsilon: npt.ArrayLike = _EPSILON,
    *args: Any,
    vectorized: bool = False,
) -> npt.NDArray[np.float64]:
    """(f(xk + epsilon_i e_i) - f(xk)) / epsilon_i for every i, as SciPy computes it, to the last bit.

    Parameters
    ----------
    xk : array_like of float, shape (n,) or ()
        The point, taken as float64. Never written.
    f : callable
        ``f(x, *args)`` of x, shape (n,), returns a number or m of them. With ``vectorized=True`` of rows, shape
        (rows, n), it returns shape (rows,) or (rows, m).
    epsilon : float or array_like, shape (n,)
        Step, in the units of xk. Where it is lost in rounding, xk + epsilon == xk, SciPy's relative step takes its
        place: sqrt(eps) max(1, abs(xk)), away from zero, eps that of the narrower of float64 and f's dtype.
    *args
        Further arguments of f.
    vectorized : bool
        Whether f takes rows. All of them then go through f in one call, xk in front, while they fit 512 MB.

    Returns
    -------
    ndarray of float64, shape (n,) or (m, n)

    Raises
    ------
    ValueError
        xk or the value of f at xk has more than one axis, epsilon does not fit xk, or f breaks the promise of
        ``vectorized=True``.
    RuntimeError
        f returns more than one axis at a perturbed point, or per row.

    Notes
    -----
    Forward differences, whose error is of the order of epsilon, and no error bar: `fdfast.gradient` gives central
    ones, `fdfast.estimate` the bar. f gets copies, so an f that writes to its argument changes nothing of the
    caller's; in SciPy it does.

    Examples
    --------
    >>> import numpy as np
    >>> approx_fprime([1.0, 2.0], lambda rows, c: c * (rows**2).sum(axis=1), 1e-8, 3.0, vectorized=True).round(5)
    array([ 6., 12.])
    """
    point = np.array(xk, float)
    if vectorized:
        return _in_rows(_axis(point), f, epsilon, args)
    base = np.atleast_1d(f(point.copy(), *args))
    x = _axis(point)
    if base.ndim > 1:
        raise ValueError(f"f(xk) has shape {base.shape}; f must return a number or one axis of them: flatten it")
    steps = _steps(x, epsilon, lambda: base.dtype)
    jacobian = np.empty((x.size, base.size))
    for i in range(x.size):
        moved = x.copy()
        to = moved[i] = x[i] + steps[i]
        jacobian[i] = (_flat(f(moved, *args)) - base) / (to - x[i])
    return _as_scipy(jacobian)


def check_grad(
    func: Callable[..., Any],
    grad: Callable[..., Any],
    x0: npt.ArrayLike,
    *args: Any,
    epsilon: npt.ArrayLike = _EPSILON,
    direction: str = "all",
    rng: Any = _NOT_GIVEN,
    seed: Any = _NOT_GIVEN,
    vectorized: bool = False,
) -> np.float64:
    """2-norm of grad(x0) - approx_fprime(x0, func), or of its part along one random direction.

    Parameters
    ----------
    func : callable
        As f in `approx_fprime`.
    grad : callable
        ``grad(x0, *args)`` returns the gradient, shape (n,), or the Jacobian, shape (m, n).
    x0 : array_like, shape (n,) or ()
        The point. Never written.
    *args
        Further arguments of func and grad.
    epsilon : float or array_like
        Step, in the units of x0; under ``direction="random"`` in those of the random vector.
    direction : {"all", "random"}
        Every axis, or one vector of standard normal numbers.
    rng : optional
        Whatever `numpy.random.default_rng` takes. If neither this nor `seed` is given, NumPy's global state draws.
    seed : optional
        The old name: None (the global state), an int (a `numpy.random.RandomState`), a RandomState or a Generator.
    vectorized : bool
        Whether func takes rows (grad does not).

    Returns
    -------
    numpy.float64

    Raises
    ------
    ValueError
        direction or seed is none of the above, grad returns a matrix under ``direction="random"``, or a reason of
        `approx_fprime`.
    TypeError
        Both rng and seed are given, or rng is nothing that seeds a generator.

    Notes
    -----
    One number for all axes, without a tolerance: `fdfast.gradcheck` names the elements that are wrong, and its
    tolerance follows from the error bar of each.
    """
    if rng is not _NOT_GIVEN:
        if seed is not _NOT_GIVEN:
            raise TypeError(
                "check_grad() got multiple values for argument now known as `rng`. Specify one of `rng` or `seed`."
            )
        rng = np.random.default_rng(rng)
    point = np.array(x0)
    if direction == "all":
        found = grad(point.copy(), *args)
        return _norm(found, approx_fprime(point, func, epsilon, *args, vectorized=vectorized))
    if direction != "random":
        raise ValueError(f"direction={direction!r} is not a valid string; it must be 'all' or 'random'")
    analytic = np.asanyarray(grad(point.copy(), *args))
    if analytic.ndim > 1:
        raise ValueError(
            f"grad returned shape {analytic.shape}; direction='random' takes scalar-valued functions only. "
            "Use direction='all'"
        )
    source = _legacy(None if seed is _NOT_GIVEN else seed) if rng is _NOT_GIVEN else rng
    along = source.standard_normal(size=point.shape)

    def on_line(w: npt.NDArray[np.float64], *rest: Any) -> Any:
        return func(point + w * along, *rest)

    slope = approx_fprime(np.zeros(1), on_line, epsilon, *args, vectorized=vectorized)
    return _norm(np.dot(analytic, along), slope)


def _norm(analytic: Any, numeric: npt.NDArray[np.float64]) -> np.float64:
    return np.float64(np.sqrt(np.sum(np.abs((analytic - numeric) ** 2))))


def _in_rows(
    x: npt.NDArray[np.float64], f: Callable[..., Any], epsilon: npt.ArrayLike, args: tuple[Any, ...]
) -> npt.NDArray[np.float64]:
    steps = _steps(x, epsilon, lambda: one_each(f(x[None].copy(), *args), 1).dtype)[: x.size]
    to = x + steps
    jacobian: npt.NDArray[np.float64] | None = None
    for span in list(spans(x.size, x.nbytes)) or [slice(0, 0)]:
        elements = np.arange(span.start, span.stop)
        # The point goes along in every call: a row's value may depend, by rounding, on the batch that it is in.
        rows = np.concatenate([x[None], displaced(x, elements, to[span])])
        values = one_each(f(rows, *args), len(elements) + 1)
        if values.ndim > 2:
            raise RuntimeError(f"f returned shape {values.shape}; per row it must return a number or one axis of them")
        values = values.reshape(len(values), -1)
        if jacobian is None:
            jacobian = np.empty((x.size, values.shape[1]))
        jacobian[span] = (values[1:] - values[0]) / (to - x)[span, None]
    assert jacobian is not None
    return _as_scipy(jacobian)


def _axis(point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if point.ndim > 1:
        raise ValueError(f"xk must have at most 1 dimension, got shape {point.shape}: pass xk.ravel()")
    return np.atleast_1d(point)


def _flat(value: Any) -> npt.NDArray[Any]:
    array = np.atleast_1d(value)
    if array.ndim > 1:
        raise RuntimeError(f"f returned shape {array.shape} at a perturbed point; it may have one axis at most")
    return array


def _steps(
    x: npt.NDArray[np.float64], epsilon: npt.ArrayLike, dtype_of_f: Callable[[], np.dtype[Any]]
) -> npt.NDArray[np.float64]:
    steps = np.asarray(epsilon)
    try:
        lost = (x + steps) - x == 0
    except ValueError:
        lost = np.empty((0, 0))
    if lost.ndim > 1:
        raise ValueError(f"epsilon has shape {steps.shape}; it must be a number or have the shape of xk, {x.shape}")
    if not lost.any():
        return np.broadcast_to(steps, lost.shape)
    dtype = dtype_of_f()
    narrow = dtype if np.issubdtype(dtype, np.inexact) and dtype.itemsize < x.dtype.itemsize else x.dtype
    relative = np.finfo(narrow).eps ** 0.5 * np.where(x >= 0, 1.0, -1.0) * np.maximum(1.0, np.abs(x))
    return np.where(lost, relative, steps)


def _as_scipy(jacobian: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn one row per element of x into (n,) for one value, and into (m, n) for m."""
    return jacobian.ravel() if jacobian.shape[1] == 1 else jacobian.T


def _legacy(seed: Any) -> Any:
    """NumPy's older kinds of seed, which SciPy still takes under the old name."""
    if seed is None or seed is np.random:
        return np.random.mtrand._rand
    if isinstance(seed, numbers.Integral):
        return np.random.RandomState(int(seed))
    if isinstance(seed, np.random.RandomState | np.random.Generator):
        return seed
    raise ValueError(f"seed={seed!r} cannot seed a numpy.random.RandomState; pass an int, or use rng")
