"""What of a tape the compiled kernels do, and what is left to whole maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fdfast.operations import is_real
from fdfast.tape import Entry, Tape
from fdfast.windows.bottlenecks import with_bottlenecks
from fdfast.windows.program import HANDLERS, Making, Node, NotLowered, Value

#: Whose output depends on the shape alone.
_OF_SHAPE = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}


@dataclass(frozen=True, eq=False)
class Lowered:
    """A tape in two parts.

    Attributes
    ----------
    nodes : list of Node
        Of the program; the last one holds all values of `border`, one after the other, and then those of `held`.
    border : dict of int to int
        Numbers of values where the rest begins, and how many elements they have.
    held : dict of int to slice
        Nodes that can be held, and where in the last one the values are that they pass on; see `with_bottlenecks`.
    constants : list of int
        Numbers of the values that weights of the program were made of.
    left : list of str
        Kinds of operations that are left to the rest though what they start from is in the program, and why.
    """

    nodes: list[Node]
    border: dict[int, int]
    held: dict[int, slice]
    constants: list[int]
    left: list[str]


def lower(tape: Tape, source: int, output: int) -> Lowered:
    """Lower all operations that the kernels know and whose moving inputs are in the program."""
    entries = tape.needed([output])
    making = Making(tape, entries, source)
    moving, left = {source}, list[str]()
    rest: list[Entry] = []
    for number, entry in enumerate(entries):
        mine = [i for i in entry.inputs if i in moving]
        if not mine or entry.kernel.kind in _OF_SHAPE:
            continue
        moving.update(entry.outputs)
        count = len(making.nodes)
        try:
            _take(making, entry, mine, number)
        except NotLowered as error:
            del making.nodes[count:]
            if all(map(making.moves, mine)):
                left.append(f"{entry.kernel.kind}: {error}")
            rest.append(entry)
    read = {i for entry in rest for i in entry.inputs} | {output}
    border = [i for i in making.node_of if i in read]
    sizes = {i: math.prod(making.shape(i)) for i in border}
    making.nodes, place, holds = with_bottlenecks(making.nodes)
    ends = [place[making.node_of[i]] for i in border] + [node - 1 for node in holds]
    _end(making, ends)
    stops = np.cumsum([sum(sizes.values()), *(making.size(node) for node in holds)]).tolist()
    held = dict(zip(holds, map(slice, stops, stops[1:]), strict=True))
    return Lowered(making.nodes, sizes, held, sorted(making.constants), left)


def _take(making: Making, entry: Entry, moving: Sequence[int], number: int) -> None:
    if id(entry) in making.taken:
        return
    handler = HANDLERS.get(entry.kernel.kind)
    if handler is None:
        raise NotLowered("there is no compiled kernel for it")
    if not all(map(making.moves, moving)):
        raise NotLowered("what it starts from is not in the program")
    if not all(is_real(making.tape.values[i]) for i in moving):
        raise NotLowered("what moves is not floating point")
    making.entry = number
    handler(making, entry, list(dict.fromkeys(moving)))


def _end(making: Making, last: Sequence[int]) -> None:
    """Make one vector of some nodes, or leave it as it is if that is the last node."""
    if last == [len(making.nodes) - 1]:
        return
    flat = []
    for node in last:
        size = making.size(node)
        lies = making.nodes[node].shape == (1, 1, size)
        flat.append(node if lies else making.add("reshape", [node], (1, 1, size), None))
    if flat != [len(making.nodes) - 1]:
        total = sum(making.nodes[node].shape[2] for node in flat)
        making.add("concat", flat, (1, 1, total), None)


def values_needed(nodes: Sequence[Node], needed: Sequence[int]) -> list[Value]:
    """Values of the nodes that a program asks for.

    Raises
    ------
    NotLowered
        One is not on the tape.
    """
    found: list[Any] = [nodes[n].value for n in needed]
    if None in found:
        raise NotLowered(f"the value of {nodes[needed[found.index(None)]].op} is not on the tape")
    return found
