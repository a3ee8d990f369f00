"""A traced function cut into layers, hand-written gradients and single operations, each with its share of the gradient.

The gradient of a function is a sum over its parts: what comes out of a part is weighted by the gradient there, and what
goes in gets the part's own share. Where the two belong together along a direction, the part's gradient is right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import ops as graph_operations

from fdfast.functions.flat import Flat
from fdfast.functions.naming import layer_scope
from fdfast.functions.over_rows import dense, first_line
from fdfast.tape import NoTape, numpy_calls

#: What stands at the edge of every part.
_EDGES = frozenset({"Placeholder", "ReadVariableOp", "Const"})


@dataclass(eq=False)
class Unit:
    """A part of a graph, between tensors that come in and tensors that go out; no way leads out and in again.

    Attributes
    ----------
    name : str
        Of the layer, of the function with a gradient of its own, or of the operation.
    kind : {"layer", "gradient", "backward", "operation"}
        What it is: ``"gradient"`` stands for a hand-written one, ``"backward"`` for what that does.
    function : str
        The function with a gradient of its own, else empty.
    inputs, outputs : list of tensor
    sources : list of tensor
        What the gradient for an input is taken for: itself, or the handle of a variable that is read inside.
    detaches : bool
        Whether tf.stop_gradient is called inside.
    dropped : list of str
        Kinds of gradients inside that TensorFlow has declared to have none of their own.
    """

    name: str
    kind: str
    function: str = ""
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    detaches: bool = False
    dropped: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Cut:
    """A traced function that returns what goes into every unit and out of it, and the gradients for these.

    Attributes
    ----------
    concrete : ConcreteFunction
        Unit by unit: inputs, outputs, and the gradients for these.
    units : list of Unit
    """

    concrete: Any
    units: list[Unit]


def cut(flat: Flat, layers: Sequence[keras.Layer]) -> Cut:
    """Trace a function and its gradient, so that every unit's share of it can be told.

    Parameters
    ----------
    flat : Flat
    layers : sequence of keras.Layer
        Those that an operation's name may tell of.
    """
    scope = layer_scope(layers)
    units: list[Unit] = []

    def traced(*tensors: Any) -> Any:
        value = (flat.named or flat.call)(*tensors)
        found = _split(value, scope)
        alive = {op.name for _, operations in found for op in operations}
        for unit, operations in found:
            _with_inputs(unit, operations, alive, flat.variables)
        units[:] = [unit for unit, _ in found if unit.inputs and unit.outputs]
        edges = [t for unit in units for t in (*unit.sources, *unit.outputs)]
        gradients = iter(tf.gradients(value, edges))
        results = []
        for unit in units:
            mine = [*unit.inputs, *unit.outputs]
            known = [(t, next(gradients)) for t in mine]
            results += [*mine, *(tf.zeros(t.shape, t.dtype) if g is None else dense(g) for t, g in known)]
        return results

    function = tf.function(traced, input_signature=flat.specs(), autograph=False)
    with numpy_calls():
        try:
            concrete = function.get_concrete_function()
        except Exception as error:
            raise NoTape(f"f cannot be traced: {first_line(error)}") from error
    return Cut(concrete, units)


def _split(value: Any, scope: Any) -> list[tuple[Unit, list[Any]]]:
    """Units of what a value depends on, with their operations."""
    operations = _needed(value.op)
    position = {op.name: i for i, op in enumerate(operations)}
    key, units = _owners(operations, scope)
    phase = _phases(operations, key, value)
    found: dict[Any, tuple[Unit, list[Any]]] = {}
    for op in operations:
        if op.type in _EDGES:
            continue
        owner = key[op.name]
        made = units[owner]
        unit, inside = found.setdefault((owner, phase[op.name]), (Unit(made.name, made.kind, made.function), []))
        inside.append(op)
    for unit, inside in found.values():
        names = {op.name for op in inside}
        unit.detaches = any(op.type == "StopGradient" for op in inside)
        unit.dropped = sorted({op.type for op in inside if _dropped(op)})
        for op in inside:
            for t in op.outputs:
                used = any(c.name in position and c.name not in names for c in t.consumers())
                if t.dtype.is_floating and (used or t is value):
                    unit.outputs.append(t)
    return list(found.values())


def _needed(last: Any) -> list[Any]:
    """Operations that a value depends on, in the order in which they were made."""
    waiting, found = [last], set()
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting += [t.op for t in op.inputs]
    return [op for op in last.graph.get_operations() if op.name in found]


def _owners(operations: list[Any], scope: Any) -> tuple[dict[str, Any], dict[Any, Unit]]:
    """Which unit every operation belongs to: a hand-written gradient, a call of a layer, or none but its own."""
    key: dict[str, Any] = {}
    units: dict[Any, Unit] = {}
    place = {op.name: i for i, op in enumerate(operations)}
    graph = operations[-1].graph.get_operations() if operations else []
    by_hand = {op.name: function for op in graph if (function := _hand_written(op)[0])}
    for op in reversed(operations):
        layer, path = scope(op.name)
        function, results, arguments = _hand_written(op)
        if function and op.name not in key:  # the outermost one: the gradients inside of it are not asked
            units[op.name] = Unit(layer or function, "gradient", function)
            key.update((name, op.name) for name in _inside(op, results, arguments, place))
        forward = _forward_of(op.name, by_hand)
        if forward and op.name not in key:
            units[forward, "back"] = Unit(layer or by_hand[forward], "backward", by_hand[forward])
            key[op.name] = (forward, "back")
        if op.name not in key:
            key[op.name] = path if layer else op.name
            units.setdefault(key[op.name], Unit(layer or op.name, "layer" if layer else "operation"))
    return key, units


def _forward_of(name: str, known: Collection[str]) -> str:
    """The known operation that one is in the gradient of, by its name; "" for none.

    ``"gradients/net/swish_1/IdentityN_grad/mul"`` is in the gradient of ``"net/swish_1/IdentityN"``.
    """
    parts = name.split("/")
    for i, part in enumerate(parts[:-1]):
        if part.endswith("_grad"):
            for start in range(i + 1):
                candidate = "/".join([*parts[start:i], part.removesuffix("_grad")])
                if candidate in known:
                    return candidate
    return ""


def _inside(op: Any, results: list[Any], arguments: list[Any], place: dict[str, int]) -> set[str]:
    """Operations of a function with a gradient of its own: between its arguments and the operation that it ends in."""
    edge = {t.name for t in arguments}
    first = min((place[t.op.name] for t in arguments if t.op.name in place), default=place[op.name])
    waiting, found = list(results), {op.name}
    while waiting:
        t = waiting.pop()
        # What it takes from around it is older than its arguments, mostly.
        if t.name not in edge and t.op.name not in found and place.get(t.op.name, -1) >= first:
            found.add(t.op.name)
            waiting += t.op.inputs
    return found


def _phases(operations: list[Any], key: dict[str, Any], value: Any) -> dict[str, int]:
    """How often a way into each operation has left its unit and come back, or passed what is used elsewhere, too."""
    inside = {op.name for op in operations}
    phase: dict[str, int] = {}
    behind: dict[str, dict[Any, int]] = {}
    for op in operations:
        seen: dict[Any, int] = {}
        mine, level = key[op.name], 0
        for t in op.inputs:
            if t.op.type in _EDGES:
                continue
            for owner, at in behind[t.op.name].items():
                if seen.get(owner, -1) < at:
                    seen[owner] = at
            if key[t.op.name] == mine:
                shared = t is value or any(c.name in inside and key[c.name] != mine for c in t.consumers())
                level = max(level, phase[t.op.name] + shared)
            elif mine in behind[t.op.name]:
                level = max(level, behind[t.op.name][mine] + 1)
        phase[op.name] = seen[mine] = level
        behind[op.name] = seen
    return phase


def _with_inputs(unit: Unit, operations: list[Any], alive: set[str], variables: Sequence[Any]) -> None:
    """Give a unit copies of what comes in, so that its own share of the gradient for it can be told."""
    names = {op.name for op in operations}
    copies: dict[str, Any] = {}
    handles: dict[str, Any] = {}
    for op in operations:
        for i, t in enumerate(op.inputs):
            if t.dtype == tf.resource and all(c.name in names or c.name not in alive for c in t.consumers()):
                handles[t.name] = t
            if t.op.name in names or not t.dtype.is_floating or t.op.type == "Const":
                continue
            if t.name not in copies:
                copies[t.name] = tf.identity(t)
            op._update_input(i, copies[t.name])
    unit.inputs = list(copies.values())
    unit.sources = list(copies.values())
    for handle in handles.values():
        outer = next(outer for outer, inner in handle.graph.captures if inner is handle)
        for variable in variables:
            if outer is variable.handle:
                unit.inputs.append(tf.raw_ops.ReadVariableOp(resource=handle, dtype=variable.dtype))
                unit.sources.append(handle)


def _hand_written(op: Any) -> tuple[str, list[Any], list[Any]]:
    """Name of the function under tf.custom_gradient that ends in an operation, its results and arguments; "" if none.

    What its gradient is named after: the function around it, for TensorFlow's own the one that is called.
    """
    try:
        registered = graph_operations.gradient_registry.lookup(op.get_attr("_gradient_op_type").decode())
    except (ValueError, LookupError):
        return "", [], []
    inside = _closure(_closure(registered).get("tape_grad_fn"))
    if "grad_fn" not in inside:
        return "", [], []
    around = getattr(inside["grad_fn"], "__qualname__", "").split(".<locals>")
    library = str(getattr(inside["grad_fn"], "__module__", "")).startswith(("tensorflow.", "keras."))
    name = around[0 if library or len(around) == 1 else -2].split(".")[-1]
    many = inside.get("flat_result_len", 1)
    return name or op.name, list(op.inputs)[:many], list(op.inputs)[many:]


def _dropped(op: Any) -> bool:
    """Whether an operation is a gradient that `tf.no_gradient` has been called for: what passes it is lost."""
    try:
        return bool(op.type.endswith("Grad") and graph_operations.gradient_registry.lookup(op.type) is None)
    except LookupError:
        return False


def _closure(function: Any) -> dict[str, Any]:
    """What a Python function has from where it was made, by name."""
    code = getattr(function, "__code__", None)
    if code is None or not function.__closure__:
        return {}
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__, strict=True)}
