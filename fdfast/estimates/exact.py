"""Derivatives from an engine that loses no digits and sees every kink: no guessing from slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.engines import Pairs
from fdfast.moves import Steps

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# The second step, in units of the first: no power of two, so that it rounds differently. That tells the rounding.
_OTHER = 0.75
_CLOSER = 2.0**-6  # how much nearer the next look is where a unit changes branch within the step
_ROUNDS = 6


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
    peak : ndarray of float64, shape (points,)
        Largest derivative, absolute.
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
    peak: Float64
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
    looks = _core.Looks(len(tile), _OTHER)
    evaluations, refined = 0, 0

    def difference(which: Int64 | None, share: float, *, first: bool) -> Float64:
        nonlocal evaluations
        pairs = Pairs(at, tile, share * offsets)
        if which is not None:
            pairs = Pairs(at[which], tile[which], offsets[which] * (share * size[which, None]))
        found = engine.differences(where, owner, pairs)
        looks.take(which, found.delta, found.moved, found.tie, found.crossed, first=first)
        evaluations += found.evaluations
        base: Float64 = found.base
        return base

    base = difference(None, 1.0, first=True)
    difference(looks.unsettled, _OTHER, first=False)
    for _ in range(_ROUNDS):
        which = looks.crossed
        if not which.size:
            break
        size[which] *= _CLOSER
        difference(which, 1.0, first=True)
        again = np.intersect1d(which, looks.unsettled)
        difference(again, _OTHER, first=False)
        refined += 2 * (len(which) + len(again))
    value, error, right, left, kink, open_, tie, rounding, peak = looks.settle(
        np.ascontiguousarray(example), count, engine.eps
    )
    return Looks(
        value=value,
        error=error,
        right=right,
        left=left,
        step=np.abs(offsets[:, 0]) * size,
        kink=kink,
        open=open_,
        tie=tie,
        base=base,
        rounding=rounding,
        peak=peak,
        evaluations=evaluations,
        refined=refined,
    )
