"""Operations of a graph, or of a recording, at many rows: each one once for all rows, in the precision that it has."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import function_def_to_graph

from fdfast.operations import TABLE, Kernel, Operation, Plain, Unmapped
from fdfast.tape.recorder import Recorder
from fdfast.tape.tape import Handle, Tape, changes

#: Operations whose outputs are known from the shapes of their inputs: the same for all rows.
_OF_SHAPE = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
_FAILURES = (Unmapped, tf.errors.OpError, ValueError, TypeError, AssertionError, KeyError)


class InRows(Recorder):
    """Runs operations at many rows of some values.

    Attributes
    ----------
    count : int
        Number of rows.
    moved : set of int
        Numbers of the values that have the rows along axis 0.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.count = 1
        self.moved: set[int] = set()

    lift = staticmethod(lambda value: value)

    def restart(self, count: int) -> None:
        """Forget the values, keep kernels and constants."""
        self.tape, self.moved, self.count = Tape(), set(), count

    def held(self, value: Any) -> Any:
        """Take in a value that is the same for all rows; returns what stands for it."""
        return Handle(value) if value.dtype == tf.resource else self.tape.add(value)

    def rows(self, values: Any) -> int:
        """Take in a value of each row."""
        number = self.tape.add(values)
        self.moved.add(number)
        return number

    def shape_of(self, slot: int) -> Any:
        """Shape of the value of one row."""
        shape = self.tape.values[slot].shape
        return shape[1:] if slot in self.moved else shape

    def emit(self, kernel: Any, slots: Sequence[Any], name: str) -> list[int]:
        """Run an operation, at all rows if one of its inputs moves.

        Raises
        ------
        Unmapped
            It changes a state or draws random numbers, or takes rows of something that has none.
        """
        tape = self.tape
        if any(isinstance(slot, tuple) for slot in slots):
            raise Unmapped(f"{name} ({kernel.kind}) takes a list of tensors")
        moves = [slot in self.moved for slot in slots]
        values = [slot.tensor if isinstance(slot, Handle) else tape.values[slot] for slot in slots]
        if not any(moves):
            return [tape.add(value) for value in kernel.raw(*values)]
        return [self.rows(value) for value in at_rows(kernel, self.count, values, moves)]

    def _operation(self, graph: Any, op: Any, slots: list[Any], prefix: str) -> list[Any]:
        if changes(op.op_def):
            raise Unmapped(f"{op.name} ({op.type}) keeps state or draws random numbers")
        return super()._operation(graph, op, slots, prefix)

    def operation(self, graph: Any, op: Any, slots: list[Any]) -> list[Any]:
        """Run one operation of a graph, with all that it calls."""
        return self._operation(graph, op, slots, "")

    def _decide(self, slot: int, name: str) -> Any:
        value = self.tape.values[slot].numpy()
        if slot not in self.moved:
            return value
        if not (value == value[0]).all():
            raise Unmapped(f"{name}: rows take different branches")
        return value[0]

    def _constant(self, op: Any, name: str) -> Any:
        if id(op) not in self._constants:
            self._constants[id(op)] = tf.constant(tf.make_ndarray(op.get_attr("value")), op.get_attr("dtype"))
        return self._constants[id(op)]

    def _kernel(self, op: Any) -> Any:
        if id(op) not in self._kernels:
            self._kernels[id(op)] = Plain.of(op)
        return self._kernels[id(op)]

    def made(self, kind: str, attributes: dict[str, Any], slots: Sequence[int], name: str) -> list[int]:
        """Run an operation that stands in for what the graph has."""
        return self.emit(Plain(kind, attributes), slots, name)


def at_rows(kernel: Kernel, count: int, values: Sequence[Any], moves: Sequence[bool]) -> list[Any]:
    """An operation at all rows: by its rule; one row after the other where it has none, or that refuses."""
    entry = TABLE.get(kernel.kind)
    if entry is not None and entry.rows is not None and _may_move(entry, moves):
        with contextlib.suppress(*_FAILURES):  # the rows one after the other, then
            found: Any = entry.rows(kernel.moving(moves), count, *values)
            return found if isinstance(found, list) else [found]
    each = [tf.unstack(v, count) if m else [v] * count for v, m in zip(values, moves, strict=True)]
    parts = [kernel.raw(*row) for row in zip(*each, strict=True)]
    try:
        return [tf.stack(column) for column in zip(*parts, strict=True)]
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise Unmapped(f"rows of {kernel.kind} have different shapes, or none") from error


def _may_move(entry: Operation, moves: Sequence[bool]) -> bool:
    return entry.moving is None or all(i in entry.moving for i, m in enumerate(moves) if m)


def called(graph: Any, name: str) -> Any:
    """Graph of a function of a graph; Unmapped if it is not at hand, or compiled by XLA."""
    found = graph._get_function(name)
    if found is None or found.definition.attr["_XlaMustCompile"].b:
        raise Unmapped(f"{name} is not at hand, or compiled by XLA")
    return getattr(found, "graph", None) or graph_of(found.name, found.definition.SerializeToString())


@functools.lru_cache(maxsize=64)
def graph_of(name: str, definition: bytes) -> Any:
    """Graph of a function that is known by its definition alone, with all that it calls."""
    whole = function_pb2.FunctionDef.FromString(definition)
    if whole.attr["_XlaMustCompile"].b:
        raise Unmapped(f"{name} is compiled by XLA")
    return function_def_to_graph.function_def_to_graph(whole, include_library_functions=True)


class Step(NamedTuple):
    """One operation: ``run(recorder, slots)`` gives what stands for its outputs; inputs and outputs by their keys."""

    kind: str
    run: Callable[[InRows, list[Any]], list[Any]]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class Moving:
    """What of some operations depends on one value, and is needed for others.

    Parameters
    ----------
    steps : sequence of Step
        In an order in which they can run.
    source : hashable
        Key of the value that moves.
    targets : sequence of hashable
        Keys of the values that are wanted.
    made_anew : callable
        Whether the value of a key cannot be given, though it does not move: what makes it then runs, too.
    recorder : InRows, optional
        One that knows the kernels already.

    Attributes
    ----------
    held : list of hashable
        Keys of the values that these operations take from outside.
    moves : list of bool
        Which targets move.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        source: Any,
        targets: Sequence[Any],
        made_anew: Callable[[Any], bool] = lambda key: False,
        recorder: InRows | None = None,
    ) -> None:
        moved, found = {source}, set()
        for i, step in enumerate(steps):
            if step.kind not in _OF_SHAPE and not moved.isdisjoint(step.inputs):
                moved.update(step.outputs)
                found.add(i)
        self._source, self._targets = source, list(targets)
        self.moves = [target in moved for target in targets]
        wanted, needed = {target for target in targets if target in moved}, []
        for i, step in reversed([*enumerate(steps)]):
            outputs = wanted.intersection(step.outputs)
            if outputs and (i in found or any(map(made_anew, outputs))):
                needed.append(step)
                wanted.update(step.inputs)
        self._steps = needed[::-1]
        #: Keys of the values that move on the way.
        self.made = {key for step in self._steps for key in step.outputs}
        self.held = list(dict.fromkeys(k for k in wanted if k != source and k not in self.made))
        self._recorder = recorder or InRows()

    def __call__(self, rows: Any, held: Mapping[Any, Any]) -> list[Any]:
        """Values of the targets, the rows along axis 0; None for one that does not move.

        Parameters
        ----------
        rows : tensor or ndarray, shape (rows, *shape of the source)
        held : mapping
            Tensors of the keys in `held`.

        Raises
        ------
        Unmapped, NoTape, tf.errors.OpError
            An operation cannot be run at these rows.
        """
        recorder = self._recorder
        recorder.restart(len(rows))
        slots = {key: recorder.held(held[key]) for key in self.held}
        slots[self._source] = recorder.rows(tf.convert_to_tensor(rows))
        for step in self._steps:
            slots.update(zip(step.outputs, step.run(recorder, [slots[key] for key in step.inputs]), strict=True))
        found = [
            self._value(recorder, slots[key]) if moves else None
            for key, moves in zip(self._targets, self.moves, strict=True)
        ]
        recorder.restart(0)  # the values go
        return found

    @staticmethod
    def _value(recorder: InRows, slot: int) -> Any:
        value = recorder.tape.values[slot]
        return value if slot in recorder.moved else tf.broadcast_to(value, [recorder.count, *value.shape])


def replayed(steps: Sequence[Step], given: Mapping[Any, Any], target: Any, held: Mapping[Any, Any]) -> Any:
    """The target at other values of some keys, without rows; what does not depend on them is held."""
    moved = set(given)
    for step in steps:
        if not moved.isdisjoint(step.inputs):
            moved.update(step.outputs)
    still = {key: value for key, value in held.items() if key not in moved}
    return evaluated(steps, {**still, **given}, [target])[target]


def evaluated(
    steps: Sequence[Step], given: Mapping[Any, Any], targets: Sequence[Any], recorder: InRows | None = None
) -> dict[Any, Any]:
    """Values of what the targets depend on, by key, without rows; but those of lists and resources."""
    needed, wanted = [], {target for target in targets if target not in given}
    for step in reversed(steps):
        if not wanted.isdisjoint(step.outputs):
            needed.append(step)
            wanted.update(key for key in step.inputs if key not in given)
    recorder = recorder or InRows()
    recorder.restart(1)
    slots: dict[Any, Any] = {}
    for step in reversed(needed):
        for key in step.inputs:
            if key not in slots:
                slots[key] = recorder.held(given[key])
        slots.update(zip(step.outputs, step.run(recorder, [slots[key] for key in step.inputs]), strict=True))
    found = {key: recorder.tape.values[slot] for key, slot in slots.items() if isinstance(slot, int)}
    return {**found, **{target: given[target] for target in targets if target in given}}


def row_bytes(keys: Collection[Any], values: Mapping[Any, Any]) -> int:
    """Memory of one row of these values."""
    return sum(values[key].dtype.size * values[key].shape.num_elements() for key in keys if key in values)
