"""What runs eagerly, recorded on the way: a call of a function costs as much as without, and nothing is traced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import op_callbacks, op_def_registry

from fdfast.operations import Plain, Unmapped
from fdfast.tape.at_rows import InRows, Step, called, graph_of
from fdfast.tape.tape import changes


class Recording:
    """Operations that run eagerly while it is entered, and their tensors.

    Attributes
    ----------
    tensors : dict of int to tensor
        By the number that TensorFlow gives each tensor, `key_of`.
    """

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}
        self._met: list[tuple[Any, ...]] = []
        self._definitions: dict[str, bytes] = {}

    def __enter__(self) -> Recording:
        op_callbacks.add_op_callback(self._meet)
        return self

    def __exit__(self, *_: Any) -> None:
        op_callbacks.remove_op_callback(self._meet)

    def _meet(
        self, kind: Any, inputs: Any, attributes: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> None:
        if graph is None:  # else a function is traced inside of the call
            kind = kind.decode() if isinstance(kind, bytes) else kind
            if op_def_registry.get(kind) is None and kind not in self._definitions:
                # A traced function, which may be gone once the call is over.
                self._definitions[kind] = context.get_function_def(kind).SerializeToString()
            self._met.append((kind, tuple(inputs), attributes, tuple(outputs)))  # TensorFlow empties its lists

    def require_pure(self) -> None:
        """Raise Unmapped if an operation draws random numbers, writes to a state, or runs foreign code."""
        for kind, *_ in self._met:
            definition = op_def_registry.get(kind)
            if definition is None:
                _pure(self._graph_of(kind))
            elif changes(definition):
                raise Unmapped(f"{kind} keeps state or draws random numbers")

    @functools.cached_property
    def steps(self) -> list[Step]:
        """The operations, in the order in which they ran.

        Raises
        ------
        Unmapped
            One calls functions in a way of its own.
        """
        found = []
        for kind, inputs, attributes, outputs in self._met:
            for tensor in (*inputs, *outputs):
                self.tensors[key_of(tensor)] = tensor
            pairs = dict(zip(attributes[::2], attributes[1::2], strict=True))
            found.append(Step(kind, self._run_of(kind, pairs), tuple(map(key_of, inputs)), tuple(map(key_of, outputs))))
        return found

    def _run_of(self, kind: str, attributes: dict[str, Any]) -> Callable[[InRows, list[Any]], list[Any]]:
        definition = op_def_registry.get(kind)
        if definition is None:  # TensorFlow runs a traced function by its name
            return lambda recorder, slots: recorder.graph(self._graph_of(kind), slots, f"{kind}/")
        if any(a.type in ("func", "list(func)") for a in definition.attr):
            raise Unmapped(f"{kind} calls functions in a way of its own")
        kernel = Plain(
            kind, {**_defaults(kind), **{n: _as_in_graphs(v) for n, v in attributes.items() if v is not None}}
        )
        return lambda recorder, slots: recorder.emit(kernel, slots, kind)

    def _graph_of(self, name: str) -> Any:
        try:
            return graph_of(name, self._definitions[name])
        except tf.errors.NotFoundError as error:
            raise Unmapped(f"{name} calls a function that is gone") from error


def key_of(tensor: Any) -> int:
    """The number that TensorFlow gives a tensor, which none has again."""
    number: int = tensor._id
    return number


def _pure(graph: Any) -> None:
    """Raise Unmapped if an operation of a graph draws random numbers or writes to a state."""
    for op in graph.get_operations():
        if changes(op.op_def):
            raise Unmapped(f"{op.name} ({op.type}) keeps state or draws random numbers")
        for attribute in op.op_def.attr:
            if attribute.type == "func":
                _pure(called(graph, op.get_attr(attribute.name).name))


@functools.cache
def _defaults(kind: str) -> dict[str, Any]:
    """Attributes of an operation that callers may leave out."""
    with tf.Graph().as_default():
        return {
            attribute.name: _of_definition(attribute)
            for attribute in op_def_registry.get(kind).attr
            if attribute.HasField("default_value")
        }


def _of_definition(attribute: Any) -> Any:
    kind = attribute.default_value.WhichOneof("value")
    value: Any = getattr(attribute.default_value, kind) if kind else None
    if kind == "list":
        return next((list(field) for _, field in value.ListFields()), [])
    if kind == "shape":
        return tf.TensorShape(value)
    return tf.as_dtype(value) if kind == "type" else value


def _as_in_graphs(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
