"""Small models of vectors and images, with the defects that attacks have to see."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

SHAPE = (6, 6, 1)
CLASSES = 3


class Steps(keras.layers.Layer):
    """Sixteen grey values."""

    def call(self, x: Any) -> Any:
        return tf.round(x * 15) / 15


class Cut(keras.layers.Layer):
    """Python code that changes nothing, which no tape follows."""

    def call(self, x: Any) -> Any:
        found = tf.numpy_function(lambda a: a, [x], tf.float32)
        found.set_shape(x.shape)
        return found

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Noise(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x), stddev=0.1)


class Jumps(keras.layers.Layer):
    """A smooth slope under a thousand jumps, each of the slope's own size: the slope is right, and tells nothing."""

    def call(self, x: Any) -> Any:
        return x + 0.02 * tf.stop_gradient(tf.sin(3e3 * x))


def build(*front: Any, scale: float = 1.0, softmax: bool = True) -> Any:
    """A small dense network behind some layers; its logits are multiplied by `scale`."""
    keras.utils.set_random_seed(3)
    inside = [keras.layers.Flatten(), keras.layers.Dense(12, activation="tanh"), keras.layers.Dense(CLASSES)]
    layers = [keras.Input(SHAPE), *front, *inside]
    model = keras.Sequential([*layers, keras.layers.Softmax()] if softmax else layers)
    model.layers[-2 if softmax else -1].set_weights(
        [scale * w for w in model.layers[-2 if softmax else -1].get_weights()]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss="sparse_categorical_crossentropy" if softmax else loss)
    return model


def examples(model: Any, count: int = 6) -> tuple[Any, Any]:
    """Points in [0, 1] and what the model says to them, so that it is right everywhere."""
    x = np.random.default_rng(1).uniform(0.2, 0.8, (count, *SHAPE)).astype(np.float32)
    return x, model(x, training=False).numpy().argmax(axis=1)
