"""What was found about one array that moved: an input, or a variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.verdict import AGREE, CLASSES, WRONG

Float64 = npt.NDArray[np.float64]

#: Code of an element that was not to be checked: the budget left it out.
LEFT_OUT = -1
#: Attributes that have one entry per example and tile.
MAPS = (
    "numeric",
    "analytic",
    "error_bar",
    "right",
    "left",
    "codes",
    "near",
    "checked_numeric",
    "checked_analytic",
    "checked_error",
)


@dataclass(frozen=True, eq=False)
class Part:
    """Maps of one input or variable, in the shape of its tile grid, with a leading axis of examples if x had one.

    Derivatives are along a tile's indicator, that is sums over the tile. A variable has tiles of one weight, so its
    maps have its shape.

    Attributes
    ----------
    name : str
        Path of the variable, such as ``"conv_1/kernel"``; of the only input ``"x"``.
    kind : {"input", "variable"}
    engine : str
        What evaluated the differences.
    numeric, analytic : ndarray of float64
        Finite-difference derivative and tile sum of the gradient under test, at x.
    error_bar : ndarray of float64
        Bound on the error of `numeric`.
    right, left : ndarray of float64
        One-sided slopes at x.
    codes : ndarray of int8
        Class of each tile, index into ``("agree", "wrong", "kink", "unresolved", "singular")``, or `LEFT_OUT`.
    near : ndarray of bool
        Tiles that were decided at a generic point near x, because x sits on a kink there.
    checked_numeric, checked_analytic, checked_error : ndarray of float64
        The same as the first three where each tile was decided: at x, or near it.
    seen_from : ndarray of float64, or callable
        `detectable`, or what makes it when it is asked for.
    shape, tile, grid : tuple of int
        Shape of one example, of one tile, and number of tiles along each axis.
    batched : bool
        Whether there is a leading axis of examples.
    x : ndarray or None
        What was checked; None for a variable.
    channel_axis : int or None
        Axis of `shape` that holds channels; None where there are none.
    """

    name: str
    kind: Literal["input", "variable"]
    engine: str
    numeric: Float64
    analytic: Float64
    error_bar: Float64
    right: Float64
    left: Float64
    codes: npt.NDArray[np.int8]
    near: npt.NDArray[np.bool_]
    checked_numeric: Float64
    checked_analytic: Float64
    checked_error: Float64
    seen_from: Float64 | Callable[[], Float64]
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    grid: tuple[int, ...]
    batched: bool = False
    x: npt.NDArray[Any] | None = None
    channel_axis: int | None = None

    @cached_property
    def detectable(self) -> Float64:
        """Smallest relative error of the gradient that would have been called wrong."""
        return self.seen_from() if callable(self.seen_from) else self.seen_from

    @cached_property
    def asked(self) -> npt.NDArray[np.bool_]:
        """Elements that were to be checked."""
        return np.not_equal(self.codes, LEFT_OUT)

    @property
    def checked(self) -> int:
        """Number of elements that were to be checked."""
        return int(np.count_nonzero(self.asked))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of elements in each class."""
        found = np.bincount(self.codes[self.asked], minlength=len(CLASSES))
        return {name: int(n) for name, n in zip(CLASSES, found, strict=True)}

    def example(self, which: int) -> Part:
        """One example of a batch."""
        maps = {name: getattr(self, name)[which] for name in (*MAPS, "x")}
        return replace(self, **maps, seen_from=self.detectable[which], batched=False)

    @property
    def classes(self) -> npt.NDArray[np.str_]:
        """Class of each element in words."""
        return np.array([*CLASSES, "left out"])[self.codes]

    @property
    def smooth(self) -> npt.NDArray[np.bool_]:
        """Elements that agree or are wrong at x itself."""
        smooth: npt.NDArray[np.bool_] = ~self.near & ((self.codes == AGREE) | (self.codes == WRONG))
        return smooth

    @property
    def rel_error(self) -> Float64:
        """``|numeric - analytic| / |analytic|`` at x; NaN where the analytic gradient is zero."""
        return _relative(self.numeric, self.analytic)

    @property
    def max_rel_error(self) -> float:
        """Greatest relative error where decided; NaN if every gradient is zero or nothing was decided."""
        decided = (self.codes == AGREE) | (self.codes == WRONG)
        found = _relative(self.checked_numeric[decided], self.checked_analytic[decided])
        found = found[~np.isnan(found)]
        return float(found.max()) if found.size else float("nan")

    def row(self) -> dict[str, Any]:
        """Line of the report's table."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "weights" if self.kind == "variable" else "tiles": int(self.codes.size),
            "checked": self.checked,
            **self.counts,
            "near_x": int(np.count_nonzero(self.near & (self.codes == AGREE))),
            "max_rel_error": self.max_rel_error,
            "engine": self.engine,
        }

    def entry(self, flat: int) -> dict[str, Any]:
        """What is known of one tile: its place, class, both derivatives, errors, bar and slopes."""
        position = tuple(int(i) for i in np.unravel_index(flat, self.codes.shape))
        lead, cell = (position[:1], position[1:]) if self.batched else ((), position)
        fd, ad = float(self.checked_numeric.flat[flat]), float(self.checked_analytic.flat[flat])
        return {
            "index": lead + tuple(c * t for c, t in zip(cell, self.tile, strict=True)),
            "class": CLASSES[self.codes.flat[flat]],
            "autodiff": ad,
            "finite_difference": fd,
            "abs_error": abs(fd - ad),
            "rel_error": abs(fd - ad) / abs(ad) if ad else float("nan"),
            "error_bar": float(self.checked_error.flat[flat]),
            "right": float(self.right.flat[flat]),
            "left": float(self.left.flat[flat]),
            "near_x": bool(self.near.flat[flat]),
        }


def _relative(numeric: Float64, analytic: Float64) -> Float64:
    with np.errstate(all="ignore"):
        return np.where(analytic != 0, np.abs(numeric - analytic) / np.abs(analytic), np.nan)
