"""Float64 forms of kernels that exist in float32 only: resampling with antialiasing, and simulated quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.kernel import Kernel
from fdfast.operations.table import value


def _weights(kernel: Kernel, extent: int, wanted: int, scale: Any, shift: Any) -> Any:
    """How each of `wanted` places is made of those along one axis: what TensorFlow makes of unit vectors."""
    how = {name: v for name, v in kernel.attributes.items() if name in ("kernel_type", "antialias")}
    with tf.init_scope():
        found = tf.raw_ops.ScaleAndTranslate(
            images=tf.eye(extent)[None, :, None, :],
            size=tf.constant([wanted, 1]),
            scale=tf.constant([float(scale), 1.0]),
            translation=tf.constant([float(shift), 0.0]),
            **how,
        )
        return tf.cast(found[0, :, 0, :], tf.float64)


def _both(kernel: Kernel, before: Any, after: Any, scale: Any, shift: Any) -> list[Any]:
    given = zip(before[1:3], after, np.asarray(scale), np.asarray(shift), strict=True)
    return [_weights(kernel, int(extent), int(wanted), by, along) for extent, wanted, by, along in given]


@value("ScaleAndTranslate")
def resampled(kernel: Kernel, x: Any, size: Any, scale: Any, shift: Any) -> Any:
    """Rows and columns one after the other, with the weights that the kernel really has."""
    rows, columns = _both(kernel, x.shape, np.asarray(size), scale, shift)
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


@value("ScaleAndTranslateGrad")
def resampled_back(kernel: Kernel, dy: Any, x: Any, scale: Any, shift: Any) -> Any:
    """The transpose."""
    rows, columns = _both(kernel, x.shape, dy.shape[1:3], scale, shift)
    return tf.einsum("yh,byxc,xw->bhwc", rows, dy, columns)


def _range(kernel: Kernel, low: Any, high: Any) -> tuple[Any, Any, Any]:
    """Ends of the range and width of a stair, moved so that zero is a stair: in float32, as TensorFlow has them."""
    bits, first = int(kernel.attributes["num_bits"]), int(bool(kernel.attributes["narrow_range"]))
    last = 2**bits - 1
    low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
    stair = (high - low) / float(last - first)
    zero = tf.clip_by_value(tf.floor(first - low / stair + 0.5), first, last)
    ends = ((first - zero) * stair, (last - zero) * stair, stair)
    return tuple(tf.cast(one, tf.float64) for one in ends)


def _of(kernel: Kernel) -> tuple[Any, Any, Any]:
    return _range(kernel, kernel.attributes["min"], kernel.attributes["max"])


@value("FakeQuantWithMinMaxArgs")
def quantized(kernel: Kernel, x: Any) -> Any:
    """The nearest stair."""
    low, high, stair = _of(kernel)
    return tf.floor((tf.clip_by_value(x, low, high) - low) / stair + 0.5) * stair + low


@value("FakeQuantWithMinMaxArgsGradient")
def quantized_back(kernel: Kernel, dy: Any, x: Any) -> Any:
    """Straight through, inside the range."""
    low, high, _ = _of(kernel)
    return tf.where((x >= low) & (x <= high), dy, tf.zeros_like(dy))


@value("FakeQuantWithMinMaxVarsGradient", "FakeQuantWithMinMaxVarsPerChannelGradient")
def quantized_by_back(kernel: Kernel, dy: Any, x: Any, low: Any, high: Any) -> Any:
    """Straight through inside the range; what lies outside goes to its ends."""
    first, last, _ = _range(kernel, low, high)
    axes = list(range(len(x.shape) - len(low.shape)))
    parts = [(x >= first) & (x <= last), x < first, x > last]
    inside, below, above = (tf.where(part, dy, tf.zeros_like(dy)) for part in parts)
    return [inside, tf.reduce_sum(below, axes), tf.reduce_sum(above, axes)]
