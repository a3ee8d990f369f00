"""SciPy and numdifftools, on the loss of one image as one traced TensorFlow call, in float64 as they require."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.peers.loops import traced_loss
from bench.peers.problem import SHAPE, SIZE, Float64, Ints, Problem
from bench.peers.registry import Effort, Precision, Ready, peer


def _ready(
    problem: Problem, effort: Effort, gradient: Callable[[Any, Any], Any], setting: str, count: int | None = None
) -> Ready:
    """`gradient(f, x)` of all pixels, or of a seeded sample."""
    f = effort.resting(traced_loss(problem, "float64"))
    pixels: Ints | None = None
    if count is not None and count < SIZE:
        pixels = np.sort(np.random.default_rng(0).choice(SIZE, count, replace=False))
    some = slice(None) if pixels is None else pixels
    calls = 0

    def run(x: Float64) -> Any:
        def part(z: Any) -> float:
            nonlocal calls
            calls += 1
            full = x.flatten()
            full[some] = z
            return float(f(full))

        return np.asarray(gradient(part, x.ravel()[some])).ravel()

    run(problem.x)
    evaluations = round(calls * (1 if pixels is None else SIZE / len(pixels)))
    return Ready(run, evaluations, setting, pixels=pixels)


@peer("scipy-approx", "scipy.optimize.approx_fprime", "SciPy", "scipy", precisions=("float64",))
def approx_fprime(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    from scipy.optimize import approx_fprime as given

    return _ready(problem, effort, lambda f, x: given(x, f), "f traced, default step 1.5e-8")


@peer("scipy-3point", "SciPy _numdiff, 3-point", "SciPy", "scipy", precisions=("float64",))
def numdiff(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    from scipy.optimize._numdiff import approx_derivative

    return _ready(problem, effort, lambda f, x: approx_derivative(f, x, method="3-point"), "f traced, default steps")


@peer("scipy-jacobian", "scipy.differentiate.jacobian", "SciPy", "scipy", precisions=("float64",))
def jacobian(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import tensorflow as tf
    from scipy.differentiate import jacobian as given

    from bench.peers.tensorflow_peers import cross_entropy, keras_model

    model, target = keras_model(problem, precision), tf.constant(problem.target[None])
    chunk = 32

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), tf.float64)])
    def losses(rows: Any) -> Any:
        return tf.reshape(
            tf.map_fn(
                lambda part: cross_entropy(model, part, target),
                tf.reshape(rows, (-1, chunk, *SHAPE)),
                parallel_iterations=1,
            ),
            [-1],
        )

    seen = [0]

    def f(z: Any) -> Any:
        """(784, ...) -> (...): SciPy sends many points at once."""
        rows = np.moveaxis(z, 0, -1).reshape(-1, *SHAPE)
        seen[0] += len(rows)
        padded = np.concatenate([rows, np.zeros((-len(rows) % chunk, *SHAPE))])
        return losses(tf.constant(padded)).numpy()[: len(rows)].reshape(z.shape[1:])

    def run(x: Float64) -> Any:
        seen[0] = 0
        return np.asarray(
            given(effort.resting(f), x.ravel(), initial_step=2.0**-17, order=2, maxiter=1).df, np.float64
        ).ravel()

    run(problem.x)
    return Ready(run, seen[0], f"f traced, {chunk} rows at a time, initial_step = 2^-17, order 2, maxiter 1")


@peer("numdifftools", "numdifftools.Gradient", "SciPy", "numdifftools", precisions=("float64",))
def numdifftools(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import numdifftools

    def gradient(f: Any, x: Any) -> Any:
        return numdifftools.Gradient(f, step=numdifftools.MinStepGenerator(base_step=2.0**-17, num_steps=3))(x)

    count = effort.pixels
    return _ready(problem, effort, gradient, f"f traced, 3 steps from 2^-17, Richardson; {count} random pixels", count)
