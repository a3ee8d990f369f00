"""The verdict, and everything that led to it, as text, JSON, HTML and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.verdict import AGREE, CLASSES, METRICS, WRONG, error_summary

Float64 = npt.NDArray[np.float64]

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
    "detectable",
)


@dataclass(frozen=True, eq=False)
class Report:
    """Result of a gradient check.

    ``bool(report)`` is True only for the verdict ``"pass"``. Maps have the shape of the tile grid, with a leading
    axis for the examples if x came as a batch; derivatives are along a tile's indicator, that is sums over the tile.

    Attributes
    ----------
    numeric, analytic : ndarray of float64
        Finite-difference derivative and tile sum of the gradient under test, at x.
    error_bar : ndarray of float64
        Bound on the error of `numeric`.
    right, left : ndarray of float64
        One-sided slopes at x.
    codes : ndarray of int8
        Class of each tile, index into ``("agree", "wrong", "kink", "unresolved")``; `classes` has the words.
    near : ndarray of bool
        Tiles that were decided at a generic point near x, because x sits on a kink there.
    checked_numeric, checked_analytic, checked_error : ndarray of float64
        The same as the first three where each tile was decided: at x, or near it.
    detectable : ndarray of float64
        Smallest relative error of the gradient that would have been called wrong.
    x : ndarray
        What was checked.
    shape, tile, grid : tuple of int
        Shape of one example, of one tile, and number of tiles along each axis.
    coverage_asked : float
        Least share of tiles that must agree for a pass.
    reasons : list of str
        Why the verdict is what it is, in sentences.
    engine, dtype : str
        What evaluated the differences, and in which precision.
    step : float
        Median step, in the units of x.
    evaluations, refined : int
        Rows that went through f; how many of them refined single tiles.
    noise : float
        Measured rounding noise of f, standard deviation.
    timings : dict of str to float
        Seconds by stage.
    settings : dict
        rtol, atol, seed and the like.
    label : str or None
        What was checked, in words.
    deployed : dict or None
        How far the gradient in the model's own dtype is from float64: dtype, median_rel_error, digits.
    batched : bool
        Whether there is a leading axis of examples.
    hints : list of str
        Patterns in the mismatch and the mistakes that make them.
    selftest : str or None
        What became of the fault that was planted, if one was asked for.
    selftest_passed : bool
        False if a planted fault was missed; there is no pass then.
    """

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
    detectable: Float64
    x: npt.NDArray[Any]
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    grid: tuple[int, ...]
    coverage_asked: float
    reasons: list[str]
    engine: str
    dtype: str
    step: float
    evaluations: int
    refined: int
    noise: float
    timings: dict[str, float]
    settings: dict[str, Any]
    label: str | None = None
    deployed: dict[str, Any] | None = None
    batched: bool = False
    hints: list[str] = field(default_factory=list)
    selftest: str | None = None
    selftest_passed: bool = True

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of tiles in each class."""
        found = np.bincount(self.codes.reshape(-1), minlength=len(CLASSES))
        return {name: int(n) for name, n in zip(CLASSES, found, strict=True)}

    @property
    def classes(self) -> npt.NDArray[np.str_]:
        """Class of each tile in words."""
        return np.array(CLASSES)[self.codes]

    @property
    def coverage(self) -> float:
        """Share of tiles that agree."""
        return self.counts["agree"] / self.codes.size

    @cached_property
    def verdict(self) -> str:
        """``"fail"`` if any tile is wrong, ``"pass"`` if enough agree and not all is zero, or ``"inconclusive"``."""
        if self.counts["wrong"]:
            return "fail"
        enough = self.coverage >= self.coverage_asked and self.saw_something and self.selftest_passed
        return "pass" if enough else "inconclusive"

    @property
    def saw_something(self) -> bool:
        """Whether any derivative differs from zero: agreement of zeros with zeros proves nothing."""
        return bool(np.any(self.numeric[np.isfinite(self.numeric)]) or np.any(self.analytic))

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    @property
    def rel_error(self) -> Float64:
        """``|numeric - analytic| / |analytic|`` at x; NaN where the analytic gradient is zero."""
        with np.errstate(all="ignore"):
            return np.where(self.analytic != 0, np.abs(self.numeric - self.analytic) / np.abs(self.analytic), np.nan)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Metrics, counts and histogram over all tiles at x (see `fdfast.verdict.compare.error_summary`)."""
        return error_summary(self.numeric, self.analytic)

    @cached_property
    def summary_smooth(self) -> dict[str, Any]:
        """The same over the tiles that agree or are wrong at x itself."""
        smooth = ~self.near & ((self.codes == AGREE) | (self.codes == WRONG))
        return error_summary(self.numeric[smooth], self.analytic[smooth])

    @cached_property
    def power(self) -> dict[str, float]:
        """Detection power: relative errors of the gradient that this run would have called wrong.

        ``smallest``: a common factor, seen on the most sensitive tile; ``median`` and ``p90``: on a single tile, for
        half and for nine tenths of the tiles that agree and have a non-zero gradient. NaN if there is none.
        """
        found = self.detectable[(self.codes == AGREE) & np.isfinite(self.detectable)]
        if not found.size:
            return dict.fromkeys(("smallest", "median", "p90"), float("nan"))
        low, middle, high = np.percentile(found, (0, 50, 90))
        return {"smallest": float(low), "median": float(middle), "p90": float(high)}

    @property
    def metrics(self) -> dict[str, float]:
        """The six error metrics over all tiles at x."""
        return {name: self.summary[name] for name in METRICS}

    @property
    def metrics_smooth(self) -> dict[str, float]:
        """The six error metrics over the tiles that are smooth at x."""
        return {name: self.summary_smooth[name] for name in METRICS}

    def worst(self, k: int = 10) -> list[dict[str, Any]]:
        """List the k tiles that matter most: wrong ones first, then by error over what was allowed.

        Returns
        -------
        list of dict
            index (of the tile's first element, with the example in front for a batch), class, autodiff,
            finite_difference, abs_error, rel_error, error_bar, right, left, near_x.
        """
        gap = np.abs(self.checked_numeric - self.checked_analytic).reshape(-1)
        with np.errstate(all="ignore"):
            ratio = gap / (
                self.checked_error.reshape(-1)
                + np.abs(self.checked_analytic).reshape(-1) * self.settings.get("rtol", 1e-4)
                + 1e-300
            )
        ratio = np.where(np.isfinite(ratio), ratio, -1.0)
        rank = np.choose(self.codes.reshape(-1), [0, 3, 2, 1])
        order = np.lexsort((-gap, -ratio, -rank)) if self.counts["wrong"] == 0 else np.lexsort((-gap, -rank))
        return [self._row(int(i)) for i in order[:k]]

    def _row(self, flat: int) -> dict[str, Any]:
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

    def __len__(self) -> int:
        return len(self.codes) if self.batched else 1

    def __getitem__(self, i: int) -> Report:
        """Report of one example of a batch."""
        if not self.batched:
            raise TypeError("this report is of a single example, not of a batch")
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        one = {name: getattr(self, name)[i] for name in MAPS}
        return replace(
            self,
            **one,
            x=self.x[i],
            batched=False,
            label=f"{self.label}, example {i}" if self.label else f"example {i}",
        )

    def __str__(self) -> str:
        from fdfast.report.text import render

        return render(self)

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Everything but the maps (and these too, as lists, if asked for), ready for JSON: NaN becomes None."""
        out: dict[str, Any] = {
            "verdict": self.verdict,
            "label": self.label,
            "counts": self.counts,
            "coverage": self.coverage,
            "coverage_asked": self.coverage_asked,
            "checked_at_x": int((~self.near).sum()),
            "checked_near_x": int(self.near.sum()),
            "metrics": self.metrics,
            "metrics_smooth": self.metrics_smooth,
            "histogram": self.summary["histogram"],
            "reasons": self.reasons,
            "hints": self.hints,
            "power": self.power,
            "selftest": self.selftest,
            "worst": self.worst(),
            "shape": self.shape,
            "tile": self.tile,
            "grid": self.grid,
            "examples": len(self),
            "engine": self.engine,
            "dtype": self.dtype,
            "step": self.step,
            "evaluations": self.evaluations,
            "refined": self.refined,
            "noise": self.noise,
            "deployed": self.deployed,
            "settings": self.settings,
            "timings": self.timings,
        }
        if maps:
            names = ("numeric", "analytic", "rel_error", "error_bar", "right", "left", "near")
            out["maps"] = {name: getattr(self, name) for name in names} | {"classes": self.classes}
        plain: dict[str, Any] = _plain(out)
        return plain

    def to_json(self, path: str | PathLike[str] | None = None, *, maps: bool = False) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        text = json.dumps(self.to_dict(maps=maps), indent=1, allow_nan=False)
        _write(path, text)
        return text

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """Return one self-contained HTML page, everything escaped; also written to `path` if given."""
        from fdfast.report.html import to_html

        text = to_html(self)
        _write(path, text)
        return text

    def _repr_html_(self) -> str:
        from fdfast.report.html import fragment

        return fragment(self)

    def plot(self, path: str | PathLike[str] | None = None, **kwargs: Any) -> Any:
        """Draw the figure; saved to `path` if given. Returns a `matplotlib.figure.Figure`."""
        from fdfast.report import plot

        if path is not None:
            plot.save(self, path, **kwargs)
            return None
        return plot.figure(self, **kwargs)


def _write(path: str | PathLike[str] | None, text: str) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _plain(value: Any) -> Any:
    """Replace arrays by lists, NumPy scalars by Python's, and what JSON has no word for by None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
