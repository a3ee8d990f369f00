"""The check of second order: u . grad f for a random u, whose gradient by autodiff is held against its differences."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from fdfast.directed import blamed_of, flat_of, places_of
from fdfast.functions import (
    gradient_along,
    layers_of,
    namer,
    not_twice,
    random_vector,
    reached_by,
    state_kept,
    trusted,
)
from fdfast.problem import Request
from fdfast.report import Report, whole_report
from fdfast.tape import NoTape
from fdfast.verdict import Terms, excuse, judge_whole, linear_agrees

_WAY_OUT = "fdfast.hvp needs no second gradient: it has Hessian-vector products of f all the same"


def check_order(order: object, analytic: object) -> None:
    """Raise TypeError or ValueError for an order that there is no check of."""
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    if order == 2 and analytic is not None:
        raise TypeError("order=2 is about the gradient of autodiff, and its own gradient: leave analytic= out")


def with_second(report: Report, request: Request, terms: Terms, *, wrt: str, directions: int) -> Report:
    """Add what the second order comes to, or why it could not be checked, to a report of the first.

    Parameters
    ----------
    report : Report
    request : Request
    terms : Terms
    wrt : str
        As of `fdfast.directed.check_directed`.
    directions : int
    """
    started = time.perf_counter()
    with state_kept(request.f):
        try:
            second: Report | str = _second(request, terms, wrt, directions, report.label or "f")
        except NoTape as error:
            second = f"{error}. {_WAY_OUT}"
    timings = report.timings | {"second order": time.perf_counter() - started}
    timings["total"] = timings.get("total", 0.0) + timings["second order"]
    return replace(report, second=second, timings=timings)


def _second(request: Request, terms: Terms, wrt: str, directions: int, label: str) -> Report:
    started = time.perf_counter()
    layers = layers_of(request.f)
    flat = flat_of(request, wrt, terms.seed)
    first = trusted(flat, reached_by(request.f)).point(flat.points())
    places = places_of(flat, wrt)
    numbers = [p.number for p in places]
    u = random_vector([p.shape for p in places], terms.seed)
    gradients = [first.gradients.get(number) for number in numbers]
    terms_of = zip(u, gradients, strict=True)
    # Through hundreds of operations there and back float32 keeps four digits of it, not the five of a value.
    scale = 8 * sum(float(np.sum(np.abs(a * g), where=np.isfinite(g))) for a, g in terms_of if g is not None)
    along = gradient_along(flat, numbers, u, scale)
    places = places_of(along, wrt)
    try:
        traced = trusted(along, reached_by(request.f))
    except NoTape as error:
        raise NoTape(not_twice(flat, error, layers) or str(error)) from error
    setup = time.perf_counter() - started
    found = judge_whole(
        traced,
        along.points(),
        flat.model is not None,
        places,
        terms,
        directions,
        None,
        layer_of=namer(layers),
        jumps=True,
    )
    linear_agrees(found, [g is not None and bool(np.any(g)) for g in gradients])
    guilty = None
    if found.wrong:
        guilty = excuse(
            found,
            blamed_of(along, found.point.arguments, [p.number for p in places], layers, terms.seed, found.accused),
        )
    total = time.perf_counter() - started
    timings = {"set-up": setup, "directions": total - setup, "total": total}
    settings = terms.settings() | {"directions": directions}
    return whole_report(found, along, wrt, settings, timings, label, guilty, order=2)
