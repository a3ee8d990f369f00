"""Difference arithmetic on a Keras graph: base values from Keras itself, differences from the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from fdfast.rules.registry import find_rule


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


def layers_without_rule(model: keras.Model) -> list[str]:
    """Names and classes of the layers that would be subtracted in float64, in order of the graph."""
    found = []
    for node in _nodes(graph_of(model)):
        operation = node.operation
        if isinstance(operation, keras.Model):
            found += layers_without_rule(operation)
        elif find_rule(operation) is None:
            found.append(f"{operation.name} ({type(operation).__name__})")
    return found


def push(model: keras.Model, x: Moved) -> Moved:
    """Push a difference of the model's input to its output.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, one input, one output; called in inference mode.
    x : Moved
    """
    graph = graph_of(model)
    values: dict[int, Moved] = {id(graph.inputs[0]): x}
    for node in _nodes(graph):
        args, kwargs = node.arguments.fill_in(values)
        kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
        moved = _step(node.operation, args, kwargs, x.d)
        for tensor, one in zip(node.outputs, moved, strict=True):
            values[id(tensor)] = one
    return values[id(graph.outputs[0])]


def _nodes(graph: Any) -> list[Any]:
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


def _step(operation: Any, args: Any, kwargs: dict[str, Any], like: Any) -> list[Moved]:
    """One layer: its value from Keras, its difference by rule, or subtracted if there is none."""
    if isinstance(operation, keras.Model):
        return [push(operation, args[0])]
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
