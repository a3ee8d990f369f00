"""Keras graph to a program of the compiled kernels: layer by layer, as far as they reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast import _core
from fdfast.differences.graph import Step, Unrolled

Float64 = npt.NDArray[np.float64]
Map = tuple[int, int, int]
Where = tuple[int, str]
NOBODY: Where = (-1, "")  # of a node whose value nothing asks for

#: Weights of one dense layer: the kernels hold them once more, and beyond that memory counts.
LARGEST = 1 << 27


@dataclass
class Node:
    """What `fdfast._core.Program.append` is told, and where the node's value at the point comes from.

    Attributes
    ----------
    where : (int, str)
        Value number of the unrolled graph, and "out", or "pre" for what an activation is applied to.
    """

    op: str
    sources: list[int]
    shape: Map
    where: Where
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """A value of the graph: a node of the program, perhaps still to be flattened."""

    node: int
    flat: bool = False
    where: Where = NOBODY


class NotCompiled(Exception):
    """A layer is outside of the compiled set; the message says what of it."""


class Lowering:
    """A program in the making."""

    def __init__(self, shape: tuple[int, ...], uses: dict[int, int]) -> None:
        self.nodes = [Node("input", [], as_map(shape), (0, "out"))]
        self.uses = uses
        self.layer: list[str] = ["input"]
        self._name = "input"
        self.read: list[int] = []  # values that the present layer takes

    def add(self, op: str, sources: list[int], shape: Map, where: Where, **options: Any) -> int:
        """Append a node; returns its number."""
        self.nodes.append(Node(op, sources, shape, where, options))
        self.layer.append(self._name)
        return len(self.nodes) - 1

    def flat(self, held: Held) -> int:
        """Node of a value, flattened now if it has not been yet."""
        shape = self.nodes[held.node].shape
        if not held.flat or shape[:2] == (1, 1):
            return held.node
        return self.add("reshape", [held.node], (1, 1, math.prod(shape)), held.where)

    def plain(self, held: Held) -> tuple[int, Map]:
        """Node and shape of a value."""
        node = self.flat(held)
        return node, self.nodes[node].shape

    def take(self, step: Step, held: list[Held]) -> Held:
        """Lower one layer.

        Raises
        ------
        NotCompiled
        """
        handler = HANDLERS.get(type(step.operation))
        if handler is None or step.kwargs or len(step.outputs) != 1 or len(step.args) != 1:
            raise NotCompiled("there is no compiled kernel for it")
        if len(held) != len(tf.nest.flatten(step.args)):
            raise NotCompiled("it takes constants")
        self._name = step.operation.name
        self.read = step.inputs
        return handler(self, step.operation, held, step.outputs[0])


@dataclass(frozen=True, eq=False)
class Lowered:
    """What became of a graph.

    Attributes
    ----------
    nodes : list of Node
    layers : list of str
        Name of the layer that each node belongs to.
    value : int
        Value number that the program ends with; all steps up to it are in the program.
    rest : list of Step
        What is left to be pushed on whole maps.
    why : str
        What stood in the way, "" if all was lowered.
    """

    nodes: list[Node]
    layers: list[str]
    value: int
    rest: list[Step]
    why: str

    def build(self, dtype: np.dtype[Any]) -> _core.Program:
        """Make the program."""
        program = _core.Program(self.nodes[0].shape, dtype)
        for node in self.nodes[1:]:
            program.append(node.op, node.sources, node.shape, **node.options)
        return program


def lower(graph: Unrolled, shape: tuple[int, ...]) -> Lowered:
    """Lower the steps of a graph up to the first that the kernels do not know.

    What is left starts from one value: branches that cross the border go to the rest as a whole.
    """
    uses: dict[int, int] = {graph.output: 1}
    for step in graph.steps:
        for number in step.inputs:
            uses[number] = uses.get(number, 0) + 1
    making = Lowering(shape, uses)
    held: dict[int, Held] = {0: Held(0)}
    # Places to end: after as many steps, with as many nodes, at a value that nothing else reaches past.
    ends: list[tuple[int, int, int]] = [(0, 1, 0)]
    open_ = dict(uses)
    why = ""
    for done, step in enumerate(graph.steps, start=1):
        try:
            held[step.outputs[0]] = making.take(step, [held[number] for number in step.inputs])
        except NotCompiled as error:
            why = f"{step.operation.name} ({type(step.operation).__name__}): {error}"
            break
        for number in step.inputs:
            open_[number] -= 1
        alive = [number for number in held if open_.get(number, 0) > 0]
        if len(alive) == 1:
            ends.append((done, len(making.nodes), alive[0]))
    done, count, value = ends[-1]
    making.nodes, making.layer = making.nodes[:count], making.layer[:count]
    if done and held[value].flat:
        making.flat(held[value])
    return Lowered(making.nodes, making.layer, value, graph.steps[done:], why)


def as_map(shape: tuple[int, ...]) -> Map:
    """Shape of a value without its batch axis as (h, w, channels)."""
    if len(shape) > 3 or any(n is None for n in shape):
        raise NotCompiled(f"values of shape {shape} are no maps of two dimensions and channels")
    return (1,) * (3 - len(shape)) + tuple(shape)  # type: ignore[return-value]


Handler = Callable[[Lowering, Any, list[Held], int], Held]
HANDLERS: dict[type, Handler] = {}


def lowers(*classes: type) -> Callable[[Handler], Handler]:
    """Register a function as the way to lower layers of exactly these classes."""

    def register(handler: Handler) -> Handler:
        for one in classes:
            HANDLERS[one] = handler
        return handler

    return register
