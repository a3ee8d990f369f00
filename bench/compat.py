"""`fdfast.compat.tensorflow` against `tf.test.compute_gradient`: ``python -m bench.compat``.

Two workloads: the loss of the shipped CNN as a function of one digit, 784 inputs, and the checks of
tests/test_compat_suite.py. TensorFlow's function is warmed up by ours, which runs first, so that both find their
operations loaded; "first call" is the first one with that function object, tracing included.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import Row, format_seconds
from fdfast.compat.tensorflow import compute_gradient, max_error, patch

SUITE = Path(__file__).parent.parent / "tests" / "test_compat_suite.py"


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Time of one call, and what it returns."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def loss_of_digit() -> tuple[Callable[[], Callable[[Any], Any]], list[Any]]:
    """Maker of fresh functions, all the same loss of one digit's image; and their argument."""
    model = fdfast.datasets.mnist_cnn()
    images, labels = fdfast.datasets.mnist_sample(1)
    target = tf.constant(np.eye(10, dtype="float32")[labels[:1]])
    loss = keras.losses.CategoricalCrossentropy()

    def make() -> Callable[[Any], Any]:
        return lambda x: loss(target, model(x, training=False))

    return make, [images[:1].astype("float32")]


def cnn_rows() -> Iterator[Row]:
    """The loss of the shipped CNN, eager."""
    make, x = loss_of_digit()
    compute_gradient(make(), x)  # TensorFlow's kernels are loaded
    slow, theirs = seconds(lambda: tf.test.compute_gradient(make(), x))
    first, second = [], []
    for _ in range(5):
        f = make()
        first.append(seconds(lambda f=f: compute_gradient(f, x))[0])
        second.append(seconds(lambda f=f: compute_gradient(f, x))[0])
    slow = (slow + seconds(lambda: tf.test.compute_gradient(make(), x))[0]) / 2
    for what, times, goal in (("first", first, 40), ("second", second, 100)):
        ratio = slow / float(np.median(times))
        yield Row(
            f"compute_gradient, loss of the CNN, 784 inputs, {what} call",
            f">= {goal} x",
            f"{ratio:.0f} x  ({format_seconds(float(np.median(times)))} / {format_seconds(slow)})",
            ratio >= goal,
        )
    ours = compute_gradient(make(), x)
    yield Row(
        "largest difference from TensorFlow's, theoretical / numerical",
        "",
        f"{max_error(ours[0], theirs[0]):.1e} / {max_error(ours[1], theirs[1]):.1e}",
    )


def suite_rows() -> Iterator[Row]:
    """Every check of the suite once by each function; the first round of each loads kernels and does not count."""
    spec = importlib.util.spec_from_file_location("compat_suite", SUITE)
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    slow, fast = [], []
    for name in suite.CHECKS:
        f, x, tolerance = suite.CHECKS[name]
        compute_gradient(f, x)
        # A fresh function: what was traced is of no use to it.
        suite.CHECKS[name] = (lambda *a, f=f: f(*a)), x, tolerance
        with patch():
            fast.append(seconds(lambda name=name: suite.check(name))[0])
        slow.append(seconds(lambda name=name: suite.check(name))[0])
        if os.environ.get("BENCH_EACH"):
            print(
                f"    {name:<24} {slow[-1] / fast[-1]:6.1f} x  {format_seconds(fast[-1])} / {format_seconds(slow[-1])}"
            )
    ratio = sum(slow) / sum(fast)
    yield Row(
        f"{len(slow)} checks of a suite under patch(), in total",
        ">= 10 x",
        f"{ratio:.1f} x  ({format_seconds(sum(fast))} / {format_seconds(sum(slow))})",
        ratio >= 10,
    )


def run() -> Iterator[Row]:
    """All rows of this module."""
    yield from cnn_rows()
    yield from suite_rows()


if __name__ == "__main__":
    for row in run():
        print(row, flush=True)
