"""Random small models, their inputs and targets: everything follows from (seed, number of the model)."""

from __future__ import annotations

import math
import zlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy

import fdfast

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "elu", "softplus")
LOSSES: dict[str, Any] = {  # by name of Keras, or what makes one
    "cce": "categorical_crossentropy",
    "sparse cce": "sparse_categorical_crossentropy",
    "cce of logits": partial(CategoricalCrossentropy, from_logits=True),
    "sparse cce of logits": partial(SparseCategoricalCrossentropy, from_logits=True),
    "bce": "binary_crossentropy",
    "bce of logits": partial(BinaryCrossentropy, from_logits=True),
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "huber": "huber",
}
ENDINGS = {"cce": "softmax", "sparse cce": "softmax", "bce": "sigmoid"}
INPUTS = ("uniform", "normal", "sparse", "bytes", "blocks", "strokes", "small", "large", "black")
PER_MODEL = 8  # inputs of each model: tracing costs more than checking
FAULTY_DIGITS = 3  # digits of each faulty subject: one takes as long as forty small models


class Spec(SimpleNamespace):
    """What a random model is made of, as `draw` says; or the shipped CNN, if it is about digits."""

    def rng(self, what: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that a fault changes nothing else."""
        return np.random.default_rng([self.seed, self.number, zlib.crc32(what.encode())])


class Parts(SimpleNamespace):
    """The layers that a fault may replace; `entry`, `inside` and `loss` take part only if given."""

    conv, dense, add, softmax = layers.Conv2D, layers.Dense, layers.Add, layers.Softmax
    entry = inside = loss = None


def named(name: str, seed: int, count: int | None = None) -> Spec:
    """m017: random model 17. d001: the shipped CNN and digits 8 to 15. f001: digits 3 to 5, for faults."""
    usual, number = FAULTY_DIGITS if name[0] == "f" else PER_MODEL, int(name[1:])
    digits = Spec(number=number, seed=seed, shape=(28, 28, 1), loss="cce", digits=True)
    spec = draw(seed, number) if name[0] == "m" else digits
    spec.name, spec.count = name, count or usual
    return spec


def draw(seed: int, number: int) -> Spec:
    rng = np.random.default_rng([seed, number])

    def pick(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    image = rng.random() < 0.7
    side, width = int(rng.integers(6, 11)), int(rng.integers(3, 7))
    residual = bool(rng.random() < 0.4)
    same = (width,) * int(rng.integers(2, 4))  # a branch can be added to what it starts from
    return Spec(
        number=number, seed=seed, digits=False,
        shape=(side, pick(side, side + 1), pick(1, 2, 3)) if image else (int(rng.integers(8, 33)),),
        widths=tuple(4 * n for n in same) if not image else same[:2],
        kernel=pick(2, 3, 3), padding=pick("same", "valid"), activation=pick(*ACTIVATIONS, "relu"),
        pool=pick("max", "max", "average", "none", "global max", "global average"),
        normalised=bool(rng.random() < 0.4), residual=residual, biased=bool(rng.random() < 0.5),
        outputs=int(rng.integers(2, 7)), gain=pick(1.0, 1.0, 1.0, 6.0, 30.0), loss=pick(*LOSSES),
    )  # fmt: skip


def build(spec: Spec, parts: Parts | None = None) -> tuple[keras.Model, Any]:
    parts, ending, image = parts or Parts(), ENDINGS.get(spec.loss), len(spec.shape) == 3
    if spec.digits:
        return _shipped_cnn(parts), LOSSES[spec.loss]
    x = inputs = keras.Input(spec.shape)
    x = parts.entry()(x) if parts.entry else x
    for i, width in enumerate(spec.widths):
        before = x
        if image:
            padding = "same" if i else spec.padding  # a branch keeps the size of what it is added to
            x = parts.conv(width, spec.kernel, padding=padding, name=f"conv_{i}")(x)
        else:
            x = parts.dense(width, name=f"dense_{i}")(x)
        x = layers.BatchNormalization(name=f"norm_{i}")(x) if spec.normalised else x
        x = layers.Activation(spec.activation)(x)
        if parts.inside and i == 0:
            x = parts.inside()(x)
        if spec.residual and i:
            x = parts.add()([before, x])
        elif image and i == 0 and spec.pool in ("max", "average"):
            x = (layers.MaxPooling2D if spec.pool == "max" else layers.AveragePooling2D)(2)(x)
    if image:
        ends = {"global max": layers.GlobalMaxPooling2D, "global average": layers.GlobalAveragePooling2D}
        x = ends.get(spec.pool, layers.Flatten)()(x)
    x = layers.Dense(spec.outputs, name="last")(x)
    if ending:
        x = parts.softmax()(x) if ending == "softmax" else layers.Activation(ending)(x)
    model = keras.Model(inputs, x)
    for layer in model.layers:
        rng = spec.rng(layer.name)
        layer.set_weights([_values(spec, layer.name, w.name, tuple(w.shape), rng) for w in layer.weights])
    loss = parts.loss or LOSSES[spec.loss]
    return model, loss if isinstance(loss, str) else loss()


def _shipped_cnn(parts: Parts) -> keras.Model:
    body = fdfast.datasets.mnist_cnn().layers
    if parts.softmax is not layers.Softmax:
        body[-1].activation = keras.activations.linear
        body = [*body, parts.softmax()]
    return keras.Sequential([keras.Input((28, 28, 1)), *([parts.entry()] if parts.entry else []), *body])


def _values(spec: Spec, layer: str, weight: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if weight == "kernel":
        return (spec.gain if layer == "last" else 1.5) * rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))
    if weight in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 2, shape)
    # Zero biases, as at initialisation: a unit that sees a black patch sits exactly on its kink.
    return rng.normal(0, 0.3, shape) if weight == "moving_mean" else rng.normal(0, 0.2, shape) * spec.biased


def inputs_of(spec: Spec, count: int = PER_MODEL) -> np.ndarray:
    """The first `count` inputs of a model, float32; the kinds take turns."""
    if spec.digits:
        return fdfast.datasets.mnist_sample((spec.number + 1) * count)[0][spec.number * count :]
    kinds = [INPUTS[(spec.number + i) % len(INPUTS)] for i in range(count)]
    found = [_input(spec.shape, kind, spec.rng(f"input {i}")) for i, kind in enumerate(kinds)]
    return np.stack(found).astype(np.float32)


def _input(shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    bytes_ = rng.integers(0, 256, shape)
    if kind == "uniform":
        return rng.uniform(size=shape)
    if kind in ("normal", "small", "sparse"):
        found = rng.normal(size=shape) * (1e-3 if kind == "small" else 1.0)
        return found * (rng.random(shape) < 0.2) if kind == "sparse" else found
    if kind == "blocks":  # flat areas: the cells of a pooling window are equal
        for axis in range(min(2, len(shape))):
            bytes_ = np.take(bytes_, np.arange(shape[axis]) // 3, axis=axis)
    if kind == "strokes":  # like a digit: bytes on black
        bytes_ = bytes_ * (rng.random(shape) < 0.3)
    return (bytes_ * (kind != "black")).astype(np.float32) / np.float32(1 if kind == "large" else 255)


def targets_of(spec: Spec, model: keras.Model, x: np.ndarray) -> np.ndarray:
    """One target per input; half of the classes are what the model predicts, so that some losses are near zero."""
    rng, many = spec.rng("targets"), len(x)
    if spec.digits:
        return np.eye(10)[fdfast.datasets.mnist_sample((spec.number + 1) * many)[1][spec.number * many :]]
    output = (PER_MODEL, spec.outputs)
    if "cce" in spec.loss:
        drawn = rng.integers(0, spec.outputs, PER_MODEL)[:many]
        labels = np.where(rng.random(PER_MODEL)[:many] < 0.5, np.argmax(model(x), axis=1), drawn)
        return labels if "sparse" in spec.loss else np.eye(spec.outputs)[labels]
    return (rng.integers(0, 2, output).astype(float) if "bce" in spec.loss else rng.normal(size=output))[:many]
