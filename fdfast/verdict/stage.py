"""A gradient judged at one point, on the elements that are free to move there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import JUMP, UNDEFINED
from fdfast.moves import Directions
from fdfast.tape import STEP, Point, Recorded
from fdfast.verdict.alone import APART, is_far, is_steep, no_slope, not_finite, shifted, values_apart
from fdfast.verdict.compare import AGREE, SINGULAR, UNRESOLVED, WRONG, cancellation
from fdfast.verdict.directions import STEPS, Directed, Suspect, look, singles
from fdfast.verdict.place import Place
from fdfast.verdict.rough import Rough, rough_among
from fdfast.verdict.terms import Terms
from fdfast.windows import slopes_at

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
#: The gradient under test at given arguments, for every place that was asked for.
Given = Callable[[Sequence[Array]], list[Float64]]

WEAK = 1e-3  # a chance of a miss above which nothing is said to agree
_NARROW = 2.0**-17  # of an element's share: what a kernel in float32 may be off by, 64 of its rounding units
_ROUNDS = 3  # looks, each without the elements that the last found to have no finite slope
_MOST = 16  # directions that are taken to come below it
_EACH = 4096  # elements that are differenced one by one where directions leave them open
_LOOKED = 32  # elements without a finite gradient that are differenced by themselves
_ASIDE = 8  # elements far off of which it is asked whether f has a slope there
_BYTES, _FEWEST, _ROWS = 1 << 25, 8, 64  # what moves together may take, of the widest value, and how many these are
_VALUES = 2.0**-17  # of the size of x: steps at which f itself is called, where its differences are no numbers


class Stage:
    """One point, the gradient under test there, and what was found out.

    Attributes
    ----------
    point : fdfast.tape.Point
    claimed : list of ndarray of float64
        Gradient under test, by place.
    free : list of ndarray of bool
        Elements that are judged here.
    directed : Directed
    codes : list of ndarray of int8
        Class of every element that is judged here.
    suspects : list of Suspect
        Elements that differ by more than the tolerance, then those that differ by less.
    rough : list of Rough
        Elements that differ by noise of f.
    blurred : bool
        Whether elements differ by what rounding behind a softmax may take.
    at_once : int
        Directions that are differenced in one call.
    """

    def __init__(
        self,
        recorded: Recorded,
        point: Point,
        places: Sequence[Place],
        given: Given | None,
        *,
        elsewhere: bool = True,
        jumps: bool = False,
        sharp: bool = False,
    ) -> None:
        self.point, self.places, self.recorded = point, list(places), recorded
        self._given, self._jumps = given, jumps
        self._blur = float(cancellation(np.array([point.value]), 2.0**-52)[0, 0]) if sharp else 0.0
        self._movable = elsewhere and bool(recorded.moving)  # an array has no value beside the point
        self.claimed = self.claims(point)
        each = max(point.widest, 8 * sum(g.size for g in self.claimed))
        self.at_once = min(_ROWS, max(_FEWEST, _BYTES // each))
        self.lost = [not_finite(g) for g in self.claimed]
        self.free = [np.ones(g.shape, bool) for g in self.claimed]
        self.directed = Directed(0, 0.0, 0.0)
        self.codes = [np.full(g.shape, AGREE, np.int8) for g in self.claimed]
        self.suspects: list[Suspect] = []
        self.rough: list[Rough] = []
        self.blurred = False
        self._broken: dict[tuple[int, int], tuple[Suspect, tuple[int, float]]] = {}

    @property
    def breaks(self) -> dict[tuple[int, int], tuple[int, float]]:
        """Place and index of an element without a finite slope: what keeps it from one (see `no_slope`)."""
        return {at: reason for at, (_, reason) in self._broken.items()}

    def hold_apart(self) -> None:
        """Find the elements along which f has another value at the point alone, of those that an == tells apart."""
        masks = self.point.equal([p.number for p in self.places])
        if 0 < sum(int(np.count_nonzero(mask)) for mask in masks.values()) <= _EACH:
            elements = [(i, int(k)) for i, p in enumerate(self.places) for k in np.flatnonzero(masks.get(p.number, ()))]
            self.directions = Directions([np.zeros(g.shape) for g in self.claimed], 0, None, self.at_once)
            found, left = values_apart(elements, self._slopes, self._switched, self.directions, self.claimed)
            self._broken |= found
            self._broken |= {(one.place, one.index): (one, why) for one, why in self._alone(left) if why[0] == APART}

    @property
    def few(self) -> bool:
        """Whether elements are so few that each may be differenced by itself."""
        return sum(g.size for g in self.claimed) <= _EACH

    def take_apart(self) -> tuple[list[Bool], float]:
        """Elements along which f has another value at the point alone, no longer held out; and its largest jump."""
        masks, largest = [np.zeros(g.shape, bool) for g in self.claimed], 0.0
        for at in [at for at, (_, (kind, _)) in self._broken.items() if kind == APART]:
            masks[at[0]].reshape(-1)[at[1]] = True
            largest = max(largest, self._broken.pop(at)[1][1])
        return masks, largest

    def claims(self, point: Point) -> list[Float64]:
        """The gradient under test at a point."""
        if self._given is not None:
            return self._given(point.arguments)
        gradients = point.gradients
        return [
            np.zeros(p.shape) if gradients.get(p.number) is None else np.asarray(gradients[p.number])
            for p in self.places
        ]

    def look(self, free: Sequence[Bool], count: int, terms: Terms) -> Directed:
        """Compare along random directions in the free elements; those without a finite slope are then held out."""
        self.free = list(free)
        for _ in range(_ROUNDS):
            self._look(count, terms)
            steep = [one for one in self.directed.suspects if is_steep(one)]
            steep += [one for one in self.directed.suspects if is_far(one) and not is_steep(one)][:_ASIDE]
            known = len(self._broken)
            for one, reason in self._alone([(one.place, one.index) for one in steep]):
                if reason[0]:
                    self._broken[one.place, one.index] = one, reason
            if len(self._broken) == known:
                break
        if self.directed.unruly:  # by noise, or by what is not known
            self.rough = rough_among(self._slopes, self.directions, self.directed.suspects, self._values)
            self.directed.suspects, self.directed.dense = [], []
        return self.directed

    def hold(self, free: Sequence[Bool], terms: Terms) -> bool:
        """Take directions in the free elements alone; returns whether there are any."""
        self.free = list(free)
        held = [~mask | bad for mask, bad in zip(self.free, self.lost, strict=True)]
        for place, index in self._broken:
            held[place].reshape(-1)[index] = True
        finite = [np.where(no, 0.0, g) if no.any() else g for g, no in zip(self.claimed, held, strict=True)]
        some = [no if no.any() else None for no in held]
        examples = [p.examples for p in self.places]
        self.directions = Directions(finite, terms.seed, some, self.at_once, examples)
        return not all(no.all() for no in held)

    def _look(self, count: int, terms: Terms) -> None:
        """By ever more directions while a miss is likely."""
        moving = self.hold(self.free, terms)
        self.directed = Directed(count, 0.0, 0.0)
        if not moving:
            return
        while True:
            beside = self._beside if self._movable else None
            rounded = sorted(set(self.recorded.rounded))
            floor = _NARROW * float(sum(g.size for g in self.claimed)) ** 0.5 if rounded else 0.0
            self.directed = look(
                self._slopes,
                self.directions,
                count,
                beside,
                jumps=self._jumps,
                floor=floor,
                rtol=0.0 if self._jumps else terms.rtol,
            )
            self.directed.rounded = rounded
            weak = self.directed.chance(terms.rtol) > WEAK
            if self.directed.alarm or self.directed.ties or not weak or 2 * count > _MOST:
                return
            count *= 2

    def _values(self, place: int) -> Array:
        """What stands at a place: an argument, or behind these a variable as it is now."""
        number, arguments = self.places[place].number, self.point.arguments
        if number < len(arguments):
            return arguments[number]
        return np.asarray(self.recorded.variables[number - len(arguments)].numpy())

    def _by_number(self, moved: Mapping[int, Float64]) -> dict[int, Float64]:
        return {self.places[i].number: v for i, v in moved.items()}

    def _slopes(self, moved: Mapping[int, Float64], steps: Sequence[float]) -> Any:
        return slopes_at(self.point, self._by_number(moved), steps)

    def _switched(self, moved: Mapping[int, Float64]) -> Bool:
        return self.point.switched(self._by_number(moved))

    def _beside(self, moved: Mapping[int, Float64], distance: float, turn: int) -> Float64:
        """D(v) - g.v at a point so far away."""
        moving, here = self.recorded.moving, enumerate(self.point.arguments)
        other = self.recorded.point([shifted(a, distance, turn) if i in moving else a for i, a in here])
        gradients = [np.where(bad, 0.0, g) for g, bad in zip(self.claims(other), self.lost, strict=True)]
        slopes: Float64 = slopes_at(other, self._by_number(moved), STEPS).value[0]
        return slopes - self.directions.dot(dict(moved), gradients)

    def hold_jumps(self, masks: Sequence[Bool], seed: int) -> None:
        """Find some of those elements along which f jumps or is not finite at the point; take them out of the masks.

        All are moved together, to one side and by random signs; where f jumps, by halves.
        """
        rng = np.random.default_rng(seed)
        ends = np.cumsum([0, *(mask.size for mask in masks)])
        waiting = [np.concatenate([start + np.flatnonzero(mask) for start, mask in zip(ends[:-1], masks, strict=True)])]
        found: list[tuple[int, int]] = []
        while waiting and len(found) < _ASIDE:
            group = waiting.pop()
            if not len(group) or not self._torn(group, ends, rng):
                continue
            if len(group) > 1:
                waiting += [group[len(group) // 2 :], group[: len(group) // 2]]
                continue
            place = int(np.searchsorted(ends, group[0], side="right")) - 1
            found.append((place, int(group[0] - ends[place])))
        for one, reason in self._alone(found):
            if reason[0]:
                self._broken[one.place, one.index] = one, reason
                masks[one.place].reshape(-1)[one.index] = False

    def _torn(self, group: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], rng: np.random.Generator) -> bool:
        """Whether f jumps along some elements, numbered through all places, or is not finite beside the point."""
        moved = {}
        signs = np.stack([np.ones(len(group)), rng.choice([-1.0, 1.0], len(group))])
        for place, p in enumerate(self.places):
            mine = (group >= ends[place]) & (group < ends[place + 1])
            if mine.any():
                v = np.zeros((2, int(np.prod(p.shape))))
                v[:, group[mine] - ends[place]] = signs[:, mine]
                moved[place] = v.reshape(2, *p.shape)
        both = self._slopes(moved, (STEP, STEP / 16, -STEP, -STEP / 16)).value
        return any(no_slope(column, STEP)[0] in (JUMP, UNDEFINED) for column in both.T)

    def decide(self, terms: Terms) -> None:
        """Give every free element its class."""
        directed = self.directed
        if directed.alarm and not directed.suspects:  # nothing stands out of it
            directed.tau = 8 * directed.excess if np.isfinite(directed.excess) else np.inf
        # What stands out of rounding has been found one by one, so that the others agree; of float32's not all does.
        found = bool(directed.alarm and directed.suspects and not directed.rounded)
        wrong, lost, small = self._sorted(directed.suspects, terms)
        if directed.dense and not wrong:
            # All of a sample are within tolerance: a lone error would have to stand out of what all add up to.
            directed.tau, found = max(directed.tau, 8 * directed.excess), False
        weak = not found and directed.chance(terms.rtol) > WEAK
        if weak and not (directed.ties or directed.unruly or directed.rounded) and self.few:
            self.take_each()
            weak, (wrong, lost, small) = False, self._sorted(directed.suspects, terms)
        start = UNRESOLVED if directed.ties or weak else AGREE
        self.codes = [np.full(g.shape, start, np.int8) for g in self.claimed]
        if wrong or lost:
            self._open_dense()
        noisy: list[Suspect] = []
        if wrong:
            self.rough = rough_among(self._slopes, self.directions, wrong, self._values)
            noisy = [one.suspect for one in self.rough]
            wrong = [one for one in wrong if one not in noisy]
        for code, some in ((WRONG, wrong), (UNRESOLVED, noisy + lost), (AGREE, small)):
            for one in some:
                self.codes[one.place].reshape(-1)[one.index] = code
        self.blurred, self.suspects = bool(lost), wrong + lost + small
        self._decide_lost()
        for (place, index), (one, _) in self._broken.items():
            self.codes[place].reshape(-1)[index] = SINGULAR
            self.suspects.append(one)

    def take_each(self) -> None:
        """Difference every element by itself: rounding of the gradient does not add up then."""
        elements = self.directions.elements(self.directions.everything())
        self.directed.suspects = singles(self._slopes, self.directions, elements, self.directed, keep=True)
        self.directed.dense, self.directed.each = [], True

    def _sorted(self, suspects: Sequence[Suspect], terms: Terms) -> tuple[list[Suspect], list[Suspect], list[Suspect]]:
        """Suspects beyond the tolerance; beyond it by rounding behind a softmax; and within, or that rounding is."""
        if not suspects:
            return [], [], []
        finite = [np.abs(g[np.isfinite(g)]) for g in self.claimed]
        largest = max((float(g.max(initial=0.0)) for g in finite), default=0.0)
        eps = 2.0**-23 if self.directed.rounded else 2.0**-52
        floor = 64 * eps * largest if terms.floor is None else terms.floor
        blur, width = self._blur * largest, terms.rtol / 100 * largest if terms.floor is None else terms.floor
        wrong, lost, small = list[Suspect](), list[Suspect](), list[Suspect]()
        for one in suspects:
            gap = abs(one.numeric - one.analytic)
            allowed = terms.rtol * max(abs(one.numeric), abs(one.analytic)) + floor
            near = gap <= allowed + blur
            (small if gap <= allowed or (near and blur <= width) else lost if near else wrong).append(one)
        return wrong, lost, small

    def _open_dense(self) -> None:
        """What lies in a dense group and was not differenced by itself is not known."""
        for group in self.directed.dense:
            for place, start, stop in group.parts:
                codes = self.codes[place]
                in_order = codes if codes.ndim < 2 else np.moveaxis(codes, -1, 0)
                in_order.flat[start:stop] = UNRESOLVED  # groups are in this order

    def _decide_lost(self) -> None:
        """Elements whose gradient is no number: wrong, unless f has no finite slope there itself."""
        where = [(place, int(i)) for place, bad in enumerate(self.lost) for i in np.flatnonzero(bad & self.free[place])]
        if not where:
            return
        looked = self._alone(where[:: -(-len(where) // _LOOKED)])
        classes = {SINGULAR if reason[0] else WRONG for _, reason in looked}
        for place, i in where:
            self.codes[place].reshape(-1)[i] = next(iter(classes)) if len(classes) == 1 else UNRESOLVED
        for one, reason in looked:
            if reason[0]:
                self._broken[one.place, one.index] = one, reason
            else:
                self.codes[one.place].reshape(-1)[one.index] = WRONG
                self.suspects.append(one)

    def _alone(self, elements: list[tuple[int, int]]) -> list[tuple[Suspect, tuple[int, float]]]:
        """Differences of single elements, and what keeps f from having a slope there: how D(h) / h goes with h."""
        looked = []
        for at in range(0, len(elements), self.at_once):
            some, steps = elements[at : at + self.at_once], np.array([STEP, STEP / 16, -STEP, -STEP / 16])
            slopes = self._slopes(self.directions.single(some), tuple(steps))
            found, equal = slopes.value, slopes.equal.all(axis=0)
            for k, (place, index) in enumerate(some):
                both, size = found[:, k], steps
                if not np.isfinite(both).all() and self.places[place].number < len(self.point.arguments):
                    both, size = self._by_values(place, index)
                analytic = float(self.claimed[place].flat[index])
                reason = no_slope(both, float(size[0]), equal=bool(equal[k]))
                looked.append((Suspect(place, index, float(both[0]), analytic), reason))
        return looked

    def _by_values(self, place: int, index: int) -> tuple[Float64, Float64]:
        """Differences of f itself at longer steps: where a part of f is no number at x, those of the tape are none."""
        number = self.places[place].number
        x = self.point.arguments[number]
        steps = _VALUES * (float(np.abs(x).max()) or 1.0) * np.array([1, 1 / 16, -1, -1 / 16])
        found = []
        for step in steps:
            moved = x.copy()
            moved.reshape(-1)[index] += step
            there = self.recorded.point([moved if i == number else a for i, a in enumerate(self.point.arguments)])
            change, noise = there.value - self.point.value, 64 * 2.0**-52 * abs(self.point.value)
            found.append((0.0 if abs(change) <= noise else change) / (moved.flat[index] - x.flat[index]))
        return np.array(found), steps
