"""The check by directions on large networks: ``python -m bench.directions [NETWORK [SEEDS]]``.

Random weights, statistics of one batch; each network in a process of its own. An error of 1e-6 in one element must be
seen by every seed, one of 1e-3 found.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import clocked, markdown, seconds_text, side_by_side
from fdfast.functions import flat_model, recorded
from fdfast.moves import Directions
from fdfast.verdict.directions import look

CASES = {"MobileNetV2": (224, "input"), "ResNet50": (96, "weights")}


def network(name: str, size: int, dtype: str) -> keras.Model:
    keras.config.set_dtype_policy(dtype)
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))


def measure(name: str, seeds: int) -> None:
    size, wrt = CASES[name]
    keras.utils.set_random_seed(0)
    model, wide = network(name, size, "float32"), network(name, size, "float64")
    rng, y = np.random.default_rng(0), np.eye(1000)[:1]
    batch = rng.normal(size=(4, size, size, 3)).astype(np.float32)
    for layer in model.layers:
        layer.momentum = 0.0  # the statistics are those of the batch
    model(batch, training=True)
    wide.set_weights(model.get_weights())
    x = batch[:1].astype(np.float64)

    @tf.function
    def autodiff(x: tf.Tensor) -> object:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = keras.losses.categorical_crossentropy(tf.constant(y), wide(x, training=False))
        return tape.gradient(value, x if wrt == "input" else [v.value for v in wide.trainable_variables])

    check = partial(fdfast.gradcheck, model, x, y, loss="categorical_crossentropy", wrt=wrt, check="directions")
    cold, report, _ = clocked(check), check(), check()  # by now it is compiled
    found = side_by_side({"check": check, "gradient": partial(autodiff, tf.constant(x))}, 5)
    flat = flat_model(model, x, y, "categorical_crossentropy", mean=wrt != "input", weights=wrt != "input")
    point, seen = recorded(flat).point(flat.points()), []
    places = [0] if wrt == "input" else range(len(flat.arguments), len(flat.arguments) + len(flat.variables))
    g = [point.gradients[place] for place in places]
    keep = SimpleNamespace()

    def slopes(moved: dict, steps: tuple) -> object:
        keep.v, keep.found = moved, point.slopes({places[i]: one for i, one in moved.items()}, steps)
        return keep.found

    for seed in range(seeds):
        directions, at = Directions(g, seed), int(rng.integers(len(g)))
        told = look(slopes, directions, 2)
        i = int(rng.choice(np.flatnonzero(g[at])))
        gap = keep.found.value - directions.dot(keep.v) - 1e-6 * g[at].flat[i] * keep.v[at].reshape(2, -1)[:, i]
        seen.append(np.abs(gap).max() > told.tau * directions.unit)
    wrong = [one.copy() for one in g]
    wrong[at].flat[i] *= 1.001
    start = clocked(lambda: seen.append(check(analytic=wrong if wrt == "weights" else wrong[0])))
    located = seen.pop()
    hit = [(s.place, s.index) for s in located.directed.suspects] == [(at, i)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row = [f"{name}, {size} px, {report.total:,} {wrt if wrt == 'weights' else 'inputs'}: {report.verdict}"]
    row += [seconds_text(cold), f"{found['check']}", f"{found['check'].over(found['gradient']).median:.1f}"]
    row += [f"{report.directed.tau:.1e}", f"{sum(seen)} of {seeds}"]
    row += [f"{'yes' if hit else 'NO'}, {located.directed.rows} differences, {seconds_text(start)}", f"{peak:.1f} GB"]
    head = [
        "what",
        "first",
        "later",
        "in float64 gradient calls",
        "tau",
        "1e-6 in one seen",
        "1e-3 in one located",
        "peak",
    ]
    print(markdown(head, [row]), flush=True)


if __name__ == "__main__":
    asked = dict(zip(("case", "seeds"), [*sys.argv[1:], *("", "20")[len(sys.argv) - 1 :]], strict=True))
    if asked["case"]:
        measure(asked["case"], int(asked["seeds"]))
    for name in () if asked["case"] else CASES:
        subprocess.run([sys.executable, "-m", "bench.directions", name, asked["seeds"]], check=True)
