"""Eight models of digits, plain and defended in ways that hide the gradient, and what each of them is."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from fdfast.data import mnist_cnn

#: Name of a model -> what `fdfast.attack.masking` should say of it.
TRUTH = {
    "plain": "faithful",
    "distilled": "saturated",
    "quantised input": "staircase",
    "JPEG by py_function": "staircase",
    "median filter": "shattered",
    "Gaussian noise": "random",
    "random resize": "random",
    "k-winners": "shattered",
}


class Quantise(keras.layers.Layer):
    """Eight grey values, by rounding."""

    def call(self, x: Any) -> Any:
        return tf.round(x * 7) / 7


class Jpeg(keras.layers.Layer):
    """Through a JPEG file and back, by Pillow: Python code, which no tape follows."""

    def call(self, x: Any) -> Any:
        found = tf.numpy_function(_jpeg, [x], tf.float32)
        found.set_shape(x.shape)
        return found

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def _jpeg(x: Any) -> Any:
    out = np.empty(x.shape, np.float32)
    for i, image in enumerate(np.round(255 * np.clip(x[..., 0], 0, 1)).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        out[i, ..., 0] = np.asarray(Image.open(file), np.float32) / 255
    return out


class Median(keras.layers.Layer):
    """The median of each pixel and its neighbours, by sorting."""

    def call(self, x: Any) -> Any:
        cells = tf.image.extract_patches(
            tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), [1, 3, 3, 1], [1] * 4, [1] * 4, "VALID"
        )
        return tf.sort(cells, axis=-1)[..., 4:5]


class Noise(keras.layers.Layer):
    """Gaussian noise, when the model is used, too."""

    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x), stddev=0.1)


class Resize(keras.layers.Layer):
    """To a random size, and into a random place of the frame: one draw for each example."""

    def call(self, x: Any) -> Any:
        count = tf.shape(x)[0]
        side = tf.random.uniform([count, 1], 22 / 28, 1.0)
        corner = tf.random.uniform([count, 2]) * (1 - side)
        boxes = tf.concat([-corner / side, (1 - corner) / side], 1)
        return tf.image.crop_and_resize(x, boxes, tf.range(count), [28, 28])


class Winners(keras.layers.Layer):
    """The largest tenth of all units; the others are set to zero."""

    def call(self, x: Any) -> Any:
        flat = tf.reshape(x, [tf.shape(x)[0], -1])
        few = int(np.prod(x.shape[1:])) // 10
        least = tf.math.top_k(flat, few).values[:, -1]
        return tf.where(x >= least[:, None, None, None], x, tf.zeros_like(x))


#: Of the distilled model: its logits are those of the plain one, times this.
TEMPERATURE = 30.0
_IN_FRONT = {
    "quantised input": Quantise,
    "JPEG by py_function": Jpeg,
    "median filter": Median,
    "Gaussian noise": Noise,
    "random resize": Resize,
}


def build(name: str) -> keras.Model:
    """One of the models of `TRUTH`: the shipped network with the defence put in; targets are class numbers."""
    model = mnist_cnn()
    if name == "distilled":
        last = model.layers[-1]
        last.set_weights([TEMPERATURE * w for w in last.get_weights()])
    if name in _IN_FRONT:
        model = keras.Sequential([keras.Input((28, 28, 1)), _IN_FRONT[name](), *model.layers])
    if name == "k-winners":
        after = {"conv_1": [Winners()], "conv_2": [Winners()]}
        layers = [one for layer in model.layers for one in (layer, *after.get(layer.name, []))]
        model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    model.compile(loss="sparse_categorical_crossentropy")
    return model
