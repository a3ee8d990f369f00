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

import fdfast.differences.lowered_layers  # noqa: F401  (fills the table)
from fdfast import _core
from fdfast.differences.base_pass import BasePass, Foreseen
from fdfast.differences.graph import Moved, NoGraph, call_step, push_steps, unroll
from fdfast.differences.lowering import Lowered, Node, NotCompiled, Where, lower
from fdfast.differences.pushed import PushedObjective
from fdfast.differences.rules.losses import described, find_loss
from fdfast.differences.rules.registry import find_rule, is_own_rule

Float64 = npt.NDArray[np.float64]

_CROSS_ENTROPIES = ("categorical_crossentropy", "sparse_categorical_crossentropy")
_LAST = {"softmax": keras.activations.softmax, "sigmoid": keras.activations.sigmoid}


class NoDifferences(Exception):
    """Differences cannot be pushed through this objective; the message says what stands in the way."""


class Compiled:
    """How differences of the input become differences of the loss.

    Parameters
    ----------
    objective : fdfast.functions.objective.TracedObjective
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
        self.own_rules = any(is_own_rule(step.operation) for step in self.graph.steps)
        self.dtype = np.dtype(dtype)
        self.shape = objective.shape
        self._sums = loss.sums
        self._name, self._config = described(loss.original)
        self.verified, self.distrusted = 0, ""
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
        self.verified, self.distrusted = 0, ""

    @functools.cached_property
    def smallest(self) -> float:
        """Least step: below the root of the smallest normal number, products with a small weight lose digits."""
        return float(np.sqrt(np.finfo(self.dtype).tiny))

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

    def foresee(self, objective: Any, points: Float64, near: Float64) -> Foreseen:
        """Values as above at points and at others near them, and autodiff's gradients, in one call.

        Only where `graph.plain`: the layers, called one by one, then are the model.
        """
        return self._base_pass(objective).foresee(points, near, objective.context)

    def _base_pass(self, objective: Any) -> BasePass:
        if self._pass is None:
            self._pass = BasePass(self.graph, self.wanted, objective, own=not self.graph.plain)
        return self._pass

    def prepare(self, values: list[Float64], targets: npt.NDArray[Any], threads: int | None) -> _core.Prepared:
        """Bring the values, and the target of each point, into the form that the kernels read."""
        count = len(self.program.needed)
        shapes = [self.lowered.nodes[n].shape for n in self.program.needed]
        maps = [np.ascontiguousarray(v.reshape(-1, *s)) for v, s in zip(values[:count], shapes, strict=True)]
        return self.program.prepare(maps, self.target_rows(targets) if self.complete else None, threads=threads)

    def target_rows(self, given: npt.NDArray[Any]) -> Float64:
        """Targets of the loss as the kernels take them, shape (points, classes)."""
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
