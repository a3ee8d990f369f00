"""A tape to a program of the compiled kernels: nodes in the making, operation by operation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.tape import Entry, Tape

Float64 = npt.NDArray[np.float64]
Map = tuple[int, int, int]

#: Weights of one operation: the kernels hold them once more, and beyond that memory counts.
LARGEST = 1 << 27


class NotLowered(Exception):
    """The kernels do not know an operation, or not in this form; the message says what of it."""


@dataclass(frozen=True, eq=False)
class Value:
    """Where the value of a node at a point comes from: a number on the tape, perhaps two, and what is made of it."""

    number: int
    made: Callable[..., Any] | None = None
    other: int | None = None

    @property
    def numbers(self) -> list[int]:
        """What it is made of."""
        return [self.number] if self.other is None else [self.number, self.other]

    def of(self, values: Any, shape: Map) -> Float64:
        """As a map, shape (1, h, w, channels); `values` holds those of the tape."""
        given = [np.asarray(values[number], np.float64) for number in self.numbers]
        array = given[0] if self.made is None else np.asarray(self.made(*given))
        return np.ascontiguousarray(array.reshape(1, *shape))


@dataclass(eq=False)
class Node:
    """What `fdfast._core.Program.append` is told, and where the node's value at the point comes from.

    Attributes
    ----------
    entry : int
        Number of the operation that it belongs to.
    """

    op: str
    sources: list[int]
    shape: Map
    value: Value | None
    entry: int
    options: dict[str, Any] = field(default_factory=dict)


def as_map(shape: Sequence[int]) -> Map:
    """Shape of a value as (h, w, channels): leading axes of length 1 are dropped, or put in.

    Raises
    ------
    NotLowered
    """
    dims = [int(n) for n in shape]
    while len(dims) > 3 and dims[0] == 1:
        del dims[0]
    if len(dims) > 3:
        raise NotLowered(f"values of shape {tuple(dims)} are no maps of two dimensions and channels")
    return (1,) * (3 - len(dims)) + tuple(dims)  # type: ignore[return-value]


def _first_map(shape: Sequence[int]) -> Map:
    """Shape of x as a map; of a volume the last two axes are channels."""
    dims = tuple(int(n) for n in shape)
    while len(dims) > 4 and dims[0] == 1:
        dims = dims[1:]
    return as_map((*dims[:2], dims[2] * dims[3]) if len(dims) == 4 and dims[0] != 1 else dims)


class Making:
    """A program in the making.

    Parameters
    ----------
    tape : Tape
    entries : list of Entry
        What the output is made of, in order.
    source : int
        Number of the value that moves.
    """

    def __init__(self, tape: Tape, entries: Sequence[Entry], source: int) -> None:
        self.tape = tape
        self.entry = -1
        self.nodes = [Node("input", [], _first_map(tape.values[source].shape), Value(source), -1)]
        #: Node of each value that the program computes the difference of.
        self.node_of = {source: 0}
        #: Numbers of values that do not move and that weights were made of.
        self.constants: set[int] = set()
        #: Operations that were lowered together with one before them.
        self.taken: set[int] = set()
        self._readers: dict[int, list[Entry]] = {}
        for entry in entries:
            for number in entry.inputs:
                self._readers.setdefault(number, []).append(entry)
        self._uses = Counter(number for entry in entries for number in entry.inputs)
        self._shared = {0} if self._uses[source] > 1 else set()

    def shape(self, number: int) -> tuple[int, ...]:
        """Shape of a value of the tape."""
        return tuple(int(n) for n in self.tape.values[number].shape)

    def moves(self, number: int) -> bool:
        """Whether its difference is a node's."""
        return number in self.node_of

    def constant(self, number: int) -> Float64:
        """A value that does not move."""
        self.constants.add(number)
        found = np.asarray(self.tape.values[number])
        if found.size > LARGEST:
            raise NotLowered(f"its {found.size:,} weights are too many to be held twice: {LARGEST:,} is the limit")
        return found.astype(np.float64)

    def integers(self, number: int) -> list[int]:
        """A value that says where, or how many."""
        if self.moves(number):
            raise NotLowered("it says where by a value that moves")
        self.constants.add(number)
        return [int(n) for n in np.reshape(self.tape.values[number], -1)]

    def add(self, op: str, sources: list[int], shape: Map, value: Value | None, **options: Any) -> int:
        """Append a node; returns its number."""
        self.nodes.append(Node(op, sources, shape, value, self.entry, options))
        return len(self.nodes) - 1

    def keep(self, number: int, node: int) -> None:
        """Let a value of the tape be that of a node."""
        self.node_of[number] = node
        if self._uses[number] > 1:
            self._shared.add(node)

    def alone(self, node: int) -> bool:
        """Whether nothing but the present operation reads a node, so that it may be changed."""
        return node not in self._shared

    def only_reader(self, number: int) -> Entry | None:
        """The one operation that reads a value, None where several do."""
        readers = self._readers.get(number, [])
        return readers[0] if len(readers) == 1 else None

    def looks(self, number: int) -> bool:
        """Whether a value has the form of its node's map, rather than another with the same elements in order."""
        return self._map(number) == self.nodes[self.node_of[number]].shape

    def spatial(self, number: int) -> int:
        """Node of a value as a map.

        Raises
        ------
        NotLowered
            It is no map.
        """
        node = self.node_of[number]
        if self.looks(number):
            return node
        shape = as_map(self.shape(number))
        if node == 0 and self.alone(0) and math.prod(shape[:2]) > 1:  # what it looks like is not settled yet
            self.nodes[0].shape = shape
            return 0
        return self.add("reshape", [node], shape, Value(number))

    def by_channel(self, number: int) -> int:
        """Node of a value whose last axis is the node's channels, however its cells are arranged."""
        node, shape = self.node_of[number], self.shape(number)
        return node if shape and shape[-1] == self.nodes[node].shape[2] else self.spatial(number)

    def channels_from(self, shape: Sequence[int], node: int) -> int | None:
        """The last axis from which on axes of a shape are together a node's channels, and those before it its cells.

        None where there is no such, as after flattening.
        """
        h, w, c = self.nodes[node].shape
        if not shape:
            return 0 if h * w * c == 1 else None
        for axis in reversed(range(len(shape))):
            if math.prod(shape[axis:]) == c and math.prod(shape[:axis]) == h * w:
                return axis
        return None

    def size(self, node: int) -> int:
        """Elements of a node's map."""
        return math.prod(self.nodes[node].shape)

    def view(self, number: int, of: int) -> None:
        """Let a value be another one with its elements in the same order.

        Raises
        ------
        NotLowered
            No operation could make anything of it.
        """
        self.settle(number, self.node_of[of])

    def settle(self, number: int, node: int) -> None:
        """Let a value of the tape be that of a node, if operations can make something of its form.

        Raises
        ------
        NotLowered
        """
        shape = self.shape(number)
        if self._map(number) is None and node != 0 and self.channels_from(shape, node) is None:
            raise NotLowered(f"it makes {shape} of {self.nodes[node].shape}")
        self.keep(number, node)

    def _map(self, number: int) -> Map | None:
        try:
            return as_map(self.shape(number))
        except NotLowered:
            return None


#: (making, entry, numbers of inputs that move) -> None; it says by `keep` which nodes the outputs are.
Handler = Callable[[Making, Entry, list[int]], None]
HANDLERS: dict[str, Handler] = {}


def lowers(*kinds: str) -> Callable[[Handler], Handler]:
    """Register a function as the way to lower operations of these kinds."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return register


def only_first(entry: Entry, moving: Sequence[int]) -> int:
    """Number of an operation's first input, the only one that moves.

    Raises
    ------
    NotLowered
        Another one moves.
    """
    if list(moving) != [entry.inputs[0]] or entry.inputs.count(entry.inputs[0]) > 1:
        raise NotLowered("more than its first input moves")
    return entry.inputs[0]


def build(nodes: Sequence[Node]) -> _core.Program:
    """Make the program."""
    program = _core.Program(nodes[0].shape, np.float64)
    for node in nodes[1:]:
        program.append(node.op, node.sources, node.shape, **node.options)
    return program
