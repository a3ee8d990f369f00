"""Difference arithmetic on a Keras graph: base values from Keras itself, differences from the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from fdfast.differences.rules.registry import find_rule


@dataclass(frozen=True, eq=False)
class Moved:
    """A value in the network and how it moves.

    Attributes
    ----------
    z : tensor, shape (1, ...)
        Value at the point.
    d : tensor, shape (rows, ...), or None
        Difference for each row; None where the input does not reach.
    """

    z: Any
    d: Any


class NoGraph(Exception):
    """The model has no graph of layers to push differences through; the message says why."""


def graph_of(model: keras.Model) -> Any:
    """Functional graph of a Sequential or functional model.

    Raises
    ------
    NoGraph
        The model is subclassed, or was never given an input.
    """
    inner = getattr(model, "_functional", model)
    if inner is None or not hasattr(inner, "_nodes_by_depth"):
        raise NoGraph(f"{type(model).__name__} {model.name!r} is not a graph of layers (Sequential or functional)")
    return inner


@dataclass(frozen=True)
class Ref:
    """Stands for a value of an `Unrolled` graph in the arguments of a step."""

    value: int


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer: `outputs` numbers what it returns, in the order of ``tf.nest.flatten``."""

    operation: Any
    args: Any
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> list[int]:
        """Numbers of the values that go in."""
        return [leaf.value for leaf in tf.nest.flatten([self.args, self.kwargs]) if isinstance(leaf, Ref)]


@dataclass(frozen=True, eq=False)
class Unrolled:
    """A model as a list of steps, those of nested models included; value 0 is its input.

    `plain` says that every model in it is called by Keras' own code, which does just these steps; `stateless` that
    every layer is one of Keras' own, too, of which those with a rule write to no variable in inference mode.
    """

    steps: list[Step]
    output: int
    plain: bool
    stateless: bool


def unroll(model: keras.Model) -> Unrolled:
    """List the steps of a model in the order of its graph.

    Raises
    ------
    NoGraph
        The model, or one in it, is no graph of layers.
    """
    steps: list[Step] = []
    count, plain, own = 1, True, True

    def walk(inner: keras.Model, given: Ref) -> Ref:
        nonlocal count, plain, own
        graph = graph_of(inner)
        plain &= type(inner).call.__module__.startswith("keras.") and "call" not in vars(inner)
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise NoGraph(f"{inner.name!r} has several inputs or outputs")
        values: dict[int, Ref] = {id(graph.inputs[0]): given}
        for node in _nodes(graph):
            args, kwargs = node.arguments.fill_in(values)
            kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
            if isinstance(node.operation, keras.Model):
                values[id(node.outputs[0])] = walk(node.operation, args[0])
                continue
            if not all(keras.backend.is_float_dtype(tensor.dtype) for tensor in node.outputs):
                raise NoGraph(f"{node.operation.name!r} is no layer of numbers: it answers in {node.outputs[0].dtype}")
            outputs = tuple(range(count, count + len(node.outputs)))
            count += len(outputs)
            own &= type(node.operation).__module__.startswith("keras.") and "call" not in vars(node.operation)
            steps.append(Step(node.operation, args, kwargs, outputs))
            for tensor, number in zip(node.outputs, outputs, strict=True):
                values[id(tensor)] = Ref(number)
        return values[id(graph.outputs[0])]

    output = walk(model, Ref(0)).value
    return Unrolled(steps, output, plain, plain and own)


def layers_without_rule(model: keras.Model) -> list[str]:
    """Names and classes of the layers that would be subtracted in float64, in order of the graph."""
    found = [step.operation for step in unroll(model).steps if find_rule(step.operation) is None]
    return [f"{one.name} ({type(one).__name__})" for one in found]


def push(model: keras.Model, x: Moved) -> Moved:
    """Push a difference of the model's input to its output.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, one input, one output; called in inference mode.
    x : Moved
    """
    graph = unroll(model)
    return push_steps(graph.steps, {0: x}, x.d)[graph.output]


def push_steps(steps: list[Step], values: dict[int, Moved], like: Any) -> dict[int, Moved]:
    """Push through some steps; `values` holds those that they start from, by number. `like` has the rows."""
    values = dict(values)
    for step in steps:
        args, kwargs = (_filled(tree, values) for tree in (step.args, step.kwargs))
        for number, one in zip(step.outputs, _step(step.operation, args, kwargs, like), strict=True):
            values[number] = one
    return values


def _filled(tree: Any, values: dict[int, Any]) -> Any:
    return tf.nest.map_structure(lambda leaf: values[leaf.value] if isinstance(leaf, Ref) else leaf, tree)


def call_step(step: Step, values: dict[int, Any]) -> list[Any]:
    """Outputs of one step at plain values, in inference mode."""
    args, kwargs = (_filled(tree, values) for tree in (step.args, step.kwargs))
    call = {"training": False} if getattr(step.operation, "_call_has_training_arg", False) else {}
    found: list[Any] = tf.nest.flatten(step.operation(*args, **kwargs, **call))
    return found


def _nodes(graph: Any) -> list[Any]:
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


def _step(operation: Any, args: Any, kwargs: dict[str, Any], like: Any) -> list[Moved]:
    """One layer: its value from Keras, its difference by rule, or subtracted if there is none."""
    z_args, z_kwargs = (_part(tree, "z") for tree in (args, kwargs))
    call = {"training": False} if getattr(operation, "_call_has_training_arg", False) else {}
    z_out = tf.nest.flatten(operation(*z_args, **z_kwargs, **call))
    inside = [leaf for leaf in tf.nest.flatten([args, kwargs]) if isinstance(leaf, Moved)]
    if all(leaf.d is None for leaf in inside):
        return [Moved(z, None) for z in z_out]
    rule = find_rule(operation)
    if rule is not None and len(args) == 1 and not kwargs and len(z_out) == 1:
        z, d = _part(args[0], "z"), _part(args[0], "d", like)
        return [Moved(z_out[0], rule(operation, z, d))]
    z_plus_d, k_plus_d = (_part(tree, "z + d") for tree in (args, kwargs))
    moved = tf.nest.flatten(operation(*z_plus_d, **k_plus_d, **call))
    return [Moved(z, m - z) for z, m in zip(z_out, moved, strict=True)]


def _part(tree: Any, name: str, like: Any = None) -> Any:
    """Replace every `Moved` in a structure by its z, its d or their sum; a missing d by zeros, in rows like `like`."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Moved):
            return leaf
        if name == "z" or (name == "z + d" and leaf.d is None):
            return leaf.z
        if name == "z + d":
            return leaf.z + leaf.d
        if leaf.d is not None:
            return leaf.d
        return tf.zeros(tf.concat([tf.shape(like)[:1], tf.shape(leaf.z)[1:]], 0), like.dtype)

    return tf.nest.map_structure(one, tree)
