"""The public calls with arguments that fit and that do not: a result, or an error of ours that says what does not fit.

python tests/fuzz/calls.py [SECONDS] [SEED] [INPUTS]
"""

from __future__ import annotations

import faulthandler
import io
import math
import os
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import fdfast

RNG = np.random.default_rng(0)
X, VECTOR = RNG.uniform(size=(2, 5, 5, 1)), RNG.uniform(size=4)
Y = np.eye(3)[[2, 0]]
#: What Python, NumPy and TensorFlow say of themselves: nobody asked for it.
RAW = re.compile(
    r"object is not (callable|iterable|subscriptable)|unsupported operand|has no (len|attribute)|not supported between"
    r"|truth value|only .* arrays can be converted|expected str|unhashable|positional argument|__wrapped__|list index"
    r"|could not broadcast|must be real number|float\(\) argument|concatenate str|no loop matching|too large to convert"
)
LONGEST = 20.0


def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Conv2D(2, 2, activation="relu")])
    made.add(keras.layers.Flatten())
    made.add(keras.layers.Dense(3, activation="softmax"))
    made.compile(loss="categorical_crossentropy")
    return made


MODEL = model()
FUNCTIONS = [
    lambda x: tf.reduce_sum(tf.sin(x)),
    lambda x: tf.reduce_sum(tf.nn.relu(x - 0.5)),
    lambda x: float(np.sum(np.asarray(x) ** 2)),
    lambda x: tf.reduce_sum(tf.round(x) + x),
    lambda x: x,
    lambda x: None,
    lambda x: {"a": tf.reduce_sum(x)},
    lambda x: tf.reduce_sum(x) * math.nan,
    lambda x: tf.cast(tf.reduce_sum(x), tf.complex64),
    tf.function(lambda x: tf.reduce_prod(x)),
    keras.layers.Dense(2),
    print,
    int,
    None,
    "model.keras",
    3,
]
ODD = [
    None,
    0,
    1,
    2,
    3,
    -1,
    10**400,
    1.5,
    -0.5,
    math.nan,
    math.inf,
    "a",
    "auto",
    b"b",
    True,
    [],
    [1],
    (0, 1),
    (1, 2, 3),
]
ODD += [
    {},
    {"a": 1},
    {1},
    iter([1, 2]),
    np.ones(2),
    np.array(2),
    np.array([None]),
    np.float32(0.1),
    1j,
    print,
    object(),
]
ODD += [np.ma.array([1.0, 2.0], mask=[0, 1]), tf.constant([1.0]), keras.Input((2,)), int, lambda *a: None, lambda x: x]
XS = [X[:0], X.astype("float32"), X.astype("float16"), X > 0.5, (X * 255).astype("uint8"), X * math.nan, X[0], X[None]]
XS += [X.tolist(), tf.constant(X), np.ma.array(X, mask=X > 0.9), X.astype("O"), 0.5, np.float64(0.5), X[:, ::-1], "abc"]
XS += [VECTOR.astype("float32"), [VECTOR, VECTOR], {"a": VECTOR}, VECTOR.reshape(2, 2), X * 1e300, X * 1e-300, None]
GOOD = {
    "h": ["auto", 1e-3, 1e-9, 0.1],
    "tile": [1, 2, (2, 1), np.int64(2)],
    "channels": ["apart", "together"],
    "engine": ["auto", "batch", "windows", "tape", "difference"],
    "precision": ["auto", "float32", "float64"],
    "bounds": [None, (0, 1), (-1.0, 2.0)],
    "max_rows": [None, 2, 64],
    "batched": [None, True, False],
    "loss": [None, "mse", "categorical_crossentropy", keras.losses.MeanSquaredError()],
    "progress": [None, lambda done, expected: None],
}
CHECKED = GOOD | {
    "wrt": ["auto", "input", "weights", "all"],
    "check": ["auto", "every", "directions"],
    "directions": [1, 2, 3],
    "analytic": [None, np.ones_like(X), lambda x: np.ones_like(x)],
    "rtol": [1e-4, 0.0, 1.0],
    "atol": ["auto", 0.0, 1e-3],
    "coverage": [0.99, 0.0],
    "jitter": ["auto", None, 1e-3],
    "selftest": [False, True],
    "budget": [None, 40, "1s"],
    "seed": [0, 7],
    "label": [None, "a label"],
}
CALLS = {
    "gradient": (lambda f, x, y, o: fdfast.gradient(f, x, y=y, **o), GOOD | {"reduction": ["mean", "sum"]}),
    "estimate": (lambda f, x, y, o: fdfast.estimate(f, x, y=y, **o), GOOD | {"rtol": [1e-4], "seed": [0, 3]}),
    "gradcheck": (lambda f, x, y, o: fdfast.gradcheck(f, x, y, **o), CHECKED),
    "jacobian": (
        lambda f, x, y, o: fdfast.jacobian(f, x, **o),
        {k: v for k, v in GOOD.items() if k not in ("engine", "loss")} | {"wrt": [None, 0, "a"]},
    ),
    "directional": (
        lambda f, x, y, o: fdfast.directional(f, x, o.pop("v", np.ones(4)), y=y, **o),
        {"v": [VECTOR, X, [VECTOR, VECTOR]], "loss": GOOD["loss"]},
    ),
    "fgsm": (
        lambda f, x, y, o: fdfast.attack.fgsm(f, x, y, o.pop("epsilon", 0.1), **o),
        {k: GOOD[k] for k in ("loss", "tile", "channels", "bounds", "precision", "max_rows", "progress")}
        | {"epsilon": [0.1, 0.0], "gradient": ["finite-difference", "autodiff"]},
    ),
}


def drawn(rng, good, odd):
    """One of those that fit, or one in eight of the others."""
    pool = odd if rng.integers(8) == 0 else good
    return pool[rng.integers(len(pool))]


def problem(rng):
    name = str(rng.choice(list(CALLS)))
    call, options = CALLS[name]
    of_model = bool(rng.integers(2))
    f = MODEL if of_model else drawn(rng, FUNCTIONS[:4], FUNCTIONS)
    x = drawn(rng, [X, X[0]] if of_model else [VECTOR], XS + ODD)
    y = drawn(rng, [Y if x is X else Y[0]] if of_model else [None], [Y, Y[0], None, *ODD])
    names = rng.choice(list(options), min(len(options), rng.integers(0, 4)), replace=False)
    given = {str(k): drawn(rng, options[k], ODD) for k in names}
    return name, call, f, x, y, given


def held(*values):
    """What is passed, in bytes."""
    return [np.ma.getdata(v).tobytes() for v in values if isinstance(v, np.ndarray) and v.dtype != object]


def fault(error):
    """What is wrong with an error: "" for nothing."""
    said = str(error)
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = next((i for i, name in enumerate(files) if f"{os.sep}fdfast{os.sep}" in name), len(files))
    if __file__ in files[ours:]:  # f's own error, which is shown as it is
        return ""
    if isinstance(error, MemoryError) or (isinstance(error, ValueError | TypeError | RuntimeError) and said):
        return "raw words" if RAW.search(said) and "f takes arrays" not in said else ""
    return "raw error"


def main(seconds=20.0, seed=0, inputs=math.inf):
    faulthandler.enable()
    warnings.simplefilter("ignore")
    counts, findings, number = Counter(), 0, 0
    end = time.perf_counter() + seconds
    weights = [w.tobytes() for w in MODEL.get_weights()]
    while number < inputs and time.perf_counter() < end:
        rng = np.random.default_rng((seed, number))
        name, call, f, x, y, options = problem(rng)
        before, started, said = held(x, y, *options.values()), time.perf_counter(), ""
        shown = ", ".join(f"{k}={v!r:.60}" for k, v in {"f": f, "x": x, "y": y, **options}.items())
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                call(f, x, y, dict(options))
            counts["results"] += 1
        except Exception as error:
            counts[type(error).__name__] += 1
            said = fault(error)
            if said:
                said += f": {type(error).__name__}: {str(error)[:160]!r}"
        if held(x, y, *options.values()) != before:
            said += "; what was passed has changed"
        if [w.tobytes() for w in MODEL.get_weights()] != weights:
            said += "; weights have changed"
        if time.perf_counter() - started > LONGEST:
            said += f"; {time.perf_counter() - started:.0f} s"
        if said:
            findings += 1
            print(f"input {number} of seed {seed}: {name}({' '.join(shown.split())}): {said}", flush=True)
        number += 1
    said = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"calls: {number} inputs of seed {seed}: {said}; {findings} findings")
    return findings


if __name__ == "__main__":
    sys.exit(bool(main(*(float(a) if i == 0 else int(a) for i, a in enumerate(sys.argv[1:])))))
