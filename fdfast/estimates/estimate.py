"""What an estimate is, and what it asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fdfast.engines import Differences, Pairs
from fdfast.moves import Tiling

Float64 = npt.NDArray[np.float64]

SMOOTH, KINK, UNRESOLVED, SINGULAR = 0, 1, 2, 3
KINDS = ("smooth", "kink", "unresolved", "singular")


class Engine(Protocol):
    """Whatever can evaluate displaced rows."""

    name: str

    @property
    def exact(self) -> bool:
        """Whether it loses no digits and sees every kink."""

    @property
    def step(self) -> float | None:
        """Step for values of order one; None for `fdfast.moves.scheme.auto_step`."""

    def of(self, examples: Any) -> Engine:
        """Return the same engine for some of the examples."""

    def by(self, tiling: Tiling) -> Engine:
        """Return the same engine for other tiles."""

    def differences(self, points: Any, example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Finite-difference derivative along every tile, with its error bar.

    Attributes
    ----------
    value : ndarray of float64, shape (examples, tiles)
        Derivative of f along the tile's indicator: the sum of the gradient over the tile.
    error : ndarray of float64, shape (examples, tiles)
        Bound on the error of `value`: truncation, from two steps, and rounding, from the measured noise of f.
    right, left : ndarray of float64, shape (examples, tiles)
        One-sided slopes; NaN on a side that bounds forbid.
    kind : ndarray of int8, shape (examples, tiles)
        Index into ``("smooth", "kink", "unresolved", "singular")``.
    step : ndarray of float64, shape (examples, tiles)
        Step that `value` was had with, in the units of x.
    base : ndarray of float64, shape (examples,)
        f at the points.
    noise : ndarray of float64, shape (examples,)
        Measured standard deviation of the rounding noise of f.
    evaluations : int
        Rows that went through f.
    refined : int
        How many of these rows the refinement took.
    engine : str
    tie : ndarray of int32, shape (examples, tiles), or None
        From an engine that sees the units: node of its program that sits on a kink at the point, -1 for none.
    """

    value: Float64
    error: Float64
    right: Float64
    left: Float64
    kind: npt.NDArray[np.int8]
    step: Float64
    base: Float64
    noise: Float64
    evaluations: int
    refined: int
    engine: str
    scale: Float64 = field(repr=False)
    tie: npt.NDArray[np.int32] | None = None

    def _repr_html_(self) -> str:
        from fdfast.estimates.page import fragment

        return fragment(self)

    @staticmethod
    def join(parts: Sequence[Estimate]) -> Estimate:
        """Put groups of examples back together."""
        whole: dict[str, Any] = {}
        for one in fields(Estimate):
            values = [getattr(p, one.name) for p in parts]
            if isinstance(values[0], np.ndarray):
                whole[one.name] = np.concatenate(values)
            else:
                whole[one.name] = sum(values) if isinstance(values[0], int) else values[0]
        return Estimate(**whole)
