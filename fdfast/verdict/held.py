"""An array of few digits, element by element: random directions would add up its rounding, and hide what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fdfast.tape import STEP, Point
from fdfast.verdict.compare import AGREE, KINKED, UNRESOLVED, WRONG
from fdfast.verdict.directions import Suspect
from fdfast.verdict.terms import Terms
from fdfast.verdict.whole import Whole

Float64 = npt.NDArray[np.float64]
_EPS = 2.0**-23
_UNITS, _TIMES = 64, 4  # of rounding of the largest element; what f's own gradient in its own precision is off by
_LOOKED = 32  # wrong elements that are differenced by themselves


def is_certain(found: Whole) -> bool:
    """Whether a gradient has been shown right wherever f has one."""
    open_ = [i for i, codes in enumerate(found.codes) if (codes == UNRESOLVED).any()]
    return not found.wrong and set(open_) <= set(found.blank)


def held_against(sure: Whole, given: Sequence[Float64], own: Sequence[Float64], here: Point, terms: Terms) -> Whole:
    """Judge a gradient in float32 by one in float64 that differences have shown right.

    An element is wrong that differs by more than the tolerance and what float32 rounds to: 64 of its units of the
    largest element, and four times what f's own gradient, in f's own precision, is off by at most.

    Parameters
    ----------
    sure : Whole
        Verdict on autodiff in float64, certain.
    given : sequence of ndarray of float64
        The gradient under test at x, for every place.
    own : sequence of ndarray of float64
        Autodiff in the precision that f has itself.
    here : fdfast.tape.Point
        x.
    terms : Terms
    """
    exact = sure.analytic
    largest = max((float(np.abs(g[np.isfinite(g)]).max(initial=0.0)) for g in exact), default=0.0)
    gaps = [np.abs(a - g)[np.isfinite(a) & np.isfinite(g)] for a, g in zip(own, exact, strict=True)]
    off = max((float(gap.max(initial=0.0)) for gap in gaps), default=0.0)
    floor = _UNITS * _EPS * largest + _TIMES * off if terms.floor is None else terms.floor
    codes, found = [], []
    for place, (a, g, told, near) in enumerate(zip(given, exact, sure.codes, sure.near, strict=True)):
        with np.errstate(invalid="ignore"):
            parts = ~(np.abs(a - g) <= terms.rtol * np.maximum(np.abs(a), np.abs(g)) + floor)
        # An array has no value near x, where what ties at x was judged.
        told = np.where(near & (told == AGREE), np.int8(KINKED), told)
        judged = (told == AGREE) | (place in sure.blank)
        codes.append(np.where(parts & judged, np.int8(WRONG), told).astype(np.int8))
        found += [(place, int(i)) for i in np.flatnonzero(codes[-1] == WRONG)]
    suspects = [
        Suspect(place, i, _difference(here, sure, place, i), float(given[place].flat[i]))
        for place, i in found[:: -(-len(found) // _LOOKED) or 1]
    ]
    return replace(
        sure,
        analytic=list(given),
        claimed=list(given),
        codes=codes,
        suspects=suspects,
        lost=[~np.isfinite(a) for a in given],
        judged_near=False,
        allowed=(terms.rtol, floor),
    )


def _difference(here: Point, sure: Whole, place: int, i: int) -> float:
    v = np.zeros((1, *sure.places[place].shape))
    v.reshape(-1)[i] = 1.0
    return float(here.slopes({sure.places[place].number: v}, (STEP,)).value[0, 0])
