"""The traced graph of one row, evaluated at many rows: operation by operation, each one once for all rows.

TensorFlow's own vectorization writes a second graph, which takes longer to make than most gradient checks take to run.
Here nothing is written: every operation that depends on the rows runs eagerly, by the rule that `operations` has for
it, with the rows along a new axis 0; every other one runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.over_rows import first_line
from fdfast.operations import TABLE, Kernel, Rows, Unmapped, repeated
from fdfast.tape import Traced

Array = npt.NDArray[Any]
#: What is known of a tensor from its shape: the same for all rows.
_OF_SHAPE: dict[str, Callable[[Any], Any]] = {
    "Shape": lambda shape: shape,
    "ShapeN": lambda shape: shape,
    "Size": lambda shape: int(np.prod(shape, dtype=np.int64)),
    "Rank": len,
}


#: Operations that run another graph.
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class _Names(NamedTuple):
    """Names of the tensors of one graph, among all graphs that call each other."""

    prefix: str
    known: dict[str, str]

    def of(self, tensors: Sequence[Any]) -> tuple[str, ...]:
        return tuple(self.known.get(t.name, self.prefix + t.name) for t in tensors)


class _Step(NamedTuple):
    run: Callable[..., list[Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done_with: tuple[str, ...]


class Stacked:
    """A traced function, with one of its arguments replaced by many rows.

    Parameters
    ----------
    traced : Traced
    place : int
        Of the argument that moves, among the flat ones.

    Attributes
    ----------
    row_bytes : int
        Memory of one row in flight: three times the widest tensor.

    Raises
    ------
    Unmapped
        An operation keeps state, draws random numbers, or has no rule.
    """

    def __init__(self, traced: Traced, place: int) -> None:
        graph = traced.graph
        self._captured = traced.captured
        self._inputs = [t.name for t in graph.inputs]
        self._moving = graph.inputs[place].name
        self._constants: dict[str, Any] = {}
        self._held: list[_Step] = []
        self._rows: list[_Step] = []
        self._moved = {self._moving}
        self.row_bytes = 3 * max(1, _bytes(graph.inputs[place]))
        self._outputs = self._add_graph(graph, self._inputs, "")
        self._drop()

    def _add_graph(self, graph: Any, inputs: Sequence[str], prefix: str) -> list[str]:
        """Add the operations of a graph; return the names of its outputs.

        Parameters
        ----------
        graph : FuncGraph
        inputs : sequence of str
            Names of its inputs.
        prefix : str
            What is put before the names of its own tensors.
        """
        for op in graph.get_operations():
            if op.op_def.is_stateful and op.type != "ReadVariableOp" and op.type not in _CALLS:
                raise Unmapped(f"{op.type} keeps state")
        names = _Names(prefix, dict(zip((t.name for t in graph.inputs), inputs, strict=True)))
        for op in _needed(graph):
            if op.type == "Placeholder":
                if op.outputs[0].name not in names.known:
                    raise Unmapped("it has a placeholder of its own")
            elif op.type in _CALLS:
                called = graph._get_function(op.get_attr("f").name)
                if called is None or called.definition.attr["_XlaMustCompile"].b:
                    raise Unmapped(f"{op.type} calls a function that is not at hand, or compiled by XLA")
                if len(called.graph.outputs) != len(op.outputs):
                    # A gradient has been asked for meanwhile: TensorFlow then adds outputs to the graph.
                    raise Unmapped(f"{op.type} calls a function whose graph has changed since")
                found = self._add_graph(called.graph, names.of(op.inputs), f"{prefix}{op.name}|")
                names.known.update(zip((t.name for t in op.outputs), found, strict=True))
            else:
                self._add(op, names.of(op.inputs), names.of(op.outputs))
        return list(names.of(graph.outputs))

    def _add(self, op: Any, names: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        moves = [name in self._moved for name in names]
        if op.type == "Const":
            self._constants[outputs[0]] = tf.constant(tf.make_ndarray(op.get_attr("value")), op.get_attr("dtype"))
        elif any(attribute.type in ("func", "list(func)") for attribute in op.op_def.attr):
            raise Unmapped(f"{op.type} calls functions in a way of its own")
        elif not any(moves):
            self._held.append(_Step(Kernel.of(op), names, outputs, ()))
        elif op.type in _OF_SHAPE:
            for source, name, target in zip(op.inputs, outputs, op.outputs, strict=True):
                if not source.shape.is_fully_defined():
                    raise Unmapped(f"{op.type} of a tensor whose shape is not known")
                known = _OF_SHAPE[op.type](source.shape.as_list())
                self._constants[name] = tf.constant(known, target.dtype)
        else:
            entry = TABLE.get(op.type)
            if entry is None or entry.rows is None:
                raise Unmapped(f"{op.type} has no rule")
            if entry.moving is not None and any(m and i not in entry.moving for i, m in enumerate(moves)):
                raise Unmapped(f"{op.type} has no rule for an input that moves here")
            self._rows.append(_Step(_bound(entry.rows, Kernel.of(op, moves)), names, outputs, ()))
            self._moved.update(outputs)
            self.row_bytes = max([self.row_bytes, *(3 * _bytes(t) for t in op.outputs)])

    def _drop(self) -> None:
        """Note after which step a tensor is used no more."""
        kept = set(self._outputs)
        for i in range(len(self._rows) - 1, -1, -1):
            step = self._rows[i]
            last = {name for name in (*step.inputs, *step.outputs) if name in self._moved and name not in kept}
            self._rows[i] = step._replace(done_with=tuple(last))
            kept |= last

    def bind(self, arguments: Sequence[Any]) -> Callable[[Any], list[Any]]:
        """Compute what does not depend on the rows.

        Parameters
        ----------
        arguments : sequence of tensor
            All arguments; the one that moves is not read.

        Returns
        -------
        callable
            ``run(rows)`` takes a tensor or array of shape (rows, *shape of the argument) and returns the outputs as
            tensors of shape (rows, *shape of the output). Raises Unmapped where an operation refuses.
        """
        held = dict(self._constants)
        given = [tf.convert_to_tensor(argument) for argument in arguments]
        held.update(zip(self._inputs, [*given, *self._captured()], strict=True))
        try:
            for step in self._held:
                held.update(zip(step.outputs, step.run(*(held[name] for name in step.inputs)), strict=True))
        except _FAILURES as error:
            raise _refusal(error) from error
        return lambda rows: self._run(rows, held)

    def _run(self, rows: Any, held: dict[str, Any]) -> list[Any]:
        moved = {self._moving: tf.convert_to_tensor(rows)}
        count = len(rows)
        try:
            for step in self._rows:
                inputs = [moved[name] if name in self._moved else held[name] for name in step.inputs]
                moved.update(zip(step.outputs, step.run(count, *inputs), strict=True))
                for name in step.done_with:
                    del moved[name]
        except _FAILURES as error:
            raise _refusal(error) from error
        return [moved[name] if name in self._moved else repeated(held[name], count) for name in self._outputs]


_FAILURES = (tf.errors.OpError, ValueError, TypeError)


def _refusal(error: Exception) -> Unmapped:
    return Unmapped(f"TensorFlow cannot run it for many rows at once ({first_line(error)})")


def _bound(apply: Rows, kernel: Kernel) -> Callable[..., list[Any]]:
    def run(rows: int, *inputs: Any) -> list[Any]:
        found = apply(kernel, rows, *inputs)
        return found if isinstance(found, list) else [found]

    return run


def _needed(graph: Any) -> list[Any]:
    """Operations that the outputs depend on, in an order in which they can run."""
    waiting, found = [t.op for t in graph.outputs], set()
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting += [t.op for t in op.inputs]
    return [op for op in graph.get_operations() if op.name in found]


def _bytes(tensor: Any) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size if tensor.shape.is_fully_defined() else 0
