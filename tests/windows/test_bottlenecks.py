"""Values that all goes through: where they are held, gradients past them, and kinks behind them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fdfast
from fdfast.functions import flat_callable, recorded
from fdfast.windows import Windows, windows_at
from fdfast.windows.bottlenecks import with_bottlenecks
from fdfast.windows.program import Node

RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 1.0, (8, 8, 3))
MAP, WIDE = (8, 8, 4), (1, 1, 200)


def vector(c):
    return (1, 1, c)


#: Name -> (sources and shape of each node, those that are held). The first is x.
PLACES = {
    "a mean that spreads": ([([], MAP), ([0], vector(4)), ([1], MAP), ([0, 2], MAP)], [1]),
    "nothing but vectors behind it": ([([], MAP), ([0], vector(4)), ([1], vector(3))], []),
    "the narrowest of a row": ([([], MAP), ([0], WIDE), ([1], vector(16)), ([2], vector(9)), ([3], MAP)], [3]),
    "where two read it": ([([], MAP), ([0], vector(4)), ([1], vector(2)), ([1], vector(2)), ([2, 3], MAP)], [1]),
    "too wide": ([([], MAP), ([0], WIDE), ([1], MAP)], []),
    "x is no wider itself": ([([], vector(6)), ([0], vector(4)), ([1], MAP)], []),
    "nearly as many as x has": ([([], (4, 4, 1)), ([0], vector(7)), ([0], vector(3)), ([1], MAP), ([2], MAP)], []),
    "one behind another": ([([], MAP), ([0], vector(4)), ([1], MAP), ([0, 2], vector(2)), ([3], MAP)], [1, 3]),
    "only what is held moves it": ([([], MAP), ([0], vector(4)), ([1], MAP), ([2], vector(2)), ([3], MAP)], [1]),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_a_bottleneck_is(name):
    given, held = PLACES[name]
    nodes, place, holds = with_bottlenecks([Node("add", s, shape, None, 0) for s, shape in given])
    assert [n - 1 for n in holds] == [place[n] for n in held]
    assert [nodes[n].op for n in holds] == ["hold"] * len(held)
    for number, (sources, shape) in enumerate(given):
        node = nodes[place[number]]
        assert node.shape == shape
        assert node.sources == [place[s] + (s in held) for s in sources]


def decoder(x):
    """Few numbers that a whole picture is made of."""
    code = layers.Dense(5, "tanh")(layers.Flatten()(layers.Conv2D(4, 3, 2, activation="relu")(x)))
    return layers.Conv2D(3, 3, activation="softplus")(layers.Reshape((4, 4, 6))(layers.Dense(96)(code)))


def gated(x):
    y = layers.Conv2D(4, 3, activation="relu", padding="same")(x)
    for _ in range(2):
        gate = layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D()(y))
        y = layers.Multiply()([y, layers.Reshape((1, 1, 4))(gate)])
        y = layers.Conv2D(4, 3, activation="silu", padding="same")(y)
    return y


def stacked_norms(x):
    for _ in range(2):
        x = layers.ReLU()(layers.GroupNormalization(2)(layers.Conv2D(4, 3, padding="same")(x)))
    return x


MODELS = {"decoder": (decoder, 1), "gates": (gated, 2), "norms": (stacked_norms, 4)}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_past_bottlenecks_are_exact(name, monkeypatch):
    make, many = MODELS[name]
    keras.utils.set_random_seed(0)
    x = keras.Input(X.shape)
    model = keras.Model(x, layers.Dense(3, "softmax")(layers.Flatten()(make(x))))
    options = {"y": np.eye(3)[1], "loss": "categorical_crossentropy"}
    held = []
    push = Windows.push

    def seen(self, *args, hold):
        held.append(len(self.lowered.held) if hold else 0)
        return push(self, *args, hold=hold)

    monkeypatch.setattr(Windows, "push", seen)
    point = X.astype(np.float32)
    found = fdfast.gradient(model, point, engine="windows", **options)
    assert held[-1] == many  # and not once more without, which a kink takes
    exact = fdfast.gradient(model, point, engine="tape", **options)
    # Sums over the map round otherwise.
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13 * np.abs(exact).max())


#: Their mean is a number of few digits.
SHARES = RNG.integers(1, 64, X.shape) / 64.0


def on_the_edge(x):
    """Units that the mean alone moves, each on a kink."""
    mean = tf.reduce_mean(x[None], [1, 2], keepdims=True)
    edge = (mean + 0.0 * x) - SHARES.mean((0, 1))
    return tf.reduce_sum(tf.nn.relu(edge) + x**2)


def test_a_kink_behind_a_bottleneck_takes_all_moves_together():
    flat = flat_callable(on_the_edge, SHARES, {})
    whole = recorded(flat)
    windows, _ = windows_at(whole, whole.point(flat.points()))
    assert windows.lowered.held
    found = fdfast.estimate(on_the_edge, SHARES)
    np.testing.assert_allclose(found.right[0], 2 * SHARES.ravel() + 1, rtol=1e-12)
    np.testing.assert_allclose(found.left[0], 2 * SHARES.ravel(), rtol=1e-12)


def test_a_long_step_goes_through_a_bottleneck_with_all_others():
    f = lambda x: tf.reduce_sum(tf.exp(x - tf.reduce_mean(x, [1, 2], keepdims=True)) * x)  # noqa: E731
    found = fdfast.gradient(lambda x: f(x[None]), X, 0.25)
    exact = fdfast.gradient(lambda x: f(x[None]), X, 0.25, engine="tape")
    np.testing.assert_allclose(found, exact, rtol=1e-12)
