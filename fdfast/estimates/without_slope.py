"""Where f has no finite slope: it jumps, its slope grows without bound, or it is not defined beside the point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import Pairs
from fdfast.estimates.estimate import Engine
from fdfast.moves import Steps, Tiling

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

NOTHING, UNDEFINED, STEEP, JUMP = 0, 1, 2, 3
ABOVE, BELOW = 1, 2
_CLOSER = 2.0**-4  # each step in units of the one before
_LOOKS = 4
_CLEAR = 16.0  # standard deviations of noise that a change must exceed
_SAME = 0.1  # two differences of f this close, relative, over steps sixteen times apart: a jump
_STAYS = 0.9  # changes of the slope from step to step that shrink by no more than this


@dataclass(frozen=True, eq=False)
class Breaks:
    """What keeps f from having a finite slope, tile by tile.

    Attributes
    ----------
    reason : ndarray of int8, shape (examples, tiles)
        `NOTHING`, `UNDEFINED` (not finite on a side of the point), `STEEP` (a slope that grows without bound), `JUMP`.
    size : ndarray of float64, shape (examples, tiles)
        Of the jump; 0 elsewhere.
    side : ndarray of int8, shape (examples, tiles)
        Sides on which f is not finite: `ABOVE`, `BELOW` or their sum; 0 for none.
    evaluations : int
    """

    reason: npt.NDArray[np.int8]
    size: Float64
    side: npt.NDArray[np.int8]
    evaluations: int

    def joined(self, other: Breaks) -> Breaks:
        """What both found, each of other tiles."""
        return Breaks(
            np.maximum(self.reason, other.reason),
            np.maximum(self.size, other.size),
            np.maximum(self.side, other.side),
            self.evaluations + other.evaluations,
        )


def breaks(engine: Engine, points: Any, steps: Steps, tiling: Tiling, wanted: Bool, noise: Float64) -> Breaks:
    """Look at tiles from ever smaller steps, on every side that the steps allow.

    With d(h) = f(x + h e) - f(x), at steps h, h/16, h/256, ...: where f jumps at the point, d stays; where its slope is
    infinite, d/h changes by as much from each step to the next, or by more (by a constant for x log x, fourfold for a
    root); where f is smooth, or has a kink, d/h changes by a sixteenth of what it did before.

    Parameters
    ----------
    engine : Engine
    points : ndarray, shape (examples, size)
    steps : Steps
        Tiles differenced about a moved centre are not looked at.
    tiling : Tiling
    wanted : ndarray of bool, shape (examples, tiles)
    noise : ndarray of float64, shape (examples,)
        Standard deviation of the rounding noise of f.
    """
    reason, side, size = np.zeros(wanted.shape, np.int8), np.zeros(wanted.shape, np.int8), np.zeros(wanted.shape)
    example, tile = np.nonzero(wanted & ~steps.moved)
    if not len(tile):
        return Breaks(reason, size, side, 0)
    offsets = steps.offsets()[example, tile]
    smallest = 8 * np.spacing(np.abs(points).max(axis=1)).astype(np.float64)[example]
    closest = np.abs(offsets).min(axis=1) * _CLOSER ** (_LOOKS - 1)
    # Where rounding of x leaves no room the steps begin further out.
    scale = np.maximum(1.0, smallest / closest)[:, None]
    both = np.stack([offsets * scale * _CLOSER**k for k in range(_LOOKS)], axis=1)
    pairs = Pairs(np.repeat(example, _LOOKS), np.repeat(tile, _LOOKS), both.reshape(-1, 2))
    found = engine.differences(points, np.arange(len(points), dtype=np.int32), pairs)
    delta, moved = (v.reshape(-1, _LOOKS, 2) for v in (found.delta, found.moved))
    # On one side, both rows are on the same one, and the nearer of them is enough.
    central = (offsets[:, 0] * offsets[:, 1] < 0)[:, None]
    looked = np.concatenate([np.ones_like(central), central], axis=1)
    with np.errstate(all="ignore"):
        floor = _CLEAR * noise[example, None]
        undefined = ~np.isfinite(delta[:, -1]) & looked
        last, before = np.abs(delta[:, -1]), np.abs(delta[:, -2])
        jump = (last > floor) & (np.abs(delta[:, -1] - delta[:, -2]) <= _SAME * last) & (before > floor) & looked
        turn = np.diff(delta / moved, axis=1)
        clear = np.abs(turn[:, -2:]) > floor[:, None] / np.abs(moved[:, -2:])
        grows = (turn[:, -1] * turn[:, -2] > 0) & (np.abs(turn[:, -1]) >= _STAYS * np.abs(turn[:, -2]))
        steep = clear.all(axis=1) & grows & ~jump & looked
    codes = np.where(jump.any(axis=1), JUMP, np.where(steep.any(axis=1), STEEP, NOTHING))
    reason[example, tile] = np.where(undefined.any(axis=1), UNDEFINED, codes)
    size[example, tile] = np.where(jump, last, 0.0).max(axis=1)
    side[example, tile] = (undefined * np.where(offsets > 0, ABOVE, BELOW)).sum(axis=1)
    return Breaks(reason, size, side, found.evaluations)
