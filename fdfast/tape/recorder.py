"""Records a traced function at a point, in float64 whatever it was traced in.

The graph runs operation by operation. Calls are inlined, loops and conditions are followed as the values say, tensor
lists are Python tuples, variables are inputs. Only what the outputs depend on runs: no assignment, no seed advances.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from fdfast.operations import LIFTS, NARROW, Kernel, Unmapped
from fdfast.tape.lists import LISTS, of_lists
from fdfast.tape.tape import Entry, Guard, Handle, NoTape, Tape

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
#: Kernels that draw other numbers in another precision, or that look at the bits.
_OWN_PRECISION = (
    "Random",
    "Stateless",
    "Stateful",
    "Multinomial",
    "TruncatedNormal",
    "ParameterizedTruncated",
    "Bitcast",
)
#: Draws that write to a variable, the state of their generator, which comes first.
_GENERATORS = (
    *("RngReadAndSkip", "StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformInt"),
    *("StatefulUniformFullInt", "StatefulRandomBinomial"),
)
#: What runs Python or another program: nothing is known of it.
OPAQUE = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "XlaCustomCallV2", "TfLiteSubgraphExecute")


def lifted(value: Any) -> Any:
    """A tensor in float64 or complex128, if it is of a narrower type of that kind."""
    return tf.cast(value, LIFTS[value.dtype]) if value.dtype in LIFTS else value


#: What TensorFlow's gradient functions multiply by, rounded where they are traced: of erf, erfinv, ndtri, log.
_IRRATIONAL = [
    sign * number
    for number in (
        2 / math.sqrt(math.pi),
        math.sqrt(math.pi) / 2,
        math.sqrt(2 * math.pi),
        math.log(2.0),
        math.log(10.0),
    )
    for sign in (1.0, -1.0)
]


def _unrounded(value: Any) -> Any:
    """The irrational number that a constant of a gradient was rounded from; None if it was none that is known."""
    if value.dtype not in NARROW or value.shape.rank != 0:
        return None
    for number in _IRRATIONAL:
        if bool(tf.cast(number, value.dtype) == value):
            return tf.constant(number, tf.float64)
    return None


#: Graphs that were made of functions of an older kind.
_graphs: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class Narrow:
    """A kernel that runs in the precision that it was traced in: inputs are rounded to it, outputs widened.

    `rounds` says that it is so for want of a form in float64, and costs digits.
    """

    def __init__(self, kernel: Kernel, dtypes: Sequence[Any], *, rounds: bool) -> None:
        self.kernel, self._dtypes, self.rounds = kernel, list(dtypes), rounds
        self.kind, self.attributes, self.moves = kernel.kind, kernel.attributes, kernel.moves

    def moving(self, moves: Sequence[bool]) -> Narrow:
        """See `Kernel.moving`."""
        return Narrow(self.kernel.moving(moves), self._dtypes, rounds=self.rounds)

    def __call__(self, *inputs: Any, **attributes: Any) -> list[Any]:
        """See `Kernel`."""
        own = [
            tf.cast(x, dtype) if tf.is_tensor(x) and x.dtype != dtype and dtype in LIFTS else x
            for x, dtype in zip(inputs, self._dtypes, strict=True)
        ]
        return [lifted(found) for found in self.kernel(*own, **attributes)]

    raw = __call__


class Recorder:
    """Records one concrete function, at as many points as one likes; kernels and constants are kept between them.

    Parameters
    ----------
    concrete : ConcreteFunction
    rounding : set of DType
        Types that a cast to one of rounds to, instead of being lifted.
    """

    def __init__(self, concrete: Any, rounding: Collection[Any] = ()) -> None:
        self.concrete = concrete
        self._rounding = rounding
        self._kernels: dict[Any, Any] = {}
        self._constants: dict[int, Any] = {}
        self._order: dict[int, list[Any]] = {}
        self.tape = Tape()

    #: What becomes of a value that comes from outside: float64 of one in a narrower type.
    lift = staticmethod(lifted)

    def shape_of(self, slot: int) -> Any:
        """Shape of a value."""
        return self.tape.values[slot].shape

    def __call__(self, arguments: Sequence[Any]) -> Tape:
        """Run at these flat arguments, and return what ran.

        Raises
        ------
        NoTape
            An operation runs foreign code, or cannot be run by itself.
        """
        self.tape = tape = Tape()
        slots: list[Any] = [tape.add(self.lift(tf.convert_to_tensor(value))) for value in arguments]
        tape.arguments = list(slots)
        slots += [self._captured(tensor) for tensor in self.concrete.captured_inputs]
        tape.outputs = self.graph(self.concrete.graph, slots, "")
        # What does not depend on an input cannot change: no guard.
        free = tape.reached(set(tape.inputs))
        tape.guards = [guard for guard in tape.guards if guard.number in free]
        return tape

    def _captured(self, tensor: Any) -> Any:
        if tensor.dtype in (tf.resource, tf.variant):
            return Handle(tensor)
        return self.tape.add(self.lift(tensor))

    def graph(self, graph: Any, slots: Sequence[Any], prefix: str) -> list[Any]:
        """Run a graph; `slots` are numbers of values, handles, or tuples of them."""
        known = {t.name: slot for t, slot in zip(graph.inputs, slots, strict=True)}
        for op in self._needed(graph):
            if op.type == "Placeholder":
                if op.outputs[0].name not in known:
                    raise NoTape(f"{op.name} is a placeholder that nothing was given for")
                continue
            found = self._operation(graph, op, [known[t.name] for t in op.inputs], prefix)
            known.update(zip((t.name for t in op.outputs), found, strict=True))
        return [known[t.name] for t in graph.outputs]

    def _needed(self, graph: Any) -> list[Any]:
        """Operations that the outputs depend on by data, sorted: a gradient gives loops inputs that were made later."""
        if id(graph) not in self._order:
            order: dict[str, Any] = {}
            waiting = [(t.op, False) for t in reversed(graph.outputs)]
            while waiting:
                op, ready = waiting.pop()
                if ready:
                    order.setdefault(op.name, op)
                elif op.name not in order:
                    waiting.append((op, True))
                    waiting += [(t.op, False) for t in reversed(op.inputs)]
            self._order[id(graph)] = list(order.values())
        return self._order[id(graph)]

    def _operation(self, graph: Any, op: Any, slots: list[Any], prefix: str) -> list[Any]:
        kind = op.type
        name = f"{prefix}{op.name}"
        if kind in CALLS:
            return self.graph(_called(graph, op, "f"), slots, f"{name}/")[: len(op.outputs)]
        if graph._is_function(kind):
            return self.graph(_function(graph, op, kind), slots, f"{name}/")[: len(op.outputs)]
        if kind in ("While", "StatelessWhile"):
            condition, body = (_called(graph, op, which) for which in ("cond", "body"))
            while bool(self._decide(self.graph(condition, slots, f"{name}/cond/")[0], name)):
                slots = self.graph(body, slots, f"{name}/body/")[: len(op.outputs)]
            return slots
        if kind in ("If", "StatelessIf"):
            taken = "then_branch" if bool(self._decide(slots[0], name)) else "else_branch"
            return self.graph(_called(graph, op, taken), slots[1:], f"{name}/{taken}/")[: len(op.outputs)]
        if kind in ("Case", "StatelessCase"):
            branches = op.get_attr("branches")
            which = int(self._decide(slots[0], name))
            which = which if 0 <= which < len(branches) else len(branches) - 1
            branch = _function(graph, op, branches[which].name)
            return self.graph(branch, slots[1:], f"{name}/{which}/")[: len(op.outputs)]
        if kind in LISTS or any(isinstance(slot, tuple) for slot in slots):
            return of_lists(self, op, slots, name)
        if kind == "ReadVariableOp":
            return [self._variable(slots[0], op.get_attr("dtype"))]
        if kind in ("ResourceGather", "ResourceGatherNd"):
            source = self._variable(slots[0], op.get_attr("dtype"))
            if kind == "ResourceGatherNd":
                return self.made("GatherNd", {}, [source, slots[1]], name)
            batch = {"batch_dims": op.get_attr("batch_dims")}
            return self.made(
                "GatherV2", batch, [source, slots[1], self.tape.add(tf.constant(batch["batch_dims"]))], name
            )
        if kind == "VariableShape":
            return [self.tape.add(tf.raw_ops.VariableShape(input=slots[0].tensor, out_type=op.get_attr("out_type")))]
        if kind == "Const":
            return [self.tape.add(self._constant(op, name))]
        if kind in ("Identity", "IdentityN") and not all(isinstance(slot, int) for slot in slots):
            return slots
        if kind in OPAQUE:
            raise NoTape(f"{name} ({kind}) runs Python code, which has no operations to follow")
        if kind == "SymbolicGradient":
            raise NoTape(f"{name}: TensorFlow can differentiate the loop in it once, not twice")
        if kind in _SHAPES:
            return self._shapes(op, slots)
        if kind in _GENERATORS:
            slots = [_copied(slots[0]), *slots[1:]]
        return self.emit(self._kernel(op), slots, name)

    def _decide(self, slot: int, name: str) -> Any:
        value = self.tape.values[slot].numpy()
        self.tape.guards.append(Guard(slot, value, name))
        return value

    def _variable(self, handle: Handle, dtype: Any) -> int:
        key = id(handle.tensor)
        if key not in self.tape.variables:
            value = tf.raw_ops.ReadVariableOp(resource=handle.tensor, dtype=dtype)
            self.tape.handles[key] = handle
            self.tape.variables[key] = self.tape.add(self.lift(value))
        return self.tape.variables[key]

    def _constant(self, op: Any, name: str) -> Any:
        if id(op) not in self._constants:
            value = tf.constant(tf.make_ndarray(op.get_attr("value")), op.get_attr("dtype"))
            exact = _unrounded(value) if "gradient" in name else None
            self._constants[id(op)] = self.lift(value) if exact is None else exact
        return self._constants[id(op)]

    def _shapes(self, op: Any, slots: list[int]) -> list[int]:
        """Answered without running, so that axes can be read while a graph is made."""
        kernel = self._kernel(op)
        return [self.tape.add(v) for v in kernel(*(tf.zeros(self.shape_of(slot), tf.bool) for slot in slots))]

    def _kernel(self, op: Any) -> Any:
        if id(op) not in self._kernels:
            try:
                kernel = Kernel.of(op)
            except Unmapped as error:
                raise NoTape(f"{op.name} ({op.type}): {error}") from error
            narrow = any(t.dtype in LIFTS for t in (*op.inputs, *op.outputs))
            own = narrow and op.type.startswith(_OWN_PRECISION)
            if op.type == "Cast" and op.outputs[0].dtype in self._rounding:
                self._kernels[id(op)] = Narrow(kernel, [tf.float64], rounds=False)
            else:
                self._kernels[id(op)] = _in_own_precision(op, kernel, rounds=False) if own else kernel.lifted()
        return self._kernels[id(op)]

    def made(self, kind: str, attributes: dict[str, Any], slots: Sequence[int], name: str) -> list[int]:
        """Run an operation that stands in for what the graph has."""
        key = (kind, tuple(sorted(attributes.items())))
        if key not in self._kernels:
            self._kernels[key] = Kernel(kind, attributes)
        return self.emit(self._kernels[key], slots, name)

    def emit(self, kernel: Any, slots: Sequence[Any], name: str) -> list[int]:
        """Run an operation at values of the tape, and write it down."""
        tape = self.tape
        values = [slot.tensor if isinstance(slot, Handle) else tape.values[slot] for slot in slots]
        while True:
            try:
                found = kernel(*values)
                break
            except (
                tf.errors.InvalidArgumentError,
                tf.errors.NotFoundError,
                tf.errors.UnimplementedError,
                TypeError,
            ) as error:
                kernel = self._fallback(kernel, name, error)
        if isinstance(kernel, Narrow):
            tape.narrow.append(f"{name} ({kernel.kind})")
            tape.rounded += [kernel.kind] if kernel.rounds else []
        outputs = [tape.add(value) for value in found]
        numbers = tuple(tape.add(slot) if isinstance(slot, Handle) else slot for slot in slots)
        tape.entries.append(Entry(kernel, numbers, tuple(outputs), name))
        return outputs

    def _fallback(self, kernel: Any, name: str, error: Exception) -> Any:
        """The kernel as it was traced, where there is none in float64."""
        op = next((op for ops in self._order.values() for op in ops if self._kernels.get(id(op)) is kernel), None)
        if op is None or isinstance(kernel, Narrow) or not any(t.dtype in LIFTS for t in (*op.inputs, *op.outputs)):
            raise NoTape(f"{name} ({kernel.kind}) cannot run by itself: {str(error).splitlines()[0]}") from error
        self._kernels[id(op)] = _in_own_precision(op, Kernel.of(op), rounds=True)
        return self._kernels[id(op)]


def _in_own_precision(op: Any, kernel: Kernel, *, rounds: bool) -> Narrow:
    return Narrow(kernel, [t.dtype for t in op.inputs], rounds=rounds)


def _copied(handle: Handle) -> Handle:
    """A variable with the same value, which may be written to."""
    state = tf.Variable(tf.raw_ops.ReadVariableOp(resource=handle.tensor, dtype=tf.int64), trainable=False)
    return Handle(state.handle, state)


def _called(graph: Any, op: Any, attribute: str) -> Any:
    return _function(graph, op, op.get_attr(attribute).name)


def _function(graph: Any, op: Any, name: str) -> Any:
    found, around = graph._get_function(name), graph
    while found is None and (around := getattr(around, "outer_graph", None)) is not None:
        found = around._get_function(name)  # what wraps a gradient of control flow knows fewer functions than it calls
    if getattr(found, "graph", None) is not None:
        return found.graph
    definition = getattr(found, "definition", None)  # an older kind: its graph is made of that
    if definition is None:
        raise NoTape(f"{op.name} ({op.type}) calls a function that is not at hand")
    if found not in _graphs:
        with graph.as_default():
            _graphs[found] = function_def_to_graph(definition, include_library_functions=True)
    return _graphs[found]
