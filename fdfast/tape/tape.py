"""A function recorded at a point: a flat list of primitive operations with all their values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tensorflow.python.framework import op_def_registry

from fdfast.operations import Kernel, is_real

if TYPE_CHECKING:
    from fdfast.tape.twins import Twins

#: Step along a direction, in units of its largest element: differences are exact, so it need not be long, and its
#: square vanishes.
STEP = 2.0**-100
#: Exact comparisons: their units tie where both sides are equal, and jump at that point alone.
EQUAL = ("Equal", "NotEqual")


#: What reads state and leaves it as it is.
_READS = {
    *("ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarHandleOp", "VarIsInitializedOp"),
    *("Placeholder", "VariableV2", "Variable", "IsVariableInitialized", "CheckNumerics", "CheckNumericsV2", "Assert"),
    "Empty",  # which is written to by what has a rule here
    *("PartitionedCall", "StatefulPartitionedCall", "While", "If", "Case"),
    *(f"TensorList{name}" for name in ("Reserve", "PushBack", "PopBack", "SetItem", "GetItem", "Stack", "FromTensor")),
}


class NoTape(Exception):
    """A function cannot be recorded; the message names the operation and says why."""


def changes(definition: Any) -> bool:
    """Whether an operation, by its definition, draws random numbers or writes to a state."""
    return bool(definition.is_stateful) and definition.name not in _READS


@dataclass(frozen=True, eq=False)
class Handle:
    """A resource, such as a variable or a table, by the tensor that stands for it; `owner` keeps it alive."""

    tensor: Any
    owner: Any = None


@dataclass(frozen=True, eq=False)
class Entry:
    """One operation: numbers of the values that go in and come out, and its name in the graph it came from."""

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str


@dataclass(frozen=True, eq=False)
class Guard:
    """A value that decided which way the control flow went: another one asks for another tape."""

    number: int
    value: Any
    name: str


@dataclass(eq=False)
class Tape:
    """Values by number, and the operations that made them, in an order in which they can run.

    Attributes
    ----------
    values : list of tensor, or Handle
        In float64 where they are floating point.
    entries : list of Entry
    arguments : list of int
        Numbers of the arguments.
    variables : dict of int to int
        Number of the value of each variable that was read, by the id of its handle; `handles` keeps these alive.
    guards : list of Guard
    outputs : list of int
        Numbers of what the function returns.
    narrow : list of str
        Operations that ran in the precision of the graph, for want of a float64 kernel, or so that they draw the same
        random numbers.
    rounded : list of str
        Kinds of the former.
    twins : Twins, optional
        Large variables in float64, which whoever runs its graphs keeps up to date.
    """

    values: list[Any] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    arguments: list[int] = field(default_factory=list)
    variables: dict[int, int] = field(default_factory=dict)
    handles: dict[int, Handle] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    narrow: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    twins: Twins | None = None

    @cached_property
    def draws(self) -> bool:
        """Whether an operation draws random numbers or writes to a state; when all are there."""
        return any(changes(op_def_registry.get(kind)) for kind in {entry.kernel.kind for entry in self.entries})

    @cached_property
    def widest(self) -> int:
        """Bytes of the largest value, in float64; asked for when all are there."""
        return 8 * max(int(math.prod(v.shape)) for v in self.values if hasattr(v, "shape"))

    @cached_property
    def volume(self) -> int:
        """Bytes of all values together, in float64; asked for when all are there."""
        return 8 * sum(int(math.prod(v.shape)) for v in self.values if hasattr(v, "shape"))

    @cached_property
    def compared(self) -> list[Entry]:
        """Comparisons by ==, on which the first output depends, of numbers that may move; when all are there."""
        found = [entry for entry in self.needed(self.outputs[:1]) if entry.kernel.kind in EQUAL]
        reached = self.reached(set(self.inputs)) if found else set()
        real = [entry for entry in found if self.values[entry.inputs[0]].dtype.is_floating]
        return [entry for entry in real if not reached.isdisjoint(entry.inputs)]

    @cached_property
    def deciding(self) -> list[int]:
        """The first output, and what decides which way the control flow goes."""
        return [self.outputs[0], *(guard.number for guard in self.guards)]

    @cached_property
    def aside(self) -> set[int]:
        """Places of the entries that decide which way the control flow goes, and nothing else; when all are there."""
        value = {id(entry) for entry in self.needed(self.outputs[:1])}
        ways = {id(entry) for entry in self.needed(self.deciding)} - value if self.guards else set()
        return {place for place, entry in enumerate(self.entries) if id(entry) in ways} if ways else set()

    @cached_property
    def decisions(self) -> list[int]:
        """What follows from these without being a number, and numbers depend on; when all are there.

        Where decisions are the same, what f comes to as moves vanish is the same.
        """
        reached = {number for entry in self.compared for number in entry.outputs}
        found: dict[int, None] = {}
        for entry in self.needed(self.outputs[:1]) if reached else []:
            of_them = [number for number in entry.inputs if number in reached]
            if of_them and not any(is_real(self.values[number]) for number in entry.outputs):
                reached.update(entry.outputs)
            else:
                found.update(dict.fromkeys(of_them))
        return list(found)

    def add(self, value: Any) -> int:
        """Keep a value; returns its number."""
        self.values.append(value)
        return len(self.values) - 1

    def number(self, place: int, variables: Sequence[Any]) -> int | None:
        """Number of an argument, or behind these of one of some variables; None for one that is not read."""
        if place < len(self.arguments):
            return self.arguments[place]
        return self.variables.get(id(variables[place - len(self.arguments)].handle))

    @property
    def inputs(self) -> list[int]:
        """Numbers of arguments and variables: what may have other values, or move."""
        return [*self.arguments, *self.variables.values()]

    def reached(self, sources: Mapping[int, Any] | set[int]) -> set[int]:
        """Numbers of values that depend on these, themselves included."""
        found = set(sources)
        for entry in self.entries:
            if not found.isdisjoint(entry.inputs):
                found.update(entry.outputs)
        return found

    def needed(self, outputs: list[int], given: Collection[int] = ()) -> list[Entry]:
        """Entries that these values depend on, in order; values that are given depend on nothing."""
        wanted, found = set(outputs) - set(given), []
        for entry in reversed(self.entries):
            if not wanted.isdisjoint(entry.outputs):
                wanted.update(number for number in entry.inputs if number not in given)
                found.append(entry)
        return found[::-1]


@dataclass(frozen=True, eq=False)
class Slopes:
    """Directional derivatives from differences.

    Attributes
    ----------
    value : ndarray of float64, shape (steps, directions)
    ties, crossings : list of (str, ndarray of bool)
        Name of an operation, and for each row, steps times directions, whether a unit sits on a kink and moves, or
        leaves its branch. Operations where none does are left out.
    subtracted : list of str
        Kinds of operations without a rule: ten digits instead of all.
    turns : list of str
        Operations that tie where the control flow is decided, and nowhere else.
    equal, kinked : ndarray of bool, shape (steps, directions)
        Whether numbers that are compared by == are equal, and move apart; whether a unit of another kind ties.
    """

    value: npt.NDArray[np.float64]
    ties: list[tuple[str, npt.NDArray[np.bool_]]]
    crossings: list[tuple[str, npt.NDArray[np.bool_]]]
    subtracted: list[str]
    turns: list[str]
    equal: npt.NDArray[np.bool_]
    kinked: npt.NDArray[np.bool_]
