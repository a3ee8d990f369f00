"""Where all that moves goes through a few numbers: what comes of each of these is found once, not for every tile.

A mean over a map, as in group normalisation, moves by little and moves all of the map that it is taken off. With a step
so short that nothing of second order is left, the difference of f is what comes of a tile's own window while the mean
stays, and by how much the mean moves times what f moves by with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.windows.program import Node

Float64 = npt.NDArray[np.float64]
#: Numbers of one bottleneck, at most.
_FEW = 64
#: How far opposite differences may part, and by how much more than any tile moves it a bottleneck is moved.
_OPPOSITE, _BEYOND = 2.0**-30, 4.0
#: Moves below which numbers lose digits.
_LEAST = 2.0**-900
_NO_TILES = np.zeros(1, np.int64), np.zeros(0, np.int64)


def with_bottlenecks(nodes: Sequence[Node]) -> tuple[list[Node], list[int], list[int]]:
    """Put a node that can be held behind each bottleneck: a vector that a map is made of, itself made of far more.

    Returns
    -------
    nodes : list of Node
    place : list of int
        Number of each node that was there before.
    held : list of int
        Numbers of those that were put in; each comes after the vector that it passes on.
    """
    readers: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for source in node.sources:
            readers[source].append(number)
    spreads = _spreads(nodes, readers)

    def few(number: int) -> bool:
        h, w, c = nodes[number].shape
        return h * w == 1 and c <= _FEW and spreads[number]

    def narrowest(number: int) -> bool:
        after = readers[number]
        return not (len(after) == 1 and few(after[0]) and nodes[after[0]].shape[2] <= nodes[number].shape[2])

    fresh, widest, chosen = list[bool](), list[int](), set[int]()
    for number, node in enumerate(nodes):
        fresh.append(not node.sources or any(fresh[s] and s not in chosen for s in node.sources))
        widest.append(max([math.prod(node.shape), *(widest[s] for s in node.sources)]))
        if fresh[number] and few(number) and narrowest(number) and widest[number] > 2 * node.shape[2]:
            chosen.add(number)
    if 2 * sum(nodes[number].shape[2] for number in chosen) >= math.prod(nodes[0].shape):
        chosen = set()  # as many numbers as x has elements, or nearly so: nothing is saved
    made, place, seen, held = list[Node](), list[int](), list[int](), list[int]()
    for number, node in enumerate(nodes):
        place.append(len(made))
        made.append(replace(node, sources=[seen[s] for s in node.sources]))
        if number in chosen:
            held.append(len(made))
            made.append(Node("hold", [place[number]], node.shape, node.value, node.entry))
        seen.append(len(made) - 1)
    return made, place, held


def _spreads(nodes: Sequence[Node], readers: Sequence[Sequence[int]]) -> list[bool]:
    """Whether a map is made of each node further on."""
    found = [False] * len(nodes)
    for number in reversed(range(len(nodes))):
        found[number] = any(found[r] or math.prod(nodes[r].shape[:2]) > 1 for r in readers[number])
    return found


def complete(prepared: _core.Prepared, rows: Float64, held: Mapping[int, slice], threads: int) -> bool:
    """Add to differences with all bottlenecks held what these move f by.

    Parameters
    ----------
    prepared : Prepared
    rows : ndarray, shape (pairs, 2, elements of the output)
    held : dict of int to slice
        Nodes that are held, in order, and where in a row the differences of what they hold are.
    threads : int

    Returns
    -------
    bool
        Whether f is smooth there. If not, nothing of this is right: a kink, or an edge, takes all moves together.
    """
    for node, columns in held.items():
        moved = rows[:, :, columns]
        most = float(np.abs(moved).max(initial=0.0))
        if most == 0:
            continue
        if not _LEAST < most < math.inf:
            return False
        step, each = _BEYOND * 2.0 ** math.ceil(math.log2(most)), np.arange(moved.shape[2])
        one = np.zeros((len(each), 2, len(each)))
        one[each, 0, each], one[each, 1, each] = step, -step
        still, sides = np.zeros_like(each), np.tile([step, -step], (len(each), 1))
        found, *kinks = _core.push(
            prepared, *_NO_TILES, still, still, sides, rows=one, start=node, held=True, threads=threads
        )
        there, back = found[:, 0], found[:, 1]
        if any((kink >= 0).any() for kink in kinks) or not _opposite(there, back):
            return False
        rows += moved @ (there / step)
    return True


def _opposite(there: Float64, back: Float64) -> bool:
    return bool(np.abs(there + back).max(initial=0.0) <= _OPPOSITE * np.abs(there).max(initial=0.0))
