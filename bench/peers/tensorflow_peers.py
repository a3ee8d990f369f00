"""TensorFlow: rows batched by hand, and `tf.test.compute_gradient`; autodiff as it would be deployed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.peers.batched import Build, Losses, hand_batched
from bench.peers.ports import check_port
from bench.peers.problem import SHAPE, STEP, Array, Fault, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer

TF_LIMIT = 1e-3  # usual in TensorFlow's own tests


def keras_model(problem: Problem, precision: Precision) -> Any:
    """The shipped CNN, built in the asked precision, with its weights."""
    import keras

    import fdfast

    keras.config.set_dtype_policy(precision)
    keras.config.set_floatx(precision)  # or the input layer would round x to float32
    model = fdfast.datasets.mnist_cnn()
    check_port(problem, lambda rows: keras.ops.convert_to_numpy(model(rows.astype(precision), training=False)))
    return model


def cross_entropy(model: Any, rows: Any, target: Any) -> Any:
    """One loss per row."""
    import keras
    import tensorflow as tf

    predicted = model(rows, training=False)
    return keras.losses.categorical_crossentropy(tf.broadcast_to(target, tf.shape(predicted)), predicted)


def _padded(moves: Array, chunk: int) -> Array:
    """Chunks of equal length, shape (chunks, chunk, *shape); what is missing at the end is filled with zero moves."""
    missing = -len(moves) % chunk
    filled = np.concatenate([moves, np.zeros((missing, *moves.shape[1:]), moves.dtype)])
    return filled.reshape(-1, chunk, *moves.shape[1:])


def traced(losses: Callable[[Any, Any], Any], moves: Array, chunk: int, compiled: bool) -> Losses:
    """One traced function that loops over chunks inside."""
    import tensorflow as tf

    parts, rows = tf.constant(_padded(moves, chunk)), len(moves)

    @tf.function(jit_compile=compiled)
    def all_losses(x: Any, target: Any, h: Any) -> Any:
        if len(parts) == 1:
            return losses(x + h * parts[0], target)
        each = tf.map_fn(lambda part: losses(x + h * part, target), parts, parallel_iterations=1)
        return tf.reshape(each, [-1])

    def run(x: Array, target: Array, h: float) -> Any:
        return all_losses(tf.constant(x), tf.constant(target), tf.constant(h, x.dtype)).numpy()[:rows]

    return run


def eager(losses: Callable[[Any, Any], Any], moves: Array, chunk: int) -> Losses:
    """A loop over chunks in Python."""
    import tensorflow as tf

    parts = [tf.constant(moves[start : start + chunk]) for start in range(0, len(moves), chunk)]

    def all_losses(x: Array, target: Array, h: float) -> Any:
        return np.concatenate([losses(tf.constant(x) + h * part, target).numpy() for part in parts])

    return all_losses


def builder(problem: Problem, precision: Precision, way: str) -> Build:
    """By hand, in one of three ways."""
    losses = partial(cross_entropy, keras_model(problem, precision))
    if way == "eager":
        return partial(eager, losses)
    return lambda moves, chunk: traced(losses, moves, chunk, compiled=way == "XLA")


@peer("tf-traced", "TensorFlow by hand, traced", "TensorFlow", "tensorflow")
def by_hand_traced(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision, "traced"), problem, precision, effort)


@peer("tf-eager", "TensorFlow by hand, eager", "TensorFlow", "tensorflow")
def by_hand_eager(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision, "eager"), problem, precision, effort)


@peer("tf-xla", "TensorFlow by hand, XLA", "TensorFlow", "tensorflow")
def by_hand_xla(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision, "XLA"), problem, precision, effort)


def spoiled(x: Any, fault: Fault | None) -> Any:
    """x, with a gradient that is wrong in the given way."""
    import tensorflow as tf

    if fault is None:
        return x
    factor = tf.constant(fault.factor[None], x.dtype)

    @tf.custom_gradient
    def same(x: Any) -> Any:
        return tf.identity(x), lambda g: tf.roll(g, fault.shift, axis=1) * factor

    return same(x)


def _compute_gradient(problem: Problem, precision: Precision, effort: Effort, compiled: bool) -> Ready:
    import tensorflow as tf

    model, target = keras_model(problem, precision), tf.constant(problem.target[None].astype(precision))
    # The default delta of 1/1024 is no use in float64.
    h = 1 / 1024 if precision == "float32" else STEP["float64"]

    @functools.cache
    def loss(fault: Fault | None) -> Any:
        def f(x: Any) -> Any:
            return cross_entropy(model, spoiled(x, fault), target)[0]

        return effort.resting(tf.function(f) if compiled else f)

    def both(x: Float64, fault: Fault | None) -> Any:
        point = tf.constant(x[None].astype(precision))
        return tf.test.compute_gradient(loss(fault), [point], delta=h)

    def run(x: Float64) -> Any:
        _, numeric = both(x, None)
        return numeric[0].ravel().astype(np.float64)

    def check(x: Float64, fault: Fault | None) -> bool:
        theoretical, numeric = both(x, fault)
        return bool(np.abs(theoretical[0] - numeric[0]).max() > TF_LIMIT)

    how = "f traced" if compiled else "f eager"
    return Ready(run, 2 * 784 + 1, f"{how}, delta = 2^{round(np.log2(h))}, limit {TF_LIMIT:g}", check)


@peer("tf-test", "tf.test.compute_gradient", "TensorFlow", "tensorflow", kind="checker")
def compute_gradient(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return _compute_gradient(problem, precision, effort, compiled=True)


@peer("tf-autodiff", "autodiff, TensorFlow, traced", "autodiff", "tensorflow", kind="autodiff")
def autodiff(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import tensorflow as tf

    model, target = keras_model(problem, precision), tf.constant(problem.target[None].astype(precision))

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE), precision)])
    def gradient(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(rows)
            value = cross_entropy(model, rows, target)
        return tape.gradient(value, rows)

    def run(x: Float64) -> Any:
        return gradient(tf.constant(x[None].astype(precision))).numpy().ravel().astype(np.float64)

    return Ready(run, 1, "batch 1")
