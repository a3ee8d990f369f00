"""A function with its gradient, recorded: eagerly at first, compiled once that pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.tape.point import LONG, Point
from fdfast.tape.precision import half_types, narrowest
from fdfast.tape.recorder import Recorder
from fdfast.tape.routes import is_steady
from fdfast.tape.tape import Tape
from fdfast.tape.twins import Twins

Array = npt.NDArray[Any]
#: What it may cost to go without a graph before one is made, in runs of the operations one by one, and how many times
#: as much at least for long functions: graphs of short ones take no time that is felt. And the seconds that an
#: operation takes at most, run again: the first time in a process it may take far longer.
_MAKING, _LONGER, _WARM = 4.0, 3.0, 1e-4


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
        value = concrete.graph.outputs[0]
        self.recorder = Recorder(concrete, half_types(concrete.graph) - half_types(concrete.graph, [value]))
        self.moving, self.variables = list(moving), list(variables)
        #: The narrowest dtype that its value is computed in.
        self.narrow = narrowest(concrete.graph, [value])
        #: Whether it has been seen that this is the function.
        self.trusted = False
        self.connected = [g is not None for g in concrete.structured_outputs[1]]
        self._spent: dict[Any, float] = {}
        self._recording = math.inf  # seconds, at its quickest
        self._compiled: dict[Any, Any] = {}
        self.latest: Tape | None = None
        #: Kinds of operations that ran in less than float64 when it was last recorded, for want of a kernel.
        self.rounded: list[str] = []
        #: Functions of NumPy that became TensorFlow's own in it.
        self.numpy_calls: list[str] = []
        #: What is to be said of f as it was traced.
        self.notes: list[str] = []
        #: What `fdfast.windows` has made of it, or why it could not.
        self.windows: Any = None
        #: Large variables in float64.
        self.twins = Twins()
        #: Kinds without a rule, by what moves in how many directions, of its products.
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

    def compiled(self, key: Any, make: Any, effort: float = 1.0) -> Any:
        """A graph for what is asked for, once it has cost as much without one as it takes to make one; else None.

        It is to be run before anything is written to a variable.

        `effort` is what it takes beside a graph of the values.
        """
        if is_steady():
            return None
        if key not in self._compiled:
            if self.latest is None:
                return None
            recording = min(self._recording, self._at_most)
            longer = _LONGER if len(self.latest.entries) >= LONG else 1.0
            if self._spent.get(key, 0.0) < _MAKING * max(longer, effort) * recording:
                return None
            self._compiled[key] = make(self.latest)
        self.twins.refresh()
        return self._compiled[key]

    def has(self, key: Any) -> bool:
        """Whether there is a graph for this."""
        return key in self._compiled

    def spend(self, key: Any, seconds: float) -> None:
        """Count time that went into what a graph would do."""
        self._spent[key] = self._spent.get(key, 0.0) + seconds

    def took(self, seconds: float) -> None:
        """Count a recording; of the first one what a later one takes."""
        spent = seconds if math.isfinite(self._recording) else min(seconds, self._at_most)
        self._recording = min(self._recording, seconds)
        self.spend("values", spent)

    @property
    def _at_most(self) -> float:
        """Seconds that the operations take at most, run again."""
        return _WARM * len(self.latest.entries) if self.latest else math.inf

    def forget(self) -> None:
        """Drop the graphs: the control flow goes another way now."""
        self._compiled.clear()
        self._spent.clear()
        self.latest = None
