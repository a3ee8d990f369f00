"""Elements whose units tie, one by one: along which f has two slopes, and along which it is smooth all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.tape import STEP, Point
from fdfast.verdict.place import Place
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
#: Elements that are differenced by themselves, to both sides, and bytes that all values of f may take for these: more
#: would cost too much beside the directions.
MOST, BYTES = 1024, 3 << 29
_UNITS = 64  # of rounding of the largest element: what is below is none
_ONE = 1e-9  # relative: slopes that differ by less are one, as in the look at every element (cpp/verdict.cpp)


def smooth_alone(
    here: Point, places: Sequence[Place], tied: Sequence[Bool], claimed: Sequence[Float64], terms: Terms, at_once: int
) -> tuple[list[Bool], list[Bool]]:
    """Elements that move units which tie, and whose slopes to both sides are one all the same.

    Returned are those on which the gradient under test is that slope, and those on which it has another branch, of
    kinks that cancel. Where there are too many, or f is too large, none is looked at, all count as kinks, and the
    lists are empty.

    Parameters
    ----------
    here : fdfast.tape.Point
    places : sequence of Place
    tied : sequence of ndarray of bool
        Elements that are asked about, by place.
    claimed : sequence of ndarray of float64
        Gradient under test.
    terms : Terms
    at_once : int
        Elements that are differenced in one call.
    """
    many = sum(int(np.count_nonzero(mask)) for mask in tied)
    if not many or many > MOST or many * here.volume > BYTES:
        return [], []
    agree, branch = ([np.zeros(mask.shape, bool) for mask in tied] for _ in range(2))
    largest = max((float(np.abs(g[np.isfinite(g)]).max(initial=0.0)) for g in claimed), default=0.0)
    rounding = _UNITS * 2.0**-52 * largest
    floor = rounding if terms.floor is None else terms.floor
    for i, (place, mask, given) in enumerate(zip(places, tied, claimed, strict=True)):
        at = np.flatnonzero(mask)
        if not at.size:
            continue
        right, left = np.hstack([_slopes(here, place, at[k : k + at_once]) for k in range(0, len(at), at_once)])
        size = np.maximum(np.abs(right), np.abs(left))
        analytic = given.reshape(-1)[at]
        one = np.abs(right - left) <= _ONE * size + rounding
        fits = np.abs(right - analytic) <= terms.rtol * np.maximum(size, np.abs(analytic)) + floor
        agree[i].reshape(-1)[at[one & fits]] = True
        branch[i].reshape(-1)[at[one & ~fits]] = True
    return agree, branch


def _slopes(here: Point, place: Place, at: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    rows = np.zeros((len(at), *place.shape))
    rows.reshape(len(at), -1)[np.arange(len(at)), at] = 1.0
    return here.slopes({place.number: rows}, (STEP, -STEP)).value
