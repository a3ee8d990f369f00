"""What is said of a mismatch, or of a function that cannot be checked, is so: the right words, not the wrong ones."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import first_line

RNG, DRAWS = np.random.default_rng(0), np.random.default_rng(1)
A = RNG.normal(size=(5, 5))
SYMMETRIC = A @ A.T + 5 * np.eye(5)
X = RNG.normal(size=(6, 4))
W = RNG.normal(size=(4, 3))
BOTH = pytest.mark.parametrize("check", ["every", "directions"])


@tf.custom_gradient
def straight(x: Any) -> Any:
    return tf.round(x), lambda d: d


@tf.custom_gradient
def reversed_gradient(x: Any) -> Any:
    return tf.identity(x), lambda d: -d


@tf.custom_gradient
def halved(x: Any) -> Any:
    """A fault: half of the gradient, on one half of a matrix alone, so that it is not symmetric."""
    return tf.reduce_sum(x**2), lambda d: d * x * tf.linalg.band_part(tf.ones_like(x), -1, 0)


def quantized(x: Any) -> Any:
    return tf.reduce_sum(tf.quantization.fake_quant_with_min_max_args(tf.cast(x, tf.float32), -2, 2, 4) ** 2)


#: Function, point, words of the hint.
PATTERNS: dict[str, tuple[Any, Any, str]] = {
    "cholesky": (lambda s: tf.reduce_sum(tf.linalg.cholesky(s) * A), SYMMETRIC, "one half of a symmetric argument"),
    "logdet": (tf.linalg.logdet, SYMMETRIC, "one half of a symmetric argument"),
    "straight through": (lambda x: tf.reduce_sum(straight(4 * x) * 1.7), X, "f is a staircase there"),
    "quantized": (quantized, X, "f is a staircase there"),
    "reversed": (lambda x: tf.reduce_sum(tf.sin(reversed_gradient(tf.tanh(x) @ W))), X, "reversed on purpose"),
    "detached": (
        lambda x: tf.reduce_sum(tf.stop_gradient(tf.tanh(x)) ** 2),
        X,
        "detached, so the gradient leaves it out",
    ),
    "detached in part": (lambda x: tf.reduce_sum(tf.stop_gradient(tf.tanh(x)) * x), X, "detached, so the gradient"),
}


@BOTH
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_has_its_words(name: str, check: str) -> None:
    f, x, words = PATTERNS[name]
    report = fdfast.gradcheck(f, x, check=check)
    assert report.verdict == "fail"
    assert words in " ".join(report.hints)
    assert "follows none of the simple patterns" not in str(report)


#: What looks like one and is none: the words that must not be said.
OTHERS: dict[str, tuple[Any, Any, str]] = {
    "a square matrix with a fault": (halved, SYMMETRIC, "symmetric argument"),
    "a matrix that f reads whole": (lambda s: tf.linalg.slogdet(s)[1], SYMMETRIC, "symmetric argument"),
    "a rounding with its own gradient": (lambda x: tf.reduce_sum(tf.round(x) * x), X, "staircase"),
    "a constant that is detached": (lambda x: tf.reduce_sum(tf.stop_gradient(x * 0 + 2.0) * x), X, "detached"),
}


@BOTH
@pytest.mark.parametrize("name", OTHERS)
def test_words_are_not_said_of_others(name: str, check: str) -> None:
    f, x, words = OTHERS[name]
    report = fdfast.gradcheck(f, x, check=check)
    assert report.verdict == ("fail" if f is halved else "pass")
    assert words not in str(report)


class Noise(keras.layers.Layer):
    """Draws from NumPy at every call, where nobody sees it."""

    def call(self, x: Any) -> Any:
        drawn = tf.numpy_function(lambda a: DRAWS.normal(size=a.shape).astype(a.dtype), [x], x.dtype)
        return x + tf.ensure_shape(drawn, x.shape)


def test_who_draws_is_named_or_one_of_those_who_may() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, name="innocent"), Noise(name="noisy")])

    def f(rows: Any) -> Any:
        return tf.reduce_sum(model(rows), axis=1)

    with pytest.raises(ValueError, match="not deterministic") as caught:
        fdfast.gradcheck(f, X[0], batched=True, check="every")
    assert "look at 'innocent'" not in str(caught.value)
    assert re.search(r"one of .*'innocent'.*'noisy'|'noisy'", str(caught.value))


def test_training_mode_over_a_batch_says_what_it_does() -> None:
    norm = keras.layers.BatchNormalization()
    norm.build((None, 4))
    with pytest.raises(ValueError, match=r"changes its state|influence each other") as caught:
        fdfast.gradcheck(
            lambda rows: tf.reduce_sum(norm(rows, training=True) ** 3, 1), X[0], batched=True, check="every"
        )
    assert "every row would see another f" not in str(caught.value)


def takes_arrays_only(x: Any) -> Any:
    if tf.is_tensor(x):
        raise KeyError("a column that tensors lack")
    return float((x**2).sum())


def test_a_function_that_refuses_tensors_says_why() -> None:
    with pytest.raises(TypeError, match=r"f takes arrays, but no tensors \(KeyError: 'a column that tensors lack'\)"):
        fdfast.gradcheck(takes_arrays_only, X)
    with pytest.raises(TypeError, match="f returns no TensorFlow tensor, so there is no autodiff gradient"):
        fdfast.gradcheck(lambda x: float((np.asarray(x) ** 2).sum()), X)


def test_losses_of_their_own_shape_are_not_said_to_compare_element_by_element() -> None:
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.Dense(5, activation="softmax")])
    y = np.array([1, 2, 1])
    report = fdfast.gradcheck(model, X, y, loss=keras.losses.CTC())
    assert report.counts["wrong"] == 0


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("plain words\nand more", "plain words"),
        (
            'in user code:\n\n    File "a.py", line 3, in f  *\n        g(x)\n\n    TypeError: no such g',
            "TypeError: no such g",
        ),
        ("Graph execution error:\n\nDetected at node PyFunc\nValueError: it is wrong\n", "ValueError: it is wrong"),
        ("Exception encountered when calling Odd.call().\n\n\x1b[1mno such axis\x1b[0m\n\nArguments", "no such axis"),
        ("", "RuntimeError"),
    ],
)
def test_headings_are_no_reason(message: str, says: str) -> None:
    assert first_line(RuntimeError(message)) == says


def test_a_fail_has_learnt_something_and_zeros_have_no_digits() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    report = fdfast.gradcheck(model, X, np.zeros((6, 2)), loss="mse", check="every")
    assert report.deployed is None
    wrong = fdfast.gradcheck(lambda x: tf.reduce_sum(x**2), X, analytic=np.full(X.shape, np.nan), check="every")
    assert wrong.verdict == "fail"
    assert "Nothing was learnt" not in str(wrong)


def by_python(x: Any) -> Any:
    return tf.reduce_sum(tf.numpy_function(np.tanh, [x], tf.float64) ** 2)


@pytest.mark.parametrize("f", [by_python, lambda x: tf.constant((np.asarray(x) ** 2).sum())], ids=["numpy", "array"])
def test_a_tape_that_is_cut_is_an_error_before_anything_is_swept(f: Any) -> None:
    calls = []

    def counted(x: Any) -> Any:
        calls.append(1)
        return f(x)

    asked = []
    for x in (X, np.concatenate([X] * 4)):
        calls.clear()
        with pytest.raises(TypeError, match=r"f has no autodiff gradient.*tf\.custom_gradient, or pass analytic="):
            fdfast.gradcheck(counted, x, check="every")
        asked.append(len(calls))
    assert asked[1] <= asked[0] < 16  # a sweep calls f twice for each of the 24 elements, and of the 96
    x = X[:2]
    assert fdfast.gradient(f, x).shape == x.shape  # differences need none
    assert fdfast.gradcheck(f, x, analytic=fdfast.gradient(f, x), check="every").counts["wrong"] == 0


def with_a_median(x: Any) -> Any:
    middle = np.median(x)
    return tf.reduce_sum(tf.tanh(x)) * middle


def test_a_long_loop_warns_at_once_and_names_the_line() -> None:
    x = RNG.normal(size=(20, 6))
    with pytest.warns(
        RuntimeWarning, match=r"one row after the other: .*test_what_is_said\.py:\d+, `middle = np.median"
    ):
        fdfast.gradient(with_a_median, x)
    fdfast.gradient(with_a_median, x[:2])  # a short one does not
