"""Eight models of digits, plain and defended in ways that hide the gradient, and what each of them is."""

from __future__ import annotations

import io
from collections.abc import Callable
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


class Defence(keras.layers.Layer):
    """A layer without weights that keeps the shape; what it does is named by `strength`."""

    def __init__(self, strength: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = strength

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Quantise(Defence):
    """So many grey values, by rounding."""

    def call(self, x: Any) -> Any:
        return tf.round(x * (self.strength - 1)) / (self.strength - 1)


class InPython(Defence):
    """Python code, which no tape follows."""

    def call(self, x: Any) -> Any:
        found = tf.numpy_function(self.of_array, [x], tf.float32)
        found.set_shape(x.shape)
        return found

    def of_array(self, x: Any) -> Any:
        """What it makes of an array."""
        raise NotImplementedError


class Jpeg(InPython):
    """Through a JPEG file of a quality and back, by Pillow."""

    def of_array(self, x: Any) -> Any:
        out = np.empty(x.shape, np.float32)
        for i, image in enumerate(np.round(255 * np.clip(x[..., 0], 0, 1)).astype(np.uint8)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=int(self.strength))
            out[i, ..., 0] = np.asarray(Image.open(file), np.float32) / 255
        return out


class Median(Defence):
    """The median of each pixel and its neighbours, in a window of so many pixels a side, by sorting."""

    def call(self, x: Any) -> Any:
        side = int(self.strength)
        edge = [side // 2] * 2
        padded = tf.pad(x, [[0, 0], edge, edge, [0, 0]], "REFLECT")
        cells = tf.image.extract_patches(padded, [1, side, side, 1], [1] * 4, [1] * 4, "VALID")
        middle = side * side // 2
        return tf.sort(cells, axis=-1)[..., middle : middle + 1]


class Noise(Defence):
    """Gaussian noise of a standard deviation, when the model is used, too."""

    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x), stddev=self.strength)


class Resize(Defence):
    """To a random size, down to a share of the frame, and a random place of it: one draw for each example."""

    def call(self, x: Any) -> Any:
        count = tf.shape(x)[0]
        side = tf.random.uniform([count, 1], self.strength, 1.0)
        corner = tf.random.uniform([count, 2]) * (1 - side)
        boxes = tf.concat([-corner / side, (1 - corner) / side], 1)
        return tf.image.crop_and_resize(x, boxes, tf.range(count), [28, 28])


class Winners(Defence):
    """The largest share of all units; the others are set to zero."""

    def call(self, x: Any) -> Any:
        flat = tf.reshape(x, [tf.shape(x)[0], -1])
        few = int(self.strength * np.prod(x.shape[1:]))
        least = tf.math.top_k(flat, few).values[:, -1]
        return tf.where(x >= least[:, None, None, None], x, tf.zeros_like(x))


#: Of the distilled model: its logits are those of the plain one, times this.
TEMPERATURE = 30.0
_IN_FRONT: dict[str, Callable[[], keras.layers.Layer]] = {
    "quantised input": lambda: Quantise(8),
    "JPEG by py_function": lambda: Jpeg(75),
    "median filter": lambda: Median(3),
    "Gaussian noise": lambda: Noise(0.1),
    "random resize": lambda: Resize(22 / 28),
}


def build(name: str) -> keras.Model:
    """One of the models of `TRUTH`: the shipped network with the defence put in; targets are class numbers."""
    model = mnist_cnn()
    if name == "distilled":
        return distilled(model, TEMPERATURE)
    if name == "k-winners":
        return winners(model, 0.1)
    return in_front(model, *([_IN_FRONT[name]()] if name in _IN_FRONT else []))


def distilled(model: keras.Sequential, temperature: float) -> keras.Sequential:
    """The model with its logits multiplied."""
    last = model.layers[-1]
    last.set_weights([temperature * w for w in last.get_weights()])
    return in_front(model)


def in_front(model: keras.Sequential, *defences: keras.layers.Layer) -> keras.Sequential:
    """The model behind defences."""
    return _compiled([*defences, *model.layers])


def winners(model: keras.Sequential, share: float) -> keras.Sequential:
    """The model with only the largest share of units left behind each convolution."""
    layers = []
    for layer in model.layers:
        layers += [layer, Winners(share)] if isinstance(layer, keras.layers.Conv2D) else [layer]
    return _compiled(layers)


def _compiled(layers: list[keras.layers.Layer]) -> keras.Sequential:
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    model.compile(loss="sparse_categorical_crossentropy")
    return model
