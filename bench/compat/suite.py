"""Larger calls: the loss of a network, and the suite of the tests."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from bench.rig import digits
from bench.timing import Row, Spread, clocked, ratio
from fdfast.compat.tensorflow import compute_gradient, max_error, patch

SUITE = Path(__file__).parents[2] / "tests" / "compat" / "test_suite.py"


def cnn_rows() -> Iterator[Row]:
    model, x, y = digits(1)
    loss, target, point = keras.losses.CategoricalCrossentropy(), tf.constant(y, tf.float32), [x.astype("float32")]

    def fresh() -> Callable[[Any], Any]:
        return lambda x: loss(target, model(x, training=False))

    ours, theirs = compute_gradient(fresh(), point), tf.test.compute_gradient(fresh(), point)
    calls = (compute_gradient, compute_gradient, tf.test.compute_gradient)
    rounds = [[clocked(partial(call, f, point)) for call in calls] for f in (fresh() for _ in range(5))]
    first, second, slow = (Spread(seconds) for seconds in zip(*rounds, strict=True))
    what = "tf.test.compute_gradient / ours, loss of the CNN, 784 inputs"
    yield ratio(f"{what}, first call", slow, first, ">= 40")
    yield ratio(f"{what}, second call", slow, second, ">= 100")
    text = f"{max_error(ours[0], theirs[0]):.1e} / {max_error(ours[1], theirs[1]):.1e}"
    yield Row("largest difference from TensorFlow's, theoretical / numerical", "", text)


def suite_rows() -> Iterator[Row]:
    """Every check of the suite once by each function; the first round of each loads kernels and does not count."""
    suite, slow, fast = SimpleNamespace(**runpy.run_path(str(SUITE))), 0.0, 0.0
    for name, (f, x, tolerance) in list(suite.CHECKS.items()):
        compute_gradient(f, x)
        # A fresh function: what was traced is of no use to it.
        suite.CHECKS[name] = (lambda *a, f=f: f(*a)), x, tolerance
        with patch():
            fast += clocked(partial(suite.check, name))
        slow += clocked(partial(suite.check, name))
    yield ratio(f"{len(suite.CHECKS)} checks of a suite / under patch(), in total", Spread(slow), Spread(fast), ">= 10")
