"""What is said right under the headline: how it was checked, what that means, who is to blame, what was left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdfast.report.report import Report


def said_first(report: Report) -> list[str]:
    """Sentences for text, HTML and picture alike."""
    return [one for one in (_how(report), _blame(report), *report.caveats, _of_second(report)) if one]


def under_test(report: Report) -> str:
    """What the gradient under test is called: autodiff's, or one that was given by ``analytic=``."""
    return "given" if report.settings.get("analytic") == "given" else "autodiff"


def in_short(report: Report) -> str:
    """Say verdict, count and culprit in few words, and then what was checked: the line that a test's summary has."""
    wrong = report.counts["wrong"]
    many = f"{wrong:,} of {report.checked:,} {report.noun}s wrong" if wrong else f"coverage {report.coverage:.2%}"
    why = f" in {report.culprit}" if report.culprit else ""
    if report.verdict == "inconclusive" and not wrong and report.selftest_passed is False:
        why = ", the planted fault was missed"
    return f"gradcheck {report.verdict.upper()}: {by_order(report) or many + why}: {report.label or 'f'}"


def by_order(report: Report) -> str:
    """Say which order is right and which is not; empty where only one was asked for."""
    if report.second is None:
        return ""
    words = {"pass": "right", "fail": "wrong", "inconclusive": "open"}
    first, second = (words[verdict] for verdict in report.verdicts)
    both = f"first order {first}, second order {second}" if first != second else f"first and second order {first}"
    return f"{both}{f' in {report.culprit}' if report.culprit else ''}"


def _of_second(report: Report) -> str:
    """Say what came of the second order; empty where it was not asked for."""
    if report.second is None:
        return ""
    if isinstance(report.second, str):
        return f"The second order was not checked: {report.second}."
    said = " ".join(one for one in (_how(report.second), _blame(report.second)) if one)
    return f"Second order, the gradient of u . grad f for a random u: {said or report.second.verdict + '.'}"


def _how(report: Report) -> str:
    """Say how a gradient was checked as a whole, and what that means; empty where every tile was, by itself."""
    if report.guarantee is None or report.directed is None:
        return ""
    error, chance = report.guarantee
    if not report.directed.rows:
        return ""
    many = "1 random direction" if report.directed.count == 1 else f"{report.directed.count} random directions"
    # What ties was not judged with the others.
    judged, tied = report.counts["agree"], bool(report.directed.ties or report.counts["kink"])
    of = f"{judged:,} of " if tied and judged else ""
    said = f"{of}{report.total:,} {report.noun}s together, by {many}"
    if report.directed.each:
        return f"{said}; then, as rounding of the gradient adds up along these, each by itself."
    if not math.isfinite(report.directed.tau) or (tied and not judged) or report.directed.alarm:
        return f"{said}."
    lone = f"a lone one of {4 * report.directed.tau:.0e} never."
    if chance >= 1:
        return f"{said}: a relative error of {error:g} in any one may have been missed, {lone}"
    return (
        f"{said}: a relative error of {error:g} in any one would have been missed with a chance below "
        f"{max(chance, 1e-99):.0e}, {lone}"
    )


def _blame(report: Report) -> str:
    """Say which layer is to blame for a mismatch; empty where none is known."""
    found = report.culprits
    if found is None or not found.wrong:
        return ""
    named: dict[str, str] = {}
    for unit in found.wrong:
        about = f" (the gradient written by hand in {unit.function})" if unit.function != unit.name else ""
        kinds = {"layer": f"layer {unit.name}", "operation": f"operation {unit.name}"}
        kinds["backward"] = f"{unit.name} (the gradient of the gradient written by hand in {unit.function})"
        whole = kinds.get(unit.kind, f"{unit.name}{about if unit.function else ''}")
        named.setdefault(unit.name, whole)
    others = f"the other {found.right} layers and operations are right" if found.right else "there is nothing else"
    return f"Wrong in {', '.join(named.values())}; {others}."
