"""Wrong gradients, one at a time: the value of f stays right, except behind straight-through rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from bench.verdict.cases import Parts, Spec

#: (gradient rows, place) -> wrong gradient rows. The place is a pixel, or a channel as its last entry.
Distortion = Callable[[Any, tuple[int, ...]], Any]


def _one_pixel(g: Any, place: tuple[int, ...], by: float) -> Any:
    spatial = len(g.shape) - 2 if len(g.shape) > 2 else 1
    ones, factor = tf.ones(g.shape[1 : 1 + spatial], g.dtype), tf.constant([1 + by], g.dtype)
    spot = tf.tensor_scatter_nd_update(ones, [list(place[:spatial])], factor)
    return g * (spot[..., None] if len(g.shape) > 2 else spot)


def _one_channel(g: Any, place: tuple[int, ...]) -> Any:
    return g * (1 - 2 * tf.one_hot(place[-1], g.shape[-1], dtype=g.dtype))


def _no_border(g: Any, place: tuple[int, ...]) -> Any:
    axes = (1, 2) if len(g.shape) > 2 else (1,)
    inner = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(len(g.shape)))
    return tf.pad(g[inner], [(1, 1) if axis in axes else (0, 0) for axis in range(len(g.shape))])


def _clipped(g: Any, place: tuple[int, ...]) -> Any:
    limit = tf.reduce_max(tf.abs(g), axis=list(range(1, len(g.shape))), keepdims=True) / 2
    return tf.clip_by_value(g, -limit, limit)


DISTORTIONS: dict[str, Distortion] = {
    "scale 1.001": lambda g, place: g * 1.001,
    "scale 1.01": lambda g, place: g * 1.01,
    "scale 2": lambda g, place: g * 2,
    "missing 1/N": lambda g, place: g * tf.cast(tf.size(g[0]), g.dtype),
    "sign of one channel": _one_channel,
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

    def __init__(self, *args: Any, fault: str = "", place: tuple[int, ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.fault, self.place = fault, tuple(place)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fault": self.fault, "place": self.place}


class Distort(_WithFault):
    """x, with a gradient that `DISTORTIONS` spoils."""

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def same(x: Any) -> Any:
            return tf.identity(x), lambda g: DISTORTIONS[self.fault](g, self.place)

        return same(x)


class StraightThrough(_WithFault):
    """round(16 x) / 16, which is flat; its gradient pretends to be that of x."""

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def rounded(x: Any) -> Any:
            return tf.round(16 * x) / 16, lambda g: g

        return rounded(x)


class StoppedAdd(_WithFault):
    """a + b, with no gradient towards b."""

    def call(self, both: Any) -> Any:
        return both[0] + tf.stop_gradient(both[1])


class DiagonalSoftmax(_WithFault):
    """p = softmax(z), with the diagonal of its Jacobian, p_i (1 - p_i): the term -p_i p_j is forgotten.

    Without 1 - p_i nothing would be wrong behind Keras' cross-entropies: they normalise, so g is orthogonal to p.
    """

    def call(self, z: Any) -> Any:
        @tf.custom_gradient
        def softmax(z: Any) -> Any:
            p = tf.nn.softmax(z)
            return p, lambda g: g * p * (1 - p)

        return softmax(z)


class FaultyConv(_WithFault, keras.layers.Conv2D):
    """A convolution with a backward pass by hand, through a kernel that `KERNELS` spoils."""

    def call(self, x: Any) -> Any:
        options = {"strides": [1, *self.strides, 1], "padding": self.padding.upper()}

        @tf.custom_gradient
        def conv(x: Any, kernel: Any) -> Any:
            def backward(g: Any) -> Any:
                spoilt = KERNELS[self.fault](kernel)
                sizes = tf.shape(x)
                found = tf.raw_ops.Conv2DBackpropInput(input_sizes=sizes, filter=spoilt, out_backprop=g, **options)
                return found, tf.zeros_like(kernel)

            return tf.nn.conv2d(x, kernel, **options), backward

        return conv(x, tf.convert_to_tensor(self.kernel)) + self.bias


class FaultyDense(_WithFault, keras.layers.Dense):
    """x W + b, whose gradient is g W where it should be g W^T."""

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def dense(x: Any, kernel: Any) -> Any:
            return x @ kernel, lambda g: (g @ kernel, tf.zeros_like(kernel))

        square = self.kernel.shape[0] == self.kernel.shape[1]
        product = dense(x, tf.convert_to_tensor(self.kernel)) if square else tf.matmul(x, self.kernel)
        return product + self.bias


def summed(loss: str) -> Any:
    """A mean squared (or absolute) error over N outputs whose gradient lacks the 1/N."""

    def row_loss(target: Any, prediction: Any) -> Any:
        @tf.custom_gradient
        def value(error: Any) -> Any:
            slope = 2 * error if loss == "mse" else tf.sign(error)
            found = tf.reduce_mean(error**2 if loss == "mse" else tf.abs(error), axis=-1)
            return found, lambda g: g[:, None] * slope

        return value(prediction - target)

    return row_loss


@dataclass(frozen=True)
class Fault:
    """One way to be wrong, inside the formula of a model: by `tf.custom_gradient`.

    `parts` takes the place that the fault hits, and the name of the model's loss.
    """

    name: str
    fits: Callable[[Spec], bool]
    parts: Callable[[tuple[int, ...], str], Parts]


def place_of(spec: Spec, fault: str) -> tuple[int, ...]:
    """Draw the pixel and the channel that a fault of this model hits."""
    return tuple(int(n) for n in spec.rng(fault).integers(spec.shape))


def fits_array(shape: tuple[int, ...], name: str) -> bool:
    """Whether a distortion of the whole gradient does something to inputs of this shape."""
    if name == "transposed":
        return len(shape) == 3 and shape[0] == shape[1]
    return name != "sign of one channel" or (len(shape) == 3 and shape[2] > 1)


def _at_entry(name: str) -> Fault:
    def parts(place: tuple[int, ...], loss: str) -> Parts:
        return Parts(entry=partial(Distort, fault=name, place=place))

    return Fault(name, lambda spec: fits_array(spec.shape, name), parts)


def _inside(name: str) -> Fault:
    def parts(place: tuple[int, ...], loss: str) -> Parts:
        return Parts(inside=partial(Distort, fault=name, place=(0, 0, 1)))

    return Fault(f"{name}, inside", lambda spec: True, parts)


def _kernel(name: str) -> Fault:
    return Fault(name, lambda spec: spec.image, lambda place, loss: Parts(conv=partial(FaultyConv, fault=name)))


def _of_loss(place: tuple[int, ...], loss: str) -> Parts:
    return Parts(loss=partial(summed, loss))


def _softmax(place: tuple[int, ...], loss: str) -> Parts:
    return Parts(softmax=DiagonalSoftmax)


_STRUCTURAL = (
    Fault("weights transposed", lambda spec: not spec.image, lambda place, loss: Parts(dense=FaultyDense)),
    Fault("stopped branch", lambda spec: spec.residual, lambda place, loss: Parts(add=StoppedAdd)),
    Fault("diagonal softmax", lambda spec: spec.ending == "softmax", _softmax),
    Fault("straight-through", lambda spec: True, lambda place, loss: Parts(entry=StraightThrough)),
    Fault("straight-through, inside", lambda spec: True, lambda place, loss: Parts(inside=StraightThrough)),
    Fault("loss without 1/N", lambda spec: spec.loss in ("mse", "mae"), _of_loss),
)
_WHOLE = tuple(_at_entry(name) for name in DISTORTIONS)
_DEEPER = tuple(_inside(name) for name in ("sign of one channel", "one pixel 10 %", "bfloat16"))
_KERNEL = tuple(_kernel(name) for name in KERNELS)
FAULTS = {fault.name: fault for fault in (*_STRUCTURAL, *_KERNEL, *_DEEPER, *_WHOLE)}
