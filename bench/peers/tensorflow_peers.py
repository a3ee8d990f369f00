"""fdfast and TensorFlow: rows batched by hand, `tf.test.compute_gradient`, autodiff as it would be deployed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.peers.registry import Build, Losses, Ready, hand_batched, keras_model, peer
from bench.rig import STEP, Array, Float64, Precision, compiled_gradient
from bench.verdict.subject import TF_LIMIT


def cross_entropy(model: Any, rows: Any, target: Any) -> Any:
    predicted = model(rows, training=False)
    return keras.losses.categorical_crossentropy(tf.broadcast_to(target, tf.shape(predicted)), predicted)


def builder(model: Any, way: str = "traced") -> Build:
    """By hand: one traced function that loops over chunks inside, or a loop over chunks in Python."""
    losses, const = partial(cross_entropy, model), tf.constant

    def traced(moves: Array, chunk: int) -> Losses:
        missing = np.zeros((-len(moves) % chunk, *moves.shape[1:]), moves.dtype)
        parts = const(np.concatenate([moves, missing]).reshape(-1, chunk, *moves.shape[1:]))

        @tf.function(jit_compile=way == "XLA")
        def all_losses(x: Any, target: Any, h: Any) -> Any:
            if len(parts) == 1:
                return losses(x + h * parts[0], target)
            each = tf.map_fn(lambda part: losses(x + h * part, target), parts, parallel_iterations=1)
            return tf.reshape(each, [-1])

        return lambda x, y, h: all_losses(const(x), const(y), const(h, x.dtype)).numpy()[: len(moves)]

    def eager(moves: Array, chunk: int) -> Losses:
        parts = [const(moves[start : start + chunk]) for start in range(0, len(moves), chunk)]
        return lambda x, y, h: np.concatenate([losses(const(x) + h * part, y).numpy() for part in parts])

    return eager if way == "eager" else traced


def _by_hand(way: str, problem: Any, precision: Precision) -> Ready:
    return hand_batched(builder(keras_model(precision), way), problem, precision)


for _way in ("traced", "eager", "XLA"):
    peer("TensorFlow", f"TensorFlow by hand, {_way}")(partial(_by_hand, _way))


def traced_loss(problem: Any, precision: Precision) -> Any:
    """x -> loss: one traced call, the fastest that a loop over single images can have."""
    model, target = keras_model(precision), tf.constant(problem.target[None], precision)
    spec = [tf.TensorSpec(problem.x.shape, precision)]
    return tf.function(lambda x: cross_entropy(model, x[None], target)[0], input_signature=spec)


@peer("TensorFlow", "tf.test.compute_gradient", "checker")
def compute_gradient(problem: Any, precision: Precision) -> Ready:
    loss = traced_loss(problem, precision)
    h = 1 / 1024 if precision == "float32" else STEP["float64"]  # the default of 1/1024 is no use in float64

    def both(x: Float64) -> Any:
        found = tf.test.compute_gradient(loss, [tf.constant(x, precision)], delta=h)
        return np.array([side[0].ravel() for side in found], np.float64)

    setting = f"f traced, delta = 2^{round(np.log2(h))}, limit {TF_LIMIT:g}"
    return Ready(lambda x: both(x)[1], setting, lambda x: np.abs(np.subtract(*both(x))).max() > TF_LIMIT)


@peer("TensorFlow", "autodiff, TensorFlow, traced", "autodiff")
def autodiff(problem: Any, precision: Precision) -> Ready:
    gradient = compiled_gradient(keras_model(precision), "categorical_crossentropy", precision)
    return Ready(lambda x: gradient(x[None], problem.target[None]).ravel().astype(np.float64), "batch 1")


def as_float(problem: Any, precision: Precision) -> Callable[[Any], float]:
    """The same loss, of an array of any shape."""
    loss = traced_loss(problem, precision).get_concrete_function()
    return lambda x: float(loss(tf.constant(np.asarray(x, precision).reshape(problem.x.shape))).numpy())


@peer("fdfast", "fdfast.gradient")
def gradient(problem: Any, precision: Precision, engine: str = "auto") -> Ready:
    how = {"y": problem.target, "precision": precision, "engine": engine}
    setting = "default step, chunk found by itself" if engine == "batch" else "default: differences"
    return Ready(lambda x: fdfast.gradient(keras_model("float32"), x, **how).ravel(), setting)


peer("fdfast", "fdfast.gradient, engine='batch'")(partial(gradient, engine="batch"))


@peer("fdfast", "fdfast.gradcheck", "checker")
def gradcheck(problem: Any, precision: Precision) -> Ready:
    def report(x: Float64) -> Any:
        found = fdfast.gradcheck(keras_model("float32"), x, problem.target, precision=precision)
        assert found.metrics
        return found

    how = "default: both sides, classes, jitter, metrics"
    return Ready(lambda x: np.asarray(report(x).numeric).ravel(), how, lambda x: report(x).verdict != "pass")
