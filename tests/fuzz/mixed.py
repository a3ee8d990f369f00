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

import fdfast

THREADS = 4
ROOM = 256 << 20  # bytes that memory may grow by after the first quarter of the time
X = np.random.default_rng(0).uniform(size=(3, 6, 6, 1)).astype("float32")
Y = np.eye(3)[[0, 1, 2]]
VECTOR = np.linspace(0.1, 0.9, 20)


def model(rng):
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
            [w + np.float32(0.1) * rng.normal(size=w.shape).astype("float32") ** 2 for w in one.get_weights()]
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


def use(rng, one):
    """A call, and what is wrong with its answer: "" for nothing."""
    how = int(rng.integers(6))
    if how == 0:
        report = fdfast.gradcheck(one, X, Y)
    elif how == 1:
        report = fdfast.gradcheck(one, X, Y, wrt="all")
    elif how == 2:
        report = fdfast.gradcheck(one, X, Y, wrt="weights", check="every", budget=200)
    elif how == 3:
        power = float(rng.integers(2, 5))
        report = fdfast.gradcheck(lambda x: tf.reduce_sum(x**power), VECTOR)
    else:
        engine = ("windows", "batch")[how - 4]
        gap = np.abs(fdfast.gradient(one, X, y=Y, engine=engine) - slope(one)).max()
        return "" if gap < 1e-4 else f"a gradient by {engine} is off by {gap:.3g}"  # float32 autodiff: 1e-6 of 1
    return "" if report else f"{report.verdict}: {report.reasons[:2]}"


def resources():
    """Bytes in memory, threads, files that are open, files in the folder for temporary ones."""
    own = Path("/proc/self")
    status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    memory, threads = int(status["VmRSS"].split()[0]) << 10, int(status["Threads"])
    return memory, threads, len(os.listdir(own / "fd")), len(os.listdir(tempfile.gettempdir()))


def worker(seed, end, counts, said):
    rng, number = np.random.default_rng(seed), 0
    one = model(rng)
    while time.perf_counter() < end:
        number += 1
        if rng.integers(8) == 0:
            one = model(rng)
        elif rng.integers(2):
            changed(rng, one)
        try:
            wrong = use(rng, one)
        except Exception as error:
            wrong = f"{type(error).__name__}: {str(error)[:200]!r}"
        counts["calls"] += 1
        if wrong:
            said.append(f"thread {seed}, call {number}: {wrong}")


def main(seconds=120.0, seed=0):
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # a folder that nobody else writes to
        try:
            return trial(seconds, seed)
        finally:
            tempfile.tempdir = None


def trial(seconds, seed):
    faulthandler.enable()
    warnings.simplefilter("ignore")
    counts, said = Counter(), []
    started = time.perf_counter()
    end = started + seconds
    workers = [threading.Thread(target=worker, args=((seed, number), end, counts, said)) for number in range(THREADS)]
    for one in workers:
        one.start()
    seen = []
    while any(one.is_alive() for one in workers):
        time.sleep(min(5.0, seconds / 20))
        gc.collect()
        seen.append(resources())
    for one in workers:
        one.join()
    early, late = seen[len(seen) // 4], np.median(np.array(seen[-max(1, len(seen) // 4) :]), axis=0)
    memory = late[0] - early[0]
    if memory > ROOM:
        said.append(f"memory grew by {memory / 2**20:.0f} MiB")
    for name, before, now, room in zip(("threads", "open files"), early[1:3], late[1:3], (8, 4), strict=True):
        if now > before + room:
            said.append(f"{name} grew from {before} to {now:.0f}")
    for one in said:
        print(one, flush=True)
    print(
        f"mixed: {counts['calls']} calls in {THREADS} threads in {seconds:.0f} s, seed {seed}: memory "
        f"{early[0] / 2**20:.0f} to {late[0] / 2**20:.0f} MiB, threads {early[1]} to {late[1]:.0f}, open files "
        f"{early[2]} "
        f"to {late[2]:.0f}, temporary files {early[3]} to {late[3]:.0f}; {len(said)} findings"
    )
    return len(said)


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
