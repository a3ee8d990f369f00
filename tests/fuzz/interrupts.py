"""Ctrl-C at random moments of every public call, cold and warm: KeyboardInterrupt soon, and nothing changed.

    python tests/fuzz/interrupts.py [SECONDS] [SEED] [INTERRUPTS]

Prints one line a finding, and the figures.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.global_state import GLOBAL_STATE_TRACKER
from tensorflow.python.eager import context
from tensorflow.python.pywrap_tfe import TFE_Py_TapeSetIsEmpty

import fdfast
from fdfast.compat.scipy import approx_fprime
from fdfast.compat.tensorflow import compute_gradient

LATEST = 1.0  # seconds from the signal to the exception
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(6, 12, 12, 1)).astype("float32")
Y = np.eye(4)[[0, 1, 2, 3, 0, 1]]
VECTOR = RNG.uniform(size=40)
DATA = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
FOLDER = tempfile.mkdtemp()  # of all sweeps


def model():
    """A new one: nothing is known of it, and everything is traced anew."""
    keras.utils.set_random_seed(3)
    made = keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    made.compile(loss="categorical_crossentropy")
    return made


def function():
    return lambda x: tf.reduce_sum(tf.sin(x) * tf.cumsum(x))


def layer():
    made = keras.layers.Dense(3, activation="tanh")
    made.build(X.shape)
    return made


#: name: (what makes f, the call on it)
CALLS = {
    "gradient": (model, lambda f: fdfast.gradient(f, X, y=Y)),
    "gradient, batch": (model, lambda f: fdfast.gradient(f, X, y=Y, engine="batch")),
    "gradient, tape": (model, lambda f: fdfast.gradient(f, X[:2], y=Y[:2], engine="tape")),
    "estimate": (model, lambda f: fdfast.estimate(f, X, y=Y)),
    "gradcheck": (model, lambda f: fdfast.gradcheck(f, X, Y)),
    "gradcheck, directions": (model, lambda f: fdfast.gradcheck(f, X, Y, wrt="all")),
    "gradcheck, weights": (model, lambda f: fdfast.gradcheck(f, X, Y, wrt="weights", check="every")),
    "directional": (model, lambda f: fdfast.directional(f, X, X, y=Y)),
    "jacobian": (model, lambda f: fdfast.jacobian(f, X)),
    "assert_gradcheck": (model, lambda f: fdfast.assert_gradcheck(f, X, Y)),
    "gradcheck, second order": (model, lambda f: fdfast.gradcheck(f, X[:1], Y[:1], order=2)),
    "gradcheck of a layer": (layer, lambda f: fdfast.gradcheck(f, X[:1])),
    "hvp": (model, lambda f: fdfast.hvp(f, X[:2], X[:2], y=Y[:2]).value),
    "hessian": (function, lambda f: fdfast.hessian(f, VECTOR).value),
    "fgsm": (model, lambda f: fdfast.attack.fgsm(f, X, Y, 0.1)),
    "pgd": (model, lambda f: fdfast.attack.pgd(f, X, Y, 0.1, steps=4, gradient="autodiff").adversarial),
    "pgd by differences": (model, lambda f: fdfast.attack.pgd(f, X[:2], Y[:2], 0.1, steps=2).adversarial),
    "masking": (model, lambda f: fdfast.attack.masking(f, X, Y, 0.1).verdict),
    "attack.estimate": (model, lambda f: fdfast.attack.estimate(f, X, Y).gradient),
    "augment": (model, lambda f: next(iter(fdfast.attack.augment(f, DATA, 0.1)))[0]),
    "sweep": (model, lambda f: fdfast.sweep(f, (X, Y), Path(tempfile.mkdtemp(dir=FOLDER)) / "rows").counts),
    "scipy": (lambda: lambda x: float(np.sum(np.sin(x))), lambda f: approx_fprime(VECTOR, f)),
    "gradient of a function": (function, lambda f: fdfast.gradient(f, VECTOR)),
    "gradcheck of a function": (function, lambda f: fdfast.gradcheck(f, VECTOR)),
    "jacobian of a function": (function, lambda f: fdfast.jacobian(f, VECTOR)),
    "compute_gradient": (function, lambda f: compute_gradient(f, [VECTOR])),
}


def state(f):
    """The caller's numbers, and what TensorFlow and Keras are in the middle of: nothing."""
    scopes = {name: repr(value) for name, value in vars(GLOBAL_STATE_TRACKER).items() if name != "object_name_uids"}
    scopes |= {"eager": tf.executing_eagerly(), "no tape": TFE_Py_TapeSetIsEmpty()}
    scopes |= {"name": context.context().scope_name, "device": context.context().device_name}
    if not tf.executing_eagerly():
        return scopes
    weights = [w.numpy().tobytes() for w in f.variables] if isinstance(f, keras.Layer) else []
    return weights, X.tobytes(), Y.tobytes(), VECTOR.tobytes(), scopes


def same(a, b):
    if isinstance(a, fdfast.Report):
        return a.verdict == b.verdict and a.counts == b.counts
    if isinstance(a, fdfast.Estimate):
        a, b = a.value, b.value
    pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    # Chunks are chosen by time: rounding, over the step of a central difference.
    return all(
        one == other if isinstance(one, str) else np.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in pairs
    )


def interrupted(call, f, delay):
    """What came of a call that was interrupted after so many seconds, how long after it, and where it was if late."""
    at, where, main = [], [], threading.get_ident()

    def strike():
        at.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def look():
        where.extend(traceback.format_stack(sys._current_frames()[main], limit=12))

    timers = [threading.Timer(delay + LATEST, look), threading.Timer(delay, strike)]  # the last one starts last
    error = None
    try:
        try:
            for timer in timers:
                timer.start()
            call(f)
        finally:
            ended = time.perf_counter()
            for timer in timers:
                timer.cancel()
            timers[-1].join()
    except BaseException as caught:
        error = caught
    if not at:
        return "over", error, 0.0, ""
    how = "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else "other"
    return how, error, ended - at[0], "".join(where)


def main(seconds=120.0, seed=0, interrupts=math.inf):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    wanted, lengths = {}, {}
    for name, (make, call) in CALLS.items():
        f = make()
        started = time.perf_counter()
        wanted[name] = call(f)
        cold, again = time.perf_counter() - started, time.perf_counter()
        call(f)
        lengths[name] = (cold, time.perf_counter() - again)
    counts, longest, findings = Counter(), 0.0, 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and sum(counts.values()) - counts["over"] < interrupts:
        name = str(rng.choice(list(CALLS)))
        make, call = CALLS[name]
        f, warm = make(), bool(rng.integers(2))
        if warm:
            call(f)
        before = state(f)
        how, error, late, where = interrupted(call, f, rng.uniform(0, lengths[name][warm]))
        try:
            time.sleep(0)  # an interrupt that is on its way strikes here at the latest
        except KeyboardInterrupt:
            how = "after the call"
        counts[how] += 1
        if how == "over":
            continue
        longest = max(longest, late)
        said = []
        if how != "KeyboardInterrupt":
            said.append(f"{how}: {type(error).__name__}: {str(error)[:200]}")
        if late > LATEST:
            said.append(f"{late:.2f} s late, at\n{where}")
        if state(f) != before:
            said.append("state differs")
        if not same(wanted[name], call(f)):
            said.append("the next call gives something else")
        if said:
            findings += 1
            print(f"{name}, {'warm' if warm else 'cold'}: {'; '.join(said)}", flush=True)
            if error is not None and how != "KeyboardInterrupt":
                traceback.print_exception(error, limit=-6, chain=False)
    shutil.rmtree(FOLDER)
    struck = sum(counts.values()) - counts["over"]
    took = time.perf_counter() - began
    print(
        f"{struck} interrupts of {len(CALLS)} calls in {took:.0f} s, seed {seed}: {counts['KeyboardInterrupt']} as "
        f"KeyboardInterrupt, the longest after {longest:.2f} s; {findings} findings"
    )
    return findings


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
