"""All weights, or all pixels, of a network by directions: ``python -m bench.directions [NETWORK [SEEDS]]``."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.rig import digits
from bench.timing import clocked, markdown, seconds_text, side_by_side
from fdfast.functions import flat_model, recorded
from fdfast.moves import Directions
from fdfast.verdict.directions import STEPS

CASES = {"CNN": (0, "weights"), "MobileNetV2": (224, "input"), "ResNet50": (96, "weights")}
HEAD = "what|first|later|in gradient calls|tau|1e-6 in one seen|1e-3 in one located|arrays named|peak memory"
LOSS = "categorical_crossentropy"


def larger(g: list[np.ndarray], rng: np.random.Generator) -> Iterator[tuple[set[int], list[np.ndarray]]]:
    """Faults of many elements: an array by a thousandth too large, one transposed, and 50 of all elements."""
    at = int(np.argmax([one.size for one in g]))
    square = [i for i, one in enumerate(g) if one.ndim > 1 and one.shape[-1] == one.shape[-2] and one.any()]
    turned = square[-1] if square else max(i for i, one in enumerate(g) if one.ndim > 2)
    axes = (-1, -2) if square else (-2, -3)
    every = rng.choice(np.flatnonzero(np.concatenate([one.ravel() for one in g])), 50, replace=False)
    ends = np.cumsum([one.size for one in g])
    places = np.searchsorted(ends, every, side="right")
    faults = {at: g[at] * 1.001}, {turned: g[turned].swapaxes(*axes).reshape(g[turned].shape)}, {}
    for place, element in zip(places, every - (ends - [one.size for one in g])[places], strict=True):
        faults[2].setdefault(int(place), g[place].copy()).flat[element] *= 1.001
    for fault in faults:
        yield {*fault}, [fault.get(i, one) for i, one in enumerate(g)]


def measure(name: str, seeds: int) -> None:
    (size, wrt), rng = CASES[name], np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model, x, y = digits(4)  # the last; of one that the CNN is sure of, float64 itself keeps few digits
    if size:
        model, y = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3)), np.eye(1000)[:1]
        x = rng.normal(size=(4, size, size, 3)).astype(np.float32)
        for layer in model.layers:
            layer.momentum = 0.0  # statistics are those of the batch
        model(x, training=True)
    x, y = x[-1:].astype(np.float64), y[-1:]
    wide = keras.models.model_from_json(model.to_json().replace("float32", "float64"))
    wide.set_weights(model.get_weights())

    @tf.function
    def autodiff(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = keras.losses.get(LOSS)(tf.constant(y), wide(x, training=False))
        return tape.gradient(value, x if wrt == "input" else [v.value for v in wide.trainable_variables])

    check = partial(fdfast.gradcheck, model, x, y, loss=LOSS, wrt=wrt, check="directions")
    first, report, _ = clocked(check), check(), check()  # by now it is compiled
    found = side_by_side({"check": check, "gradient": partial(autodiff, tf.constant(x))}, 5)
    flat = flat_model(model, x, y, LOSS, mean=wrt != "input", weights=wrt != "input")
    point, count, told, seen = recorded(flat).point(flat.points()), len(flat.arguments), [], 0
    places = [0] if wrt == "input" else range(count, count + len(flat.variables))
    g = [point.gradients[place] for place in places]
    for seed in range(seeds):  # what an error of g adds to g.v is known without another difference
        directions, tau = Directions(g, seed), check(seed=seed).directed.tau
        v, at = directions.whole(2), int(rng.integers(len(g)))
        i = int(rng.choice(np.flatnonzero(g[at])))
        gap = point.slopes({places[k]: one for k, one in v.items()}, STEPS).value - directions.dot(v)
        gap -= 1e-6 * g[at].flat[i] * v[at].reshape(2, -1)[:, i]
        seen += int(np.abs(gap).max() > tau * directions.unit)
    wrong = [one.copy() for one in g]
    wrong[at].flat[i] *= 1.001
    seconds = clocked(lambda: told.append(check(analytic=wrong if wrt == "weights" else wrong[0]).directed))
    hit = "yes" if [(s.place, s.index) for s in told[-1].suspects] == [(at, i)] else "NO"
    named = 0
    for told_of, claimed in larger(g, rng):
        parts = check(analytic=claimed if wrt == "weights" else claimed[0]).parts
        named += {i for i, part in enumerate(parts) if part.counts["wrong"]} == told_of
    row = [f"{name}, {x.shape[1]} px, {report.total:,} {'inputs' if wrt == 'input' else wrt}: {report.verdict}"]
    row += [seconds_text(first), str(found["check"]), f"{found['check'].over(found['gradient']).median:.1f}"]
    row += [f"{report.directed.tau:.1e}", f"{seen} of {seeds}", f"{hit}, {told[-1].rows} rows, {seconds_text(seconds)}"]
    row += [f"{named} of 3", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB"]
    print(markdown(HEAD.split("|"), [row]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
    for case in CASES if len(sys.argv) == 1 else ():
        subprocess.run([sys.executable, "-m", "bench.directions", case], check=True)
