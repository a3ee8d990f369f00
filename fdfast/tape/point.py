"""A recorded function at one point: its value, gradients and slopes there, by graphs where there are any."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.operations import Notes
from fdfast.tape.again import moved_to, push, replay
from fdfast.tape.graphs import (
    Met,
    equal,
    equal_graph,
    evened,
    finite_graph,
    finite_here,
    sides,
    sides_graph,
    slopes_graph,
    slopes_of,
    switched,
    switched_graph,
    values_graph,
)
from fdfast.tape.recorder import lifted
from fdfast.tape.rounding import Rounding
from fdfast.tape.tape import STEP, Slopes, Tape
from fdfast.tape.traced import Traced, shared, view

if TYPE_CHECKING:
    from fdfast.tape.recorded import Recorded

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
#: How much gradients to both sides may round, and what of them is of second order in the step.
_SAME, _SECOND = 1e-13, 2.0**-60
#: Random directions that show no further kink before there is none, and how many are drawn at most.
_QUIET, _DRAWS = 2, 32
#: What it may cost to go without a graph of differences, in what it may of values (see `Recorded.compiled`): a rule is
#: several operations; of few rows, which save most by a graph, of many, and of functions that are too long.
_PUSHING_FEW, _PUSHING_MANY, _PUSHING_LONG = 3.0, 6.0, 15.0
#: Rows beyond which a graph saves little beside what they take; operations beyond which one by one they take long, and
#: beyond which a graph of differences takes seconds to make.
_MANY, LONG, _TOO_LONG = 16, 400, 1000


class Point:
    """A recorded function at one point."""

    def __init__(self, recorded: Recorded, arguments: list[Array]) -> None:
        self.recorded = recorded
        self.arguments = arguments

    @cached_property
    def _tensors(self) -> list[Any]:
        return [tf.constant(one) for one in self.arguments]

    @property
    def lifted(self) -> list[Any]:
        """Tensors of the arguments, in float64."""
        return [lifted(one) for one in self._tensors]

    @property
    def is_recorded(self) -> bool:
        """Whether its tape is there."""
        return "tape" in self.__dict__

    @cached_property
    def tape(self) -> Tape:
        """The function recorded here: by the operations of an earlier recording if f goes the same way."""
        start, whole = time.perf_counter(), self.recorded
        found = None if whole.latest is None else moved_to(whole.latest, self.lifted)
        found = whole.recorder(self.arguments) if found is None else found
        found.twins = whole.twins
        whole.latest, whole.rounded = found, found.rounded
        whole.took(time.perf_counter() - start)
        return found

    @cached_property
    def values(self) -> tuple[float, list[Float64 | None]]:
        """Value and gradients, of arguments and then of variables; None for what is not connected."""
        whole = self.recorded
        if not self.is_recorded:
            made = whole.compiled("values", lambda tape: values_graph(tape, self.arguments))
            if made is not None:
                *found, holds = made(*self._tensors)
                if bool(holds):
                    return self._unpacked(found)
                whole.forget()
        tape = self.tape
        return self._unpacked([tape.values[number] for number in tape.outputs])

    @property
    def value(self) -> float:
        """The function's value."""
        return self.values[0]

    @cached_property
    def gradients(self) -> dict[int, Float64]:
        """Gradients of arguments, and behind these of variables, by place; without those that are not connected."""
        whole = self.recorded
        places = [*whole.moving, *range(len(self.arguments), len(self.arguments) + len(whole.variables))]
        found = zip(places, self.values[1], strict=True)
        return {place: np.asarray(g, np.float64) for place, g in found if g is not None}

    @property
    def widest(self) -> int:
        """Bytes of the largest value, in float64."""
        return (self.recorded.latest or self.tape).widest

    @property
    def volume(self) -> int:
        """Bytes of all values together, in float64."""
        return (self.recorded.latest or self.tape).volume

    @cached_property
    def finite(self) -> tuple[bool, bool]:
        """See `fdfast.tape.graphs.finite`."""
        if self.is_recorded:
            found = finite_here(self.tape)
        else:
            (found,) = self._either(
                ("finite",), lambda tape: finite_graph(tape, self.arguments), [], lambda tape: [finite_here(tape)]
            )
        all_, but_within = map(bool, found)
        return all_, but_within

    def gradients_rounded(self, seed: int) -> dict[int, Float64]:
        """Gradients by place, with every rounded number on the way off by at most a unit in its last place, at random.

        What they differ by from those without is what rounding makes of them (see `Rounding`).
        """
        tape = self.tape
        found = replay(tape, {n: tape.values[n] for n in tape.inputs}, tape.outputs, Rounding(seed))
        numbers = self.recorded.gradient_numbers(tape, len(self.arguments))
        return {place: np.asarray(found.get(n, tape.values[n]), np.float64) for place, n in numbers.items()}

    def _unpacked(self, found: Sequence[Any]) -> tuple[float, list[Float64 | None]]:
        value, *gradients = map(view, found)
        rest = iter(gradients)
        return float(value), [next(rest) if connected else None for connected in self.recorded.connected]

    def slopes(self, moved: Mapping[int, Array], steps: Sequence[float]) -> Slopes:
        """Differences of the value for every step along every direction, divided by the step.

        Parameters
        ----------
        moved : dict of int to ndarray
            For some arguments, and behind these variables, by place: their part of every direction, shape
            (directions, *shape).
        steps : sequence of float
        """
        places = tuple(sorted(moved))
        given = [np.asarray(moved[place], np.float64) for place in places]
        found = self._compiled(places, given, steps)
        if found is None:
            start = time.perf_counter()
            found = self._exactly(places, given, steps)
            smooth, kinked = (_key(places, len(evened(given[0])), steps, branches=b) for b in (False, True))
            # Where nothing kinks, and yet the graph of what is smooth was not right, the other one is.
            key = kinked if found.ties or found.crossings or self.recorded.has(smooth) else smooth
            self.recorded.spend(key, time.perf_counter() - start)
        return found

    def _compiled(self, places: tuple[int, ...], given: list[Array], steps: Sequence[float]) -> Slopes | None:
        """Without recording, where there is a graph that is right here: first one that takes every unit for smooth."""
        whole, rows = self.recorded, [evened(one) for one in given]
        for branches in (False, True):

            def make(tape: Tape, branches: bool = branches) -> tuple[Traced, Met]:
                numbers, met = [whole.number(tape, place) for place in places], Met()
                return slopes_graph(tape, self.arguments, numbers, len(rows[0]), steps, met, branches=branches), met

            effort = effort_of(len(whole.latest.entries) if whole.latest else 0, len(steps) * len(rows[0]))
            made = whole.compiled(_key(places, len(rows[0]), steps, branches=branches), make, effort)
            if made is not None:
                graph, met = made
                value, masks, holds = graph(*self._tensors, *map(shared, rows))
                if bool(holds):
                    seen = [(number, *both) for number, both in zip(met.numbers, masks.numpy(), strict=True)]
                    return slopes_of(whole.latest or self.tape, value.numpy(), seen, met.subtracted, len(given[0]))
        return None

    def equal(self, places: Sequence[int]) -> dict[int, npt.NDArray[np.bool_]]:
        """Elements that move equal numbers apart which f compares by ==, by place; of places where there are any."""
        whole = self.recorded
        known = whole.latest or self.tape
        if not known.compared:
            return {}
        read = [place for place in places if whole.number(known, place) is not None]

        def of(tape: Tape) -> list[int]:
            return self._numbers(tape, read)

        found = self._either(
            ("equal", tuple(places)),
            lambda tape: equal_graph(tape, self.arguments, of(tape)),
            [],
            lambda tape: equal(tape, dict(enumerate(tape.values)), of(tape)),
            soon=True,
        )
        masks = {place: one.numpy() != 0 for place, one in zip(read, found, strict=True)}
        return {place: mask for place, mask in masks.items() if mask.any()}

    def switched(self, moved: Mapping[int, Array]) -> npt.NDArray[np.bool_]:
        """What directions decide otherwise, by way of comparisons by ==: shape (directions, decisions of the tape)."""
        read = [
            place
            for place in sorted(moved)
            if self.recorded.number(self.recorded.latest or self.tape, place) is not None
        ]
        rows = [evened(np.asarray(moved[place], np.float64)) for place in read]
        directions = len(next(iter(moved.values())))
        many = len(evened(np.zeros(directions)))

        def by_steps(tape: Tape) -> list[Any]:
            steps = [tf.constant(STEP * one) for one in rows]
            return [switched(tape, dict(zip(self._numbers(tape, read), steps, strict=True)), many)]

        (found,) = self._either(
            ("switched", tuple(read), many),
            lambda tape: switched_graph(tape, self.arguments, self._numbers(tape, read), many),
            rows,
            by_steps,
            soon=True,
        )
        decided: npt.NDArray[np.bool_] = found.numpy()[:directions]
        return decided

    def kinked(self, places: Sequence[int], seed: int = 0, share: float = 0.0) -> dict[int, npt.NDArray[np.bool_]]:
        """Elements along which the slopes to both sides differ at the point by more than a share, by place.

        The value's difference D(v) is piecewise linear in v. What its gradient at v and that at -v do not share passes
        a unit that sits on a kink, whose two sides v and -v take; of random v in what is not known to be on one yet:
        of many equal cells each v tells the largest and the least.
        """
        whole, rng = self.recorded, np.random.default_rng(seed)
        known = whole.latest or self.tape
        numbers = {place: n for place in places if (n := whole.number(known, place)) is not None}
        masks = {place: np.zeros(known.values[n].shape, bool) for place, n in numbers.items()}
        quiet = 0
        for _ in range(_DRAWS):
            if quiet == _QUIET:
                break
            drawn = [np.where(mask, 0.0, rng.normal(size=mask.shape)) for mask in masks.values()]
            found = dict(zip(masks, self._sides(tuple(masks), [np.stack([v, -v]) for v in drawn]), strict=True))
            sizes = {place: float(np.abs(one).max(initial=0.0)) for place, one in found.items()}
            least = max(_SECOND * max(sizes.values(), default=0.0), 1e-300)
            quiet += 1
            for place, (right, left) in found.items():
                least_here = share * np.maximum(np.abs(right), np.abs(left))
                parted = np.abs(right - left) > np.maximum(max(_SAME * sizes[place], least), least_here)
                quiet = 0 if np.any(parted & ~masks[place]) else quiet
                masks[place] = masks[place] | parted
        return masks

    def _sides(self, places: tuple[int, ...], moves: Sequence[Array]) -> list[Array]:
        """See `fdfast.tape.graphs.sides`."""

        def recorded(tape: Tape) -> list[Any]:
            return sides(tape, dict(zip(self._numbers(tape, places), map(tf.constant, moves), strict=True)))

        found = self._either(
            ("sides", places),
            lambda tape: sides_graph(tape, self.arguments, self._numbers(tape, places)),
            moves,
            recorded,
        )
        return [one.numpy() for one in found]

    def _numbers(self, tape: Tape, places: Sequence[int]) -> list[int]:
        """Numbers on a tape of places that are read."""
        return [number for place in places if (number := self.recorded.number(tape, place)) is not None]

    def _either(
        self,
        key: Any,
        make: Callable[[Tape], Traced],
        given: Sequence[Array],
        recorded: Callable[[Tape], list[Any]],
        *,
        soon: bool = False,
    ) -> list[Any]:
        """By a graph of more inputs, if there is one and it is right here, or on the tape recorded here.

        A graph of a few operations is made `soon`: sooner than the whole is recorded here.
        """
        if soon and not self.is_recorded:
            self.recorded.spend(key, math.inf)
        made = self.recorded.compiled(key, make)
        if made is not None:
            found: list[Any] = list(made(*self._tensors, *map(shared, given)))
            if bool(found.pop()):  # whether it is right here
                return found
        tape, start = self.tape, time.perf_counter()
        eagerly = recorded(tape)
        self.recorded.spend(key, time.perf_counter() - start)
        return eagerly

    def _exactly(self, places: tuple[int, ...], given: list[Array], steps: Sequence[float]) -> Slopes:
        """Eagerly, with every kink seen."""
        tape, notes = self.tape, Notes()
        count = len(steps) * len(given[0])
        d = {}
        for place, one in zip(places, given, strict=True):
            number = self.recorded.number(tape, place)
            if number is not None:
                d[number] = tf.constant(np.concatenate([step * one for step in steps]))
        moved, *_ = push(tape, d, count, tape.deciding, notes=notes)
        found = np.zeros(count) if moved is None else np.reshape(moved.numpy(), count)
        value = found.reshape(len(steps), -1) / np.reshape(steps, (-1, 1))
        return slopes_of(tape, value, notes.branches, notes.subtracted, len(given[0]))


def effort_of(operations: int, rows: int) -> float:
    """What it may cost to go without a graph of differences, see `Recorded.compiled`."""
    if operations >= _TOO_LONG:
        return _PUSHING_LONG
    return _PUSHING_MANY if rows > _MANY else _PUSHING_FEW


def _key(places: tuple[int, ...], directions: int, steps: Sequence[float], *, branches: bool) -> tuple[Any, ...]:
    """Of a graph of differences."""
    return places, directions, tuple(steps), branches
