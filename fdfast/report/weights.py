"""What a check of weights found, variable by variable, and the verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.verdict import AGREE, CLASSES, METRICS, WRONG, error_summary

Float64 = npt.NDArray[np.float64]

#: Code of a weight that the budget left out.
LEFT_OUT = -1


@dataclass(frozen=True, eq=False)
class VariableReport:
    """One variable; every array has its shape.

    Attributes
    ----------
    name : str
        Path of the variable, such as ``"conv_1/kernel"``.
    engine : str
        ``"difference"`` for difference arithmetic, ``"batch"`` for a loss evaluated with displaced copies.
    numeric, analytic, error_bar, right, left : ndarray of float64
        As in `fdfast.report.Report`; NaN where not checked, but for `analytic`.
    codes : ndarray of int8
        Index into ``("agree", "wrong", "kink", "unresolved")``; `LEFT_OUT` for weights left out by the budget.
    near : ndarray of bool
        Weights that were decided at inputs near x.
    checked_numeric, checked_analytic, checked_error : ndarray of float64
        Difference, gradient and bar where each weight was decided.
    detectable : ndarray of float64
        Smallest relative error of the gradient that would have been called wrong.
    """

    name: str
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
    detectable: Float64

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the variable."""
        return self.codes.shape

    @cached_property
    def checked(self) -> int:
        """Number of weights that were to be checked."""
        return int((self.codes != LEFT_OUT).sum())

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of weights in each class."""
        return {name: int((self.codes == code).sum()) for code, name in enumerate(CLASSES)}

    @property
    def max_rel_error(self) -> float:
        """Greatest relative error where decided; NaN if every gradient is zero or nothing was decided."""
        decided = (self.codes == AGREE) | (self.codes == WRONG)
        fd, ad = self.checked_numeric[decided], self.checked_analytic[decided]
        return float(np.max(np.abs(fd - ad)[ad != 0] / np.abs(ad[ad != 0]), initial=-1)) if (ad != 0).any() else np.nan

    def row(self) -> dict[str, Any]:
        """Line of the report's table."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "weights": int(self.codes.size),
            "checked": self.checked,
            **self.counts,
            "near_x": int((self.near & (self.codes == AGREE)).sum()),
            "max_rel_error": _number(self.max_rel_error),
            "engine": self.engine,
        }


@dataclass(frozen=True, eq=False)
class WeightReport:
    """Result of a gradient check of weights; ``bool(report)`` is True only for the verdict ``"pass"``.

    Attributes
    ----------
    variables : list of VariableReport
        In the order of the model's trainable variables.
    coverage_asked : float
        Least share of the weights that were to be checked that must agree for a pass.
    reasons, hints : list of str
        Why the verdict is what it is; patterns in a mismatch and the mistakes that make them.
    examples : int
        Size of the batch.
    base : float
        Loss of the batch.
    dtype : str
        What the differences are computed in.
    evaluations, refined : int
        Losses with a displaced weight; how many of them refined single weights.
    noise : float
        Measured rounding noise, standard deviation.
    timings : dict of str to float
        Seconds by stage.
    settings : dict
        rtol, atol, budget, seed and the like.
    label : str or None
    deployed : dict or None
        How far gradients in the model's own dtype are from float64: dtype, median_rel_error, digits.
    """

    variables: list[VariableReport]
    coverage_asked: float
    reasons: list[str]
    hints: list[str]
    examples: int
    base: float
    dtype: str
    evaluations: int
    refined: int
    noise: float
    timings: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    deployed: dict[str, Any] | None = None

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of weights in each class."""
        return {name: sum(v.counts[name] for v in self.variables) for name in CLASSES}

    @property
    def weights(self) -> int:
        """Number of trainable weights."""
        return sum(v.codes.size for v in self.variables)

    @property
    def checked(self) -> int:
        """Number of weights that were to be checked: all, or what the budget paid for."""
        return sum(v.checked for v in self.variables)

    @property
    def left_out(self) -> int:
        """Number of weights that the budget left out."""
        return self.weights - self.checked

    @property
    def coverage(self) -> float:
        """Share of the weights to be checked that agree."""
        return self.counts["agree"] / self.checked if self.checked else 0.0

    @cached_property
    def verdict(self) -> str:
        """``"fail"`` if any weight is wrong, ``"pass"`` if enough agree and not all is zero, or ``"inconclusive"``."""
        if self.counts["wrong"]:
            return "fail"
        return "pass" if self.coverage >= self.coverage_asked and self.saw_something else "inconclusive"

    @property
    def saw_something(self) -> bool:
        """Whether any derivative that was looked at differs from zero."""
        numeric, analytic = self._of("checked_numeric"), self._of("checked_analytic")
        return bool(np.any(numeric[np.isfinite(numeric)]) or np.any(analytic))

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    def __getitem__(self, name: str) -> VariableReport:
        """Report of one variable, by its path or an unambiguous end of it such as ``"conv_1/kernel"``."""
        found = [v for v in self.variables if v.name == name] or [
            v for v in self.variables if v.name.endswith(f"/{name}")
        ]
        if len(found) != 1:
            raise KeyError(f"{name!r} names {len(found)} of the variables {[v.name for v in self.variables]}")
        return found[0]

    def _of(self, name: str, which: str = "checked") -> Float64:
        """One array over all variables: of the weights to be checked, or those that are smooth at x."""
        parts = []
        for v in self.variables:
            smooth = ~v.near & ((v.codes == AGREE) | (v.codes == WRONG))
            parts.append(getattr(v, name)[smooth if which == "smooth" else v.codes != LEFT_OUT])
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Metrics, counts and histogram over the checked weights at x (see `fdfast.verdict.compare.error_summary`)."""
        return error_summary(self._of("numeric"), self._of("analytic"))

    @property
    def metrics(self) -> dict[str, float]:
        """The six error metrics over the checked weights at x."""
        return {name: self.summary[name] for name in METRICS}

    @cached_property
    def metrics_smooth(self) -> dict[str, float]:
        """The same over the weights that agree or are wrong at x itself."""
        found = error_summary(self._of("numeric", "smooth"), self._of("analytic", "smooth"))
        return {name: found[name] for name in METRICS}

    @property
    def table(self) -> list[dict[str, Any]]:
        """One line per variable: name, shape, weights, checked, the four classes, near_x, max_rel_error, engine."""
        return [v.row() for v in self.variables]

    def worst(self, k: int = 8) -> list[dict[str, Any]]:
        """List the k weights that matter most: wrong, then unresolved, then kinks, then by error."""
        rows = []
        rank = {WRONG: 3, 3: 2, 2: 1}
        for v in self.variables:
            gap = np.nan_to_num(np.abs(v.checked_numeric - v.checked_analytic).ravel(), nan=0.0)
            order = np.choose(v.codes.ravel() + 1, [-1, 0, 3, 1, 2])
            for i in np.lexsort((-gap, -order))[:k]:
                if v.codes.flat[i] != LEFT_OUT:
                    rows.append((rank.get(int(v.codes.flat[i]), 0), float(gap[i]), _entry(v, int(i))))
        return [row for *_, row in sorted(rows, key=lambda one: (-one[0], -one[1]))[:k]]

    def __str__(self) -> str:
        from fdfast.report.weight_text import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, ready for JSON: NaN becomes None."""
        return {
            "verdict": self.verdict,
            "label": self.label,
            "wrt": "weights",
            "counts": self.counts,
            "weights": self.weights,
            "checked": self.checked,
            "left_out": self.left_out,
            "coverage": self.coverage,
            "coverage_asked": self.coverage_asked,
            "metrics": {name: _number(v) for name, v in self.metrics.items()},
            "metrics_smooth": {name: _number(v) for name, v in self.metrics_smooth.items()},
            "table": self.table,
            "worst": self.worst(),
            "reasons": self.reasons,
            "hints": self.hints,
            "examples": self.examples,
            "loss": _number(self.base),
            "dtype": self.dtype,
            "evaluations": self.evaluations,
            "refined": self.refined,
            "noise": _number(self.noise),
            "deployed": None if self.deployed is None else {k: _number(v) for k, v in self.deployed.items()},
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()},
            "timings": self.timings,
        }

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        return _kept(path, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """Return the printed report as one self-contained HTML page, escaped; also written to `path` if given."""
        from fdfast.report.weight_text import page

        return _kept(path, page(self))


def _kept(path: str | PathLike[str] | None, text: str) -> str:
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return text


def _entry(v: VariableReport, flat: int) -> dict[str, Any]:
    fd, ad = float(v.checked_numeric.flat[flat]), float(v.checked_analytic.flat[flat])
    return {
        "variable": v.name,
        "index": [int(i) for i in np.unravel_index(flat, v.shape)],
        "class": CLASSES[v.codes.flat[flat]],
        "autodiff": _number(ad),
        "finite_difference": _number(fd),
        "rel_error": _number(abs(fd - ad) / abs(ad) if ad else np.nan),
        "error_bar": _number(float(v.checked_error.flat[flat])),
        "near_x": bool(v.near.flat[flat]),
    }


def _number(value: Any) -> Any:
    """None for what JSON has no word for."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
