"""fdfast, called as anybody would call it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from bench.peers.problem import Fault, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer
from bench.peers.tensorflow_peers import keras_model, spoiled


def spoiled_model(model: Any, fault: Fault) -> Any:
    """The same network behind a layer whose gradient is wrong; the layer is rebuilt in any precision."""
    import keras

    class Spoiled(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return spoiled(x, fault)

    twin = keras.Sequential([keras.Input((28, 28, 1)), Spoiled(), *model.layers])
    twin.compile(loss="categorical_crossentropy")
    return twin


@peer("fdfast-gradient", "fdfast.gradient", "fdfast", "fdfast")
def gradient(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import fdfast

    model = keras_model(problem, "float32")
    target = problem.target

    def run(x: Float64) -> Any:
        return fdfast.gradient(model, x, y=target, precision=precision).ravel()

    for _ in range(8):
        run(problem.x)
    return Ready(run, 2 * 784, "default: differences")


@peer("fdfast-batch", "fdfast.gradient, engine='batch'", "fdfast", "fdfast")
def batch(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import fdfast

    model = keras_model(problem, "float32")
    target = problem.target

    def run(x: Float64) -> Any:
        return fdfast.gradient(model, x, y=target, precision=precision, engine="batch").ravel()

    for _ in range(5):
        run(problem.x)
    return Ready(run, 2 * 784, "default step, chunk found by itself")


@peer("fdfast-check", "fdfast.gradcheck", "fdfast", "fdfast", kind="checker")
def gradcheck(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import fdfast

    model = keras_model(problem, "float32")
    target = problem.target

    spoiled_models = functools.cache(functools.partial(spoiled_model, model))

    def check(x: Float64, fault: Fault | None) -> bool:
        asked = model if fault is None else spoiled_models(fault)
        return fdfast.gradcheck(asked, x, target, precision=precision).verdict != "pass"

    for _ in range(8):
        report = fdfast.gradcheck(model, problem.x, target, precision=precision)

    def run(x: Float64) -> Any:
        found = fdfast.gradcheck(model, x, target, precision=precision)
        assert found.metrics
        return np.asarray(found.numeric, np.float64).ravel()

    return Ready(run, int(report.evaluations), "default: both sides, classes, jitter, metrics", check)
