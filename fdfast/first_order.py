"""How the gradient itself is checked: every element, directions, or one after the other."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from fdfast.choice import asks_for_tiles, by_directions, can_be_tiled, left_out, no_directions, not_checked
from fdfast.directed import cancels, check_directed, knows_more, with_culprits
from fdfast.every_tile import Looped, check_every_tile
from fdfast.functions import NotOneNumber
from fdfast.moves import check_choice
from fdfast.problem import Request
from fdfast.report import Report
from fdfast.tape import NoTape
from fdfast.verdict import Terms, as_sentence
from fdfast.weights import check_weights


def of_first_order(
    request: Request, terms: Terms, wrt: str, check: str, directions: int, analytic: Any, budget: Any, label: str | None
) -> Report:
    """Check a gradient; arguments as of `fdfast.gradcheck`."""

    def directed() -> Report:
        found = check_directed(request, terms, wrt=wrt, analytic=analytic, directions=directions, label=label)
        found.caveats.extend(not_checked(request, wrt))
        return found

    notes, omitted = [], functools.cache(lambda: left_out(request, wrt))
    directs = check == "auto" and by_directions(request, terms, wrt=wrt, budget=budget, omitted=omitted)
    if check == "directions" or directs:
        try:
            return directed()
        except NoTape as error:
            if check == "directions" or not can_be_tiled(request, wrt):
                raise ValueError(no_directions(error, request.f)) from None
            notes = [f"every element was looked at by itself, because directions cannot be taken: {error}"]
    check_choice("wrt", wrt, ("input", "weights"))
    asked = check == "every" or budget is not None or asks_for_tiles(request, terms)

    def by_elements(*, loops: bool) -> Report:
        if wrt == "weights":
            return check_weights(request, terms, analytic=analytic, budget=budget, label=label)
        return check_every_tile(request, terms, analytic, budget, label, loops=loops)

    try:
        report = by_elements(loops=asked or bool(notes))
    except (NotOneNumber, Looped) as error:
        if asked or request.batched:
            raise
        with contextlib.suppress(NoTape):
            return directed()
        if not isinstance(error, Looped):
            raise
        report = by_elements(loops=True)
    report.reasons.extend(map(as_sentence, notes))
    report.caveats.extend([*omitted(), *not_checked(request, wrt)])
    named = report if analytic is not None else with_culprits(report, request, terms, wrt)
    still_open = check == "auto" and report.verdict == "inconclusive" and budget is None
    # Where nobody is to blame, what right parts add up to may round.
    nobody = named is not None and named.culprits is not None and not named.culprits.wrong
    array = wrt == "weights" and analytic is not None and not callable(analytic)  # of x they are weighed already
    doubted = report.verdict == "fail" and (nobody or array) and budget is None
    if asks_for_tiles(request, terms) or (named is not None and not still_open and not doubted):
        return report if named is None else named
    with contextlib.suppress(NoTape, ValueError):
        other = directed()
        if (
            named is None
            or cancels(other)
            or (nobody and other.verdict == "pass")
            or (still_open and knows_more(other, report))
        ):
            return other
    return report
