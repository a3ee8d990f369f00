"""Gradient and check of one input, tile by tile."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.counting import Count
from fdfast.directed import rounding_at
from fdfast.estimates import slopes
from fdfast.functions import connected
from fdfast.moves import Bounds, Reduction, StepLike, as_floats, as_gradient, plan_steps
from fdfast.problem import Problem, Request, engine_for, trusting
from fdfast.progress import Progress
from fdfast.report import Report, input_report
from fdfast.verdict import BEYOND, UNRESOLVED, WRONG, Judge, Judgement, Terms, left_to_rounding, may_be_rounding

Float64 = npt.NDArray[np.float64]


def gradient_of(
    problem: Problem,
    h: StepLike = "auto",
    reduction: Reduction = "mean",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    progress: Progress = None,
) -> Float64:
    """What `fdfast.gradient` returns, of a problem that is set up, shape (examples, *shape)."""
    count = Count(progress, 2 * problem.tiling.tiles, len(problem.points), sure=True)
    each = np.empty((len(problem.points), *problem.shape))
    for group in problem.groups():
        points = problem.points[group]
        runner = engine_for(problem, group, max_rows, count)
        unit = runner.step
        steps = plan_steps(points, problem.tiling, h, bounds, unit)
        each[group] = problem.tiling.expand(slopes(runner, points, steps, problem.tiling), reduction)
    return each


class Looped(Exception):
    """f would be called in a loop."""


def check_every_tile(
    request: Request, terms: Terms, analytic: Any, budget: Any, label: str | None, *, loops: bool = True
) -> Report:
    """Check every tile of an input by itself: ``gradcheck(..., check="every")``; arguments as of `fdfast.gradcheck`.

    Raises
    ------
    Looped
        TensorFlow cannot call f for all rows at once, and `loops` does not allow for a loop.
    """
    started, request = time.perf_counter(), replace(request, added=False)
    if budget is not None:
        raise TypeError(f"budget={budget!r} goes with wrt='weights'; for inputs a larger tile= costs less")

    def found(problem: Problem) -> Report:
        if not loops and getattr(problem.objective, "looped", False):
            raise Looped
        if analytic is None:
            connected(problem.objective, problem.points)
        count = Count(request.progress, 4 * problem.tiling.tiles, len(problem.points))
        judge = Judge(problem.tiling, terms)
        judgements = []
        for group in problem.groups():
            runner = engine_for(problem, group, request.max_rows, count)
            given = _analytic_of(analytic, problem, group)
            judgements.append(judge(runner, problem.objective.select(group), problem.points[group], given))
            count.through(len(problem.points[group]))
        whole = Judgement.join(judgements)
        notes = [*problem.objective.notes]
        sharp = problem.objective.traced is not None and problem.objective.traced.is_sharp
        if isinstance(given, np.ndarray) and given.dtype == problem.dtype == "float64":
            whole, more = _weighed(whole, request, problem, terms, sharp=sharp)
            notes += more
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
            notes=notes,
            wider=problem.dtype != "float64" and request.precision == "float32",
        )

    return trusting(request, found)


def _weighed(
    found: Judgement, request: Request, problem: Problem, terms: Terms, *, sharp: bool
) -> tuple[Judgement, list[str]]:
    """An array, accused and not for what rounding on the way may make of autodiff (see `weigh_rounding`); and notes."""
    wrong = (found.codes == WRONG) & ~(found.near | found.within)
    left = left_to_rounding(found, terms) if sharp else np.zeros_like(wrong)
    known = None
    if wrong.any() or left.any():
        with contextlib.suppress(Exception):  # nobody asked for f to be recorded: it may take NumPy's arrays only
            known = rounding_at(request, terms.seed)
    if known is None:
        return found, []
    own, rounding = (problem.tiling.sums(one.reshape(len(found.base), *problem.shape)) for one in known)
    gap = np.abs(found.numeric - found.analytic)
    beyond = left & (gap > BEYOND * np.maximum(rounding, np.abs(own - found.numeric)))
    open_ = wrong & may_be_rounding(found.numeric, found.analytic, own, rounding)
    notes = []
    if open_.any():
        notes.append(
            f"on {np.count_nonzero(open_)} tiles the gradient differs by no more than what rounding of the numbers "
            "in f makes of autodiff: they cancel there, as next to the minimum of a loss"
        )
    codes = np.where(beyond, np.int8(WRONG), np.where(open_, np.int8(UNRESOLVED), found.codes))
    return replace(found, codes=codes), notes


def _analytic_of(analytic: Any, problem: Problem, group: slice) -> Any:
    """Bring the gradient under test into the form that `Judge` takes: None, an array of examples, or a callable."""
    if analytic is None:
        return None
    if callable(analytic):

        def call(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
            # A function of the batch may hold one target per example, so it always gets all of them.
            whole = problem.points.copy()
            whole[group] = points
            given = whole.reshape(-1, *problem.shape)
            found = as_gradient(analytic(given if problem.batched else given[0]), "analytic")
            if found.size != given.size:
                raise ValueError(
                    f"analytic returned shape {found.shape}; it must return the shape of x, {problem.x.shape}"
                )
            # The dtype tells how far the result is rounded.
            return found.astype(np.promote_types(found.dtype, np.float32)).reshape(given.shape)[group]

        return call
    array = as_floats(analytic, "analytic", finite=False)
    if array.shape != problem.x.shape:
        raise ValueError(f"analytic has shape {array.shape}; it must have the shape of x, {problem.x.shape}")
    whole = array.reshape(-1, *problem.shape)
    return whole[group]
