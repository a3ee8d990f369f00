"""From what was found about an example to one row of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fdfast.sweeps.folder import arrow
from fdfast.verdict import AGREE, WRONG

if TYPE_CHECKING:
    import pyarrow as pa

    from fdfast.attack import Attacked, MaskingReport
    from fdfast.report import Report

_METRICS = (
    "max_abs_error", "median_rel_error", "mean_rel_error", "geometric_mean_rel_error", "max_rel_error",
    "cs231n_rel_error",
)  # fmt: skip
_CLASSES = ("agree", "wrong", "kink", "unresolved", "singular")

#: Columns and their Arrow types.
COMMON = {
    "index": "int64",
    "file": "string",
    "key": "string",
    "checkpoint": "string",
    "verdict": "string",
    "reason": "string",
    "engine": "string",
    "seconds": "float64",
}
CHECKED = {
    **dict.fromkeys((*_CLASSES, "near", "total"), "int64"),
    "coverage": "float64",
    "guarantee_error": "float64",
    "guarantee_chance": "float64",
    **dict.fromkeys((*_METRICS, *(f"smooth_{name}" for name in _METRICS)), "float64"),
    "worst_index": "list<int64>",
    "worst_class": "string",
    **dict.fromkeys(("worst_finite_difference", "worst_autodiff", "worst_abs_error", "worst_rel_error"), "float64"),
    "worst_over_allowed": "float64",
    "culprit": "string",
}
SLOPES = {
    **dict.fromkeys(("norm_1", "norm_2", "norm_max"), "float64"),
    **dict.fromkeys(("zeros", "not_finite"), "int64"),
    "largest_index": "list<int64>",
}
#: The attacked model's scores are of classes, where it gives any.
ATTACKED = {
    "success": "bool",
    **dict.fromkeys(("distance_inf", "distance_l2", "loss_before", "loss_after"), "float64"),
    **dict.fromkeys(("predicted", "adversarial_predicted"), "int64"),
}
MASKED = {"masking": "string", "advice": "string"}


def row_of_report(report: Report) -> dict[str, Any]:
    """Row of the check of one example."""
    row: dict[str, Any] = {"verdict": report.verdict, "engine": report.engine, **report.counts}
    row |= {"near": sum(int(np.count_nonzero(one.near)) for one in report.parts), "total": report.total}
    row |= {"coverage": report.coverage}
    row["guarantee_error"], row["guarantee_chance"] = report.guarantee or (None, None)
    row |= report.metrics
    row |= {f"smooth_{name}": value for name, value in report.metrics_smooth.items()}
    row["culprit"] = report.culprit if row["wrong"] else None
    if report.verdict != "pass":
        # What a batch is told as a whole may be about another of its examples.
        row["reason"] = " ".join(report.reasons) if report.check == "directions" else None
    worst = _worst(report)
    if worst is not None:
        allowed = worst["error_bar"] + report.settings["rtol"] * abs(worst["autodiff"])
        row |= {
            "worst_index": [int(i) for i in worst["index"]],
            "worst_class": worst["class"],
            "worst_finite_difference": worst["finite_difference"],
            "worst_autodiff": worst["autodiff"],
            "worst_abs_error": worst["abs_error"],
            "worst_rel_error": worst["rel_error"],
            "worst_over_allowed": worst["abs_error"] / allowed if allowed else math.nan,
        }
    return row


def _worst(report: Report) -> dict[str, Any] | None:
    """What is known of the element whose error is the largest of what is allowed; of the wrong ones, if there are any.

    Only elements at which there is something to compare: `Report.worst` also names kinks.
    """
    part = report.parts[0]
    decided = (part.codes == WRONG) if report.counts["wrong"] else (part.codes == AGREE)
    found, claimed = part.checked_numeric, part.checked_analytic
    with np.errstate(all="ignore"):
        over = np.abs(found - claimed) / (part.checked_error + report.settings["rtol"] * np.abs(claimed))
    # Not finite is as wrong as can be; without a difference of its own nothing is known of an element.
    over = np.where(
        decided & ~np.isnan(found), np.where(np.isnan(over), np.where(found == claimed, 0, np.inf), over), -1
    )
    flat = int(np.argmax(over))
    return part.entry(flat) if over.flat[flat] >= 0 else None


def row_of_gradient(found: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Row of the finite-difference gradient of one example."""
    size = np.abs(found)
    finite = np.isfinite(found)
    largest = np.unravel_index(int(np.argmax(np.where(finite, size, -1.0))), found.shape)
    return {
        "norm_1": float(size.sum()),
        "norm_2": float(np.sqrt(np.sum(size**2))),
        "norm_max": float(size.max()),
        "zeros": int(np.count_nonzero(found == 0)),
        "not_finite": int(found.size - np.count_nonzero(finite)),
        "largest_index": [int(i) for i in largest],
    }


def row_of_attack(found: Attacked, i: int) -> dict[str, Any]:
    """Row of an attack on one example of a shard."""
    row = {"success": bool(found.success[i]), "engine": found.settings["gradient"]}
    row |= {f"distance_{norm}": float(each[i]) for norm, each in found.distance.items()}
    row |= {"loss_before": float(found.loss_history[0, i]), "loss_after": float(found.loss_history[-1, i])}
    for name, scores in (("predicted", found.before), ("adversarial_predicted", found.after)):
        if scores is not None and scores.ndim == 2 and scores.shape[1] > 1:
            row[name] = int(np.argmax(scores[i]))
    return row


def row_of_masking(found: MaskingReport, i: int) -> dict[str, Any]:
    """Row of what is known of autodiff's gradient at one example of a shard."""
    return {"masking": str(found.verdicts[i]), "advice": found.advice}


def error_row(error: ValueError) -> dict[str, Any]:
    """Row of an example that cannot be used."""
    return {"verdict": "error", "reason": " ".join(str(error).split())}


def table_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pa.Table:
    """Put rows into a table; what a row does not say is null, a figure over nothing NaN."""
    pa = arrow()
    types = {"list<int64>": pa.list_(pa.int64())}
    schema = pa.schema([(name, types.get(kind) or pa.type_for_alias(kind)) for name, kind in columns.items()])
    return pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema=schema)
