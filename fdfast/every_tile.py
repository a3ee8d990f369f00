"""The check of one input, tile by tile."""

from __future__ import annotations

import time
from typing import Any

from fdfast.counting import Count
from fdfast.functions import connected
from fdfast.problem import Problem, Request, analytic_of, engine_for, trusting
from fdfast.report import Report, input_report
from fdfast.verdict import Judge, Judgement, Terms


def check_every_tile(request: Request, terms: Terms, analytic: Any, budget: Any, label: str | None) -> Report:
    """Check every tile of an input by itself: ``gradcheck(..., check="every")``; arguments as of `fdfast.gradcheck`."""
    started = time.perf_counter()
    if budget is not None:
        raise TypeError(f"budget={budget!r} goes with wrt='weights'; for inputs a larger tile= costs less")

    def found(problem: Problem) -> Report:
        if analytic is None:
            connected(problem.objective, problem.points)
        count = Count(request.progress, 4 * problem.tiling.tiles, len(problem.points))
        judge = Judge(problem.tiling, terms)
        judgements = []
        for group in problem.groups():
            runner = engine_for(problem, group, request.max_rows, count)
            given = analytic_of(analytic, problem, group)
            judgements.append(judge(runner, problem.objective.select(group), problem.points[group], given))
            count.through(len(problem.points[group]))
        whole = Judgement.join(judgements)
        whole.timings["total"] = time.perf_counter() - started
        return input_report(
            whole,
            problem.x,
            problem.tiling,
            batched=problem.batched,
            engine=runner.name,
            dtype=problem.dtype,
            settings=terms.settings(),
            label=label or problem.label,
            notes=problem.objective.notes,
            wider=problem.dtype != "float64" and request.precision == "float32",
        )

    return trusting(request, found)
