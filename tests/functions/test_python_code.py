"""Python code in a model's graph that declares float32: run in its own precision, or refused by name."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.tape import PythonCode, Traced

X = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
Y = np.ones((2, 1))


def model(rounded: Any) -> Any:
    """A model with NumPy in it, whose gradient is cut there."""

    def layer(x: Any) -> Any:
        found = tf.numpy_function(rounded, [x], tf.float32)
        found.set_shape(x.shape)
        return found

    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(layer), keras.layers.Dense(1)])
    made.compile(loss="mse")
    return made


def as_it_comes(t: Any) -> Any:
    return np.tanh(t)  # float64 of a float64 copy of the model, where float32 is declared


def test_it_is_evaluated_in_the_precision_it_was_made_for_and_at_every_call() -> None:
    net = model(as_it_comes)
    exact = net.layers[-1].get_weights()[0][:, 0] * 2 * (net(X).numpy() - 1) / np.cosh(X) ** 2
    for _ in range(3):
        found = fdfast.gradient(net, X, y=Y, h=1e-2)
        np.testing.assert_allclose(found, exact, rtol=2e-2)  # float32 differences at a step of 1e-2
        assert fdfast.gradcheck(net, X, Y, check="every").verdict != "pass"  # autodiff finds no way through NumPy


def test_another_function_in_its_place_is_seen() -> None:
    scale = [1.0]
    net = model(lambda t: scale[0] * np.tanh(t))
    before = fdfast.gradient(net, X, y=Y, h=1e-2)
    fdfast.gradient(net, X, y=Y, h=1e-2)
    scale[0] = 0.5
    assert np.abs(fdfast.gradient(net, X, y=Y, h=1e-2) - before).max() > 0.1 * np.abs(before).max()


def test_float64_is_refused_where_the_code_does_not_return_it() -> None:
    with pytest.raises(ValueError, match=r"precision='float64' cannot be had: .*float32"):
        fdfast.gradient(model(as_it_comes), X, y=Y, precision="float64")


def test_the_remedy_works() -> None:
    net = model(lambda t: np.tanh(t).astype(np.float32))
    assert fdfast.gradient(net, X, y=Y, h=1e-2).shape == X.shape


def test_the_code_is_named() -> None:
    def f(x: Any) -> Any:
        return tf.reduce_sum(tf.numpy_function(np.float64, [x], tf.float32), axis=1)

    traced = Traced(tf.function(f, input_signature=[tf.TensorSpec((2, 3), tf.float32)], autograph=False))
    with pytest.raises(PythonCode, match=r"Python code in f, .*: 0-th value returned .* expects float\. Let it"):
        traced(tf.constant(X))
