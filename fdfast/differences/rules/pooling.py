"""Maxima: of windows, of whole maps, of several inputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fdfast.differences.rules.registry import difference_rule

layers = keras.layers


def maximum_difference(z: Any, d: Any, axis: Any) -> Any:
    """max(z + d) - max(z) = max_i(d_i - gap_i) with gap_i = max(z) - z_i >= 0, of which the base pass knows all."""
    gap = tf.reduce_max(z, axis=axis, keepdims=True) - z
    return tf.reduce_max(d - gap, axis=axis)


@difference_rule(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
def max_pooling(layer: Any, z: Any, d: Any) -> Any:
    """The maximum over each window; padding is minus infinity, which no difference reaches."""
    rank = len(layer.pool_size)
    first = layer.data_format == "channels_first"
    if first:
        to_last = [0, *range(2, rank + 2), 1]
        z, d = tf.transpose(z, to_last), tf.transpose(d, to_last)
    out = maximum_difference(_windows(z, layer, -np.inf), _windows(d, layer, 0.0), axis=-2)
    return tf.transpose(out, [0, rank + 1, *range(1, rank + 1)]) if first else out


def _windows(x: Any, layer: Any, fill: float) -> Any:
    """Cells of every window, shape (rows, *windows, cells, channels)."""
    strides = layer.strides if layer.strides is not None else layer.pool_size
    if layer.padding == "same":
        pads = [_same_padding(n, p, s) for n, p, s in zip(x.shape[1:-1], layer.pool_size, strides, strict=True)]
        x = tf.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    for axis, (pool, stride) in enumerate(zip(layer.pool_size, strides, strict=True), start=1):
        at = 2 * axis - 1  # every axis before has become two: windows and cells
        count = (x.shape[at] - pool) // stride + 1
        x = tf.gather(x, np.arange(count)[:, None] * stride + np.arange(pool), axis=at)
    # Now (rows, w1, p1, w2, p2, ..., channels): windows together, then cells.
    rank = len(layer.pool_size)
    order = [0, *(2 * a + 1 for a in range(rank)), *(2 * a + 2 for a in range(rank)), 2 * rank + 1]
    x = tf.transpose(x, order)
    shape = [-1, *x.shape[1 : rank + 1], int(np.prod(layer.pool_size)), x.shape[-1]]
    return tf.reshape(x, shape)


def _same_padding(n: int, pool: int, stride: int) -> tuple[int, int]:
    total = max(0, (-(-n // stride) - 1) * stride + pool - n)
    return total // 2, total - total // 2


@difference_rule(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)
def global_max_pooling(layer: Any, z: Any, d: Any) -> Any:
    """The maximum over all positions."""
    rank = len(z.shape)
    axis = list(range(1, rank - 1)) if layer.data_format == "channels_last" else list(range(2, rank))
    out = maximum_difference(z, d, axis)
    if layer.keepdims:
        for a in axis:
            out = tf.expand_dims(out, a)
    return out


@difference_rule(layers.Maximum)
def maximum(layer: Any, z: Any, d: Any) -> Any:
    """The largest of several inputs."""
    zs, ds = _stacked(z, d)
    return maximum_difference(zs, ds, axis=0)


@difference_rule(layers.Minimum)
def minimum(layer: Any, z: Any, d: Any) -> Any:
    """min(z) = -max(-z)."""
    zs, ds = _stacked(z, d)
    return -maximum_difference(-zs, -ds, axis=0)


def _stacked(z: Any, d: Any) -> tuple[Any, Any]:
    shape = d[0].shape
    for one in d[1:]:
        shape = tf.broadcast_static_shape(shape, one.shape)
    whole = tf.concat([tf.shape(d[0])[:1], tf.constant(shape[1:].as_list(), tf.int32)], 0)
    base = tf.stack([one + tf.zeros([1, *shape[1:]], one.dtype) for one in z])
    return base, tf.stack([tf.broadcast_to(one, whole) for one in d])
