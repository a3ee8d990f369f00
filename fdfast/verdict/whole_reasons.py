"""Why the verdict on a gradient as a whole is what it is, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fdfast.verdict.compare import WRONG
from fdfast.verdict.whole import Whole

_NAMED = 4


def sentences_on_whole(found: Whole, settings: dict[str, Any]) -> list[str]:
    """Sentences on faults, kinks, and what could not be learnt."""
    return [*_faults(found, settings), *_kinks(found), *_gaps(found, settings)]


def _names(found: Whole, numbers: list[int]) -> str:
    names = list(dict.fromkeys(found.places[i].name for i in numbers))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _faults(found: Whole, settings: dict[str, Any]) -> list[str]:
    said = []
    lost = [i for i, bad in enumerate(found.lost) if bad.any()]
    if lost:
        many = sum(int(bad.sum()) for bad in found.lost)
        said.append(
            f"The gradient is NaN or infinite on {many} elements of {_names(found, lost)}, where f itself is finite. "
            "Likely "
            "causes: (a) the derivative of sqrt, log or a norm at zero, (b) 0 * inf behind a tf.where, (c) overflow "
            "of exp "
            "in the backward pass."
        )
    wrong = [one for one in found.suspects if found.codes[one.place].reshape(-1)[one.index] == WRONG]
    if wrong and found.directed.dense:
        places = [place for group in found.directed.dense for place in group.places]
        said.append(
            f"The gradient of {_names(found, places)} is wrong throughout: {len(wrong)} of {len(found.suspects)} "
            "elements "
            "drawn from it differ from their differences by more than the tolerance, so the formula (or an operation's "
            "gradient) is wrong there."
        )
    elif wrong:
        said.append(
            f"{len(wrong)} element{'s' if len(wrong) > 1 else ''} of {_names(found, [w.place for w in wrong])}: the "
            "gradient differs from the finite difference by more than the tolerance allows, so the formula (or an "
            "operation's gradient) is wrong there."
        )
    small = [one for one in found.suspects if one not in wrong and one.numeric != one.analytic]
    if small and not wrong and found.directed.alarm:
        largest = max(abs(s.numeric - s.analytic) / max(abs(s.numeric), abs(s.analytic)) for s in small)
        said.append(
            f"The gradient of {_names(found, [s.place for s in small])} differs from the differences by more than "
            "their "
            f"rounding: by {largest:.1e}, relatively, on {len(small)} elements looked at. That is less than "
            f"rtol={settings['rtol']:g}, so it is tolerated; a smaller rtol would not."
        )
    return said


def _kinks(found: Whole) -> list[str]:
    if not found.ties:
        return []
    layers = ", ".join(found.ties[:_NAMED]) + (
        f" and {len(found.ties) - _NAMED} more" if len(found.ties) > _NAMED else ""
    )
    where = "it was checked at a generic point near x, where nothing ties"
    if found.directed.ties:
        where = "units tie at every point near x that was tried, too, so nothing was checked"
    return [
        f"x sits exactly on a kink (a ReLU at zero, or equal cells in a max pool): units tie in {layers}. There the "
        "slopes "
        f"differ by side, and no gradient is the one; {where}."
    ]


def _gaps(found: Whole, settings: dict[str, Any]) -> list[str]:
    said = []
    if found.blank and len(found.blank) == len(found.places):
        said.append(
            "Every derivative is exactly zero on both sides, so nothing was checked: the loss is saturated or "
            "clipped at x, "
            "or does not depend on what was moved. Check at a point where it does."
        )
    elif found.blank:
        said.append(
            f"Every derivative of {_names(found, found.blank)} is exactly zero on both sides, so nothing was learnt "
            "about "
            "it: dead units, or values that the loss does not depend on. Check at another point."
        )
    total = sum(codes.size for codes in found.codes)
    agree = sum(int(np.count_nonzero(codes == 0)) for codes in found.codes)
    if not found.wrong and agree < settings["coverage"] * total:
        said.append(
            f"Only {100 * agree / max(1, total):.2f} % of the elements could be checked, "
            f"{100 * settings['coverage']:g} % "
            "were asked for."
        )
    if found.directed.subtracted:
        kinds = ", ".join(sorted(set(found.directed.subtracted)))
        said.append(f"{kinds} has no difference rule, and was subtracted, which keeps ten digits.")
    return said
