"""Mixed use in four threads with models that change: right answers, and memory, threads and files that stay flat.

python tests/fuzz/mixed.py [SECONDS] [SEED]
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager.context import context

import fdfast
from fdfast.compat.tensorflow import compute_gradient

THREADS = 4
SHOWN = 120.0  # seconds between two lines of figures
NAMES = ("bytes in memory", "threads", "open files", "temporary files")
#: What each may grow by from the second quarter of the time to the last: memory by what a few models hold, and in a
#: short run by what every kind of call loads and keeps when it is first made.
ROOM = (128 << 20, 2, 4, 2)
SHORT, FIRST = 600.0, 512 << 20
X = np.random.default_rng(0).uniform(size=(3, 6, 6, 1)).astype("float32")
Y = np.eye(3)[[0, 1, 2]]
VECTOR = np.linspace(0.1, 0.9, 20)


def model(rng):
    # TensorFlow keeps the kernels of every model, some 0.15 MB, until they are dropped. keras.backend.clear_session(),
    # which Keras asks of programs that make many models, does that, too, but ends the scopes of all other threads.
    context().clear_kernel_cache()
    layers = keras.layers
    made = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(int(rng.integers(1, 5)), 3, activation="tanh")])
    if rng.integers(2):
        made.add(layers.BatchNormalization())
    made.add(layers.Flatten())
    made.add(layers.Dense(3, activation="softmax"))
    made.compile(loss="categorical_crossentropy")
    return made


def changed(rng, one):
    """The same model with other weights, or another activation: what was known of it holds no more."""
    if rng.integers(2):
        one.set_weights(
            [
                # Of a bounded size: a loss that saturates is checked as inconclusive, and rightly so.
                np.float32(0.9) * w + np.float32(0.1) * rng.normal(size=w.shape).astype("float32") ** 2
                for w in one.get_weights()
            ]
        )
    else:
        one.layers[0].activation = keras.activations.get(str(rng.choice(["tanh", "sigmoid", "softplus"])))


def slope(one):
    """What autodiff says, asked without fdfast; float32."""
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(keras.losses.categorical_crossentropy(Y.astype("float32"), one(x, training=False)))
    return tape.gradient(loss, x).numpy()


def gap_of(found, wanted):
    """What is wrong with an array: "" for nothing. Autodiff in float32 gives some 1e-6 of numbers of the order of 1."""
    gap = np.abs(np.asarray(found) - np.asarray(wanted)).max()
    return "" if gap < 1e-4 else f"off by {gap:.3g}"


def verdict_of(report):
    return "" if report else f"{report.verdict}: {report.reasons[:2]}"


def of_a_function(call):
    """Of a function that nobody has seen, with a variable of its own; the call takes what its gradient is, too."""

    def use(rng, one):
        power, scale = float(rng.integers(2, 5)), tf.Variable(rng.uniform(1, 2), dtype=tf.float64)
        return call(lambda x: scale * tf.reduce_sum(x**power), float(scale) * power * VECTOR ** (power - 1))

    return use


def second(rng, one):
    power = float(rng.integers(2, 5))
    found = fdfast.hvp(lambda x: tf.reduce_sum(x**power), VECTOR, VECTOR[::-1].copy())
    return gap_of(found.value, power * (power - 1) * VECTOR ** (power - 2) * VECTOR[::-1])


def adversarial(rng, one):
    x = fdfast.attack.pgd(one, X, Y, 0.1, steps=2, gradient="autodiff").adversarial
    return "" if np.abs(x - X).max() < 0.1 + 1e-6 else "pgd left its ball"


def outputs(rng, one):
    """The Jacobian, against the outputs' difference along a random direction."""
    v = rng.normal(size=X[0].shape) * 1e-3
    moved, at = (one(x[None].astype("float32"), training=False).numpy()[0] for x in (X[0] + v, X[0] - v))
    jacobian = fdfast.jacobian(lambda x: one(x[None], training=False)[0], X[0])
    return gap_of(np.tensordot(jacobian, 2 * v, v.ndim), moved - at)


#: name: what is done with a model, and what is wrong with the answer
USES = {
    "gradcheck": lambda rng, one: verdict_of(fdfast.gradcheck(one, X, Y)),
    "gradcheck, all": lambda rng, one: verdict_of(fdfast.gradcheck(one, X, Y, wrt="all")),
    "gradcheck, weights": lambda rng, one: verdict_of(
        fdfast.gradcheck(one, X, Y, wrt="weights", check="every", budget=200)
    ),
    "gradient, windows": lambda rng, one: gap_of(fdfast.gradient(one, X, y=Y, engine="windows"), slope(one)),
    "gradient, batch": lambda rng, one: gap_of(fdfast.gradient(one, X, y=Y, engine="batch"), slope(one)),
    "estimate": lambda rng, one: gap_of(fdfast.estimate(one, X, y=Y).value, slope(one).reshape(3, -1)),
    "directional": lambda rng, one: gap_of(
        float(fdfast.directional(one, X, np.ones_like(X), y=Y).value), np.sum(slope(one))
    ),
    "pgd": adversarial,
    "jacobian": outputs,
    "gradcheck of a function": of_a_function(lambda f, wanted: verdict_of(fdfast.gradcheck(f, VECTOR))),
    "gradient of a function": of_a_function(lambda f, wanted: gap_of(fdfast.gradient(f, VECTOR), wanted)),
    "compute_gradient": of_a_function(lambda f, wanted: gap_of(compute_gradient(f, [VECTOR])[1][0][0], wanted)),
    "hvp": second,
}


def resources():
    """Bytes in memory, threads, files that are open, files in the folder for temporary ones."""
    own = Path("/proc/self")
    status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    memory, threads = int(status["VmRSS"].split()[0]) << 10, int(status["Threads"])
    return memory, threads, len(os.listdir(own / "fd")), len(os.listdir(tempfile.gettempdir()))


def worker(seed, end, counts, said):
    rng, number = np.random.default_rng(seed), 0
    one, names = model(rng), list(USES)
    while time.perf_counter() < end:
        number += 1
        if rng.integers(8) == 0:
            one = model(rng)
        elif rng.integers(2):
            changed(rng, one)
        name = names[rng.integers(len(names))]
        try:
            wrong = USES[name](rng, one)
        except Exception as error:
            wrong = f"{type(error).__name__}: {str(error)[:200]!r}"
        counts[name] += 1
        if wrong:
            said.append(f"thread {seed}, call {number}, {name}: {wrong}")
            print(said[-1], flush=True)


def main(seconds=120.0, seed=0):
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # a folder that nobody else writes to
        try:
            return trial(seconds, seed)
        finally:
            tempfile.tempdir = None


def trial(seconds, seed):
    """Samples of what the process holds, and what of it grew between the second quarter of the time and the last."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    counts, said, seen = Counter(), [], []
    started = shown = time.perf_counter()
    end = started + seconds
    workers = [threading.Thread(target=worker, args=((seed, number), end, counts, said)) for number in range(THREADS)]
    for one in workers:
        one.start()
    while any(one.is_alive() for one in workers):
        time.sleep(min(30.0, seconds / 20))  # collecting what is gone takes a share of a busy machine
        gc.collect()
        seen.append(resources())
        if time.perf_counter() - shown > SHOWN:
            shown = time.perf_counter()
            figures = (
                f"{seen[-1][0] >> 20} MiB, {seen[-1][1]} threads, {seen[-1][2]} open files, {seen[-1][3]} temporary"
            )
            print(f"{shown - started:.0f} s: {sum(counts.values())} calls, {figures}", flush=True)
    quarters = np.array_split(np.array(seen), 4)
    early, late = np.median(quarters[1], axis=0), np.median(quarters[3], axis=0)
    rooms = ROOM if seconds >= SHORT else (FIRST, 2, 4, 32)
    for name, before, now, room in zip(NAMES, early, late, rooms, strict=True):
        if now > before + room:
            said.append(f"{name} grew from {before:.0f} to {now:.0f}")
            print(said[-1], flush=True)
    flat = ", ".join(f"{name} {a:.0f} to {b:.0f}" for name, a, b in zip(NAMES, early, late, strict=True))
    print(
        f"mixed: {sum(counts.values())} calls of {len(USES)} kinds in {THREADS} threads in {seconds:.0f} s, seed "
        f"{seed}, "
        f"second quarter to last: {flat}; {len(said)} findings"
    )
    return len(said)


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
