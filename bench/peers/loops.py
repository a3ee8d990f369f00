"""One image at a time: the loops that everyone starts from, SciPy and numdifftools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.differentiate import jacobian
from scipy.optimize import approx_fprime
from scipy.optimize._numdiff import approx_derivative

from bench.difference import STRIP, loop_over_strip
from bench.peers.registry import SHAPE, SIZE, Ready, keras_model, peer
from bench.peers.tensorflow_peers import as_float, builder, cross_entropy
from bench.rig import STEP, Float64, Precision
from fdfast.data.seed_loops import seed_gradient

_FEW, _CHUNK, _H = 56, 32, STEP["float64"]  # pixels that a slow one goes through; rows of a forward pass; step


def _loop(which: str, problem: Any, precision: Precision) -> Ready:
    model, h, y = keras_model(precision), STEP[precision], problem.target.astype(precision)
    traced, strip = as_float(problem, precision), slice(*STRIP)

    def run(x: Float64) -> Any:
        x = x.astype(precision)

        def f(rows: Any) -> Any:
            full = x.copy()
            full[strip] = rows
            return cross_entropy(model, full[None], y[None])[0]

        if which == "question":
            return loop_over_strip(model, x, y, h).ravel()
        return (seed_gradient(f, x[strip], h) if which == "answer" else seed_gradient(traced, x, h)).ravel()

    pixels = None if which == "traced" else np.arange(28 * STRIP[0], 28 * STRIP[1])
    return Ready(run, f"two calls a pixel, h = 2^{round(np.log2(h))}", pixels=pixels)


peer("loops", "the question's loop")(partial(_loop, "question"))
peer("loops", "the answer's loop")(partial(_loop, "answer"))
peer("loops", "the answer's loop, f traced")(partial(_loop, "traced"))


def _of_f(how: Callable[[Any, Any], Any], setting: str, count: int, problem: Any, precision: Precision) -> Ready:
    f, some = as_float(problem, precision), np.sort(np.random.default_rng(0).choice(SIZE, count, replace=False))

    def run(x: Float64) -> Any:
        full = x.flatten()

        def part(z: Any) -> float:
            full[some] = z
            return f(full)

        return np.asarray(how(part, x.ravel()[some])).ravel()

    return Ready(run, f"f traced, {setting}", pixels=some if count < SIZE else None)


def _numdifftools(f: Callable[[Any], float], x: Any) -> Any:
    import numdifftools

    return numdifftools.Gradient(f, step=numdifftools.MinStepGenerator(base_step=_H, num_steps=3))(x)


def _jacobian(problem: Any, precision: Precision) -> Ready:
    chunked = builder(keras_model("float64"))(np.zeros((_CHUNK, *SHAPE)), _CHUNK)

    def f(z: Any) -> Any:
        """(784, ...) -> (...): SciPy sends many points at once."""
        rows = np.moveaxis(z, 0, -1).reshape(-1, *SHAPE)
        padded = np.concatenate([rows, np.zeros((-len(rows) % _CHUNK, *SHAPE))]).reshape(-1, _CHUNK, *SHAPE)
        losses = np.concatenate([chunked(part, problem.target, 0.0) for part in padded])
        return losses[: len(rows)].reshape(z.shape[1:])

    how = partial(jacobian, f, initial_step=_H, order=2, maxiter=1)
    setting = f"f traced, {_CHUNK} rows at a time, initial_step = 2^-17, order 2, maxiter 1"
    return Ready(lambda x: np.asarray(how(x.ravel()).df, np.float64).ravel(), setting)


for _name, _make in {
    "scipy.optimize.approx_fprime": partial(_of_f, lambda f, x: approx_fprime(x, f), "default step 1.5e-8", SIZE),
    "SciPy _numdiff, 3-point": partial(_of_f, partial(approx_derivative, method="3-point"), "default steps", SIZE),
    "scipy.differentiate.jacobian": _jacobian,
    "numdifftools.Gradient": partial(_of_f, _numdifftools, f"3 steps from 2^-17, Richardson; {_FEW} pixels", _FEW),
}.items():
    peer("SciPy", _name, precisions=("float64",))(_make)
