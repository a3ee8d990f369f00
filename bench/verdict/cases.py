"""Random small models, their inputs and targets: everything follows from (seed, number of the model)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "gelu", "elu", "softplus")
LOSSES: dict[str, Callable[[], Any]] = {
    "cce": lambda: "categorical_crossentropy",
    "sparse cce": lambda: "sparse_categorical_crossentropy",
    "cce of logits": lambda: keras.losses.CategoricalCrossentropy(from_logits=True),
    "sparse cce of logits": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "bce": lambda: "binary_crossentropy",
    "bce of logits": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "mse": lambda: "mean_squared_error",
    "mae": lambda: "mean_absolute_error",
    "huber": lambda: "huber",
}
ENDINGS = {"cce": "softmax", "sparse cce": "softmax", "bce": "sigmoid"}
INPUTS = ("uniform", "normal", "sparse", "bytes", "blocks", "strokes", "small", "large", "black")
PER_MODEL = 8  # inputs of each model: tracing costs more than checking


@dataclass(frozen=True)
class Spec:
    """What a random model is made of."""

    number: int
    seed: int
    shape: tuple[int, ...]
    widths: tuple[int, ...]
    kernel: int
    padding: str
    activation: str
    pool: str
    normalised: bool
    residual: bool
    biased: bool
    outputs: int
    gain: float
    loss: str

    @property
    def name(self) -> str:
        return f"m{self.number:03d}"

    @property
    def image(self) -> bool:
        return len(self.shape) == 3

    @property
    def ending(self) -> str | None:
        return ENDINGS.get(self.loss)

    def rng(self, what: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that a fault changes nothing else."""
        return np.random.default_rng([self.seed, self.number, zlib.crc32(what.encode())])

    def __str__(self) -> str:
        flags = [name for name in ("normalised", "residual", "biased") if getattr(self, name)]
        conv = f"conv {self.kernel} {self.padding} {self.widths}, pool {self.pool}"
        body = f"{conv if self.image else f'dense {self.widths}'} {self.activation} {' '.join(flags)}"
        return f"{self.shape} {body} gain {self.gain:g} -> {self.outputs}, {self.loss}"


@dataclass(frozen=True)
class Parts:
    """The layers that a fault may replace; `entry` and `inside` take part only if given."""

    conv: Callable[..., Any] = keras.layers.Conv2D
    dense: Callable[..., Any] = keras.layers.Dense
    add: Callable[..., Any] = keras.layers.Add
    softmax: Callable[..., Any] = keras.layers.Softmax
    entry: Callable[[], Any] | None = None
    inside: Callable[[], Any] | None = None
    loss: Callable[..., Any] | None = None


TRUE_PARTS = Parts()


def draw(seed: int, number: int) -> Spec:
    """Draw model `number`."""
    rng = np.random.default_rng([seed, number])

    def pick(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    image = rng.random() < 0.7
    side, width = int(rng.integers(6, 11)), int(rng.integers(3, 7))
    residual = bool(rng.random() < 0.4)
    same = (width,) * int(rng.integers(2, 4))  # a branch can be added to what it starts from
    return Spec(
        number=number,
        seed=seed,
        shape=(side, pick(side, side + 1), pick(1, 2, 3)) if image else (int(rng.integers(8, 33)),),
        widths=tuple(4 * n for n in same) if not image else same[:2],
        kernel=pick(2, 3, 3),
        padding=pick("same", "valid"),
        activation=pick(*ACTIVATIONS, "relu"),
        pool=pick("max", "max", "average", "none", "global max", "global average"),
        normalised=bool(rng.random() < 0.4),
        residual=residual,
        biased=bool(rng.random() < 0.5),
        outputs=int(rng.integers(2, 7)),
        gain=pick(1.0, 1.0, 1.0, 6.0, 30.0),
        loss=pick(*LOSSES),
    )


def build(spec: Spec, parts: Parts = TRUE_PARTS) -> tuple[keras.Model, Any]:
    """Build the model, with weights that depend on the spec alone, and its loss."""
    x = inputs = keras.Input(spec.shape)
    if parts.entry:
        x = parts.entry()(x)
    for i, width in enumerate(spec.widths):
        before = x
        padding = "same" if i else spec.padding  # a branch keeps the size of what it is added to
        if spec.image:
            x = parts.conv(width, spec.kernel, padding=padding, name=f"conv_{i}")(x)
        else:
            x = parts.dense(width, name=f"dense_{i}")(x)
        if spec.normalised:
            x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.Activation(spec.activation)(x)
        if parts.inside and i == 0:
            x = parts.inside()(x)
        if spec.residual and i:
            x = parts.add()([before, x])
        elif spec.image and i == 0 and spec.pool in ("max", "average"):
            x = (keras.layers.MaxPooling2D if spec.pool == "max" else keras.layers.AveragePooling2D)(2)(x)
    if spec.image:
        ends = {"global max": keras.layers.GlobalMaxPooling2D, "global average": keras.layers.GlobalAveragePooling2D}
        x = ends.get(spec.pool, keras.layers.Flatten)()(x)
    x = keras.layers.Dense(spec.outputs, name="last")(x)
    if spec.ending:
        x = parts.softmax()(x) if spec.ending == "softmax" else keras.layers.Activation(spec.ending)(x)
    model = keras.Model(inputs, x, name=spec.name)
    _set_weights(model, spec)
    return model, (parts.loss or LOSSES[spec.loss])()


def _set_weights(model: keras.Model, spec: Spec) -> None:
    for layer in model.layers:
        if not layer.weights:
            continue
        rng = spec.rng(layer.name)
        values = {}
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if weight.name == "kernel":
                gain = spec.gain if layer.name == "last" else 1.5
                values["kernel"] = gain * rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))
            elif weight.name in ("gamma", "moving_variance"):
                values[weight.name] = rng.uniform(0.5, 2, shape)
            elif weight.name == "moving_mean":
                values[weight.name] = rng.normal(0, 0.3, shape)
            else:
                # Zero biases, as at initialisation: a unit that sees a black patch sits exactly on its kink.
                values[weight.name] = rng.normal(0, 0.2, shape) * spec.biased
        layer.set_weights([values[weight.name] for weight in layer.weights])


def inputs_of(spec: Spec, count: int = PER_MODEL) -> np.ndarray:
    """The first `count` inputs of a model, float32; the kinds take turns."""
    kinds = [INPUTS[(spec.number + i) % len(INPUTS)] for i in range(count)]
    return np.stack([_input(spec, kind, spec.rng(f"input {i}")) for i, kind in enumerate(kinds)]).astype(np.float32)


def _input(spec: Spec, kind: str, rng: np.random.Generator) -> np.ndarray:
    shape = spec.shape
    bytes_ = rng.integers(0, 256, shape)
    if kind == "uniform":
        return rng.uniform(size=shape)
    if kind in ("normal", "small"):
        return rng.normal(size=shape) * (1.0 if kind == "normal" else 1e-3)
    if kind == "sparse":
        return rng.normal(size=shape) * (rng.random(shape) < 0.2)
    if kind == "blocks":  # flat areas: the cells of a pooling window are equal
        for axis in range(min(2, len(shape))):
            bytes_ = np.take(bytes_, np.arange(shape[axis]) // 3, axis=axis)
    if kind == "strokes":  # like a digit: bytes on black
        bytes_ = bytes_ * (rng.random(shape) < 0.3)
    if kind == "black":
        bytes_ = bytes_ * 0
    return bytes_.astype(np.float32) / np.float32(1 if kind == "large" else 255)


def targets_of(spec: Spec, model: keras.Model, x: np.ndarray) -> np.ndarray:
    """One target per input; half of the classes are what the model predicts, so that some losses are near zero."""
    rng = spec.rng("targets")
    many = len(x)
    output = (PER_MODEL, spec.outputs)
    if "cce" in spec.loss:
        predicted = np.argmax(model(x), axis=1)
        drawn = rng.integers(0, spec.outputs, PER_MODEL)[:many]
        labels = np.where(rng.random(PER_MODEL)[:many] < 0.5, predicted, drawn)
        return labels if "sparse" in spec.loss else np.eye(spec.outputs)[labels]
    if "bce" in spec.loss:
        return rng.integers(0, 2, output).astype(float)[:many]
    return rng.normal(size=output)[:many]
