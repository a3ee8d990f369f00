"""From what was found out to a report."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import WeightObjective
from fdfast.moves import Tiling
from fdfast.report.part import LEFT_OUT, MAPS, Part
from fdfast.report.plain import times
from fdfast.report.report import Report, WeightReport
from fdfast.verdict import (
    Found,
    Judgement,
    as_sentence,
    error_summary,
    hints,
    patterns,
    reasons_of,
    selftest_figure,
    sentences,
)

Float64 = npt.NDArray[np.float64]


def input_report(
    found: Judgement,
    x: npt.NDArray[Any],
    tiling: Tiling,
    *,
    batched: bool,
    engine: str,
    dtype: str,
    settings: dict[str, Any],
    label: str,
    notes: list[str],
    wider: bool = False,
) -> Report:
    """Put together what was found about one input.

    Parameters
    ----------
    found : Judgement
        Of all examples.
    x : ndarray
        What was checked, as the caller gave it.
    tiling : Tiling
    batched : bool
        Whether x has a leading axis of examples.
    engine, dtype, label : str
    settings : dict
        With the coverage that was asked for.
    notes : list of str
        What the user should know about how f was evaluated.
    """

    def grid(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        on_grid = tiling.on_grid(values)
        return on_grid if batched else on_grid[0]

    def where(example: int, tile: int) -> tuple[int, ...]:
        return (int(example), *tiling.where(tile)) if batched else tiling.where(tile)

    coverage = settings["coverage"]
    part = Part(
        name="x",
        kind="input",
        engine=engine,
        **{name: grid(getattr(found, name)) for name in MAPS},
        seen_from=grid(found.detectable),
        shape=tiling.shape,
        tile=tiling.tile,
        grid=tiling.grid,
        batched=batched,
        x=x.copy(),
        channel_axis=tiling.channel_axis,
    )
    selftest, selftest_passed = selftest_figure(found)
    return Report(
        parts=[part],
        coverage_asked=coverage,
        reasons=reasons_of(found, coverage, notes, where, wider=wider),
        engine=engine,
        dtype=dtype,
        step=float(np.median(found.step)),
        evaluations=found.evaluations,
        refined=found.refined,
        noise=float(found.noise.max()),
        timings=found.timings,
        settings=settings,
        examples=len(found.codes),
        base=float(found.base.max()),
        label=label,
        deployed=found.deployed_figure,
        hints=hints(found.checked_numeric, found.checked_analytic, found.codes, tiling.grid, tiling.channel_axis),
        selftest=selftest,
        selftest_passed=selftest_passed,
        caveats=_caveats(found, tiling),
    )


def _caveats(found: Judgement, tiling: Tiling) -> list[str]:
    if not found.sums_only:
        return []
    return [
        f"Only sums over tiles of {times(tiling.tile)} were compared: an error inside a tile that sums to zero does "
        f"not show. Their elements could not be moved by themselves ({found.sums_only})."
    ]


def weight_report(
    objective: WeightObjective,
    found: list[Found],
    examples: int,
    settings: dict[str, Any],
    timings: dict[str, float],
    label: str,
    deployed: list[Float64] | None,
) -> WeightReport:
    """Put together what was found about every variable."""
    names, shapes = objective.names, [tuple(v.shape) for v in objective.own]
    inputs, coverage = objective.inputs, settings["coverage"]
    figure = None if deployed is None else _deployed(deployed, found, np.dtype(np.float32).name)
    notes = [*inputs.notes, *(note for f in found for note in f.notes)]
    left = sum(int((~f.asked).sum()) for f in found)
    if left:
        total = sum(f.asked.size for f in found)
        notes.insert(
            0,
            f"the budget ({settings['budget']!r}) paid for {total - left} of {total} weights, drawn at random from "
            f"every variable; the {left} others were not looked at, and coverage does not count them",
        )
    return WeightReport(
        parts=[_variable(name, shape, f) for name, shape, f in zip(names, shapes, found, strict=True)],
        wrt="weights",
        coverage_asked=coverage,
        reasons=[
            *sentences(names, found, coverage),
            *([] if figure is None or figure["digits"] >= 4 else [_rounded(figure)]),
            *map(as_sentence, notes),
        ],
        hints=patterns(names, shapes, found),
        engine=" and ".join(sorted({f.engine for f in found})),
        examples=examples,
        base=max(f.base for f in found),
        dtype=objective.dtype.name,
        step=float(np.nanmedian(np.concatenate([f.step for f in found]))),
        evaluations=sum(f.evaluations for f in found),
        refined=sum(f.refined for f in found),
        noise=max(f.noise for f in found),
        timings=timings,
        settings=settings,
        label=label,
        deployed=figure,
    )


def _variable(name: str, shape: tuple[int, ...], found: Found) -> Part:
    arrays = {f.name for f in fields(Part)} & {f.name for f in fields(Found)} - {"engine", "codes"}
    return Part(
        name=name,
        kind="variable",
        engine=found.engine,
        codes=np.where(found.asked, found.codes, LEFT_OUT).astype(np.int8).reshape(shape),
        **{one: getattr(found, one).reshape(shape) for one in arrays},
        seen_from=found.detectable.reshape(shape),
        shape=shape,
        tile=(1,) * len(shape),
        grid=shape,
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
