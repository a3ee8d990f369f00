"""The eight defences at other strengths, on other networks, and relatives of them, to try the diagnosis on.

``python -m bench.attack --held-out`` diagnoses them. `HELD_OUT` was made after the thresholds; they were then set anew
on it and on the eight, and `UNSEEN` made after that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bench.attack.models import Defence, InPython, Jpeg, Median, Noise, Quantise, Resize, distilled, in_front, winners
from fdfast.data import mnist_cnn, mnist_sample

_TRAINED_ON = slice(40, 1000)  # digits; the first forty are those that are diagnosed
_EPOCHS = 12


class Held(NamedTuple):
    """What the diagnosis should say, and what makes the model."""

    truth: str
    make: Callable[[], keras.Model]


class Floor(Defence):
    """So many grey values, by cutting off."""

    def call(self, x: Any) -> Any:
        return tf.floor(x * self.strength) / self.strength


class Bytes(Defence):
    """Through 8-bit numbers, as in a file."""

    def call(self, x: Any) -> Any:
        return tf.cast(tf.cast(tf.clip_by_value(255 * x + 0.5, 0, 255), tf.uint8), x.dtype) / 255


class Ripples(Defence):
    """A fine wave on every pixel, whose slope turns many times within epsilon."""

    def call(self, x: Any) -> Any:
        return x + self.strength * tf.sin(400 * x)


class Masked(Defence):
    """A share of pixels is left out at random."""

    def call(self, x: Any) -> Any:
        return x * tf.cast(tf.random.uniform(tf.shape(x)) > self.strength, x.dtype)


class Blurred(InPython):
    """Smoothed in NumPy: no tape follows, but nothing is flat."""

    def of_array(self, x: Any) -> Any:
        share = np.float32(self.strength)
        return (1 - share) * x + share / 4 * sum(np.roll(x, k, axis) for k in (-1, 1) for axis in (1, 2))


@cache
def _weights(name: str) -> list[Any]:
    """Weights of a small network, trained on shipped digits for a few seconds."""
    model = _network(name)
    x, labels = (one[_TRAINED_ON] for one in mnist_sample())
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    model.fit(x, labels, batch_size=32, epochs=_EPOCHS, verbose=0)
    return list(model.get_weights())


def _network(name: str) -> keras.Sequential:
    keras.utils.set_random_seed(3)
    conv, pool, dense = keras.layers.Conv2D, keras.layers.AveragePooling2D, keras.layers.Dense
    inner = {
        "CNN, average pools": [conv(12, 5, activation="relu"), pool(2), conv(24, 3, activation="relu"), pool(2)],
        "CNN, strides": [conv(16, 4, 2, activation="elu"), conv(32, 3, 2, activation="elu")],
        "CNN, batch norm": [
            conv(16, 3, use_bias=False), keras.layers.BatchNormalization(), keras.layers.ReLU(), pool(2),
            conv(16, 3, activation="silu"), pool(2),
        ],
        "MLP, tanh": [keras.layers.Flatten(), dense(96, "tanh"), dense(48, "tanh")],
        "MLP, ReLU": [keras.layers.Flatten(), dense(128, "relu"), dense(64, "relu")],
        "MLP, GELU": [keras.layers.Flatten(), dense(200, "gelu")],
        "CNN, leaky": [
            conv(10, 3, activation="leaky_relu"), keras.layers.MaxPooling2D(3), conv(20, 3, activation="leaky_relu"),
        ],
    }[name]  # fmt: skip
    flat = [] if name.startswith("MLP") else [keras.layers.Flatten()]
    return keras.Sequential([keras.Input((28, 28, 1)), *inner, *flat, dense(10, "softmax")])


def trained(name: str) -> keras.Sequential:
    """A small network of another kind, trained."""
    model = _network(name)
    model.set_weights(_weights(name))
    return model


def _shipped(*defences: keras.layers.Layer) -> keras.Model:
    return in_front(mnist_cnn(), *defences)


def _small(name: str, *defences: keras.layers.Layer) -> keras.Model:
    return in_front(trained(name), *defences)


HELD_OUT = {
    "CNN, average pools": Held("faithful", lambda: _small("CNN, average pools")),
    "CNN, strides": Held("faithful", lambda: _small("CNN, strides")),
    "CNN, batch norm": Held("faithful", lambda: _small("CNN, batch norm")),
    "MLP, tanh": Held("faithful", lambda: _small("MLP, tanh")),
    "MLP, ReLU": Held("faithful", lambda: _small("MLP, ReLU")),
    "distilled, 100": Held("saturated", lambda: distilled(mnist_cnn(), 100)),
    "distilled, 1000": Held("saturated", lambda: distilled(mnist_cnn(), 1000)),
    "distilled, CNN with strides": Held("saturated", lambda: distilled(trained("CNN, strides"), 60)),
    "distilled, MLP": Held("saturated", lambda: distilled(trained("MLP, tanh"), 60)),
    "quantised, 2 values": Held("staircase", lambda: _shipped(Quantise(2))),
    "quantised, 4 values": Held("staircase", lambda: _shipped(Quantise(4))),
    "quantised, 32 values": Held("staircase", lambda: _small("CNN, strides", Quantise(32))),
    "cut off, 16 values": Held("staircase", lambda: _small("MLP, ReLU", Floor(16))),
    "8-bit numbers": Held("staircase", lambda: _shipped(Bytes(0))),
    "JPEG, quality 30": Held("staircase", lambda: _shipped(Jpeg(30))),
    "JPEG, quality 95": Held("staircase", lambda: _small("CNN, batch norm", Jpeg(95))),
    "median, 5 x 5": Held("shattered", lambda: _shipped(Median(5))),
    "median, CNN with average pools": Held("shattered", lambda: _small("CNN, average pools", Median(3))),
    "ripples": Held("shattered", lambda: _shipped(Ripples(0.005))),
    "noise, 0.02": Held("random", lambda: _shipped(Noise(0.02))),
    "noise, 0.3, MLP": Held("random", lambda: _small("MLP, tanh", Noise(0.3))),
    "random resize, slight": Held("random", lambda: _small("CNN, batch norm", Resize(26 / 28))),
    "pixels left out": Held("random", lambda: _shipped(Masked(0.1))),
    "a twentieth wins": Held("shattered", lambda: winners(mnist_cnn(), 0.05)),
    "a fifth wins": Held("shattered", lambda: winners(mnist_cnn(), 0.2)),
    "a tenth wins, CNN with strides": Held("shattered", lambda: winners(trained("CNN, strides"), 0.1)),
    "blurred in NumPy": Held("disconnected", lambda: _shipped(Blurred(0.4))),
}

UNSEEN = {
    "MLP, GELU": Held("faithful", lambda: _small("MLP, GELU")),
    "CNN, leaky": Held("faithful", lambda: _small("CNN, leaky")),
    "distilled, 50": Held("saturated", lambda: distilled(mnist_cnn(), 50)),
    "distilled, CNN with average pools": Held("saturated", lambda: distilled(trained("CNN, average pools"), 60)),
    "quantised, 3 values, MLP": Held("staircase", lambda: _small("MLP, GELU", Quantise(3))),
    "quantised, 12 values": Held("staircase", lambda: _small("CNN, batch norm", Quantise(12))),
    "cut off, 5 values": Held("staircase", lambda: _shipped(Floor(5))),
    "JPEG, quality 60, MLP": Held("staircase", lambda: _small("MLP, tanh", Jpeg(60))),
    "JPEG, quality 10": Held("staircase", lambda: _small("CNN, leaky", Jpeg(10))),
    "median, CNN with strides": Held("shattered", lambda: _small("CNN, strides", Median(3))),
    "median, MLP": Held("shattered", lambda: _small("MLP, ReLU", Median(3))),
    "median, 5 x 5, leaky CNN": Held("shattered", lambda: _small("CNN, leaky", Median(5))),
    "noise, 0.05": Held("random", lambda: _small("CNN, strides", Noise(0.05))),
    "random resize, strong": Held("random", lambda: _small("CNN, average pools", Resize(0.75))),
    "half of the pixels left out": Held("random", lambda: _small("MLP, GELU", Masked(0.5))),
    "a fifteenth wins": Held("shattered", lambda: winners(mnist_cnn(), 0.067)),
    "a seventh wins, leaky CNN": Held("shattered", lambda: winners(trained("CNN, leaky"), 0.14)),
    "blurred in NumPy, MLP": Held("disconnected", lambda: _small("MLP, tanh", Blurred(0.8))),
}
