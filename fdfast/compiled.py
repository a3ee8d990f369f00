"""A model and its loss for the compiled kernels: the program, and the network's values at points from Keras itself."""

from __future__ import annotations

import functools
import math
import weakref
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast import _core
from fdfast.differences import Moved, NoGraph, Step, Unrolled, call_step, push_steps, unroll
from fdfast.lowering import Lowered, Node, NotCompiled, Where, lower
from fdfast.pushed import PushedObjective
from fdfast.rules.linear import before_activation
from fdfast.rules.losses import described, find_loss
from fdfast.rules.registry import find_rule
from fdfast.traced import Traced

Float64 = npt.NDArray[np.float64]

_CROSS_ENTROPIES = ("categorical_crossentropy", "sparse_categorical_crossentropy")
#: TensorFlow operations that Keras' activations are.
_OPERATIONS = {
    keras.activations.relu: "Relu",
    keras.activations.relu6: "Relu6",
    keras.activations.sigmoid: "Sigmoid",
    keras.activations.tanh: "Tanh",
    keras.activations.softmax: "Softmax",
    keras.activations.softplus: "Softplus",
    keras.activations.softsign: "Softsign",
    keras.activations.exponential: "Exp",
}
_LAST = {"softmax": keras.activations.softmax, "sigmoid": keras.activations.sigmoid}


class NoDifferences(Exception):
    """Differences cannot be pushed through this objective; the message says what stands in the way."""


class Compiled:
    """How differences of the input become differences of the loss.

    Parameters
    ----------
    objective : fdfast.objective.TracedObjective
        Of a Sequential or functional Keras model in float64 and a loss with a rule.
    dtype : numpy.dtype
        What the differences are computed in; the values at the points always are float64.

    Attributes
    ----------
    without_rule : list of str
        Layers that are subtracted, in float64, for want of a rule.
    complete : bool
        All of it runs in the compiled kernels.
    layers : list of str
        Name of the layer of each node of the program.

    Raises
    ------
    NoDifferences
    """

    def __init__(self, objective: Any, dtype: np.dtype[Any]) -> None:
        model, loss = objective.model, objective.loss
        if model is None:
            raise NoDifferences("f is a callable, not a Keras model with a loss")
        self._rule = find_loss(loss.original)
        if self._rule is None:
            raise NoDifferences(f"the loss {loss.name!r} has no difference rule")
        try:
            self.graph = unroll(model)
        except NoGraph as error:
            raise NoDifferences(str(error)) from None
        if np.dtype(objective.dtype) != np.float64:
            raise NoDifferences("there is no float64 copy of the model for the values at x")
        missing = [step.operation for step in self.graph.steps if find_rule(step.operation) is None]
        self.without_rule = [f"{one.name} ({type(one).__name__})" for one in missing]
        self.dtype = np.dtype(dtype)
        self.shape = objective.shape
        self._sums = loss.sums
        self._name, self._config = described(loss.original)
        self.verified = 0
        self._version = objective.version
        self._build()
        self._pass: BasePass | None = None

    def _build(self) -> None:
        try:
            lowered = lower(self.graph, self.shape)
        except NotCompiled as error:
            raise NoDifferences(str(error)) from None
        self.lowered, self._loss, self._activation = self._with_loss(lowered)
        self.complete = self._loss is not None
        self.layers = self.lowered.layers
        self.program = self.lowered.build(self.dtype)
        # The value that the rest starts from comes last.
        ends = [] if self.complete else [self.lowered.nodes[-1].where]
        self.wanted: list[Where] = [self.lowered.nodes[n].where for n in self.program.needed] + ends
        self._weights = [] if self._version is not None else self._weights_now()

    def _weights_now(self) -> list[npt.NDArray[Any]]:
        done = self.graph.steps[: len(self.graph.steps) - len(self.lowered.rest)]
        unique = {id(step.operation): step.operation for step in done}
        return [w.numpy() for layer in unique.values() for w in layer.weights]

    def _with_loss(self, lowered: Lowered) -> tuple[Lowered, str | None, Any]:
        """Append the loss if the kernels know it; else take a last softmax or sigmoid off, which its rule looks for."""
        if lowered.rest:
            return lowered, None, None
        nodes, layers = list(lowered.nodes), list(lowered.layers)
        last = nodes[-1]
        name = "softmax" if last.op == "softmax" else str(last.options.get("function"))
        activation = _LAST.get(name) if last.where[1] == "out" else None
        vector = last.shape[:2] == (1, 1)
        loss = None
        if self._name in _CROSS_ENTROPIES and vector and (last.op == "softmax" or self._config.get("from_logits")):
            loss = "cross_entropy"
        elif self._name == "mean_squared_error" and vector and len(self.graph_output_shape()) == 1:
            loss, activation = "squared_error", None
        if activation is not None and (loss is not None or self._name not in ("mean_squared_error",)):
            nodes, layers = nodes[:-1], layers[:-1]
        if loss is not None:
            nodes.append(Node(loss, [len(nodes) - 1], (1, 1, 1), (-1, "")))
            layers.append("loss")
            activation = None
        return Lowered(nodes, layers, lowered.value, [], ""), loss, activation

    def graph_output_shape(self) -> tuple[int, ...]:
        """Shape of the model's output without its batch axis."""
        last = self.graph.steps[-1].operation.output
        shape: tuple[int, ...] = tuple(last.shape[1:])
        return shape

    @functools.cached_property
    def share(self) -> float:
        """Part of the multiplications of a forward pass that the compiled kernels see."""
        done = len(self.graph.steps) - len(self.lowered.rest)
        work = [_work(step.operation) for step in self.graph.steps]
        return sum(work[:done]) / sum(work) if sum(work) else float(self.complete)

    def blame(self, point: Float64) -> str:
        """Name the first layer whose rule and whose own values part, in words."""
        rng = np.random.default_rng(0)
        z = tf.constant(point.reshape(1, *self.shape), tf.float64)
        d = tf.constant(2.0**-8 * rng.normal(size=(1, *self.shape)), tf.float64)
        moved, there = {0: Moved(z, d)}, {0: z + d}
        for step in self.graph.steps:
            moved = push_steps([step], moved, d)
            there.update(zip(step.outputs, call_step(step, there), strict=True))
            for number in step.outputs:
                one = moved[number]
                if one.d is None:
                    continue
                gap = tf.reduce_max(tf.abs(there[number] - one.z - one.d))
                if gap > 1e-9 * tf.reduce_max(tf.abs(one.z)) + 1e-9 * tf.reduce_max(tf.abs(one.d)):
                    return f"they part at layer {step.operation.name!r} ({type(step.operation).__name__})"
        return "layer by layer the rules agree with the model, so the compiled kernels or the loss do not: a bug"

    def refresh(self, version: int | None) -> None:
        """Build the program anew if the model's weights have changed: training may have gone on.

        `version` is that of the float64 copy, or None where there is none and weights have to be compared.
        """
        if version is not None and version == self._version:
            return
        if version is None and all(
            np.array_equal(a, b) for a, b in zip(self._weights_now(), self._weights, strict=True)
        ):
            return
        self._version = version
        self._build()
        self.verified = 0

    @functools.cached_property
    def point_bytes(self) -> int:
        """Memory that the values at one point take, as Keras gives them and as the kernels hold them."""
        item = self.dtype.itemsize
        total = 0
        for node in self.lowered.nodes:
            size = math.prod(node.shape)
            window = node.options.get("window", (1, 1))
            held = {"maximum": window[0] * window[1], "smooth": 3, "multiply": 2, "ramp": 2}.get(node.op, 0)
            total += size * (2 * 8 + held * item)
        return total

    def values(self, objective: Any, points: Float64) -> tuple[list[Float64], Float64, Float64]:
        """Values of the network at points, shape (points, size), in the order of `wanted`.

        And the losses there, shape (points,): layer by layer, and by the model as a whole.
        """
        return self._base_pass(objective)(points, objective.context)

    def with_gradients(self, objective: Any, points: Float64) -> tuple[list[Float64], Float64, Float64]:
        """Values as above, the losses layer by layer, and autodiff's gradients, shape (points, *shape), in one call.

        Only where `graph.plain`: the layers, called one by one, then are the model.
        """
        return self._base_pass(objective).with_gradients(points, objective.context)

    def _base_pass(self, objective: Any) -> BasePass:
        if self._pass is None:
            self._pass = BasePass(self.graph, self.wanted, objective, own=not self.graph.plain)
        return self._pass

    def prepare(self, values: list[Float64], targets: Any, threads: int | None) -> _core.Prepared:
        """Bring the values into the form that the kernels read."""
        count = len(self.program.needed)
        shapes = [self.lowered.nodes[n].shape for n in self.program.needed]
        maps = [np.ascontiguousarray(v.reshape(-1, *s)) for v, s in zip(values[:count], shapes, strict=True)]
        return self.program.prepare(maps, self.target_rows(targets) if self.complete else None, threads=threads)

    def target_rows(self, targets: Any) -> Float64:
        """Targets of the loss as the kernels take them, shape (points, classes)."""
        given = targets.numpy()
        classes = math.prod(self.lowered.nodes[self.lowered.nodes[-1].sources[0]].shape)
        if self._name == "sparse_categorical_crossentropy":
            given = np.eye(classes)[given.reshape(-1)]
        smoothing = float(self._config.get("label_smoothing", 0.0))
        rows: Float64 = np.ascontiguousarray(given.reshape(len(given), classes), np.float64)
        return rows * (1 - smoothing) + smoothing / classes if smoothing else rows

    def rest(self, objective: Any) -> PushedObjective:
        """What is left of the way to the loss, on whole maps."""
        lowered = self.lowered
        shape = self.shape if len(lowered.nodes) == 1 else self._rest_shape()
        return PushedObjective(
            objective, self._rule, lowered.rest, lowered.value, self.graph.output, shape, self._activation
        )

    def _rest_shape(self) -> tuple[int, ...]:
        for step in self.graph.steps:
            if self.lowered.value in step.outputs:
                found: tuple[int, ...] = tuple(step.operation.output.shape[1:])
                return found
        whole: tuple[int, ...] = self.shape
        return whole


class BasePass:
    """Values of the network at points, traced once: each layer called as Keras does, in float64."""

    def __init__(self, graph: Unrolled, wanted: list[Where], objective: Any, *, own: bool = True) -> None:
        keys = sorted(set(wanted))
        self._order = [keys.index(where) for where in wanted]
        sharp = objective.loss.sharp if objective.traced.is_sharp else objective.loss.of_rows

        def loss_of(prediction: Any, targets: Any, loss: Any = sharp) -> Any:
            target = tf.cast(targets, prediction.dtype) if targets.dtype.is_floating else targets
            return tf.reshape(loss(target, prediction), [-1])

        def forward(points: Any) -> tuple[list[Any], Any]:
            found: dict[Where, Any] = {(0, "out"): points}
            out: dict[int, Any] = {0: points}
            for step in graph.steps:
                number = step.outputs[0]
                out.update(zip(step.outputs, call_step(step, out), strict=True))
                if (number, "pre") in keys:
                    found[(number, "pre")] = _before_last(out[number], step, out)
            found.update({(number, "out"): value for number, value in out.items()})
            return [found[key] for key in keys], out[graph.output]

        def values(points: Any, targets: Any) -> list[Any]:
            found, prediction = forward(points)
            losses = [loss_of(prediction, targets)]
            if own:
                losses.append(loss_of(objective.model(points, training=False), targets))
            return [*found, *losses]

        def with_gradients(points: Any, targets: Any) -> list[Any]:
            with tf.GradientTape() as tape:
                tape.watch(points)
                found, prediction = forward(points)
                # The loss whose gradient is under test is the caller's, not the sharp one.
                each = loss_of(prediction, targets, objective.loss.of_rows)
            gradient = tape.gradient(each, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [*found, loss_of(prediction, targets), gradient]

        spec = tf.TensorSpec([None, *objective.shape], tf.float64)
        context = tf.TensorSpec([None, *objective.context.shape[1:]], objective.context.dtype)
        self._values, self._with_gradients = (
            tf.function(function, input_signature=[spec, context]) for function in (values, with_gradients)
        )
        self._traced: dict[Any, Traced] = {}
        self._shape, self._losses = objective.shape, len(keys)

    def __call__(self, points: Float64, targets: Any) -> tuple[list[Float64], Float64, Float64]:
        """Return the values in the order asked for; the losses, layer by layer and by the model; each (points,).

        Without `own` the model as a whole is not called, and both losses are the same.
        """
        return self._call(self._values, points, targets)

    def with_gradients(self, points: Float64, targets: Any) -> tuple[list[Float64], Float64, Float64]:
        """Return the values, the losses layer by layer, and autodiff's gradients; see `Compiled.with_gradients`."""
        return self._call(self._with_gradients, points, targets)

    def _call(self, function: Any, points: Float64, targets: Any) -> tuple[list[Float64], Float64, Float64]:
        if function not in self._traced:
            self._traced[function] = Traced(function)
        rows = tf.constant(points.reshape(-1, *self._shape), tf.float64)
        found = self._traced[function](rows, targets)
        return [found[i].numpy() for i in self._order], found[self._losses].numpy(), found[-1].numpy()


def _before_last(value: Any, step: Step, values: dict[int, Any]) -> Any:
    """What a layer's activation was applied to: the input of the operation it ends with, or else computed again.

    The layer's own tensor is better: it costs nothing more.
    """
    operation = getattr(value, "op", None)
    activation = getattr(step.operation, "activation", None)
    if operation is not None and operation.type == _OPERATIONS.get(activation):
        return operation.inputs[0]
    source = values[step.inputs[0]]
    before = before_activation(step.operation, source)
    return source if before is None else before  # an activation layer: what comes in


def _work(layer: Any) -> float:
    """Multiplications of one layer on one example."""
    kernel = [w for w in layer.weights if len(w.shape) > 1] if isinstance(layer, keras.Layer) else []
    size = sum(math.prod(w.shape) for w in kernel)
    shape = tf.nest.flatten(layer.output)[0].shape[1:]
    places = math.prod(n or 1 for n in shape[:-1])
    if "Depthwise" in type(layer).__name__ or "Separable" in type(layer).__name__:
        return float(size * places)
    return float(size * places / (getattr(layer, "groups", 1) or 1))


_compiled: weakref.WeakKeyDictionary[Any, dict[str, Compiled | str]] = weakref.WeakKeyDictionary()


def compiled_for(objective: Any, dtype: np.dtype[Any]) -> Compiled:
    """Return the compiled form of an objective, made once while its traced function lives, with its present weights.

    Raises
    ------
    NoDifferences
    """
    if objective.traced is None:
        raise NoDifferences("f is a callable, not a Keras model with a loss")
    known = _compiled.setdefault(objective.traced, {})
    name = np.dtype(dtype).name
    if name not in known:
        try:
            known[name] = Compiled(objective, np.dtype(dtype))
        except NoDifferences as error:
            known[name] = str(error)
        return _or_raise(known[name])
    found = _or_raise(known[name])
    found.refresh(objective.version)
    return found


def _or_raise(found: Compiled | str) -> Compiled:
    if isinstance(found, str):
        raise NoDifferences(found)
    return found
