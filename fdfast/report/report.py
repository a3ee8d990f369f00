"""The verdict, and everything that led to it, as text, JSON, HTML and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.report.first_lines import in_short
from fdfast.report.part import MAPS, Part
from fdfast.report.plain import plain, write
from fdfast.report.ranking import worst_of
from fdfast.verdict import AGREE, CLASSES, METRICS, Culprits, Directed, error_summary

#: Attributes of the only part that a report of one input has for its own.
_OF_PART = frozenset({*MAPS, "detectable", "x", "shape", "tile", "grid", "batched", "rel_error", "classes"})


@dataclass(frozen=True, eq=False)
class Report:
    """Result of a gradient check of inputs or weights, in one `Part` for each of them.

    ``bool(report)`` is True only for the verdict ``"pass"``. A report of one input has the attributes of its part
    (``report.numeric``, ``report.codes``, ...); ``report["conv_1/kernel"]`` is the part of that name, ``report[3]`` the
    report of one example of a batch.

    Attributes
    ----------
    parts : list of Part
        Inputs, or variables in the order of the model's trainable variables.
    wrt : {"input", "weights"}
        What was moved.
    coverage_asked : float
        Least share of the tiles that were to be checked that must agree for a pass.
    caveats : list of str
        What was not compared, or not as one would expect: said before anything else.
    reasons, hints : list of str
        Why the verdict is what it is; patterns in a mismatch and the mistakes that make them.
    engine, dtype : str
        What evaluated the differences, and in which precision.
    step : float
        Median step, in the units of what moved.
    evaluations, refined : int
        Displaced values of f; how many of them refined single tiles.
    noise : float
        Measured rounding noise of f, standard deviation.
    timings : dict of str to float
        Seconds by stage.
    settings : dict
        rtol, atol, seed and the like.
    examples : int
        Number of examples that were looked at, one by one or, for weights, as a batch.
    base : float
        Largest loss of these.
    label : str or None
        What was checked, in words.
    deployed : dict or None
        How far the gradient in the model's own dtype is from float64: dtype, median_rel_error, digits.
    directed : Directed or None
        What random directions told, if these checked the gradient as a whole.
    culprits : Culprits or None
        Which layers are to blame for a mismatch with autodiff, if it was looked for.
    selftest : str or None
        What became of the fault that was planted, if one was asked for.
    selftest_passed : bool
        False if a planted fault was missed; there is no pass then.
    order : int
        Of the derivatives that were compared: 2 in the report of the second order.
    second : Report, str or None
        What came of the second order, or why it could not be checked; None where it was not asked for.
    """

    parts: list[Part]
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
    wrt: str = "input"
    examples: int = 1
    base: float = float("nan")
    label: str | None = None
    deployed: dict[str, Any] | None = None
    hints: list[str] = field(default_factory=list)
    directed: Directed | None = None
    culprits: Culprits | None = None
    selftest: str | None = None
    selftest_passed: bool = True
    caveats: list[str] = field(default_factory=list)
    order: int = 1
    second: Report | str | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_PART:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if len(self.parts) != 1:
            names = ", ".join(repr(part.name) for part in self.parts[:3])
            raise AttributeError(f"each of the {len(self.parts)} parts has {name}: report[{names}, ...].{name}")
        return getattr(self.parts[0], name)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of tiles, or weights, in each class."""
        return {name: sum(part.counts[name] for part in self.parts) for name in CLASSES}

    @property
    def met(self) -> dict[str, int]:
        """The counts that are worth a line: of the class singular only where there are some."""
        return {name: n for name, n in self.counts.items() if n or name != "singular"}

    @property
    def noun(self) -> str:
        """What is counted: tile or weight."""
        return "weight" if self.wrt == "weights" else "tile" if self.directed is None else "element"

    @property
    def check(self) -> str:
        """How: ``"every"`` element by itself, or all together by random ``"directions"``."""
        return "every" if self.directed is None else "directions"

    @property
    def guarantee(self) -> tuple[float, float] | None:
        """A relative error of one element, and the chance that it has been missed; None where ``check`` is "every"."""
        if self.directed is None:
            return None
        return self.settings["rtol"], self.directed.chance(self.settings["rtol"])

    @property
    def culprit(self) -> str | None:
        """The layer whose gradient is wrong, or the function or operation; several joined by commas, None for none.

        Where the first order is right, that of the second.
        """
        mine = None if self.culprits is None else ", ".join(self.culprits.names) or None
        return self.second.culprit if mine is None and isinstance(self.second, Report) else mine

    @property
    def total(self) -> int:
        """Number of tiles, or weights, checked or not."""
        return sum(part.codes.size for part in self.parts)

    @property
    def checked(self) -> int:
        """Number of tiles, or weights, that were to be checked: all, or what the budget paid for."""
        return sum(part.checked for part in self.parts)

    @property
    def left_out(self) -> int:
        """Number of weights that the budget left out."""
        return self.total - self.checked

    @property
    def coverage(self) -> float:
        """Share of what was to be checked that agrees."""
        return self.counts["agree"] / self.checked if self.checked else 0.0

    @cached_property
    def verdict(self) -> str:
        """``"fail"`` if any tile is wrong, ``"pass"`` if enough agree and not all is zero, or ``"inconclusive"``.

        Of two orders, the worse one.
        """
        return max(self.verdicts, key=_SEVERITY.index)

    @cached_property
    def verdicts(self) -> list[str]:
        """The verdict on each order that was asked for."""
        enough = self.coverage >= self.coverage_asked and self.saw_something and self.selftest_passed
        first = "fail" if self.counts["wrong"] else "pass" if enough else "inconclusive"
        if self.second is None:
            return [first]
        return [first, self.second.verdict if isinstance(self.second, Report) else "inconclusive"]

    @property
    def saw_something(self) -> bool:
        """Whether any derivative differs from zero: of the first order, zeros that agree with zeros prove nothing."""
        return self.order > 1 or any(
            np.any(part.checked_numeric[part.asked & np.isfinite(part.checked_numeric)])
            or np.any(part.checked_analytic[part.asked])
            for part in self.parts
        )

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    def __len__(self) -> int:
        return self.examples

    def __repr__(self) -> str:
        many = f"{self.total} {self.noun}{'' if self.total == 1 else 's'}"
        return f"<{type(self).__name__} {self.verdict}: {self.label or 'f'}, {many}, coverage {self.coverage:.2%}>"

    def of(self, name: str, which: str) -> npt.NDArray[Any]:
        """One array over all parts, of the tiles that ``part.which`` marks."""
        return np.concatenate([getattr(part, name)[getattr(part, which)] for part in self.parts] or [np.empty(0)])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Metrics, counts and histogram over all tiles at x (see `fdfast.verdict.error_summary`)."""
        return error_summary(self.of("numeric", "asked"), self.of("analytic", "asked"))

    @cached_property
    def summary_smooth(self) -> dict[str, Any]:
        """The same over the tiles that agree or are wrong at x itself."""
        return error_summary(self.of("numeric", "smooth"), self.of("analytic", "smooth"))

    @property
    def metrics(self) -> dict[str, float]:
        """The six error metrics over all tiles at x."""
        return {name: self.summary[name] for name in METRICS}

    @property
    def metrics_smooth(self) -> dict[str, float]:
        """The six error metrics over the tiles that are smooth at x."""
        return {name: self.summary_smooth[name] for name in METRICS}

    @cached_property
    def power(self) -> dict[str, float]:
        """Detection power: relative errors of the gradient that this run would have called wrong.

        ``smallest``: a common factor, seen on the most sensitive tile; ``median`` and ``p90``: on a single tile, for
        half and for nine tenths of the tiles that agree and have a non-zero gradient. NaN if there is none.
        """
        found = self.of("detectable", "asked")[self.of("codes", "asked") == AGREE]
        found = found[np.isfinite(found)]
        if not found.size:
            return dict.fromkeys(("smallest", "median", "p90"), float("nan"))
        low, middle, high = np.percentile(found, (0, 50, 90))
        return {"smallest": float(low), "median": float(middle), "p90": float(high)}

    @property
    def table(self) -> list[dict[str, Any]]:
        """One line per part: name, shape, number, checked, the four classes, near_x, max_rel_error, engine."""
        return [part.row() for part in self.parts]

    def worst(self, k: int = 10) -> list[dict[str, Any]]:
        """List the k tiles that matter most: wrong ones first, then by error over what was allowed.

        Returns
        -------
        list of dict
            index (of the tile's first element, with the example in front for a batch), class, autodiff,
            finite_difference, abs_error, rel_error, error_bar, right, left, near_x; and the name of the variable.
        """
        return worst_of(self, k)

    def __getitem__(self, which: int | str) -> Any:
        """Report of one example of a batch, or part by its name or an unambiguous end of it."""
        if isinstance(which, str):
            found = [p for p in self.parts if p.name == which] or [
                p for p in self.parts if p.name.endswith(f"/{which}")
            ]
            if len(found) != 1:
                raise KeyError(f"{which!r} names {len(found)} of the parts {[p.name for p in self.parts]}")
            return found[0]
        if not all(part.batched for part in self.parts):
            raise TypeError("this report is of a single example, not of a batch")
        if not -len(self) <= which < len(self):
            raise IndexError(f"example {which} of {len(self)}")
        one = [part.example(which) for part in self.parts]
        label = f"{self.label}, example {which}" if self.label else f"example {which}"
        second = self.second[which] if isinstance(self.second, Report) else self.second
        return replace(self, parts=one, examples=1, label=label, second=second)

    def __str__(self) -> str:
        from fdfast.report.text import render

        return render(self)

    @property
    def short(self) -> str:
        """Verdict, count, culprit, and what was checked, in one line."""
        return in_short(self)

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Everything but the maps (and these too, as lists, if asked for), ready for JSON: NaN becomes None."""
        near = sum(int(np.count_nonzero(part.near)) for part in self.parts)
        out: dict[str, Any] = {name: getattr(self, name) for name in _TOLD}
        out |= {"checked_at_x": self.checked - near, "checked_near_x": near, "loss": self.base}
        out["second"] = self.second.to_dict(maps=maps) if isinstance(self.second, Report) else self.second
        out |= {"worst": self.worst(), "histogram": self.summary["histogram"]}
        if len(self.parts) == 1:
            out |= {name: getattr(self.parts[0], name) for name in ("shape", "tile", "grid")}
        if maps:
            names = ("numeric", "analytic", "rel_error", "error_bar", "right", "left", "near", "classes")
            each = [{name: getattr(part, name) for name in names} for part in self.parts]
            named = dict(zip((part.name for part in self.parts), each, strict=True))
            out["maps"] = each[0] if self.wrt == "input" and len(each) == 1 else named
        found: dict[str, Any] = plain(out)
        return found

    def to_json(self, path: str | PathLike[str] | None = None, *, maps: bool = False) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        return write(path, json.dumps(self.to_dict(maps=maps), indent=1, allow_nan=False))

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """Return one self-contained HTML page, everything escaped; also written to `path` if given."""
        from fdfast.report.html import to_html

        return write(path, to_html(self))

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


class WeightReport(Report):
    """The report of ``gradcheck(..., wrt="weights")``: one part for each variable."""

    @property
    def variables(self) -> list[Part]:
        """The parts."""
        return self.parts

    @property
    def weights(self) -> int:
        """Number of trainable weights."""
        return self.total


_SEVERITY = ("pass", "inconclusive", "fail")
_TOLD = (
    "verdict", "verdicts", "order", "label",
    "wrt", "check", "guarantee", "culprit", "counts", "total", "checked", "left_out", "coverage",
    "coverage_asked", "metrics", "metrics_smooth", "caveats", "reasons", "hints", "power", "selftest", "table",
    "examples", "engine", "dtype", "step", "evaluations", "refined", "noise", "deployed", "settings", "timings",
)  # fmt: skip
