"""A gradient given as an array, element by element: held against one that random directions have shown right.

By itself it would be worse off: it has no value near x, where units tie, and what it is off by in its last digits adds
up along a random direction, and hides what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import SMOOTH
from fdfast.tape import STEP, Point
from fdfast.verdict.alone import shifted
from fdfast.verdict.compare import AGREE, KINKED, SINGULAR, UNRESOLVED, WRONG, cancellation
from fdfast.verdict.directions import Suspect
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.place import Place
from fdfast.verdict.terms import Terms
from fdfast.verdict.whole import Allowed, Whole

Float64 = npt.NDArray[np.float64]
_EPS = 2.0**-52
_UNITS, _TIMES = 64, 4  # of rounding of the largest element; what f's own gradient in its own precision is off by
_DRAWS, _FACTOR = 3, 4  # of what rounding may make of autodiff: the largest of some draws may be a part of it only
_SAME = 2.0**-40  # relatively: two ways of writing one gradient part by less
_NEGLIGIBLE = 1e-9  # of the largest element
BEYOND = 4  # times that: no array is off by so much for rounding
_LOOKED = 32  # wrong elements that are differenced by themselves
_BRANCHES, _BESIDE = 8, 2.0**-20  # points that are so far from x, whose branches are drawn where kinks cancel
_TORN = 256  # elements on a kink, not as autodiff has them, whose slopes to both sides are looked at


def is_certain(found: Whole) -> bool:
    """Whether a gradient has been shown right wherever f has one."""
    unknown = {i for i, codes in enumerate(found.codes) if (codes == UNRESOLVED).any()}
    return not found.wrong and unknown <= set(found.blank)


def held_against(
    sure: Whole, given: Sequence[Float64], own: Sequence[Float64] | None, here: Point, terms: Terms
) -> Whole:
    """Judge an array by autodiff in float64 that differences have shown right.

    An element is wrong that differs by more than the tolerance and rounding: 64 units of the largest element, and with
    `own` four times what that is off by at most. What rounding on the way may make of autodiff itself is left open:
    next to its minimum a loss is made of numbers that cancel. On a kink it may also be anything between the slopes to
    both sides, where these bound autodiff; where f has another value at x alone, nothing is right or wrong.

    Parameters
    ----------
    sure : Whole
        Verdict on autodiff, certain.
    given : sequence of ndarray of float64
        The gradient under test at x, for every place.
    own : sequence of ndarray of float64, optional
        Autodiff in the precision that f has itself; for arrays with the digits of float32.
    here : fdfast.tape.Point
        x.
    terms : Terms
    """
    floor, gap = _rounding(sure.analytic, own) if terms.floor is None else terms.floor, 0.0
    codes: list[npt.NDArray[np.int8]] = []
    wrong: list[tuple[int, int]] = []
    torn: list[tuple[int, int]] = []
    columns = zip(given, sure.analytic, sure.codes, sure.near, sure.apart, strict=True)
    for place, (a, g, told, near, apart) in enumerate(columns):
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(a), np.abs(g))
            off = np.maximum(np.abs(a - g) - floor, 0.0) / size
            parts = ~(np.isfinite(a) & (np.abs(a - g) <= terms.rtol * size + floor))
        parts &= (told == AGREE) | near | (place in sure.blank)
        gap = max(gap, float(np.max(off[~parts & (size > 0) & np.isfinite(off)], initial=0.0)))
        codes.append(np.where(parts, np.where(near, np.int8(KINKED), np.int8(WRONG)), told))
        codes[-1][parts & apart] = SINGULAR
        wrong += [(place, int(i)) for i in np.flatnonzero(parts & ~near)]
        torn += [(place, int(i)) for i in np.flatnonzero(parts & near & ~apart)]
    cancelled = 0
    if wrong:
        for place, stir in enumerate(rounding_of(here, sure.places)):
            open_ = (codes[place] == WRONG) & (np.abs(given[place] - sure.analytic[place]) <= stir)
            codes[place][open_] = UNRESOLVED
            cancelled += int(np.count_nonzero(open_))
        wrong = [(place, i) for place, i in wrong if codes[place].flat[i] == WRONG]
    suspects = [_nearer(one, both) for one, both in _slopes_at(here, sure, given, _some(wrong, _LOOKED))]
    kinked = _slopes_at(here, sure, given, _some(torn, _TORN))
    # Where units tie whose slopes have opposite signs, the largest slopes and the smallest may add up to the same, and
    # another choice in each unit to something else: then autodiff itself is not between the two at some element, and an
    # array is wrong only where it is far from all that branches near x make of it, too.
    known = [float(sure.analytic[one.place].flat[one.index]) for one, _ in kinked]
    bounded = [_between(g, both, terms.rtol, floor) for g, (_, both) in zip(known, kinked, strict=True)]
    outside = [
        (one, both)
        for (one, both), fits in zip(kinked, bounded, strict=True)
        if fits and not _between(one.analytic, both, terms.rtol, floor)
    ]
    if outside and not all(bounded):
        outside = _of_no_branch(outside, sure.analytic, sure, here, terms, floor)
    for one, both in outside:
        codes[one.place].flat[one.index] = WRONG
        suspects.append(_nearer(one, both))
    return replace(
        sure,
        analytic=list(given),
        claimed=list(given),
        codes=codes,
        suspects=suspects,
        lost=[~np.isfinite(a) for a in given],
        point=here,
        directed=replace(sure.directed, cancelled=cancelled),
        allowed=Allowed(terms.rtol, floor, gap, own is not None),
    )


def hold_branches(found: Whole, given: Sequence[Float64], here: Point, terms: Terms) -> None:
    """Accuse of an array what differs from a slope that autodiff has, though units tie there that may cancel.

    For where autodiff as a whole is not certain. `found` is changed; parameters as of `held_against`.
    """
    own = [here.gradients.get(p.number, np.zeros(p.shape)) for p in found.places]
    floor = _rounding(own, None) if terms.floor is None else terms.floor
    masks = zip(found.branch, found.codes, strict=False)  # there is none where nobody looked
    open_ = [(i, int(k)) for i, (mask, codes) in enumerate(masks) for k in np.flatnonzero(mask & (codes == KINKED))]
    outside = [
        (one, both)
        for one, both in _slopes_at(here, found, given, _some(open_, _TORN))
        if _between(float(own[one.place].flat[one.index]), both, terms.rtol, floor)
        and not _between(one.analytic, both, terms.rtol, floor)
    ]
    for one, both in _of_no_branch(outside, own, found, here, terms, floor):
        found.codes[one.place].flat[one.index] = WRONG
        found.suspects.insert(0, _nearer(one, both))


def _of_no_branch(
    elements: Sequence[tuple[Suspect, tuple[float, float]]],
    own: Sequence[Float64],
    whole: Whole,
    here: Point,
    terms: Terms,
    floor: float,
) -> list[tuple[Suspect, tuple[float, float]]]:
    """Elements far from what autodiff is at any of some points beside x, each of which has branches of its own."""
    if terms.jitter is None or not elements:
        return []
    moving, drawn = here.recorded.moving, []
    for turn in range(_BRANCHES):
        beside = [shifted(a, _BESIDE, turn) if i in moving else a for i, a in enumerate(here.arguments)]
        drawn.append(here.recorded.point(beside).gradients)
    found = []
    for one, both in elements:
        number = whole.places[one.place].number
        values = [float(g[number].flat[one.index]) for g in drawn if number in g]
        values.append(float(own[one.place].flat[one.index]))
        wide = max(values) - min(values)
        if not _between(one.analytic, (min(values) - wide, max(values) + wide), terms.rtol, floor):
            found.append((one, both))
    return found


def _rounding(exact: Sequence[Float64], own: Sequence[Float64] | None) -> float:
    largest = max((float(np.abs(g[np.isfinite(g)]).max(initial=0.0)) for g in exact), default=0.0)
    if own is None:
        return _UNITS * _EPS * largest
    gaps = [np.abs(a - g)[np.isfinite(a) & np.isfinite(g)] for a, g in zip(own, exact, strict=True)]
    return _UNITS * 2.0**-23 * largest + _TIMES * max((float(gap.max(initial=0.0)) for gap in gaps), default=0.0)


def weigh_rounding(found: Whole, here: Point, *, right: bool = False) -> None:
    """Accuse no element that differs by no more than rounding on the way may make of autodiff.

    Where rounding makes more than half of what there is, autodiff tells nothing of an array: then only elements next to
    nothing are left open. What was left open for a softmax is accused if it differs by many times of that. `found` is
    changed.

    Parameters
    ----------
    found : Whole
        Of an array; or of autodiff, where every part of f has been shown `right`, and their sum is not.
    here : fdfast.tape.Point
    right : bool
    """
    if not found.wrong and not found.blurred:
        return
    stir, noisy = rounding_of(here, found.places), [one.suspect for one in found.rough]
    largest = max(
        (float(np.abs(here.gradients[p.number]).max(initial=0.0)) for p in found.places if p.number in here.gradients),
        default=0.0,
    )
    for one in found.suspects:
        codes, gap, rounding = found.codes[one.place], abs(one.numeric - one.analytic), stir[one.place].flat[one.index]
        own = here.gradients.get(found.places[one.place].number)
        mine = np.nan if own is None else own.flat[one.index]
        open_ = gap <= rounding if right else may_be_rounding(one.numeric, one.analytic, mine, rounding, largest)
        if codes.flat[one.index] == WRONG and open_:
            codes.flat[one.index] = UNRESOLVED
            found.directed.cancelled += 1
        off = BEYOND * max(rounding, abs(mine - one.numeric))
        if found.blurred and codes.flat[one.index] == UNRESOLVED and one not in noisy and not open_ and gap > off:
            codes.flat[one.index] = WRONG
    found.suspects.sort(key=lambda one: found.codes[one.place].flat[one.index] != WRONG)


def leave_to_autodiff(found: Whole, here: Point, autodiff: Callable[[], Whole]) -> None:
    """Accuse no element that is autodiff's own to the last digits, if autodiff is not accused. `found` is changed.

    Parameters
    ----------
    found : Whole
        Of an array.
    here : fdfast.tape.Point
    autodiff : callable
        What is found of autodiff.
    """
    own = [here.gradients.get(p.number) for p in found.places]
    codes = found.codes
    same = [
        one
        for one in found.suspects
        if codes[one.place].flat[one.index] == WRONG
        and (g := own[one.place]) is not None
        and abs(one.analytic - g.flat[one.index]) <= _SAME * abs(g.flat[one.index])
    ]
    if same and not autodiff().wrong:
        for one in same:
            codes[one.place].flat[one.index] = UNRESOLVED
        found.directed.cancelled += len(same)


def may_be_rounding(numeric: Any, analytic: Any, own: Any, rounding: Any, largest: Any = None) -> Any:
    """Whether an array's elements differ by no more than rounding may make of autodiff.

    Where that is more than half of what there is, autodiff tells nothing: then only of what is next to nothing beside
    the `largest` element, or is what autodiff has itself: that may be off by some times what a few draws show.
    """
    size = np.maximum(np.abs(numeric), np.abs(analytic))
    if largest is None:
        largest = np.max(np.abs(own), axis=-1, keepdims=True, initial=0.0)
    tells = rounding < _FACTOR / 2 * np.abs(numeric)
    same = np.abs(analytic - own) <= _SAME * np.abs(own)
    most = np.where(same, BEYOND * rounding, rounding)
    return (np.abs(numeric - analytic) <= most) & (tells | (size <= _NEGLIGIBLE * largest) | same)


def left_to_rounding(found: Judgement, terms: Terms) -> npt.NDArray[np.bool_]:
    """Tiles where an array differs by more than the tolerance, and no more than what a softmax may lose of a slope."""
    gap, size = np.abs(found.numeric - found.analytic), np.maximum(np.abs(found.numeric), np.abs(found.analytic))
    largest = np.max(size, axis=1, keepdims=True, initial=0.0, where=np.isfinite(size))
    allowed = found.error_bar + terms.rtol * size + (terms.floor or 0.0)
    most = allowed + (_UNITS * _EPS + cancellation(found.base, _EPS)) * largest
    left: npt.NDArray[np.bool_] = (found.codes == UNRESOLVED) & (found.kind == SMOOTH) & (gap > allowed) & (gap <= most)
    return left


def rounding_of(here: Point, places: Sequence[Place]) -> list[Float64]:
    """What rounding on the way may make of autodiff, by place."""
    exact = [here.gradients.get(p.number, np.zeros(p.shape)) for p in places]
    stir = [np.zeros(g.shape) for g in exact]
    for seed in range(_DRAWS):
        there = here.gradients_rounded(seed)
        for most, g, place in zip(stir, exact, places, strict=True):
            with np.errstate(invalid="ignore"):
                np.fmax(most, _FACTOR * np.abs(there.get(place.number, g) - g), out=most)
    return stir


def _some(elements: list[tuple[int, int]], many: int) -> list[tuple[int, int]]:
    return elements[:: max(1, -(-len(elements) // many))]


def _slopes_at(
    here: Point, sure: Whole, given: Sequence[Float64], elements: list[tuple[int, int]]
) -> list[tuple[Suspect, tuple[float, float]]]:
    """Single elements, with the slopes to both sides."""
    found = []
    for place, i in elements:
        v = np.zeros((1, *sure.places[place].shape))
        v.reshape(-1)[i] = 1.0
        right, left = (float(one) for one in here.slopes({sure.places[place].number: v}, (STEP, -STEP)).value[:, 0])
        found.append((Suspect(place, i, right, float(given[place].flat[i])), (right, left)))
    return found


def _nearer(one: Suspect, slopes: tuple[float, float]) -> Suspect:
    nearer = min(slopes, key=lambda slope: abs(slope - one.analytic) if np.isfinite(slope) else np.inf)
    return Suspect(one.place, one.index, nearer, one.analytic)


def _between(value: float, slopes: tuple[float, float], rtol: float, floor: float) -> bool:
    low, high = min(slopes), max(slopes)
    allowed = rtol * max(abs(low), abs(high), abs(value)) + floor
    return low - allowed <= value <= high + allowed
