"""Central differences of what is attacked, as it is: in its own precision, row by row, at steps of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import Scored
from fdfast.moves import Tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_ROWS = 4096  # that are built at a time


def along(scored: Scored, points: Array, some: npt.NDArray[np.int64], moves: Array, h: float) -> Float64:
    """Central differences of the measure along moves: (f(x + h v) - f(x - h v)) / 2h.

    Parameters
    ----------
    points : ndarray, shape (points, *shape)
    some : ndarray of int, shape (points,)
        The example that each belongs to.
    moves : ndarray, shape (moves, *shape) or (points, moves, *shape)
        Directions, for all points or for each.
    h : float
        In the units of x.

    Returns
    -------
    ndarray of float64, shape (points, moves)
    """
    count = moves.shape[-points.ndim]
    found = np.empty((len(points), count))
    for i, (point, example) in enumerate(zip(points, some, strict=True)):
        own = moves if moves.ndim == points.ndim else moves[i]
        for start in range(0, count, _ROWS // 2):
            step = (h * own[start : start + _ROWS // 2]).astype(points.dtype)
            rows = np.concatenate([point + step, point - step])
            values = scored.at(rows, np.full(len(rows), example)).measure
            found[i, start : start + len(step)] = (values[: len(step)] - values[len(step) :]) / (2 * h)
    return found


def tile_moves(tiling: Tiling, tiles: npt.NDArray[np.int64], dtype: Any) -> Array:
    """1 on one tile after the other, else 0: shape (tiles, *shape)."""
    moves = np.zeros((len(tiles), tiling.size), dtype)
    for move, tile in zip(moves, tiles, strict=True):
        move[tiling.members[tiling.offsets[tile] : tiling.offsets[tile + 1]]] = 1
    return moves.reshape(-1, *tiling.shape)


def tile_differences(
    scored: Scored, points: Array, some: npt.NDArray[np.int64], tiling: Tiling, h: float, tiles: Any = None
) -> Float64:
    """Derivatives along whole tiles by central differences at step h, all tiles or some: shape (points, tiles)."""
    which = np.arange(tiling.tiles) if tiles is None else np.asarray(tiles)
    parts = [which[start : start + _ROWS // 2] for start in range(0, len(which), _ROWS // 2)]
    found = [along(scored, points, some, tile_moves(tiling, part, points.dtype), h) for part in parts]
    return np.concatenate(found, axis=1)
