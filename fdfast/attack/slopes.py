"""Where an attack gets its gradient from: autodiff, differences, a straight-through pass, or an estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fdfast.attack.estimators import METHODS, estimated
from fdfast.attack.exact import ExactSlopes
from fdfast.attack.rowwise import tile_differences
from fdfast.attack.straight import straight_through
from fdfast.attack.subject import Subject
from fdfast.functions import MARGIN
from fdfast.moves import Channels, TileLike, Tiling, auto_step, check_choice, make_tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Slope = Callable[[Array, npt.NDArray[np.int64]], Float64]

GradientKind = Literal[
    "difference", "finite-difference", "autodiff", "straight-through", "coordinate", "tile", "spsa", "nes", "directions"
]
KINDS = get_args(GradientKind)


@dataclass(frozen=True)
class Way:
    """How a gradient is had; see `fdfast.attack.pgd` for each."""

    gradient: GradientKind = "difference"
    h: float | Literal["auto"] = "auto"
    samples: int = 1
    spread: float = 0.0
    tile: TileLike = 1
    channels: Channels = "apart"
    queries: int | None = None
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        check_choice("gradient", self.gradient, KINDS)


def slope_of(subject: Subject, way: Way, *, narrow: bool = False) -> Slope:
    """What gives the gradient of the loss at points, shape (points, *shape), of some examples, by their numbers.

    `narrow` lets exact differences be in the model's own precision, see `fdfast.attack.exact`.

    Differences and estimates are those of the measure that does not saturate (see `fdfast.functions.Scores`), which
    points the same way.
    """
    tiling = make_tiling(subject.shape, way.tile, way.channels)
    once = _once(subject, way, tiling, narrow)

    def slope(points: Array, some: npt.NDArray[np.int64]) -> Float64:
        total = np.zeros(points.shape)
        for _ in range(way.samples):
            at = points
            if way.spread:
                at = subject.inside((points + way.rng.uniform(-1, 1, points.shape) * way.spread).astype(points.dtype))
            total += once(at, some)
        found = total / way.samples
        if np.isnan(found).any():
            example, *index = (int(i) for i in np.argwhere(np.isnan(found))[0])
            place = ", ".join(map(str, [int(some[example]), *index] if subject.batched else index))
            raise ValueError(f"the gradient is NaN at x[{place}], so it has no sign there; is the model NaN beside x?")
        return found

    return slope


def _once(subject: Subject, way: Way, tiling: Tiling, narrow: bool) -> Slope:
    kind, scored = way.gradient, subject.scored
    if kind == "autodiff":
        return _tiled(_autodiff(subject), tiling)
    if kind == "straight-through":
        return _tiled(straight_through(subject), tiling)
    if kind in METHODS:
        step = auto_step(scored.dtype) if way.h == "auto" else way.h

        def estimate(points: Array, some: npt.NDArray[np.int64]) -> Float64:
            return estimated(kind, scored, points, some, tiling, queries=way.queries, h=step, rng=way.rng).gradient

        return estimate
    # Of a random f, or one that is Python code inside, there is no exact form.
    as_it_is = (
        subject.is_random or not scored.is_model or scored.gradient(subject.points[:1], subject.every[:1]) is None
    )
    if way.h != "auto" or as_it_is:
        step = auto_step(scored.dtype) if way.h == "auto" else way.h
        return lambda points, some: tiling_expanded(tiling, tile_differences(scored, points, some, tiling, step))

    # A cross-entropy in float64, by differences, does not saturate either.
    loss = None if isinstance(subject.loss, str) and subject.loss == MARGIN else subject.loss
    exact = ExactSlopes(subject, loss, way.tile, way.channels, narrow=narrow)

    def counted(points: Array, some: npt.NDArray[np.int64]) -> Float64:
        scored.queries += 2 * tiling.tiles * len(points)
        return exact(points, some)

    return counted


def tiling_expanded(tiling: Tiling, values: Float64) -> Float64:
    """Give every element of a tile the tile's derivative; shape (points, *shape)."""
    return np.asarray(tiling.expand(values, "mean"), np.float64)


def _tiled(slope: Slope, tiling: Tiling) -> Slope:
    if tiling.tiles == tiling.size:
        return slope
    return lambda points, some: tiling_expanded(tiling, tiling.sums(slope(points, some)))


def _autodiff(subject: Subject) -> Slope:
    def slope(points: Array, some: npt.NDArray[np.int64]) -> Float64:
        found = subject.scored.gradient(points, some)
        if found is None:
            raise ValueError(
                "gradient='autodiff' cannot be used: TensorFlow finds no way from the loss back to x. "
                "gradient='difference' needs none; gradient='straight-through' passes by the layers of a Sequential "
                "model that cut it"
            )
        return found

    return slope
