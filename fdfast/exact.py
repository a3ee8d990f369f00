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
# Slopes at a unit on its kink that differ by more than this, relative, are a jump and no curvature: h f'' is far less.
_PLAIN = 2.0**-12


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

    Tiles whose slopes plainly jump at a unit on its kink are not looked at twice. With D1 and D2 the derivatives at h
    and 3h/4, truncation c h^2 makes D1 - D2 = 7/16 c h^2, and their rounding is
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
    at, tile = np.ascontiguousarray(at), np.ascontiguousarray(tile)
    offsets = steps.offsets()[example, tile]
    size = np.ones(len(tile))
    state = _State(len(tile))
    base, evaluations, refined = np.empty(0), 0, 0
    which: Any = slice(None)  # all
    for turn in range(_ROUNDS + 1):
        for share in (1.0, _OTHER):
            again = which
            if share != 1.0:
                again = np.flatnonzero(~state.plain) if turn == 0 else which[~state.plain[which]]
            pairs = Pairs(at[again], tile[again], offsets[again] * (share * size[again, None]))
            found = engine.differences(where, owner, pairs)
            state.take(again, found, pairs.step, first=share == 1.0)
            evaluations += found.evaluations
            refined += 2 * len(pairs) if turn else 0
            base = found.base
        which = np.flatnonzero(state.crossed)
        if not which.size or turn == _ROUNDS:
            break
        size[which] *= _CLOSER
    with np.errstate(all="ignore"):
        gap = np.abs(state.coarse - state.value)
        rounding = np.zeros(count)
        for i in range(count):
            mine = gap[(example == i) & ~state.crossed & ~state.plain & np.isfinite(gap) & (state.value != 0)]
            upper = 3 * mine.size // 4
            rounding[i] = np.partition(mine, upper)[upper] if mine.size else 0.0
        error = _SURE * (gap + rounding[example]) + 8 * engine.eps * np.abs(state.value)
        both = np.isfinite(state.right) & np.isfinite(state.left)
        tied = state.tie >= 0
        # Curvature sets the slopes h f'' apart: what is left of that at h = 0 is the jump.
        jump = np.abs(state.spread - _OTHER * state.wide) / (1 - _OTHER)
        apart = jump > 16 * error + 1e-9 * np.fmax(np.abs(state.right), np.abs(state.left))
        kink = tied & (~both | apart | state.plain)
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
        base=base,
        rounding=rounding,
        evaluations=evaluations,
        refined=refined,
    )


class _State:
    """What is known of each tile so far."""

    def __init__(self, count: int) -> None:
        self.value, self.coarse, self.right, self.left = (np.empty(count) for _ in range(4))
        self.wide, self.spread = np.empty(count), np.empty(count)  # right less left slope, at the two steps
        self.crossed, self.plain = np.zeros(count, bool), np.zeros(count, bool)
        self.tie = np.full(count, -1, np.int32)

    def take(self, which: Any, found: Any, offsets: Float64, *, first: bool) -> None:
        """Note a look at `which` tiles: the first step, or the second, which replaces what the first said."""
        a, b = found.moved[:, 0], found.moved[:, 1]
        with np.errstate(all="ignore"):
            value = three_point(found.delta[:, 0], found.delta[:, 1], a, b)
            slope = found.delta / found.moved
            spread = slope[:, 0] - slope[:, 1]
        right, left = slope[:, 0], slope[:, 1]
        if (offsets[:, 0] < 0).any() or (offsets[:, 1] > 0).any():
            right = np.where(offsets[:, 0] > 0, right, np.nan)
            # On one side to the left the first row is the nearer.
            left = np.where(offsets[:, 1] < 0, np.where(offsets[:, 0] < 0, slope[:, 0], left), np.nan)
        self.value[which], self.right[which], self.left[which], self.spread[which] = value, right, left, spread
        crossed, tie = found.crossed >= 0, found.tie
        if first:
            self.coarse[which], self.wide[which] = value, spread
            self.crossed[which], self.tie[which] = crossed, tie
            jump = np.abs(right - left) > _PLAIN * np.fmax(np.abs(right), np.abs(left))
            self.plain[which] = (tie >= 0) & ~crossed & jump
        else:
            self.crossed[which] |= crossed
            self.tie[which] = np.maximum(self.tie[which], tie)
