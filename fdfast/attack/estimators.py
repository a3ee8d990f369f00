"""Gradients of black boxes, with their standard error: unbiased for the gradient that the step smooths."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.attack.inputs import check_count, check_size
from fdfast.attack.rowwise import along, tile_differences
from fdfast.attack.subject import subject_of
from fdfast.functions import Scored, interruptible
from fdfast.moves import Channels, TileLike, Tiling, auto_step, check_choice, make_tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Method = Literal["coordinate", "tile", "spsa", "nes", "directions"]
METHODS = ("coordinate", "tile", "spsa", "nes", "directions")
_TOGETHER = 64  # directions that are held at a time
_QUERIES = 200


class GradientEstimate(NamedTuple):
    """An estimate of a gradient.

    Attributes
    ----------
    gradient : ndarray of float64, shape of x
    standard_error : ndarray of float64, shape of x
        Of each element, by the directions or tiles drawn; 0 where every tile was taken.
    queries : int
        Rows that f was evaluated at, for each example.
    """

    gradient: Float64
    standard_error: Float64
    queries: int


@interruptible()
def estimate(
    f: Any,
    x: npt.ArrayLike,
    y: Any = None,
    *,
    method: Method = "spsa",
    queries: int = _QUERIES,
    h: float | Literal["auto"] = "auto",
    loss: Any = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    bounds: tuple[float, float] | None = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> GradientEstimate:
    """Estimate the gradient of a loss from so many values of it.

    Parameters
    ----------
    f : keras.Model or callable
        A model; or a callable of rows that returns scores, shape (rows, classes), or losses, shape (rows,):
        `model.predict` or a service behind it.
    x : array_like of float
        One example of a model, or a batch, shape (examples, *shape). Never written.
    y : array_like
        Target of each example; None for a callable that returns losses.
    method : {"coordinate", "tile", "spsa", "nes", "directions"}
        Which central differences D(v) = (f(x + h v) - f(x - h v)) / 2h are taken, and how they are put together.
        ``"coordinate"``, ``"tile"``: of a random choice of elements or tiles, each as often as the choice left out of
        them; ``"spsa"``: mean of D(v) v over signs v; ``"nes"``: the same over normal v; ``"directions"``: n times the
        mean of D(v) v over v of length 1.
    queries : int
        Values of f for each example; two make a difference.
    h : float or "auto"
        Step, in the units of x: ``"auto"`` 2^-8 in float32. It is also the radius over which f is smoothed.
    loss, tile, channels, bounds, max_rows
        As in `fdfast.attack.pgd`; the bounds are only held against x.
    seed : int
        Of the directions.

    Returns
    -------
    GradientEstimate

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which.

    Notes
    -----
    Where the loss is a cross-entropy of one class the estimate is that of ``log sum_{k != y} exp(z_k) - z_y``, which
    points the same way and does not saturate.

    References
    ----------
    .. [1] J. C. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient
       approximation", IEEE Trans. Automatic Control 37, 1992.
    .. [2] A. Ilyas et al., "Black-box adversarial attacks with limited queries and information", ICML 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from fdfast.attack import estimate
    >>> found = estimate(lambda rows: rows @ [1.0, -2.0], np.array([[0.5, 0.5]]), method="coordinate", queries=4)
    >>> found.gradient.round(6), found.queries
    (array([[ 1., -2.]]), 4)
    """
    check_choice("method", method, METHODS)
    with subject_of(f, x, y, loss, bounds, max_rows) as subject:
        step = auto_step(subject.scored.dtype) if h == "auto" else check_size("h", h)
        tiling = make_tiling(subject.shape, tile, channels)
        rng = np.random.default_rng(seed)
        found = estimated(
            method, subject.scored, subject.points, subject.every, tiling, queries=queries, h=step, rng=rng
        )
        gradient, error = (one.reshape(subject.x.shape) for one in (found.gradient, found.standard_error))
        return GradientEstimate(gradient, error, found.queries)


def estimated(
    method: str,
    scored: Scored,
    points: Array,
    some: npt.NDArray[np.int64],
    tiling: Tiling,
    *,
    queries: int | None,
    h: float,
    rng: np.random.Generator,
) -> GradientEstimate:
    """Estimate at points of some examples; every one has the same directions, drawn anew at each call."""
    pairs = check_count("queries", _QUERIES if queries is None else queries, 4) // 2
    if method in ("coordinate", "tile"):
        tiling = make_tiling(tiling.shape) if method == "coordinate" else tiling
        gradient, error, pairs = _chosen(scored, points, some, tiling, pairs, h, rng)
    else:
        gradient, error = _drawn(method, scored, points, some, pairs, h, rng)
    return GradientEstimate(gradient, error, 2 * pairs)


def _chosen(
    scored: Scored, points: Array, some: Any, tiling: Tiling, pairs: int, h: float, rng: np.random.Generator
) -> tuple[Float64, Float64, int]:
    """Some tiles, without replacement. Each is in with probability p, and D / p is right on average."""
    taken = min(pairs, tiling.tiles)
    share = taken / tiling.tiles
    which = rng.permutation(tiling.tiles)[:taken]
    found = tile_differences(scored, points, some, tiling, h, which) / share
    values, variance = np.zeros((2, len(points), tiling.tiles))
    values[:, which] = found
    # Var = D^2 (1 - p) / p, of which (D / p)^2 (1 - p) is right on average.
    variance[:, which] = found**2 * (1 - share)
    # A tile's elements share its derivative, and its error.
    return (
        np.asarray(tiling.expand(values, "mean"), np.float64),
        np.asarray(tiling.expand(np.sqrt(variance), "mean"), np.float64),
        taken,
    )


def _drawn(
    method: str, scored: Scored, points: Array, some: Any, pairs: int, h: float, rng: np.random.Generator
) -> tuple[Float64, Float64]:
    """Mean of D(v) v over independent directions, and the standard error of that mean."""
    shape = points.shape[1:]
    size = int(np.prod(shape))
    total, squares, done = np.zeros(points.shape), np.zeros(points.shape), 0
    while done < pairs:
        count = min(_TOGETHER, pairs - done)
        v = rng.choice([-1.0, 1.0], (count, *shape)) if method == "spsa" else rng.standard_normal((count, *shape))
        if method == "directions":
            v *= (np.sqrt(size) / np.linalg.norm(v.reshape(count, -1), axis=1)).reshape(-1, *[1] * len(shape))
        # Directions of the sphere have length sqrt(n) here, and h / sqrt(n) as step: n D(u) u = D(v) v.
        step = h / np.sqrt(size) if method == "directions" else h
        slopes = along(scored, points, some, v, step)
        total += np.tensordot(slopes, v, axes=1)
        squares += np.tensordot(slopes**2, v**2, axes=1)
        done += count
    mean = total / pairs
    variance = np.maximum(squares - pairs * mean**2, 0) / (pairs - 1)
    return mean, np.sqrt(variance / pairs)
