"""Weights: all 34,826 of the shipped CNN on one digit, against the loop over them: ``python -m bench.weights``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.rig import digits
from bench.timing import Row, clocked, ratio, row, seconds_text, side_by_side

SAMPLE, LOOP_STEP = 200, 1e-3


def loop(model: keras.Model, x: Any, y: Any) -> None:
    """The loop over a sample of the weights, drawn from all variables in proportion to their size."""
    batch, target = tf.constant(x, tf.float32), tf.constant(y, tf.float32)
    sizes = np.cumsum([0, *(int(np.prod(v.shape)) for v in model.trainable_variables)])
    for flat in np.random.default_rng(0).choice(sizes[-1], SAMPLE, replace=False):
        number = int(np.searchsorted(sizes, flat, side="right")) - 1
        variable = model.trainable_variables[number]
        value = variable.numpy()
        for sign in (1, -1):
            moved = value.copy()
            moved.reshape(-1)[flat - sizes[number]] += sign * LOOP_STEP
            variable.assign(moved)
            float(keras.losses.categorical_crossentropy(target, model(batch, training=False))[0])
        variable.assign(value)


def rows() -> Iterator[Row]:
    model, x, y = digits(1)
    # TensorFlow itself is warmed up by another model, so that the first call shows what is ours.
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    fdfast.gradcheck(other, np.ones((1, 4)), np.eye(3)[:1], loss="categorical_crossentropy", wrt="weights")
    call = partial(fdfast.gradcheck, model, x[0], y[0], wrt="weights")
    first, looped = clocked(call), partial(loop, fdfast.datasets.mnist_cnn(), x, y)
    found, report = side_by_side({"all": call, "some": partial(call, budget=4000), "loop": looped}, 5), call()
    what = f"all {report.weights} weights of the CNN on one digit"
    yield row(f"{what}, first call, float64 copy and traces included", first, "< 3 s", seconds_text(first))
    yield row(f"{what}, later calls", found["all"].median, "< 3 s", str(found["all"]))
    yield Row(f"{call(budget=4000).checked} of the weights, by budget=4000", "", str(found["some"]))
    whole = found["loop"].times(report.weights / SAMPLE)
    yield ratio(f"the loop in float32, extrapolated from {SAMPLE} weights / later calls", whole, found["all"])
    text = "{}; {median_rel_error:.1e}, {max_rel_error:.1e}".format(report.counts["agree"], **report.metrics)
    yield Row("weights that agree; median and largest relative error against float64 autodiff", "", text)


if __name__ == "__main__":
    for one in rows():
        print(one, flush=True)
