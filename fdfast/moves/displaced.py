"""Rows for a difference quotient in any floating or complex dtype, and the quotient of what f gives at them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves.asked import Bounds
from fdfast.moves.scheme import (
    SCHEMES,
    StepLike,
    Steps,
    auto_step,
    plan_steps,
    three_point,
    vanishing_step_error,
)
from fdfast.moves.tiling import Channels, Reduction, TileLike, Tiling, make_tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Displaced:
    """Two displaced rows of x for each tile.

    Attributes
    ----------
    x : ndarray
        Of dtype float16, bfloat16, float32, float64, complex64 or complex128.
    tiling : Tiling
        Of the real numbers in x; a complex array has a last axis of two more, real and imaginary part.
    steps : Steps
    """

    x: Array
    tiling: Tiling
    steps: Steps

    @cached_property
    def point(self) -> Array:
        """X as real numbers, in their own dtype, shape (size,)."""
        flat = np.ascontiguousarray(self.x).reshape(-1)
        return flat.view(flat.real.dtype) if np.iscomplexobj(flat) else flat

    @cached_property
    def _owner(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.arange(self.tiling.tiles), self.tiling.counts)

    @cached_property
    def _origin(self) -> Array:
        """Where each tile is displaced from, in the order of `members`: x, or the moved centre."""
        at_x = self.point[self.tiling.members]
        if self.steps.centre is None:
            return at_x
        centre = self.steps.centre[0][self.tiling.members].astype(at_x.dtype)
        found: Array = np.where(self.steps.moved[0][self._owner], centre, at_x)
        return found

    @cached_property
    def _values(self) -> Array:
        """Displaced elements in the order of `members`, shape (2, size), rounded to the dtype of x."""
        step = self.steps.offsets()[0][self._owner].T
        # float32 and float64 add in their own dtype; the halves in float32, then round: what TensorFlow would do.
        wide = np.promote_types(self.point.dtype, np.float32) if self.point.dtype.kind == "f" else np.dtype(np.float32)
        moved: Array = (self._origin.astype(wide) + step.astype(wide)).astype(self.point.dtype)
        stuck = np.flatnonzero((moved == self._origin).any(axis=0))
        if stuck.size:
            flat = int(self.tiling.members[stuck[0]])
            h = float(np.abs(step[:, stuck[0]]).min())
            shown = self.point.astype(wide)
            auto = step_for(self.point.dtype) * max(1.0, abs(float(shown[flat])))
            raise vanishing_step_error(shown, flat, self.tiling.shape, h, auto)
        return moved

    @cached_property
    def moved(self) -> Float64:
        """Displacement really made, averaged over the tile, shape (tiles, 2)."""
        gap = self._values.astype(np.float64) - self._origin.astype(np.float64)
        return (np.add.reduceat(gap, self.tiling.offsets[:-1], axis=1) / self.tiling.counts).T

    def rows(self, start: int, stop: int) -> Array:
        """Rows `start` to `stop`, shape (stop - start, *x.shape); rows 2t and 2t + 1 are the two of tile t."""
        rows = np.tile(self.point, (stop - start, 1))
        first, last = start // 2, (stop - 1) // 2
        if self.steps.centre is not None:
            apart = self.steps.moved[0][np.arange(start, stop) // 2]
            rows[apart] = self.steps.centre[0].astype(rows.dtype)
        some = slice(self.tiling.offsets[first], self.tiling.offsets[last + 1])
        members, owner = self.tiling.members[some], self._owner[some]
        for side in (0, 1):
            row = 2 * owner + side - start
            inside = (row >= 0) & (row < stop - start)
            rows[row[inside], members[inside]] = self._values[side, some][inside]
        return rows.view(self.x.dtype).reshape(stop - start, *self.x.shape)

    def slopes(self, values: Array, base: Array, first: int) -> Array:
        """Derivative along each tile.

        Parameters
        ----------
        values : ndarray, shape (2 tiles, *outputs)
            f at the rows of some tiles, from tile `first` on.
        base : ndarray, shape outputs
            f at x.
        first : int

        Returns
        -------
        ndarray of float64 or complex128, shape (tiles, *outputs)
        """
        wide = np.complex128 if np.iscomplexobj(values) else np.float64
        up: Any = values[0::2].astype(wide)
        down: Any = values[1::2].astype(wide)
        some = slice(first, first + len(up))
        shape = (-1, *(1,) * base.ndim)
        a, b = (self.moved[some, side].reshape(shape) for side in (0, 1))
        one_sided = np.array([s.name != "central" for s in SCHEMES])[self.steps.scheme[0][some]].reshape(shape)
        if not one_sided.any():
            return np.asarray((up - down) / (a - b))
        origin = base.astype(wide)
        return np.where(one_sided, three_point(up - origin, down - origin, a, b), (up - down) / (a - b))

    def pixels(self, slopes: Array, reduction: Reduction) -> Array:
        """Derivatives of tiles, shape (tiles, *outputs), spread over x: (*outputs, *x.shape), 2 more if complex."""
        values = np.moveaxis(slopes, 0, -1)
        if np.iscomplexobj(values):
            return self.tiling.expand(values.real, reduction) + 1j * self.tiling.expand(values.imag, reduction)
        return self.tiling.expand(values, reduction)


def displace(x: Array, tile: TileLike, channels: Channels, h: StepLike, bounds: Bounds | None) -> Displaced:
    """Choose tiles and steps for x, which holds at least one number.

    Raises
    ------
    TypeError, ValueError
        As `fdfast.moves.tiling.make_tiling` and `fdfast.moves.scheme.plan_steps`.
    """
    tiling = make_tiling(x.shape, tile, channels)
    if np.iscomplexobj(x):
        if bounds is not None:
            raise ValueError("bounds are for real inputs; x is complex")
        tiling = make_tiling((*x.shape, 2), (*tiling.tile, 1))
    flat = np.ascontiguousarray(x).reshape(1, -1)
    real = flat.view(flat.real.dtype) if np.iscomplexobj(flat) else flat
    half = real.dtype.itemsize == 2
    points = real.astype(np.float32) if half else real
    if not (half and h == "auto"):
        return Displaced(x, tiling, plan_steps(points, tiling, h, bounds))
    if bounds is not None:
        raise ValueError(f"with bounds and x of dtype {x.dtype} give h, or pass x as float32")
    steps = plan_steps(points, tiling)
    wider = steps.h * (step_for(real.dtype) / auto_step(np.float32))
    return Displaced(x, tiling, Steps(wider, steps.scheme, steps.centre, steps.moved))


def step_for(dtype: npt.DTypeLike) -> float:
    """As `fdfast.moves.scheme.auto_step`, bfloat16 included: 2**-2 there, and 2**-3 in float16."""
    return 0.25 if np.dtype(dtype).name == "bfloat16" else auto_step(dtype)
