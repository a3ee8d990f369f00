"""A gradient checked as a whole: differences along random directions, and bisection to what is wrong.

With all other errors given, an error of share eps in one element leaves |D(v) - g.v| below tau for a random v with a
chance of at most 4 tau / eps; alone it is never missed for eps > 4 tau. See docs/theory-directions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves import Directions, Group
from fdfast.tape import STEP

Float64 = npt.NDArray[np.float64]
#: Directional derivatives: (directions by place, steps) -> object with `value` of shape (steps, directions).
Slopes = Callable[[Mapping[int, Float64], Sequence[float]], Any]

#: (directions by place, distance, turn) -> D(v) - g.v there
Beside = Callable[[Mapping[int, Float64], float, int], Float64]

#: To both sides: f may be defined on one of them only.
STEPS = (STEP, -0.75 * STEP)
_SAFETY = 8.0
#: How far away, and how often, it is looked whether what parts is rounding of the gradient under test.
_DISTANCES, _TURNS = (2.0**-40, 2.0**-26, 2.0**-13), 2
_AGAIN = 8  # directions by which rounding is measured again before an alarm
_TOGETHER = 0.7  # cosine above which gaps go together: eight of rounding do so twice with a chance below 1 in 1,000
_CROWD = 16  # failing groups of one level beyond which an error is dense
_SAMPLE = 24  # elements of a dense error that are differenced by themselves
_EXAMPLES = 64  # of which each is told to be wrong or right even so
_FEW = 4  # elements of one example among which a wrong one has been found
_ONE = 32  # groups no larger than this are taken apart at once
_ROUNDING = 1.0  # what differs more from step to step is no rounding, but a function without a finite slope
_PLAIN = 2.0**-20  # of a gap: what both steps may part by, and yet the gap is none of rounding
_SLIGHT = 1e-5  # of the tolerance: a fault of no more than that is none, and what parts by it may as well be rounding
TIED = 1 / 8  # of the tolerance: by less than that slopes to both sides may differ, and are one
_GONE = 1e-3  # share of a gap that is left near the point, if it is a fault at that point alone


@dataclass(eq=False)
class Suspect:
    """One element that a difference of its own has been taken of."""

    place: int
    index: int  # flat
    numeric: float
    analytic: float


@dataclass(eq=False)
class Directed:
    """What directions told.

    Attributes
    ----------
    count : int
        Number of directions.
    tau : float
        Rounding, in units of one element's share: nothing above it goes unseen.
    excess : float
        Largest |D(v) - g.v| of the whole, in the same units.
    suspects : list of Suspect
        Elements that differ: all of them, or of a dense error a sample.
    dense : list of Group
        Groups with too many wrong elements to be told one by one.
    rows, levels : int
        Differences taken, and levels of the bisection.
    ties : list of (str, ndarray)
        Operations that tied, see `fdfast.tape.Slopes`.
    cancelled : int
        Elements of an array that differ by what rounding on the way may make of a gradient.
    low : float
        Gradient below which an element counts less than its share, in proportion.
    turns : list of str
        Operations that tie where the control flow of f is decided.
    only_here : bool
        What differs does not differ near the point.
    subtracted, rounded : list of str
        Kinds of operations without a difference rule, and that ran in less than float64 for want of a kernel.
    unruly : bool
        Both sides differ by more than a share: f has no finite slope somewhere, or the gradient is all rounding.
    each : bool
        Every element was differenced by itself, where directions left it open.
    apart : int
        Elements at which an exact comparison gives f another value at the point alone.
    """

    count: int
    tau: float
    excess: float
    suspects: list[Suspect] = field(default_factory=list)
    dense: list[Group] = field(default_factory=list)
    rows: int = 0
    levels: int = 0
    ties: list[tuple[str, npt.NDArray[np.bool_]]] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    only_here: bool = False
    unruly: bool = False
    each: bool = False
    apart: int = 0
    cancelled: int = 0
    low: float = 0.0
    subtracted: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    @property
    def alarm(self) -> bool:
        """Whether something differs by more than rounding."""
        return not self.excess <= self.tau

    def chance(self, error: float) -> float:
        """Most likely chance that a relative error of one element has been missed."""
        if self.each:
            return 0.0
        return float(min(1.0, 4 * self.tau / error) ** self.count) if error > 0 else 1.0


def look(
    slopes: Slopes,
    directions: Directions,
    count: int,
    beside: Beside | None = None,
    *,
    jumps: bool = False,
    floor: float = 0.0,
    rtol: float = 0.0,
) -> Directed:
    """Compare along whole directions; bisect if they part by more than rounding, measured again before.

    Parameters
    ----------
    slopes : callable
    directions : Directions
    count : int
    beside : callable or None
        D(v) - g.v for given directions at another point, so far away, relative to the scale of x.
    jumps : bool
        Whether the function jumps where units tie: quotients as steep as that are ties then.
    floor : float
        Rounding that is known beforehand, in units of one element's share.
    rtol : float
        Far below it ties count as rounding: cells that are equal for saturation only move f alike. So does what parts
        by a hundred-thousandth of it.

    Returns
    -------
    Directed
        Where a unit ties so that the slopes to both sides differ, nothing is judged.
    """
    v = directions.whole(count)
    seen, claimed = slopes(v, STEPS), directions.dot(v)
    tau = max(floor, _rounding(seen.value, claimed, directions))
    excess = _excess(seen.value, claimed, directions)
    found = Directed(count, tau, excess, rows=2 * count, ties=seen.ties, subtracted=seen.subtracted)
    found.low, found.turns = directions.low, seen.turns
    if found.ties:
        again = slopes(v, (0.75 * STEP,)).value  # the spread of both sides is no rounding here
        found.rows += count
        found.tau = tau = _rounding(np.concatenate([seen.value[:1], again]), claimed, directions)
        with np.errstate(all="ignore"):
            sides = _SAFETY * float(np.max(np.abs(seen.value[1] - seen.value[0]))) / directions.unit
        if not sides <= max(_SAFETY * tau, TIED / 2 * rtol):
            return found
        if sides > _SAFETY * tau:
            found.tau = tau = sides
        if jumps and not tau <= _ROUNDING:
            return found
        found.ties = []  # what ties has no effect
    steps: Sequence[float] = STEPS[:1]
    if not tau <= _ROUNDING and not _is_plain(seen.value, claimed):
        found.tau, found.unruly, steps = np.finfo(float).eps ** 0.5, True, STEPS
    elif found.alarm and found.excess <= _SLIGHT * rtol and claimed.any():  # of zeros nobody knows the scale
        found.tau = _SLIGHT * rtol
    elif found.alarm:
        # A few differences may happen to round alike.
        more = directions.whole(_AGAIN, count)
        twice, claimed = slopes(more, STEPS), directions.dot(more)
        found.rows += 2 * _AGAIN
        found.tau = max(tau, _rounding(twice.value, claimed, directions))
        if beside is not None:
            _as_rounding(beside, more, twice.value[0] - claimed, directions, found)
    if found.alarm:
        _locate(slopes, directions, steps, found)
    return found


def _as_rounding(
    beside: Beside, v: Mapping[int, Float64], gap: Float64, directions: Directions, found: Directed
) -> None:
    """See whether what parts is rounding of the gradient under test: near the point it is another, a fault goes on.

    What a fault's gap changes by, right beside the point, is rounding still: nothing below it tells a wrong element.
    Near a minimum a fault's gap, too, becomes another one, but in proportion to the distance.
    """
    left, rounding = 0.0, 0.0
    there: list[Float64] = []
    for i, distance in enumerate(_DISTANCES):
        nearer, there = there, [beside(v, distance, turn) for turn in range(_TURNS)]
        found.rows += _TURNS * _AGAIN
        left = max(left, *(float(np.max(np.abs(one))) for one in there))
        change = min(float(np.max(np.abs(one - gap))) for one in there)
        tau = _SAFETY * change / directions.unit
        straight = i > 0 and all(
            _in_proportion(one - gap, other - gap, distance / _DISTANCES[i - 1])
            for one, other in zip(there, nearer, strict=True)
        )
        if found.excess <= tau and not straight and not all(_alike(one, gap) for one in there):
            found.only_here = left < _GONE * float(np.max(np.abs(gap)))
            found.tau = found.tau if found.only_here else tau
            return
        rounding = rounding or tau  # at the least distance
    found.tau = max(found.tau, rounding)


def _in_proportion(change: Float64, nearer: Float64, ratio: float) -> bool:
    """Whether what a gap changes by is what its change nearer to the point foretells."""
    return float(np.linalg.norm(change - ratio * nearer)) < 0.5 * float(np.linalg.norm(change))


def _alike(one: Float64, other: Float64) -> bool:
    """Whether gaps go together from direction to direction, as those of a fault do on another branch of f."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return size > 0 and abs(float(np.dot(one, other))) > _TOGETHER * size


def _rounding(value: Float64, claimed: Float64, directions: Directions) -> float:
    """How far two steps along one direction part, times a safety factor, in units of one element's share."""
    with np.errstate(all="ignore"):
        spread = np.max(np.abs(value[0] - value[1]))
        # A unit in the last place of the sum itself, where both steps round alike.
        return _SAFETY * float(max(spread, np.spacing(np.abs(claimed)).max())) / directions.unit


def _is_plain(value: Float64, claimed: Float64) -> bool:
    """Whether both steps say the same, but for next to nothing of what parts them from the claimed slopes."""
    with np.errstate(all="ignore"):
        spread, gap = np.max(np.abs(value[0] - value[1])), np.max(np.abs(value - claimed))
        return bool(spread <= _PLAIN * gap < np.inf)


def _excess(value: Float64, claimed: Float64, directions: Directions) -> float:
    with np.errstate(all="ignore"):
        return float(np.max(np.abs(value - claimed))) / directions.unit


def _locate(slopes: Slopes, directions: Directions, steps: Sequence[float], found: Directed) -> None:
    """Find the elements that differ: by array, by channel, by halves, with fresh directions at every level."""
    groups, whole = directions.everything().halves(), True
    while groups:
        found.levels += 1
        failing = _parting(slopes, directions, groups, steps, found)
        thin = whole and not failing  # no half by itself: an error that is spread
        # Which arrays are wrong is always told; which of many elements, is not.
        arrays = any(len(group.parts) > 1 for group in failing)
        if thin or (len(failing) > _CROWD and not arrays):
            _sample(slopes, directions, groups if thin else failing, steps, found)
            return
        small = [group for group in failing if len(group) <= _ONE]
        elements = [one for group in small for one in directions.elements(group)]
        found.suspects += singles(slopes, directions, elements, found)
        groups, whole = [half for group in failing if len(group) > _ONE for half in group.halves()], False


def _parting(
    slopes: Slopes, directions: Directions, groups: list[Group], steps: Sequence[float], found: Directed
) -> list[Group]:
    """Groups that part from the claimed gradient, at any of the steps."""
    failing: list[Group] = []
    for at in range(0, len(groups), directions.at_once):
        some = groups[at : at + directions.at_once]
        v = directions.of(some, found.rows + at)
        seen = slopes(v, steps).value
        with np.errstate(all="ignore"):
            parted = ~(np.abs(seen - directions.dot(v)) <= found.tau * directions.unit).all(axis=0)
        failing += [group for group, parts in zip(some, parted, strict=True) if parts]
    found.rows += len(steps) * len(groups)
    return failing


def singles(
    slopes: Slopes, directions: Directions, elements: list[tuple[int, int]], found: Directed, *, keep: bool = False
) -> list[Suspect]:
    """Differences of single elements; of those only that part, unless all are kept."""
    suspects = []
    for at in range(0, len(elements), directions.at_once):
        some = elements[at : at + directions.at_once]
        # To both sides: a jump may be on one.
        seen = slopes(directions.single(some), (STEP, -STEP)).value
        for (place, index), both in zip(some, seen.T, strict=True):
            analytic = float(directions.gradients[place].flat[index])
            numeric = max(both, key=lambda one: abs(one - analytic) if np.isfinite(one) else np.inf)
            weight = max(abs(analytic), directions.low)
            if keep or not abs(numeric - analytic) <= found.tau * weight:
                suspects.append(Suspect(place, index, float(numeric), analytic))
    found.rows += 2 * len(elements)
    return suspects


def _sample(
    slopes: Slopes, directions: Directions, groups: list[Group], steps: Sequence[float], found: Directed
) -> None:
    """Of a dense error: single elements of every failing group, and which groups these are; one in each example."""
    each = max(2, _SAMPLE // len(groups))
    elements = [one for group in groups[:_SAMPLE] for one in directions.telling(group, each, found.rows)]
    apart = directions.by_example(groups, _EXAMPLES)
    if apart:
        failing = _parting(slopes, directions, apart, steps, found)
        elements += _in_each(slopes, directions, failing, steps, found)
        if not failing:  # none by itself
            elements += [one for group in apart for one in directions.telling(group, 2, found.rows)]
        groups = failing or groups
    found.dense = groups
    found.suspects += singles(slopes, directions, list(dict.fromkeys(elements)), found, keep=True)


def _in_each(
    slopes: Slopes, directions: Directions, groups: list[Group], steps: Sequence[float], found: Directed
) -> list[tuple[int, int]]:
    """A few elements of each group, one of which parts: those of a half that parts, and so on."""
    elements: list[tuple[int, int]] = []
    while groups:
        elements += [one for group in groups if len(group) <= _FEW for one in directions.elements(group)]
        large = [group for group in groups if len(group) > _FEW]
        halves = [half for group in large for half in group.halves()]
        failing, groups = set(_parting(slopes, directions, halves, steps, found)), []
        for group in large:
            groups += [half for half in group.halves() if half in failing][:1]
            if not failing & {*group.halves()}:  # an error that is spread
                elements += directions.telling(group, 2, found.rows)
    return elements
