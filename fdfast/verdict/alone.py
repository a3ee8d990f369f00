"""What differences of single elements tell: how far off a gradient is, and why f may have no slope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import ABOVE, BELOW, JUMP, STEEP, UNDEFINED
from fdfast.moves import Directions
from fdfast.tape import STEP
from fdfast.verdict.directions import Slopes, Suspect

Float64 = npt.NDArray[np.float64]
#: Beside what `fdfast.estimates` knows: an exact comparison gives f another value at the point alone.
APART = JUMP + 1
_ALIKE = 2.0**-20  # two jumps that part by no more, relatively, are the same


def no_slope(both: Float64, step: float, *, equal: bool = False) -> tuple[int, float]:
    """What keeps f from a slope, by D(h) / h at a step and a sixteenth of it, to both sides.

    With it the size of a jump, or the sides on which f is not finite. `equal` says whether numbers that f
    compares by == are equal, and move apart.
    """
    above, below = (not np.isfinite(side).all() for side in (both[:2], both[2:]))
    if above or below:
        return UNDEFINED, float(ABOVE * above + BELOW * below)
    with np.errstate(all="ignore"):
        factor = np.abs(both[1::2]) / np.abs(both[::2])
    if np.any(factor > 15.9):
        return APART if equal and _alike(both) else JUMP, float(np.abs(both[::2]).max() * step)
    # A logarithm grows by 4 % from 2^-100 to 2^-104; differences of f itself round.
    return (STEEP if np.any(factor > (1.01 if step == STEP else 1.2)) else 0), 0.0


def _alike(both: Float64) -> bool:
    """Whether f jumps to both sides by as much: it is the value at the point that is another."""
    return bool(abs(both[1] + both[3]) <= _ALIKE * abs(both[1]))


def is_far(one: Suspect) -> bool:
    """Whether the gradient is off by more than half."""
    return not abs(one.numeric - one.analytic) <= 0.5 * max(abs(one.numeric), abs(one.analytic))


def is_steep(one: Suspect) -> bool:
    """Whether a slope is so large that there may be none."""
    return not abs(one.numeric) < 2.0**40 * max(1.0, abs(one.analytic))


def values_apart(
    elements: Sequence[tuple[int, int]],
    slopes: Slopes,
    switched: Callable[[Mapping[int, Float64]], npt.NDArray[np.bool_]],
    directions: Directions,
    claimed: Sequence[Float64],
) -> tuple[dict[tuple[int, int], tuple[Suspect, tuple[int, float]]], list[tuple[int, int]]]:
    """Elements along which f has another value at the point alone, by place and index; and those not known yet.

    One is looked at of all that switch the same decisions, as the values of one masked step do: f jumps by as much
    along them. A step to one side tells where nothing ties but an ==: beside it nothing is equal any more.
    """
    alike: dict[bytes, list[tuple[int, int]]] = {}
    for some in _batches(elements, directions.at_once):
        filled = some + some[-1:] * (directions.at_once - len(some))  # so many every time: there is one graph for all
        for at, row in zip(some, switched(directions.single(filled)), strict=False):
            alike.setdefault(row.tobytes(), []).append(at)
    found, left = {}, []
    first = {group[0]: group for group in alike.values()}
    for some in _batches(list(first), directions.at_once):
        seen = slopes(directions.single(some), (STEP,))
        for at, slope, equal, kinked in zip(some, seen.value[0], seen.equal[0], seen.kinked[0], strict=True):
            if kinked:
                left += first[at]
                continue
            for place, index in first[at]:
                one = Suspect(place, index, float(slope), float(claimed[place].flat[index]))
                if equal and is_steep(one) and np.isfinite(slope):
                    found[place, index] = one, (APART, abs(one.numeric) * STEP)
    return found, left


def _batches(elements: Sequence[tuple[int, int]], many: int) -> list[list[tuple[int, int]]]:
    return [list(elements[start : start + many]) for start in range(0, len(elements), many)]


def shifted(array: npt.NDArray[Any], distance: float, turn: int) -> npt.NDArray[Any]:
    """Values moved by so much of their scale."""
    share = np.random.default_rng(turn).uniform(-1, 1, array.shape)
    moved: npt.NDArray[Any] = array + distance * max(float(np.abs(array).max(initial=0.0)), 1e-300) * share
    return moved


def not_finite(array: Float64) -> npt.NDArray[np.bool_]:
    """Which numbers are NaN or infinite; in half of the time where there are none."""
    with np.errstate(all="ignore"):
        return np.zeros(array.shape, bool) if np.isfinite(np.sum(array)) else ~np.isfinite(array)
