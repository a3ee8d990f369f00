"""The loops that everyone starts from: the question's and the answer's, as they are in `fdfast.data.seed_loops`."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.problem import SHAPE, STEP, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer
from bench.peers.tensorflow_peers import cross_entropy, keras_model


def _rows(effort: Effort) -> tuple[int, int]:
    """Rows of the image that are walked through, in its middle: one pixel costs what another does."""
    return 14 - effort.pixels // 56, 14 + effort.pixels // 56


def _setting(h: float) -> str:
    return f"two calls a pixel, h = 2^{round(np.log2(h))}"


@peer("seed-loop", "the question's loop", "loops", "tensorflow")
def seed_loop(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    from fdfast.data.seed_loops import seed_loop as loop

    model, h = keras_model(problem, precision), STEP[precision]
    target = problem.target[None].astype(precision)
    low, high = _rows(effort)

    def run(x: Float64) -> Any:
        def embedded(rows: Any) -> Any:
            full = x[None].astype(precision)
            full[:, low:high] = rows
            return model(full)

        rows = x[None, low:high].astype(precision)
        return loop(effort.resting(embedded), rows, target, h, loss="categorical_crossentropy").ravel()

    return Ready(run, 2 * 784, _setting(h), pixels=np.arange(low * 28, high * 28))


@peer("answer-loop", "the answer's loop", "loops", "tensorflow")
def answer_loop(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import tensorflow as tf

    from fdfast.data.seed_loops import seed_gradient

    model, h = keras_model(problem, precision), STEP[precision]
    target = tf.constant(problem.target[None].astype(precision))
    low, high = _rows(effort)

    def run(x: Float64) -> Any:
        def f(z: Any) -> Any:
            full = x.astype(precision)
            full[low:high] = z
            return cross_entropy(model, full[None], target)[0]

        return seed_gradient(effort.resting(f), x[low:high].astype(precision), h).ravel()

    return Ready(run, 2 * 784, _setting(h), pixels=np.arange(low * 28, high * 28))


@peer("traced-loop", "the answer's loop, f traced", "loops", "tensorflow")
def traced_loop(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    from fdfast.data.seed_loops import seed_gradient

    f, h = effort.resting(traced_loss(problem, precision)), STEP[precision]
    return Ready(lambda x: seed_gradient(f, x.astype(precision), h).ravel(), 2 * 784, _setting(h))


def traced_loss(problem: Problem, precision: Precision) -> Any:
    """x -> loss as a float: one traced call, the fastest that a loop over single images can have."""
    import tensorflow as tf

    model, target = keras_model(problem, precision), tf.constant(problem.target[None].astype(precision))

    @tf.function(input_signature=[tf.TensorSpec(SHAPE, precision)])
    def loss(x: Any) -> Any:
        return cross_entropy(model, x[None], target)[0]

    call = loss.get_concrete_function()

    def f(x: Any) -> float:
        return float(call(tf.constant(np.asarray(x, precision).reshape(SHAPE))).numpy())

    f(problem.x)
    return f
