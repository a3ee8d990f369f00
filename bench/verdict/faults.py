"""Wrong gradients, one at a time: the value of f stays right, except behind straight-through rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from bench.verdict.cases import ENDINGS, Parts, Spec

Place = tuple[int, ...]  # a pixel, or a channel as its last entry


def _one_pixel(g: Any, place: Place, by: float) -> Any:
    spatial = len(g.shape) - 2 if len(g.shape) > 2 else 1
    ones, factor = tf.ones(g.shape[1 : 1 + spatial], g.dtype), tf.constant([1 + by], g.dtype)
    spot = tf.tensor_scatter_nd_update(ones, [list(place[:spatial])], factor)
    return g * (spot[..., None] if len(g.shape) > 2 else spot)


def _no_border(g: Any, place: Place) -> Any:
    within = [int(axis in ((1, 2) if len(g.shape) > 2 else (1,))) for axis in range(len(g.shape))]
    return tf.pad(g[tuple(slice(some, -some or None) for some in within)], [(some, some) for some in within])


def _clipped(g: Any, place: Place) -> Any:
    limit = tf.reduce_max(tf.abs(g), axis=list(range(1, len(g.shape))), keepdims=True) / 2
    return tf.clip_by_value(g, -limit, limit)


#: (gradient rows, place) -> wrong gradient rows.
DISTORTIONS: dict[str, Callable[[Any, Place], Any]] = {
    "scale 1.001": lambda g, place: g * 1.001,
    "scale 1.01": lambda g, place: g * 1.01,
    "scale 2": lambda g, place: g * 2,
    "missing 1/N": lambda g, place: g * tf.cast(tf.size(g[0]), g.dtype),
    "sign of one channel": lambda g, place: g * (1 - 2 * tf.one_hot(place[-1], g.shape[-1], dtype=g.dtype)),
    "one pixel 1 %": partial(_one_pixel, by=0.01),
    "one pixel 10 %": partial(_one_pixel, by=0.1),
    "one pixel 100 %": partial(_one_pixel, by=1.0),
    "dropped border": _no_border,
    "shifted by one": lambda g, place: tf.roll(g, 1, axis=1),
    "transposed": lambda g, place: tf.transpose(g, [0, 2, 1, 3]),
    "bfloat16": lambda g, place: tf.cast(tf.cast(g, tf.bfloat16), g.dtype),
    "clipped": _clipped,
}
KERNELS: dict[str, Callable[[Any], Any]] = {
    "kernel transposed": lambda k: tf.transpose(k, [1, 0, 2, 3]),
    "kernel flipped": lambda k: tf.reverse(k, [0, 1]),
    "kernel shifted": lambda k: tf.roll(k, 1, axis=1),
}


class _WithFault(keras.layers.Layer):
    """Keeps its fault in the configuration, so that the float64 copy of the model has it too."""

    def __init__(self, *args: Any, fault: str = "", place: Place = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.fault, self.place = fault, tuple(place)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fault": self.fault, "place": self.place}


class Distort(_WithFault):
    """x, with a gradient that `DISTORTIONS` spoils; or another function of x with a wrong one."""

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def same(x: Any) -> Any:
            if self.fault == "straight-through":  # flat, but for a gradient that pretends to be that of x
                return tf.round(16 * x) / 16, lambda g: g
            if self.fault == "diagonal softmax":
                # The term -p_i p_j of the Jacobian is forgotten. Without 1 - p_i nothing would be wrong behind Keras'
                # cross-entropies: they normalise, so g is orthogonal to p.
                p = tf.nn.softmax(x)
                return p, lambda g: g * p * (1 - p)
            return tf.identity(x), lambda g: DISTORTIONS[self.fault](g, self.place)

        return same(x)


class StoppedAdd(_WithFault):
    """a + b, with no gradient towards b."""

    def call(self, both: Any) -> Any:
        return both[0] + tf.stop_gradient(both[1])


class FaultyConv(_WithFault, keras.layers.Conv2D):
    """A convolution with a backward pass by hand, through a kernel that `KERNELS` spoils."""

    def call(self, x: Any) -> Any:
        options = {"strides": [1, *self.strides, 1], "padding": self.padding.upper()}

        @tf.custom_gradient
        def conv(x: Any, kernel: Any) -> Any:
            def backward(g: Any) -> Any:
                to_x = {"input_sizes": tf.shape(x), "filter": KERNELS[self.fault](kernel), "out_backprop": g}
                return tf.raw_ops.Conv2DBackpropInput(**to_x, **options), tf.zeros_like(kernel)

            return tf.nn.conv2d(x, kernel, **options), backward

        return conv(x, tf.convert_to_tensor(self.kernel)) + self.bias


class FaultyDense(_WithFault, keras.layers.Dense):
    """x W + b, whose gradient is g W where it should be g W^T."""

    def call(self, x: Any) -> Any:
        dense = tf.custom_gradient(lambda x, kernel: (x @ kernel, lambda g: (g @ kernel, tf.zeros_like(kernel))))
        kernel = tf.convert_to_tensor(self.kernel)
        return (dense(x, kernel) if kernel.shape[0] == kernel.shape[1] else x @ kernel) + self.bias


def summed(loss: str) -> Any:
    """A mean squared (or absolute) error over N outputs whose gradient lacks the 1/N."""

    @tf.custom_gradient
    def value(error: Any) -> Any:
        slope = 2 * error if loss == "mse" else tf.sign(error)
        found = tf.reduce_mean(error**2 if loss == "mse" else tf.abs(error), axis=-1)
        return found, lambda g: g[:, None] * slope

    return lambda target, prediction: value(prediction - target)


def place_of(spec: Spec, fault: str) -> Place:
    """Draw the pixel and the channel that a fault of this model hits; in a digit, one near the strokes."""
    if spec.digits:
        return 12 + spec.number % 5, 14, 0
    return tuple(int(n) for n in spec.rng(fault).integers(spec.shape))


def fits(name: str, spec: Spec) -> bool:
    """Whether a distortion of the whole gradient does something to inputs of this shape."""
    if name == "transposed":
        return len(spec.shape) == 3 and spec.shape[0] == spec.shape[1]
    return name != "sign of one channel" or (len(spec.shape) == 3 and spec.shape[2] > 1)


_distort = partial(partial, Distort)
#: Ways to be wrong inside the formula of a model: (whether it fits a spec, (place, loss) -> the parts it replaces).
FAULTS: dict[str, tuple[Callable[[Spec], bool], Callable[[Place, str], Parts]]] = {
    "weights transposed": (lambda spec: len(spec.shape) == 1, lambda *_: Parts(dense=FaultyDense)),
    "stopped branch": (lambda spec: spec.residual, lambda *_: Parts(add=StoppedAdd)),
    "diagonal softmax": (
        lambda spec: ENDINGS.get(spec.loss) == "softmax", lambda *_: Parts(softmax=_distort(fault="diagonal softmax")),
    ),
    "straight-through": (lambda spec: True, lambda *_: Parts(entry=_distort(fault="straight-through"))),
    "straight-through, inside": (lambda spec: True, lambda *_: Parts(inside=_distort(fault="straight-through"))),
    "loss without 1/N": (lambda spec: spec.loss in ("mse", "mae"), lambda _, loss: Parts(loss=partial(summed, loss))),
}  # fmt: skip
for _name in KERNELS:
    FAULTS[_name] = (
        (lambda spec: len(spec.shape) == 3),
        lambda *_, one=_name: Parts(conv=partial(FaultyConv, fault=one)),
    )
for _name in ("sign of one channel", "one pixel 10 %", "bfloat16"):
    _inside = _distort(fault=_name, place=(0, 0, 1))
    FAULTS[f"{_name}, inside"] = (lambda spec: True), lambda *_, inside=_inside: Parts(inside=inside)
for _name in DISTORTIONS:
    FAULTS[_name] = partial(fits, _name), lambda place, _, one=_name: Parts(entry=_distort(fault=one, place=place))
