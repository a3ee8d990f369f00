"""What an engine is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """What to evaluate: two displaced rows for each entry.

    Attributes
    ----------
    point : ndarray of int64, shape (pairs,)
        Which of the points is displaced.
    tile : ndarray of int64, shape (pairs,)
        Which tile moves; -1 for none.
    step : ndarray of float64, shape (pairs, 2)
        Displacement of the two rows, in the units of x.
    """

    point: Int64
    tile: Int64
    step: Float64

    def __len__(self) -> int:
        return len(self.point)

    def then(self, other: Pairs) -> Pairs:
        """These pairs, and `other` behind them."""
        return Pairs(*(np.concatenate(both) for both in zip(self.fields, other.fields, strict=True)))

    @property
    def fields(self) -> tuple[Int64, Int64, Float64]:
        """Point, tile and step."""
        return self.point, self.tile, self.step


@dataclass(frozen=True, eq=False)
class Differences:
    """Values of f at displaced rows.

    Attributes
    ----------
    delta : ndarray of float64, shape (pairs, 2)
        f(row) - f(point).
    moved : ndarray of float64, shape (pairs, 2)
        Displacement really made, after rounding, averaged over the tile.
    base : ndarray of float64, shape (points,)
        f at the points.
    evaluations : int
        Rows that went through f.
    tie, crossed : ndarray of int32, shape (pairs,), or None
        Only from an engine that sees the units: first node with one that sits on a kink at the point and is moved; and
        with one that changes branch within a displacement. -1 for none.
    """

    delta: Float64
    moved: Float64
    base: Float64
    evaluations: int
    tie: npt.NDArray[np.int32] | None = None
    crossed: npt.NDArray[np.int32] | None = None
