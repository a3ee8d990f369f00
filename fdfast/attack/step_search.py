"""The smallest step at which differences tell where the loss goes: for staircases, where smaller ones see nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.rowwise import tile_differences
from fdfast.attack.subject import Subject
from fdfast.moves import Channels, TileLike, make_tiling

Float64 = npt.NDArray[np.float64]
#: Steps that are tried, in radii of the ball: halves of halves.
_STEPS = tuple(2.0**-k for k in range(11))
_EXAMPLES, _TILES = 4, 64
_ENOUGH = 0.7  # cosine with the differences at epsilon


def smallest_step(
    subject: Subject, epsilon: float, tile: TileLike, channels: Channels, rng: np.random.Generator, *, draws: int = 1
) -> float:
    """The smallest step whose differences go with those at step epsilon.

    Raises
    ------
    ValueError
        Nothing changes within epsilon of x.
    """
    tiling = make_tiling(subject.shape, tile, channels)
    tiles = rng.permutation(tiling.tiles)[:_TILES]
    some = rng.permutation(len(subject.points))[:_EXAMPLES]
    found = [
        np.mean(
            [
                tile_differences(subject.scored, subject.points[some], some, tiling, k * epsilon, tiles)
                for _ in range(draws)
            ],
            axis=0,
        )
        for k in _STEPS
    ]
    if not found[0].any():
        raise ValueError(
            f"h='search' finds no step: moving single tiles by up to epsilon={epsilon:g} changes nothing. Larger "
            "tiles (tile=4) move more; is x far from every decision?"
        )
    told = [alike(one, found[0]) for one in found]
    # At the latest at epsilon itself, where it is one.
    return next(k * epsilon for k, one in zip(_STEPS[::-1], told[::-1], strict=True) if one >= _ENOUGH)


def alike(a: Float64, b: Float64) -> float:
    """Cosine of the angle between two arrays; 0 where one of them is zero."""
    size: Any = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else 0.0
