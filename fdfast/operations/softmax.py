"""Softmax and cross-entropy, by the differences to the likeliest class: nothing cancels where p is near 1."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call, tiny
from fdfast.operations.elementwise import unary
from fdfast.operations.table import difference_rule


def shifted(z: Any, d: Any) -> tuple[Any, Any]:
    """p; d - d of the likeliest class."""
    own = tf.reshape(tf.argmax(z, -1, output_type=tf.int32), [-1])
    places = tf.range(own.shape[0]) * z.shape[-1] + own
    flat = tf.reshape(d, [d.shape[0], -1])
    reference = tf.reshape(tf.gather(flat, places, axis=1), [d.shape[0], *z.shape[:-1], 1])
    return tf.nn.softmax(z), d - reference


def mean_of(p: Any, e: Any) -> Any:
    """The sum of p times something."""
    return tf.reduce_sum(p * e, -1, keepdims=True)


@unary("Softmax")
def softmax(z: Any, d: Any) -> Any:
    """p (e_i - sum p e) / (1 + sum p e), e = e^(d - d of the likeliest class) - 1."""
    p, apart = shifted(z, d)
    if tiny(d):
        return p * (apart - mean_of(p, apart))
    e = tf.math.expm1(apart)
    s = mean_of(p, e)
    return p * (e - s) / (1 + s)


@unary("LogSoftmax")
def log_softmax(z: Any, d: Any) -> Any:
    """d - d of the likeliest class - log(1 + sum p e)."""
    p, apart = shifted(z, d)
    return apart - tf.math.log1p(mean_of(p, tf.math.expm1(apart)))


@difference_rule("SoftmaxCrossEntropyWithLogits")
def cross_entropy(c: Call) -> Any:
    """From the likeliest target t: sum y (log sum e^z - z_t), and what the other targets lie apart from it."""
    z, y, d, dy = c.z[0], c.z[1], c.aligned(0, 2), c.aligned(1, 2)
    loss: Any = 0.0
    if d is not None:
        own = tf.one_hot(tf.argmax(y, -1), y.shape[-1], dtype=d.dtype)
        apart = d - tf.reduce_sum(d * own, -1, keepdims=True)
        grown = tf.math.log1p(tf.reduce_sum(tf.nn.softmax(z) * tf.math.expm1(apart), -1))
        loss += tf.reduce_sum(y, -1) * grown - tf.reduce_sum(y * apart, -1)
    if dy is not None:
        moved = tf.nn.log_softmax(z) + (0.0 if d is None else log_softmax(z, d))
        loss -= tf.reduce_sum(dy * moved, -1)
    # The second output is p - y, also where the targets do not add up to 1.
    back: Any = (0.0 if d is None else softmax(z, d)) - (0.0 if dy is None else dy)
    shape = [c.count, *c.out[1].shape]
    return [c.broad(loss), back if back.shape == shape else tf.broadcast_to(back, shape)]


@difference_rule("SparseSoftmaxCrossEntropyWithLogits")
def sparse_cross_entropy(c: Call) -> Any:
    """The same with one target."""
    if c.d[1] is not None:
        return NotImplemented
    z, d = c.z[0], c.d[0]
    own = tf.one_hot(c.z[1], z.shape[-1], dtype=d.dtype)
    apart = d - tf.reduce_sum(d * own, -1, keepdims=True)
    return [tf.math.log1p(tf.reduce_sum(tf.nn.softmax(z) * tf.math.expm1(apart), -1)), softmax(z, d)]
