"""Thirty kinds of function, small enough that every element can be moved: ``KINDS[name]() -> Case``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

CLASSES = 5
CROSS_ENTROPY = "categorical_crossentropy"


class Case(NamedTuple):
    """A model with a loss, or a function of x; `right` says whether its gradient is."""

    f: Any
    x: np.ndarray
    y: Any = None
    loss: Any = None
    right: bool = True

    @property
    def options(self) -> dict[str, Any]:
        return {} if self.loss is None else {"y": self.y, "loss": self.loss}


def points(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def stack(shape: tuple[int, ...], *inner: Any, head: bool = True, loss: Any = CROSS_ENTROPY) -> Case:
    """A Sequential model with a softmax at its end."""
    keras.utils.set_random_seed(0)
    tail = [layers.Flatten(), layers.Dense(CLASSES, "softmax")] if head else []
    return Case(keras.Sequential([keras.Input(shape), *inner, *tail]), points(*shape), np.eye(CLASSES)[2], loss)


def graph(shape: tuple[int, ...], make: Callable[[Any], Any]) -> Case:
    """A functional model with a softmax at its end."""
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    y = layers.Dense(CLASSES, "softmax")(layers.Flatten()(make(x)))
    return Case(keras.Model(x, y), points(*shape), np.eye(CLASSES)[2], CROSS_ENTROPY)


IMAGE, SERIES = (20, 20, 3), (24, 6)


def conv(filters: int, activation: Any = "relu", **more: Any) -> Any:
    return layers.Conv2D(filters, 3, padding="same", activation=activation, **more)


@tf.custom_gradient
def swish(x: Any) -> Any:
    s = tf.sigmoid(x)
    return x * s, lambda g: g * s * (1 + x * (1 - s))


@tf.custom_gradient
def wrong_swish(x: Any) -> Any:
    s = tf.sigmoid(x)
    return x * s, lambda g: g * s * (1 + x * s)


class Apply(layers.Layer):
    """A layer of one's own around a function."""

    def __init__(self, function: Callable[..., Any], **more: Any) -> None:
        super().__init__(**more)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = [conv(8), layers.MaxPooling2D(), conv(8), layers.Flatten(), layers.Dense(CLASSES, "softmax")]

    def call(self, x: Any) -> Any:
        for layer in self.inner:
            x = layer(x)
        return x


class Penalised(layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * tf.reduce_mean(x**2))
        return x


def squeezed(x: Any) -> Any:
    y = conv(8)(x)
    weight = layers.Dense(8, "sigmoid")(layers.Dense(2, "relu")(layers.GlobalAveragePooling2D()(y)))
    return layers.Multiply()([y, layers.Reshape((1, 1, 8))(weight)])


def u_net(x: Any) -> Any:
    down = conv(8)(x)
    deep = conv(16)(layers.MaxPooling2D()(down))
    return conv(4)(layers.Concatenate()([layers.Conv2DTranspose(8, 2, 2)(deep), down]))


def transformer(x: Any) -> Any:
    y = layers.Dense(16)(x)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 8)(y, y))
    return layers.LayerNormalization()(y + layers.Dense(16)(layers.Dense(32, "gelu")(y)))


def focal(y: Any, p: Any) -> Any:
    p = tf.clip_by_value(p, 1e-7, 1.0)
    return -tf.reduce_sum(y * (1 - p) ** 2 * tf.math.log(p), -1)


def subclassed() -> Case:
    keras.utils.set_random_seed(0)
    model = Subclassed()
    x = points(*IMAGE)[None]
    model(x)
    return Case(model, x, np.eye(CLASSES)[2:3], CROSS_ENTROPY)


def around_a_model() -> Case:
    model, y = stack(IMAGE, conv(8), layers.MaxPooling2D()).f, tf.constant(np.eye(CLASSES)[2:3], tf.float32)
    return Case(lambda x: keras.losses.categorical_crossentropy(y, model(x[None]))[0], points(*IMAGE))


def physics() -> Case:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(16, "tanh"), layers.Dense(1)])

    def residual(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            u = model(x)
        slope = tape.gradient(u, x)
        return tf.reduce_mean((slope[:, 0] + u[:, 0] * slope[:, 1]) ** 2)

    return Case(residual, points(10, 2))


KINDS: dict[str, Callable[[], Case]] = {
    "dense, tanh": lambda: stack((100,), layers.Dense(64, "tanh"), layers.Dense(32, "tanh")),
    "dense, GELU": lambda: stack((100,), layers.Dense(64, "gelu"), layers.Dense(32, "gelu")),
    "CNN": lambda: stack(IMAGE, conv(8), layers.MaxPooling2D(), conv(16)),
    "CNN, batch norm": lambda: stack(IMAGE, conv(8, None), layers.BatchNormalization(), layers.ReLU(), conv(16)),
    "CNN, separable": lambda: stack(IMAGE, layers.SeparableConv2D(8, 3, activation="silu"), layers.MaxPooling2D()),
    "CNN, layer norm": lambda: stack(IMAGE, conv(8, None), layers.LayerNormalization(), layers.ReLU(), conv(8)),
    "CNN, group norm": lambda: stack(IMAGE, conv(8, None), layers.GroupNormalization(4), layers.ReLU(), conv(8)),
    "CNN, squeeze and excite": lambda: graph(IMAGE, squeezed),
    "CNN, channels mixed by Lambda": lambda: stack(IMAGE, layers.Lambda(lambda x: 2 * x - 1), conv(8), conv(8)),
    "CNN, resized": lambda: stack(IMAGE, layers.Resizing(16, 16), conv(8)),
    "U-Net": lambda: graph(IMAGE, u_net),
    "transposed convolution": lambda: stack((8, 8, 4), layers.Conv2DTranspose(8, 3, 2, "same", activation="relu")),
    "causal, dilated": lambda: stack(
        SERIES, *(layers.Conv1D(8, 3, padding="causal", dilation_rate=r) for r in (1, 2, 4))
    ),
    "LSTM": lambda: stack(SERIES, layers.LSTM(12)),
    "GRU": lambda: stack(SERIES, layers.GRU(12)),
    "recurrent, both ways": lambda: stack(SERIES, layers.Bidirectional(layers.SimpleRNN(12))),
    "transformer": lambda: graph(SERIES, transformer),
    "3-D convolution": lambda: stack((6, 8, 8, 1), layers.Conv3D(4, 3, activation="relu")),
    "keras.ops": lambda: graph(IMAGE, lambda x: ops.concatenate([conv(4)(x), ops.mean(x, -1, keepdims=True)], -1)),
    "subclassed": subclassed,
    "layer with a gradient of its own": lambda: stack(IMAGE, conv(8, None), Apply(swish), conv(8)),
    "the same, wrong": lambda: stack(IMAGE, conv(8, None), Apply(wrong_swish), conv(8))._replace(right=False),
    "focal loss of one's own": lambda: stack(IMAGE, conv(8), layers.MaxPooling2D(), loss=focal),
    "with add_loss": lambda: stack(IMAGE, Penalised(), conv(8), layers.MaxPooling2D()),
    "function around a model": around_a_model,
    "function of operations": lambda: Case(
        lambda x: tf.reduce_sum(tf.exp(-tf.abs(x)) * tf.sin(3 * x)), points(100).astype(np.float64)
    ),
    "determinant": lambda: Case(
        lambda x: tf.linalg.logdet(tf.matmul(x, x, transpose_b=True) + tf.eye(6, dtype=x.dtype)),
        points(6, 6).astype(np.float64),
    ),
    "physics-informed": physics,
}
