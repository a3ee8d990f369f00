"""Why the verdict on a gradient as a whole is what it is, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fdfast.estimates import JUMP, STEEP, UNDEFINED
from fdfast.verdict import special
from fdfast.verdict.alone import APART
from fdfast.verdict.compare import AGREE, UNRESOLVED, WRONG
from fdfast.verdict.stage import WEAK
from fdfast.verdict.whole import Whole

_NAMED = 4
_SEEN = 1e-9  # relative gaps above it are no rounding of float64


def sentences_on_whole(found: Whole, settings: dict[str, Any], order: int = 1) -> list[str]:
    """Sentences on faults, kinks, and what could not be learnt, of derivatives of that order."""
    words = special.WORDS[order]
    return [
        *_faults(found, settings, words),
        *_turns(found, words),
        *_kinks(found, order),
        *_singular(found, words),
        *_gaps(found, settings, words),
    ]


def _names(found: Whole, numbers: list[int]) -> str:
    names = list(dict.fromkeys(found.places[i].name for i in numbers))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _faults(found: Whole, settings: dict[str, Any], words: special.Words) -> list[str]:
    it = words.gradient
    said = []
    bad = {i: mask & (found.codes[i] == WRONG) for i, mask in enumerate(found.lost) if mask.any()}
    lost = [i for i, mask in bad.items() if mask.any()]
    if lost:
        many = sum(int(mask.sum()) for mask in bad.values())
        said.append(
            f"The {it} is NaN or infinite on {many} elements of {_names(found, lost)}, where {words.f} itself is "
            "finite. "
            "Likely "
            "causes: (a) the derivative of sqrt, log or a norm at zero, (b) 0 * inf behind a tf.where, (c) overflow "
            "of exp "
            "in the backward pass."
        )
    wrong = [
        one
        for one in found.suspects
        if found.codes[one.place].reshape(-1)[one.index] == WRONG and np.isfinite(one.analytic)
    ]
    if wrong and found.directed.dense:
        places = [place for group in found.directed.dense for place in group.places]
        said.append(
            f"The {it} by {_names(found, places)} is wrong throughout: {len(wrong)} of {len(found.suspects)} "
            "elements "
            "looked at differ from their differences by more than the tolerance, so the formula (or an operation's "
            "gradient) is wrong there."
        )
    elif wrong:
        said.append(
            f"{len(wrong)} element{'s' if len(wrong) > 1 else ''} of {_names(found, [w.place for w in wrong])}: the "
            f"{it} differs from the finite difference by more than the tolerance allows, so the formula (or an "
            "operation's gradient) is wrong there."
        )
    if wrong and found.directed.only_here:
        said += special.at_x_alone(_elements(len(wrong)), "", "", "a point right beside it", words)
    branch = sum(int(np.count_nonzero(mask)) for mask in found.branch)
    if branch:
        said += special.at_x_alone("", _elements(branch), "", "a point near x", words)
    small = [
        one
        for one in found.suspects
        if one.numeric != one.analytic and found.codes[one.place].reshape(-1)[one.index] == AGREE
    ]
    if small and not wrong and found.directed.alarm:
        largest = max(abs(s.numeric - s.analytic) / max(abs(s.numeric), abs(s.analytic)) for s in small)
        said.append(
            f"The {it} by {_names(found, [s.place for s in small])} differs from the differences by more than "
            "their "
            f"rounding: by {largest:.1e}, relatively, on {len(small)} elements looked at. That is less than "
            f"rtol={settings['rtol']:g}, so it is tolerated; a smaller rtol would not."
        )
    return said


def _turns(found: Whole, words: special.Words) -> list[str]:
    """Where the control flow is decided by numbers that are equal at x."""
    if not found.directed.turns:
        return []
    return [
        f"x lies right where the control flow of f turns ({', '.join(dict.fromkeys(found.directed.turns))}): beside "
        "it f "
        f"may go another way, and {words.f} jump. Only the way that f takes at x was checked."
    ]


def _kinks(found: Whole, order: int) -> list[str]:
    kinked = [mask & ~apart if mask.any() else mask for mask, apart in zip(found.near, found.apart, strict=True)]
    many = sum(int(np.count_nonzero(mask)) for mask in kinked)
    if not many:
        return []
    layers = ", ".join(found.ties[:_NAMED]) + (
        f" and {len(found.ties) - _NAMED} more" if len(found.ties) > _NAMED else ""
    )
    where = "they were checked at a point near x, where nothing ties"
    if not found.judged_near:
        where = "these elements were not checked"
    elif found.directed.ties:
        where = "units tie at every point near x that was tried, too, so these elements were not checked"
    if order > 1:
        return [
            f"Units tie at x in {layers} (a ReLU at zero, or equal cells in a max pool). There the gradient itself "
            "jumps "
            f"or bends, so f has no second derivative: that is a kink, and no fault. {_elements(many)} can move such "
            f"units; {where}."
        ]
    return [
        f"{_elements(many)} of {_names(found, [i for i, mask in enumerate(kinked) if mask.any()])} sit"
        f"{'s' if many == 1 else ''} exactly on a kink (a ReLU at zero, or equal cells in a max pool): units tie in "
        f"{layers}. There the slopes differ by side, and no gradient is the one; {where}."
    ]


def _singular(found: Whole, words: special.Words) -> list[str]:
    """Elements along which f has no finite slope."""
    kinds: dict[int, list[tuple[int, int]]] = {UNDEFINED: [], STEEP: [], JUMP: []}
    for at, (kind, _) in found.breaks.items():
        kinds[JUMP if kind == APART else kind].append(at)
    said = [
        f"{_elements(len(at))} of {_names(found, [place for place, _ in at])}" if at else "" for at in kinds.values()
    ]
    undefined, steep, jumps = said
    rough = found.rough
    noise, step = max((one.noise for one in rough), default=0.0), max((one.step for one in rough), default=0.0)
    where = f"{_elements(len(rough))} of {_names(found, [one.suspect.place for one in rough])}" if rough else ""
    seen = "over those steps it is right as far as the noise lets see"
    largest = max((size for kind, size in found.breaks.values() if kind in (JUMP, APART)), default=0.0)
    within, beside = 'check="every" with bounds=(low, high)', []
    for place, index in kinds[UNDEFINED]:
        one, side = found.places[place], int(found.breaks[place, index][1])
        beside.append((one.name, tuple(map(int, np.unravel_index(index, one.shape))), side))
    apart = sum(int(np.count_nonzero(mask)) for mask in found.apart)
    alone = f"{_elements(apart)} of {_names(found, [i for i, mask in enumerate(found.apart) if mask.any()])}"
    told = any((codes[mask] != UNRESOLVED).any() for codes, mask in zip(found.codes, found.apart, strict=True))
    near = "they were checked at a point near x" if told else "at points near x, too, nothing could be told of them"
    return [
        *special.another_value(alone if apart else "", found.jump, near, words),
        *special.noisy(where, noise, step, seen, words=words),
        *special.without_slope(
            undefined, steep, jumps, largest, beside=special.sides(beside), bounds=within, words=words
        ),
    ]


def _elements(many: int) -> str:
    return f"{many:,} element{'s' if many > 1 else ''}"


def _gaps(found: Whole, settings: dict[str, Any], words: special.Words) -> list[str]:
    said = []
    if found.blurred and not found.wrong:
        said.append(
            f"The {words.gradient} differs from the differences by rounding alone, of "
            f"{', '.join(found.blurred[:_NAMED])}: by no more than a slope made of numbers near 1 loses, and no part "
            "of "
            "f has a wrong formula. Behind a softmax or a sigmoid near 1 few digits are left. Remedies: (a) an x at "
            "which the loss is not saturated, (b) a larger rtol."
        )
    if found.directed.cancelled:
        said.append(
            f"{_elements(found.directed.cancelled)}: the {words.gradient} differs by no more than what rounding of the "
            "numbers in "
            "f makes of autodiff. They cancel there, as next to the minimum of a loss. Remedies: (a) an x at which the "
            "loss is not saturated, (b) a larger rtol."
        )
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
    chance = found.directed.chance(settings["rtol"])
    if not (found.wrong or found.directed.alarm or found.rough) and chance > WEAK:
        said.append(
            f"Rounding of the {words.gradient}, in float64, hides what is to be found: by {found.directed.count} "
            "directions a "
            f"relative error of {settings['rtol']:g} in one element may be missed with a chance of {chance:.2g}. "
            'check="every" looks at each by itself.'
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
    if found.allowed is not None:
        rtol, floor, gap, narrow = found.allowed
        said.append(
            f"The {words.gradient} under test is an array{', with the digits of float32' if narrow else ''}. Each of "
            "its elements was held against autodiff's in float64, which the directions have shown right, to "
            f"rtol={rtol:g}"
            + (f" and {floor:.1e}, what float32 rounds to here." if narrow else ".")
            + (f" They differ by up to {gap:.1e}, which is tolerated; a smaller rtol would not." if gap > _SEEN else "")
        )
    if found.directed.rounded:
        kinds = ", ".join(found.directed.rounded)
        said.append(
            f"Without a kernel in float64 ran, in float32: {kinds}. Errors below the rounding of that are lost."
        )
    return said
