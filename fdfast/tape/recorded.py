"""A function with its gradient, recorded: values and slopes at any point, eagerly at first, compiled once that pays."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.operations import Notes
from fdfast.tape.again import guards_hold, push, replay
from fdfast.tape.precision import narrowest
from fdfast.tape.recorder import Recorder, lifted
from fdfast.tape.routes import is_steady
from fdfast.tape.tape import STEP, Slopes, Tape
from fdfast.tape.traced import Traced

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
#: What it takes to make a graph, in recordings: both are Python, operation by operation. And the seconds that a warm
#: recording takes for an operation at most: the first one in a process may take far longer.
_MAKING, _WARM = 4.0, 5e-4
#: How much gradients to both sides may round, and what of them is of second order in the step.
_SAME, _SECOND = 1e-13, 2.0**-60
#: Random directions that show no further kink before there is none, and how many are drawn at most.
_QUIET, _DRAWS = 2, 32


class Recorded:
    """Value, gradient and differences of one traced function, all in float64.

    Parameters
    ----------
    concrete : ConcreteFunction
        Returns (value, [gradients]), None for a gradient that is not connected; see `fdfast.functions.Flat.trace`.
    moving : sequence of int
        Arguments that may move, in the order of their gradients.
    variables : sequence of tf.Variable
        What may move besides, in the order of their gradients, which come next.
    """

    def __init__(self, concrete: Any, moving: Sequence[int], variables: Sequence[Any] = ()) -> None:
        self.recorder = Recorder(concrete)
        self.moving, self.variables = list(moving), list(variables)
        #: The narrowest dtype that it computes in.
        self.narrow = narrowest(concrete.graph)
        #: Whether it has been seen that this is the function.
        self.trusted = False
        self.connected = [g is not None for g in concrete.structured_outputs[1]]
        self._spent: dict[Any, float] = {}
        self._recording = math.inf  # seconds, at its quickest
        self._compiled: dict[Any, Traced] = {}
        self.latest: Tape | None = None
        #: Kinds of operations that ran in less than float64 when it was last recorded, for want of a kernel.
        self.rounded: list[str] = []
        #: Functions of NumPy that became TensorFlow's own in it.
        self.numpy_calls: list[str] = []
        #: What is to be said of f as it was traced.
        self.notes: list[str] = []
        #: What `fdfast.windows` has made of it, or why it could not.
        self.windows: Any = None
        #: Kinds without a rule, by what moves in how many directions.
        self.subtracted: dict[Any, list[str]] = {}

    def point(self, arguments: Sequence[Array]) -> Point:
        """The function at a point; variables are read as they are when something is asked of it."""
        return Point(self, [np.asarray(a) for a in arguments])

    def number(self, tape: Tape, place: int) -> int | None:
        """Number on a tape of an argument, or behind these of a variable; None for one that is not read."""
        return tape.number(place, self.variables)

    def gradient_numbers(self, tape: Tape, arguments: int) -> dict[int, int]:
        """Numbers on a tape of the gradients that are connected, by place; `arguments` is how many there are."""
        places = [*self.moving, *range(arguments, arguments + len(self.variables))]
        numbers = iter(tape.outputs[1:])
        return {place: next(numbers) for place, there in zip(places, self.connected, strict=True) if there}

    def shape(self, arguments: Sequence[Array], place: int) -> tuple[int, ...]:
        """Shape of an argument, or behind these of a variable."""
        if place < len(arguments):
            return tuple(arguments[place].shape)
        return tuple(self.variables[place - len(arguments)].shape)

    def compiled(self, key: Any, make: Any) -> Traced | None:
        """A graph for what is asked for, once it has cost as much without one as it takes to make one; else None."""
        if is_steady():
            return None
        if key not in self._compiled:
            if self.latest is None:
                return None
            recording = min(self._recording, _WARM * len(self.latest.entries))
            if self._spent.get(key, 0.0) < _MAKING * recording:
                return None
            self._compiled[key] = make(self.latest)
        return self._compiled[key]

    def spend(self, key: Any, seconds: float) -> None:
        """Count time that went into what a graph would do."""
        self._spent[key] = self._spent.get(key, 0.0) + seconds

    def took(self, seconds: float) -> None:
        """Count a recording."""
        self._recording = min(self._recording, seconds)
        self.spend("values", seconds)

    def forget(self) -> None:
        """Drop the graphs: the control flow goes another way now."""
        self._compiled.clear()
        self._spent.clear()
        self.latest = None


class Point:
    """A recorded function at one point."""

    def __init__(self, recorded: Recorded, arguments: list[Array]) -> None:
        self.recorded = recorded
        self.arguments = arguments

    @cached_property
    def _tensors(self) -> list[Any]:
        return [tf.constant(one) for one in self.arguments]

    @cached_property
    def tape(self) -> Tape:
        """The function recorded here."""
        start = time.perf_counter()
        found = self.recorded.recorder(self.arguments)
        self.recorded.latest, self.recorded.rounded = found, found.rounded
        self.recorded.took(time.perf_counter() - start)
        return found

    @cached_property
    def values(self) -> tuple[float, list[Float64 | None]]:
        """Value and gradients, of arguments and then of variables; None for what is not connected."""
        whole = self.recorded
        if "tape" not in self.__dict__:
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

    def _unpacked(self, found: Sequence[Any]) -> tuple[float, list[Float64 | None]]:
        value, *gradients = (one.numpy() for one in found)
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
        whole, places = self.recorded, tuple(sorted(moved))
        directions = len(moved[places[0]])
        given = [np.asarray(moved[place], np.float64) for place in places]
        if "tape" not in self.__dict__:
            key = (places, directions, tuple(steps))
            made = whole.compiled(key, lambda tape: self._slopes_graph(tape, places, directions, steps))
            if made is not None:
                found, holds = made(*self._tensors, *map(tf.constant, given))
                if bool(holds):
                    subtracted, nowhere = whole.subtracted[places, directions], np.zeros(found.shape, bool)
                    return Slopes(found.numpy(), [], [], subtracted, nowhere)
        start = time.perf_counter()
        found = self._exactly(places, given, steps)
        whole.spend((places, directions, tuple(steps)), time.perf_counter() - start)
        return found

    def kinked(self, places: Sequence[int], seed: int = 0) -> dict[int, npt.NDArray[np.bool_]]:
        """Elements along which the slopes to both sides differ at the point, by place.

        The value's difference D(v) is piecewise linear in v. What its gradient at v and that at -v do not share passes
        a unit that sits on a kink, whose two sides v and -v take; of random v in what is not known to be on one yet:
        of many equal cells each v tells the largest and the least.
        """
        tape, rng = self.tape, np.random.default_rng(seed)
        found_numbers = {place: self.recorded.number(tape, place) for place in places}
        numbers = {place: number for place, number in found_numbers.items() if number is not None}
        masks: dict[int, npt.NDArray[np.bool_]] = {
            place: np.zeros(tape.values[number].shape, bool) for place, number in numbers.items()
        }
        quiet = 0
        for _ in range(_DRAWS):
            if quiet == _QUIET:
                break
            drawn = {p: np.where(mask, 0.0, rng.normal(size=mask.shape)) for p, mask in masks.items()}
            both = {p: tf.constant(np.stack([v, -v])) for p, v in drawn.items()}
            with tf.GradientTape() as gradient:
                gradient.watch(list(both.values()))
                d = {number: STEP * both[place] for place, number in numbers.items()}
                (moved,) = push(tape, d, 2, [tape.outputs[0]])
                total = tf.zeros([], tf.float64) if moved is None else tf.reduce_sum(moved) / STEP
            found = gradient.gradient(total, both, unconnected_gradients="zero")
            sizes = {place: float(np.abs(one).max(initial=0.0)) for place, one in found.items()}
            least = max(_SECOND * max(sizes.values(), default=0.0), 1e-300)
            quiet += 1
            for place, one in found.items():
                right, left = np.asarray(one)
                parted = np.abs(right - left) > max(_SAME * sizes[place], least)
                quiet = 0 if np.any(parted & ~masks[place]) else quiet
                masks[place] = masks[place] | parted
        return masks

    def _exactly(self, places: tuple[int, ...], given: list[Array], steps: Sequence[float]) -> Slopes:
        """Eagerly, with every kink seen."""
        tape, notes = self.tape, Notes()
        count = len(steps) * len(given[0])
        d = {}
        for place, one in zip(places, given, strict=True):
            number = self.recorded.number(tape, place)
            if number is not None:
                d[number] = tf.constant(np.concatenate([step * one for step in steps]))
        (moved,) = push(tape, d, count, [tape.outputs[0]], notes=notes)
        found = np.zeros(count) if moved is None else np.reshape(moved.numpy(), count)
        ties, crossings = (
            [(tape.entries[number].name, np.asarray(mask)) for number, mask in seen]
            for seen in (notes.ties, notes.crossings)
        )
        same = [mask for number, mask in notes.ties if tape.entries[number].kernel.kind in ("Equal", "NotEqual")]
        equal = np.any([np.zeros(count, bool), *same], axis=0)
        value = found.reshape(len(steps), -1) / np.reshape(steps, (-1, 1))
        return Slopes(value, ties, crossings, notes.subtracted, equal.reshape(value.shape))

    def _slopes_graph(self, tape: Tape, places: tuple[int, ...], directions: int, steps: Sequence[float]) -> Traced:
        numbers = [self.recorded.number(tape, place) for place in places]
        shapes = [tf.TensorSpec([directions, *_shape(tape, n)], tf.float64) for n in numbers]
        count, taken = len(steps) * directions, len(self.arguments)

        def slopes(*tensors: Any) -> Any:
            values = replayed(tape, tensors[:taken], [tape.outputs[0]])
            d = {
                number: tf.concat([step * one for step in steps], 0)
                for number, one in zip(numbers, tensors[taken:], strict=True)
                if number is not None
            }
            notes = Notes()
            (moved,) = push(tape, d, count, [tape.outputs[0]], values, notes)
            found = tf.zeros([count], tf.float64) if moved is None else tf.reshape(moved, [count])
            quotient = tf.reshape(found, [len(steps), directions]) / tf.constant(steps, tf.float64)[:, None]
            subtracted.extend(notes.subtracted)
            return quotient, guards_hold(tape, values) & unkinked(notes)

        subtracted: list[str] = []
        made = trace_of(slopes, [*specs_of(self.arguments), *shapes])
        self.recorded.subtracted[places, directions] = subtracted
        return made


def _shape(tape: Tape, number: int | None) -> list[int]:
    return [] if number is None else list(tape.values[number].shape)


def unkinked(notes: Notes) -> Any:
    """Scalar of a graph in the making: whether no unit ties or leaves its branch."""
    kinks = [one for _, one in notes.special]
    kinks += [tf.reduce_any(one) for _, *both in notes.branches for one in both]
    return ~tf.reduce_any(tf.stack(kinks)) if kinks else tf.constant(True)


def values_graph(
    tape: Tape, arguments: Sequence[Array], numbers: Sequence[int] | None = None, packed: Sequence[int] = ()
) -> Traced:
    """Outputs of a tape, or other values of it, at other arguments; then whether its control flow goes the same way.

    Values that are `packed`, of one dtype, come before all others in one piece: each tensor that is returned costs more
    than a small one's contents.
    """
    wanted = tape.outputs if numbers is None else list(numbers)

    def values(*tensors: Any) -> Any:
        found = replayed(tape, tensors, [*packed, *wanted])
        flat = [tf.reshape(found.get(n, tape.values[n]), [-1]) for n in packed]
        others = (found.get(n, tape.values[n]) for n in wanted)
        return [*([tf.concat(flat, 0)] if flat else []), *others, guards_hold(tape, found)]

    return trace_of(values, specs_of(arguments))


def replayed(tape: Tape, tensors: Sequence[Any], outputs: Sequence[int]) -> dict[int, Any]:
    """Values at given arguments and at the variables as they are now."""
    given = dict(zip(tape.arguments, tensors, strict=True))
    for key, number in tape.variables.items():
        handle = tape.handles[key].tensor
        dtype = handle._handle_data.shape_and_type[0].dtype
        given[number] = lifted(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.as_dtype(dtype)))
    return replay(tape, given, outputs)


def specs_of(arguments: Sequence[Array]) -> list[tf.TensorSpec]:
    """What a graph of these arguments is traced with."""
    return [tf.TensorSpec(a.shape, a.dtype) for a in arguments]


def trace_of(function: Any, specs: list[tf.TensorSpec]) -> Traced:
    """One trace of a function of the tape."""
    return Traced(tf.function(function, input_signature=specs, autograph=False))
