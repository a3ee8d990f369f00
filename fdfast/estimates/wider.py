"""Slopes over wider steps: whether what differs right at a point is f's slope, or noise that depends on x."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import Pairs
from fdfast.estimates.estimate import SMOOTH, Engine, Estimate
from fdfast.moves import Bounds, Steps, Tiling, auto_step

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
#: Distances, shape (lines, n) -> f(x + t) - f(x) and f(x - t) - f(x) along each line, shape (lines, n, 2).
Lines = Callable[[npt.NDArray[np.intp], Float64], Float64]

_WIDER, _LOOKS = 8.0, 4
_WIDEST = 2.0**-8  # of the size of x: what is rougher than that is f's own, as the steps of 8-bit pixels
#: Uneven, lest they fall in with a staircase or a lattice.
_AT = np.sort(np.random.default_rng(0).uniform(2.0**-4, 1.0, 24))
_SAFETY = 8.0  # standard errors of a fit
_FIRST, _TOGETHER = 8, 64  # tiles
_CLEAR = 0.25  # of what is to be explained, that an error bar may take


@dataclass(frozen=True, eq=False)
class Wider:
    """What lines show, one entry each.

    Attributes
    ----------
    rough : ndarray of bool
        The slope at the point is noise: over a wider step f has another one, which is that of the gradient.
    value, error : ndarray of float64
        Slope over that step, and its error bar; NaN where f is not rough.
    noise, step : ndarray of float64
        Standard deviation of f about that slope, and the step; 0 where f is not rough.
    evaluations : int
    """

    rough: Bool
    value: Float64
    error: Float64
    noise: Float64
    step: Float64
    evaluations: int

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Wider:
        """Nothing is rough."""
        value, error, noise, step = (np.full(shape, fill) for fill in (np.nan, np.nan, 0.0, 0.0))
        return cls(np.zeros(shape, bool), value, error, noise, step, 0)

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """All of them."""
        return self.rough, self.value, self.error, self.noise, self.step

    def over(self, found: Estimate) -> Estimate:
        """An estimate with these slopes in it."""
        value, error = (
            np.where(self.rough, mine, one)
            for mine, one in zip(self.arrays[1:3], (found.value, found.error), strict=True)
        )
        right, left = (np.where(self.rough, self.value, side) for side in (found.right, found.left))
        kind = np.where(self.rough, SMOOTH, found.kind).astype(np.int8)
        return replace(found, value=value, error=error, right=right, left=left, kind=kind)


def widest(dtype: npt.DTypeLike) -> float:
    """Widest step that is looked at, in units of `fdfast.moves.auto_step`."""
    return max(1.0, _WIDEST / auto_step(dtype))


def look_wider(lines: Lines, step: Float64, longest: Float64, claimed: Float64, gap: Float64) -> Wider:
    """Fit lines through f over ever wider steps, until one tells the slope to a quarter of `gap`.

    With the odd part (f(x + t) - f(x - t)) / 2 = j + s t and the even one e + k t + c t^2, s is the slope, j half of a
    jump at x, k half of what the slopes to both sides differ by, and e the noise of f(x) itself. Where s is `claimed`,
    and neither j nor k is clear, what was seen at x are the details of f below that step: a hash, a table, rounding.
    Where it is not, x was right, and nothing is looked at any further.

    Parameters
    ----------
    lines : callable
    step, longest : ndarray of float64, shape (lines,)
        First step, and the widest that is allowed.
    claimed : ndarray of float64, shape (lines,)
        Slope by the gradient under test.
    gap : ndarray of float64, shape (lines,)
        How far that is from the slope at the point.
    """
    count = len(step)
    value, error = np.full(count, np.nan), np.full(count, np.nan)
    noise, used, rough = np.zeros(count), np.zeros(count), np.zeros(count, bool)
    waiting, evaluations = np.flatnonzero(np.isfinite(claimed)), 0
    for turn in range(_LOOKS):
        reach = step * _WIDER**turn
        waiting = waiting[reach[waiting] <= longest[waiting]]
        if not waiting.size:
            break
        t = reach[waiting, None] * _AT
        found = lines(waiting, t)
        evaluations += found.size
        with np.errstate(all="ignore"):
            fit, clear, straight = _fitted(t, found)
            told = fit[1] <= _CLEAR * gap[waiting]
            # A stair says nothing before the step is wider than it.
            told &= np.ptp(found, axis=(1, 2)) > 0
            same = np.abs(fit[0] - claimed[waiting]) <= fit[1]
            same &= straight & (np.abs(clear) <= _CLEAR * gap[waiting])
        hit = waiting[told & same]
        rough[hit], used[hit] = True, reach[hit]
        value[hit], error[hit], noise[hit] = (one[told & same] for one in fit)
        waiting = waiting[~told]
    return Wider(rough, value, error, noise, used, evaluations)


def _fitted(t: Float64, found: Float64) -> tuple[tuple[Float64, Float64, Float64], Float64, Bool]:
    """Slope, its error bar and the noise; half of what both sides' slopes differ by; and whether there is no jump."""
    unit = t.max(axis=1, keepdims=True)
    u = t / unit
    odd, even = (found[..., 0] - found[..., 1]) / 2, (found[..., 0] + found[..., 1]) / 2
    (jump, slope), spread, (of_jump, of_slope) = _least_squares([np.ones_like(u), u], odd)
    (_, kink, _), _, _ = _least_squares([np.ones_like(u), u, u**2], even)
    size = unit[:, 0]
    bar = _SAFETY * of_slope / size
    return (slope / size, bar, np.sqrt(2.0) * spread), kink / size, np.abs(jump) <= _SAFETY * of_jump


def _least_squares(terms: list[Float64], values: Float64) -> tuple[Float64, Float64, Float64]:
    """Coefficients, shape (terms, lines); standard deviation of what is left; standard errors of the coefficients."""
    # The terms are the same for every line: distances differ by their unit alone.
    design = np.stack([term[0] for term in terms], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    with np.errstate(all="ignore"):
        found = inverse @ design.T @ values.T
        left = values.T - design @ found
        spread = np.sqrt((left**2).sum(axis=0) / (len(design) - design.shape[1]))
    return found, spread, np.sqrt(np.diag(inverse))[:, None] * spread


def rough_tiles(
    engine: Engine, points: Any, steps: Steps, tiling: Tiling, wanted: Bool, claimed: Float64, gap: Float64
) -> Wider:
    """`look_wider` along tiles; the arrays of what is found have shape (examples, tiles).

    A few first: where none of these is rough, no other is looked at.

    Parameters
    ----------
    engine : Engine
    points : ndarray, shape (examples, size)
    steps : Steps
        The first ones. Tiles that move to one side only are not looked at.
    tiling : Tiling
    wanted : ndarray of bool, shape (examples, tiles)
    claimed, gap : ndarray of float64, shape (examples, tiles)
    """
    found = Wider.none(wanted.shape)
    example, tile = np.nonzero(wanted & (steps.scheme == 0) & ~steps.moved)
    owner = np.arange(len(points), dtype=np.int32)
    longest = np.broadcast_to(steps.h * widest(points.dtype), wanted.shape)
    if steps.bounds is not None:
        longest = np.minimum(longest, _room(points, steps.bounds, tiling))

    def look(some: npt.NDArray[np.intp]) -> Wider:
        which = example[some], tile[some]

        def lines(rows: npt.NDArray[np.intp], t: Float64) -> Float64:
            at, moved = (np.repeat(one[rows], t.shape[1]) for one in which)
            pairs = Pairs(at, moved, np.stack([t.ravel(), -t.ravel()], axis=1))
            seen = engine.differences(points, owner, pairs)
            return seen.delta.reshape(*t.shape, 2)

        return look_wider(lines, steps.h[which], longest[which], claimed[which], gap[which])

    def take(some: npt.NDArray[np.intp]) -> Wider:
        nonlocal found
        seen = look(some)
        for mine, theirs in zip(found.arrays, seen.arrays, strict=True):
            mine[example[some], tile[some]] = theirs
        found = replace(found, evaluations=found.evaluations + seen.evaluations)
        return seen

    first = np.unique(np.linspace(0, len(tile) - 1, _FIRST).astype(np.intp)) if len(tile) else np.zeros(0, np.intp)
    if len(first) and take(first).rough.any():
        rest = np.setdiff1d(np.arange(len(tile)), first)
        for at in range(0, len(rest), _TOGETHER):
            take(rest[at : at + _TOGETHER])
    return found


def _room(points: Any, bounds: Bounds, tiling: Tiling) -> Float64:
    """How far every tile can move to both sides."""
    least = np.minimum(points - bounds[0], bounds[1] - points).astype(np.float64)[:, tiling.members]
    room: Float64 = np.minimum.reduceat(least, tiling.offsets[:-1], axis=1)
    return room
