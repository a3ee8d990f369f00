"""Float64 forms of kernels that exist in float32 only: resampling with antialiasing, and simulated quantization.

With the rules of their gradients: straight through, as long as a unit stays inside the range or outside of it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call
from fdfast.operations.kernel import Kernel
from fdfast.operations.table import difference_rule, value


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
    given = zip(before[1:3], after, tf.get_static_value(scale), tf.get_static_value(shift), strict=True)
    return [_weights(kernel, int(extent), int(wanted), by, along) for extent, wanted, by, along in given]


@value("ScaleAndTranslate")
def resampled(kernel: Kernel, x: Any, size: Any, scale: Any, shift: Any) -> Any:
    """Rows and columns one after the other, with the weights that the kernel really has."""
    rows, columns = _both(kernel, x.shape, tf.get_static_value(size), scale, shift)
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


@value("ScaleAndTranslateGrad")
def resampled_back(kernel: Kernel, dy: Any, x: Any, scale: Any, shift: Any) -> Any:
    """The transpose."""
    rows, columns = _both(kernel, x.shape, dy.shape[1:3], scale, shift)
    return tf.einsum("yh,byxc,xw->bhwc", rows, dy, columns)


@difference_rule("ScaleAndTranslateGrad")
def resampled_back_moves(c: Call) -> Any:
    """Linear in the gradient that comes in; of the image only the shape is read."""
    if c.d[2] is not None or c.d[3] is not None:
        return NotImplemented
    if c.d[0] is None:
        return None
    rows, batch, *shape = c.d[0].shape
    found = resampled_back(c.kernel, tf.reshape(c.d[0], [rows * batch, *shape]), *c.z[1:])
    return tf.reshape(found, [rows, batch, *found.shape[1:]])


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


@difference_rule(
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
)
def quantized_back_moves(c: Call) -> Any:
    """Each part of the range passes what comes in: before the move by where x was, after it by where x is."""
    if any(d is not None for d in c.d[2:]):
        return NotImplemented
    dy, x, d = c.z[0], c.z[1], c.d[1]
    first, last, _ = _of(c.kernel) if len(c.z) == 2 else _range(c.kernel, c.z[2], c.z[3])
    was = [x >= first, x <= last]
    now = was
    if d is not None:
        # By the distance to each end, beside which d may be tiny.
        now = [(x - first) + d >= 0, (last - x) - d >= 0]
        ties = ((x == first) | (x == last)) & (d != 0)
        c.ties(ties, ((now[0] != was[0]) | (now[1] != was[1])) & ~ties)

    def through(was: Any, now: Any) -> Any:
        grown = tf.zeros_like(dy) if c.d[0] is None else c.d[0]
        gone = tf.where(was, dy, tf.zeros_like(dy))
        return tf.where(now, tf.where(was, grown, dy + grown), -gone)

    inside = through(was[0] & was[1], now[0] & now[1])
    if len(c.z) == 2:
        return inside
    axes = list(range(1, 1 + len(x.shape) - len(c.z[2].shape)))
    ends = [through(~w, ~n) for w, n in zip(was, now, strict=True)]
    return [inside, *(tf.reduce_sum(end, axes) for end in ends)]
