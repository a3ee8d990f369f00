"""From what was found about each variable to the report."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import WeightObjective
from fdfast.report.weights import LEFT_OUT, VariableReport, WeightReport
from fdfast.verdict import Found, error_summary, patterns, sentences

Float64 = npt.NDArray[np.float64]


def report_of(
    objective: WeightObjective,
    found: list[Found],
    examples: int,
    coverage: float,
    settings: dict[str, Any],
    timings: dict[str, float],
    label: str,
    deployed: list[Float64] | None,
) -> WeightReport:
    """Put together what was found: one `VariableReport` each, sentences, patterns and figures."""
    names, shapes = objective.names, [tuple(v.shape) for v in objective.own]
    inputs = objective.inputs
    figure = None if deployed is None else _deployed(deployed, found, np.dtype(np.float32).name)
    notes = [*inputs.notes, *(note for f in found for note in f.notes)]
    if inputs.model is not None and inputs.model.losses:
        notes.append("penalties of regularizers are not part of the loss that was checked")
    left = sum(int((~f.asked).sum()) for f in found)
    if left:
        total = sum(f.asked.size for f in found)
        notes.insert(
            0,
            f"the budget ({settings['budget']!r}) paid for {total - left} of {total} weights, drawn at random from "
            f"every variable; the {left} others were not looked at, and coverage does not count them",
        )
    return WeightReport(
        variables=[_variable(name, shape, f) for name, shape, f in zip(names, shapes, found, strict=True)],
        coverage_asked=coverage,
        reasons=[
            *sentences(names, found, coverage),
            *([] if figure is None or figure["digits"] >= 4 else [_rounded(figure)]),
            *(f"{note[0].upper()}{note[1:]}." for note in notes),
        ],
        hints=patterns(names, shapes, found),
        examples=examples,
        base=max(f.base for f in found),
        dtype=objective.dtype.name,
        evaluations=sum(f.evaluations for f in found),
        refined=sum(f.refined for f in found),
        noise=max(f.noise for f in found),
        timings=timings,
        settings=settings,
        label=label,
        deployed=figure,
    )


def _variable(name: str, shape: tuple[int, ...], found: Found) -> VariableReport:
    arrays = {f.name for f in fields(VariableReport)} - {"name", "engine", "codes"}
    return VariableReport(
        name=name,
        engine=found.engine,
        codes=np.where(found.asked, found.codes, LEFT_OUT).astype(np.int8).reshape(shape),
        **{one: getattr(found, one).reshape(shape) for one in arrays},
    )


def _deployed(deployed: list[Float64], found: list[Found], dtype: str) -> dict[str, Any]:
    there = np.concatenate([d.ravel() for d in deployed])
    median = error_summary(there, np.concatenate([f.analytic for f in found]))["median_rel_error"]
    return {"dtype": dtype, "median_rel_error": median, "digits": float(-np.log10(median)) if median > 0 else 16.0}


def _rounded(figure: dict[str, Any]) -> str:
    return (
        f"The gradient as deployed, in {figure['dtype']}, keeps about {figure['digits']:.1f} digits here (median "
        f"relative error {figure['median_rel_error']:.1e} against float64). That is rounding, not a wrong formula: the "
        "formula is judged in float64."
    )
