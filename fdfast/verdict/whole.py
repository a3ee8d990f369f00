"""The verdict on a gradient as a whole: at x where no kink is, for what sits on one at a generic point near x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.tape import Point, Recorded
from fdfast.verdict.compare import AGREE, KINKED, UNRESOLVED, WRONG
from fdfast.verdict.directions import TIED, Directed, Suspect
from fdfast.verdict.faint import joined, judge_faint
from fdfast.verdict.generic import near_by
from fdfast.verdict.parted import smooth_alone
from fdfast.verdict.place import Place
from fdfast.verdict.rough import Rough
from fdfast.verdict.stage import Given, Stage
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
_ROUNDS = 3  # points near x that are tried
_CHOICE = 4  # times the tolerance


class Allowed(NamedTuple):
    """Relative and absolute error that an array was allowed; its largest relative one within; whether it is float32."""

    rtol: float
    floor: float
    gap: float
    narrow: bool


@dataclass(eq=False)
class Whole:
    """What was found out about a gradient as a whole.

    Attributes
    ----------
    value : float
        f at x.
    places : list of Place
    analytic : list of ndarray of float64
        Gradient under test at x.
    claimed : list of ndarray of float64
        The same where each element was judged.
    codes : list of ndarray of int8
        Class of every element.
    near : list of ndarray of bool
        Elements that sit on a kink at x, and were judged near it if they were judged.
    directed : Directed
    suspects : list of Suspect
        Elements that were differenced by themselves: those that differ by more than the tolerance first.
    ties : list of str
        Layers or operations that tie at x.
    lost : list of ndarray of bool
        Elements whose gradient under test is not finite.
    blank : list of int
        Places whose derivatives are all exactly zero on both sides.
    breaks : dict of (int, int) to (int, float)
        See `Stage`.
    judged_near : bool
        Whether the elements on a kink were judged at all.
    point : fdfast.tape.Point
        Where something is wrong, if anything is.
    rough : list of Rough
        Elements right at which f is noise.
    apart : list of ndarray of bool
        Elements at which f has another value at x alone, and that were judged near it.
    jump : float
        By how much, at most.
    branch : list of ndarray of bool
        Elements along which kinks cancel at x, where the gradient under test has another branch.
    blurred : list of str
        Parts of f whose gradient rounds so much that nothing can be said.
    allowed : Allowed, optional
        Where the elements of an array were compared one by one.
    """

    value: float
    places: list[Place]
    analytic: list[Float64]
    claimed: list[Float64]
    codes: list[npt.NDArray[np.int8]]
    near: list[Bool]
    directed: Directed
    suspects: list[Suspect]
    ties: list[str]
    lost: list[Bool]
    blank: list[int]
    breaks: dict[tuple[int, int], tuple[int, float]]
    judged_near: bool
    point: Point
    rough: list[Rough]
    apart: list[Bool]
    jump: float
    branch: list[Bool] = field(default_factory=list)
    allowed: Allowed | None = None
    blurred: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Number of wrong elements."""
        return sum(int(np.count_nonzero(mask)) for mask in self.accused)

    @property
    def accused(self) -> list[Bool]:
        """Which elements are wrong, by place."""
        return [codes == WRONG for codes in self.codes]


def judge_whole(
    recorded: Recorded,
    arguments: Sequence[npt.NDArray[Any]],
    batched: bool,
    places: Sequence[Place],
    terms: Terms,
    count: int,
    given: Given | None,
    *,
    elsewhere: bool = True,
    layer_of: Callable[[str], str] = str,
    jumps: bool = False,
    sharp: bool = False,
) -> Whole:
    """Judge the gradient of a recorded function for some of its arguments and variables.

    Parameters
    ----------
    recorded : Recorded
    arguments : sequence of ndarray
        x, flat.
    batched : bool
        Whether arguments have a leading axis of examples.
    places : sequence of Place
    terms : Terms
    count : int
        Number of directions.
    given : callable or None
        The gradient under test; None for autodiff.
    elsewhere : bool
        Whether the gradient under test has a value near x, too.
    layer_of : callable
        Name of the layer that an operation of that name belongs to.
    jumps : bool
        Whether the function jumps where units tie, as a gradient does: then nothing is judged at a point where they do.
    sharp : bool
        Whether it is a softmax cross-entropy, of whose gradient cancellation takes digits, see `cancellation`.
    """
    here = recorded.point(arguments)
    value = here.value
    if not np.isfinite(value):
        raise ValueError(
            f"f(x) is {value}: the loss must be finite at x itself; look for log(0), 0/0 or overflow in the model"
        )
    first = Stage(recorded, here, places, given, elsewhere=elsewhere, jumps=jumps, sharp=sharp)
    everything = [np.ones(p.shape, bool) for p in places]
    first.hold_apart()
    ties = list(dict.fromkeys(layer_of(name) for name, _ in first.look(everything, count, terms).ties))
    near = [~mask for mask in everything]
    if ties:
        if not jumps:
            kinked = here.kinked([p.number for p in places], terms.seed, TIED * terms.rtol)
            near = [kinked.get(p.number, no) & ~bad for p, no, bad in zip(places, near, first.lost, strict=True)]
        if jumps or first.look([~mask for mask in near], count, terms).ties:
            near = [~bad for bad in first.lost]
            first.look(first.lost, count, terms)
        if not jumps:
            first.hold_jumps(near, terms.seed)
    alone: list[Bool] = []
    branch: list[Bool] = []
    if ties and not jumps:
        alone, branch = smooth_alone(here, places, near, first.claimed, terms, first.at_once)
    if alone:
        near = [mask & ~one for mask, one in zip(near, alone, strict=True)]
    apart, jump = [np.zeros_like(mask) for mask in near], 0.0
    if terms.jitter is not None and elsewhere:
        apart, jump = first.take_apart()
        near = [a | b for a, b in zip(near, apart, strict=True)]
    first.decide(terms)
    if not sharp:  # the softmax of a faint example leaves autodiff few digits
        judge_faint(first, places, count, terms, elsewhere=elsewhere)
    for codes, one in zip(first.codes, alone, strict=False):  # empty where nobody looked
        codes[one] = AGREE
    second = None
    if any(mask.any() for mask in near) and terms.jitter is not None and elsewhere:
        for turn in range(_ROUNDS):
            moved = near_by(arguments, recorded.moving, terms, turn, batched=batched)
            second = Stage(recorded, recorded.point(moved), places, given, jumps=jumps, sharp=sharp)
            if not second.look(near, count, terms).ties:
                break
        if second is not None:
            if second.directed.ties and not jumps:
                _take_saturated(second, near, terms)
            second.decide(terms)
    found = _both(value, first, second, near, ties, apart, jump)
    for codes, mask, one in zip(found.codes, found.near, branch, strict=False):
        codes[one & (codes == AGREE)] = KINKED
        mask &= ~one
    return replace(found, branch=branch)


def _take_saturated(stage: Stage, free: Sequence[Bool], terms: Terms) -> None:
    """Difference elements one by one where units tie at every point: cells of a pool that are saturated alike.

    Only those whose slopes this parts by less than half of the tolerance. What is off by up to some times of that may
    still be another choice among the cells.
    """
    if not stage.few:
        return
    tied = stage.point.kinked([p.number for p in stage.places], terms.seed, terms.rtol / 2)
    if not stage.hold([mask & ~tied.get(p.number, ~mask) for mask, p in zip(free, stage.places, strict=True)], terms):
        return
    stage.take_each()

    def gap(one: Suspect) -> float:
        return abs(one.numeric - one.analytic) / max(abs(one.numeric), abs(one.analytic), 1e-300)

    suspects = stage.directed.suspects
    stage.directed.suspects = [one for one in suspects if not terms.rtol < gap(one) <= _CHOICE * terms.rtol]


def linear_agrees(found: Whole, slopes: Sequence[bool]) -> None:
    """Count zeros on both sides as agreement at places where f has a slope: of second order, f is linear in them.

    Parameters
    ----------
    found : Whole
        Of the second order; changed.
    slopes : sequence of bool
        For each place, whether the gradient of f is other than zero.
    """
    for i in [i for i in found.blank if slopes[i] and not (found.directed.alarm or found.directed.ties)]:
        found.codes[i] = np.where(found.near[i] & ~np.bool_(found.judged_near), KINKED, AGREE).astype(np.int8)
        found.blank.remove(i)


def _both(
    value: float,
    first: Stage,
    second: Stage | None,
    near: list[Bool],
    ties: list[str],
    apart: list[Bool],
    jump: float,
) -> Whole:
    """What was found at x and, for what sits on a kink, near it."""
    codes = [
        np.where(mask, np.int8(KINKED), one) if mask.any() else one for one, mask in zip(first.codes, near, strict=True)
    ]
    claimed, directed, suspects, breaks, lost = (
        first.claimed,
        first.directed,
        first.suspects,
        first.breaks,
        first.lost,
    )
    stages = [first] if second is None else [first, second]
    if second is not None:
        codes = [np.where(mask, b, a) for a, b, mask in zip(codes, second.codes, near, strict=True)]
        claimed = [np.where(mask, b, a) for a, b, mask in zip(claimed, second.claimed, near, strict=True)]
        lost = [np.where(mask, b, a) for a, b, mask in zip(lost, second.lost, near, strict=True)]
        suspects, breaks = suspects + second.suspects, breaks | second.breaks
        directed = _joined(first, second)
    blank = [
        i
        for i, g in enumerate(claimed)
        if g.size and not g.any() and not any(one.place == i and one.numeric for one in suspects)
    ]
    for i in blank:
        codes[i] = np.full(codes[i].shape, UNRESOLVED, np.int8)
    directed.apart = sum(int(np.count_nonzero(mask)) for mask in apart)
    guilty = next((one for one in stages if any((c == WRONG).any() for c in one.codes)), stages[-1])
    codes = [one.astype(np.int8, copy=False) for one in codes]
    rank = {(one.place, one.index): codes[one.place].flat[one.index] == WRONG for one in suspects}
    suspects = sorted(suspects, key=lambda one: not rank[one.place, one.index])
    return Whole(
        value,
        first.places,
        first.claimed,
        claimed,
        codes,
        near,
        directed,
        suspects,
        ties,
        lost,
        blank,
        breaks,
        second is not None,
        guilty.point,
        [rough for one in stages for rough in one.rough],
        apart,
        jump,
        blurred=["the softmax cross-entropy"] if any(one.blurred for one in stages) else [],
    )


def _joined(first: Stage, second: Stage) -> Directed:
    a, b = first.directed, second.directed
    if all(not mask.any() for mask in first.free):
        return b
    if b.ties:  # near x nothing was judged
        return replace(a, ties=b.ties, rows=a.rows + b.rows)
    return joined(a, b)
