"""The derivative along one direction: against closed forms, on kinks, of several inputs, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

X, V = np.array([0.5, -1.25, 2.0]), np.array([1.0, 0.5, -0.25])

CLOSED = {
    "cubes": (lambda x: tf.reduce_sum(x**3), lambda x, v: 3 * np.sum(x**2 * v)),
    "exponential": (lambda x: tf.exp(tf.reduce_sum(x)), lambda x, v: np.exp(x.sum()) * v.sum()),
    "norm": (tf.norm, lambda x, v: np.dot(x, v) / np.linalg.norm(x)),
    "constant": (lambda x: tf.constant(2.0, tf.float64) + 0 * x[0], lambda x, v: 0.0),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name, dtype):
    f, truth = CLOSED[name]
    g = f if dtype == "float64" else lambda x: f(tf.cast(x, tf.float64))
    x = X.astype(dtype)  # exact in both
    found = fdfast.directional(g, x, V)
    # A few roundings of the largest term; and the bound holds.
    assert found.value == pytest.approx(truth(X, V), rel=1e-14, abs=1e-14)
    assert abs(found.value - truth(X, V)) <= found.error + 4e-16 * abs(found.value)
    assert found.error <= 1e-13
    assert x.dtype == dtype
    assert (x == X).all()


def test_on_a_kink_it_is_the_mean_of_both_sides_and_says_how_far_they_are():
    found = fdfast.directional(lambda x: tf.reduce_sum(tf.nn.relu(x)), np.zeros(2), np.array([1.0, -3.0]))
    assert found == (pytest.approx(-1.0), pytest.approx(2.0))  # slopes 1 and -3


def test_several_inputs_and_the_loss_of_a_model():
    x = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    found = fdfast.directional(lambda x: tf.reduce_sum(x["a"] ** 2) * x["b"][0], x, {"a": [1.0, 0.0], "b": [2.0]})
    assert found.value == pytest.approx(2 * 3 + 5 * 2)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
    gradient = fdfast.gradient(model, X, y=np.ones(2), loss="mse")
    found = fdfast.directional(model, X, V, y=np.ones(2), loss="mse")
    assert found.value == pytest.approx(np.dot(gradient, V), rel=1e-9)  # of a gradient by differences


@pytest.mark.parametrize(
    ("f", "v", "error", "words"),
    [
        (tf.norm, np.ones(2), ValueError, r"v has shape \(2,\) for x; it must be \(3,\)"),
        (tf.norm, np.array([1, np.nan, 1]), ValueError, "v"),
        (lambda x: tf.py_function(lambda t: t.numpy().sum(), [x], tf.float64), V, ValueError, "no exact derivative"),
        (3, V, TypeError, "f must be a Keras model or a callable"),
    ],
)  # fmt: skip
def test_refused(f, v, error, words):
    with pytest.raises(error, match=words):
        fdfast.directional(f, X, v)
