"""Derivatives from an engine that loses no digits and sees every kink: no guessing from slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines.pairs import Pairs
from fdfast.scheme import Steps, three_point

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# The second step, in units of the first: no power of two, so that it rounds differently. That tells the rounding.
_OTHER = 0.75
_CLOSER = 2.0**-6  # how much nearer the next look is where a unit changes branch within the step
_ROUNDS = 6
_SURE = 4.0


@dataclass(frozen=True, eq=False)
class Looks:
    """Derivatives of tiles, one entry each.

    Attributes
    ----------
    value, error, right, left, step : ndarray of float64
    kink : ndarray of bool
        The slopes on both sides differ, or only one could be had at a unit on its kink.
    open : ndarray of bool
        A unit changes branch at every step that was tried.
    tie : ndarray of int32
        Node that sits on a kink at the point, -1 for none.
    base : ndarray of float64, shape (points,)
    rounding : ndarray of float64, shape (points,)
        Rounding error of a derivative, absolute, as measured between the steps.
    evaluations, refined : int
    """

    value: Float64
    error: Float64
    right: Float64
    left: Float64
    step: Float64
    kink: Bool
    open: Bool
    tie: npt.NDArray[np.int32]
    base: Float64
    rounding: Float64
    evaluations: int
    refined: int


def look(
    engine: Any, where: Any, owner: Any, at: Int64, steps: Steps, example: Int64, tile: Int64, count: int
) -> Looks:
    """Difference tiles at two steps, and closer where a unit changes branch within them.

    With D1 and D2 the derivatives at h and 3h/4, truncation c h^2 makes D1 - D2 = 7/16 c h^2, and their rounding is
    independent. Hence

        error = 4 |D1 - D2| + 4 r + 8 eps |D2|

    with r the upper quartile of |D1 - D2| over the tiles of the example, which one small difference cannot deceive.

    Parameters
    ----------
    engine : fdfast.engines.difference.DifferenceEngine
    where : ndarray, shape (points, size)
    owner : ndarray of int32, shape (points,)
        Example of each point.
    at, example, tile : ndarray of int64, shape (tiles,)
        Point that each tile is displaced at, the example it belongs to, and the tile.
    steps : Steps
    count : int
        Number of examples.
    """
    offsets = steps.offsets()[example, tile]
    size = np.ones(len(tile))
    first = engine.differences(where, owner, _pairs(at, tile, offsets, size))
    state = _State(first, offsets, size)
    evaluations, refined = first.evaluations, 0
    for _ in range(_ROUNDS):
        which = np.flatnonzero(state.crossed)
        if not which.size:
            break
        size[which] *= _CLOSER
        found = engine.differences(where, owner, _pairs(at[which], tile[which], offsets[which], size[which]))
        state.take(which, found, offsets[which], size[which])
        evaluations += found.evaluations
        refined += 4 * len(which)
    with np.errstate(all="ignore"):
        gap = np.abs(state.coarse - state.value)
        rounding = np.zeros(count)
        for i in range(count):
            mine = gap[(example == i) & ~state.crossed & np.isfinite(gap) & (state.value != 0)]
            rounding[i] = np.quantile(mine, 0.75) if mine.size else 0.0
        error = _SURE * (gap + rounding[example]) + 8 * engine.eps * np.abs(state.value)
        both = np.isfinite(state.right) & np.isfinite(state.left)
        tied = state.tie >= 0
        # Curvature sets the slopes h f'' apart: what is left of that at h = 0 is the jump.
        jump = np.abs(state.spread - _OTHER * state.wide) / (1 - _OTHER)
        apart = jump > 16 * error + 1e-9 * np.fmax(np.abs(state.right), np.abs(state.left))
        kink = tied & (~both | apart)
    error = np.where(np.isfinite(state.value) & np.isfinite(error), error, np.inf)
    still = state.value == 0
    error = np.where(still & (gap == 0), 0.0, error)
    return Looks(
        value=state.value,
        error=error,
        right=state.right,
        left=state.left,
        step=np.abs(offsets[:, 0]) * size,
        kink=kink,
        open=state.crossed & ~kink,
        tie=state.tie,
        base=first.base,
        rounding=rounding,
        evaluations=evaluations,
        refined=refined,
    )


class _State:
    """What is known of each tile so far."""

    def __init__(self, found: Any, offsets: Float64, size: Float64) -> None:
        count = len(offsets)
        self.value, self.coarse, self.right, self.left = (np.empty(count) for _ in range(4))
        self.wide, self.spread = np.empty(count), np.empty(count)  # right less left slope, at the two steps
        self.crossed, self.tie = np.zeros(count, bool), np.full(count, -1, np.int32)
        self.take(np.arange(count), found, offsets, size)

    def take(self, which: Int64, found: Any, offsets: Float64, size: Float64) -> None:
        delta, moved = found.delta.reshape(-1, 2, 2), found.moved.reshape(-1, 2, 2)
        with np.errstate(all="ignore"):
            for name, step in (("coarse", 0), ("value", 1)):
                d, w = delta[:, step], moved[:, step]
                getattr(self, name)[which] = three_point(d[:, 0], d[:, 1], w[:, 0], w[:, 1])
            slope = delta[:, 1] / moved[:, 1]
            self.spread[which] = slope[:, 0] - slope[:, 1]
            self.wide[which] = (delta[:, 0] / moved[:, 0]) @ np.array([1.0, -1.0])
        self.right[which] = np.where(offsets[:, 0] > 0, slope[:, 0], np.nan)
        self.left[which] = np.where(offsets[:, 1] < 0, slope[:, 1], np.nan)
        # On one side to the left the first row is the nearer.
        backward = (offsets[:, 0] < 0) & (offsets[:, 1] < 0)
        self.left[which] = np.where(backward, slope[:, 0], self.left[which])
        self.crossed[which] = (found.crossed.reshape(-1, 2) >= 0).any(axis=1)
        self.tie[which] = found.tie.reshape(-1, 2).max(axis=1)


def _pairs(at: Int64, tile: Int64, offsets: Float64, size: Float64) -> Pairs:
    far = offsets * size[:, None]
    both = np.stack([far, far * _OTHER], axis=1).reshape(-1, 2)
    return Pairs(np.repeat(at, 2), np.repeat(tile, 2), both)
