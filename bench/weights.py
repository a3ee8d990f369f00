"""Weights: all 34,826 of the shipped CNN on one digit, against the loop over them: ``python -m bench.weights``.

The loop is what people write: put a weight up, evaluate, put it down, evaluate, put it back. It is timed on a seeded
sample of the weights and extrapolated to all, which the row says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import Row, format_seconds

GOAL = 3.0
SAMPLE = 200
LOOP_STEP = 1e-3


def digit() -> tuple[Any, Any]:
    """One real digit and its one-hot label."""
    x, labels = fdfast.datasets.mnist_sample(1)
    return x[0], np.eye(10)[labels[0]]


def loop_seconds(model: keras.Model, x: Any, y: Any, sample: int) -> float:
    """Seconds per weight of the loop, over a sample drawn from all variables in proportion to their size."""
    batch, target = tf.constant(x[None], tf.float32), tf.constant(y[None], tf.float32)

    def loss() -> float:
        return float(keras.losses.categorical_crossentropy(target, model(batch, training=False))[0])

    variables = model.trainable_variables
    sizes = np.array([int(np.prod(v.shape)) for v in variables])
    rng = np.random.default_rng(0)
    chosen = rng.choice(sizes.sum(), sample, replace=False)
    loss()
    start = time.perf_counter()
    for flat in chosen:
        number = int(np.searchsorted(np.cumsum(sizes), flat, side="right"))
        variable, at = variables[number], int(flat - sizes[:number].sum())
        value = variable.numpy()
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved.reshape(-1)[at] += sign * LOOP_STEP
            variable.assign(moved)
            losses.append(loss())
        variable.assign(value)
    return (time.perf_counter() - start) / sample


def run() -> Iterator[Row]:
    """All rows of this module."""
    x, y = digit()
    # TensorFlow itself is warmed up by another model, so that the first call shows what is ours.
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    fdfast.gradcheck(other, np.ones((1, 4)), np.eye(3)[:1], loss="categorical_crossentropy", wrt="weights")
    model = fdfast.datasets.mnist_cnn()
    times = []
    for _ in range(6):
        start = time.perf_counter()
        report = fdfast.gradcheck(model, x, y, wrt="weights")
        times.append(time.perf_counter() - start)
    again = float(np.median(times[1:]))
    each = loop_seconds(fdfast.datasets.mnist_cnn(), x, y, SAMPLE)
    total = each * report.weights
    for what, seconds in (("first call, float64 copy and traces included", times[0]), ("later calls", again)):
        yield Row(
            f"all {report.weights} weights of the CNN on one digit, {what}",
            f"< {GOAL:g} s",
            format_seconds(seconds),
            seconds < GOAL,
        )
    yield Row(
        f"the loop in float32, extrapolated from {SAMPLE} weights, and how much longer it takes",
        "",
        f"{format_seconds(total)}  ({total / again:.0f} x)",
    )
    yield Row(
        "weights that agree; median and largest relative error against float64 autodiff",
        "",
        f"{report.counts['agree']}; {report.metrics['median_rel_error']:.1e}, {report.metrics['max_rel_error']:.1e}",
    )
    start = time.perf_counter()
    part = fdfast.gradcheck(model, x, y, wrt="weights", budget=4000)
    yield Row(f"{part.checked} of the weights, by budget=4000", "", format_seconds(time.perf_counter() - start))


if __name__ == "__main__":
    for row in run():
        print(row, flush=True)
