"""Differences of functions of one number, f(z + d) - f(z), each to full relative precision."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fdfast.differences.rules.registry import activation_rule, difference_rule, find_activation

act = keras.activations


def relu_difference(z: Any, d: Any) -> Any:
    """max(z + d, 0) - max(z, 0): where z > 0, no lower than -z; elsewhere only what reaches above zero."""
    return tf.where(z > 0, tf.maximum(d, -z), tf.maximum(z + d, 0))


def minimum_difference(z: Any, d: Any) -> Any:
    """min(z + d, 0) - min(z, 0), the mirror image of `relu_difference`."""
    return -relu_difference(-z, -d)


def clip_difference(z: Any, d: Any, low: float, high: float) -> Any:
    """Difference of clip(z, low, high): relu(z - low) minus what of it lies above high, which moves only there."""
    return relu_difference(z - low, d) - relu_difference(z - high, d)


def absolute_difference(z: Any, d: Any) -> Any:
    """|z + d| - |z| as relu(z) + relu(-z); on one side of zero one of the two stays zero."""
    return relu_difference(z, d) + relu_difference(-z, -d)


def expm1_difference(z: Any, d: Any) -> Any:
    """e^(z + d) - e^z = e^z (e^d - 1)."""
    return tf.exp(z) * tf.math.expm1(d)


def sigmoid_difference(z: Any, d: Any) -> Any:
    """s(z + d) - s(z) = -expm1(-d) s(-z) s(z + d)."""
    return -tf.math.expm1(-d) * tf.sigmoid(-z) * tf.sigmoid(z + d)


def softplus_difference(z: Any, d: Any) -> Any:
    """log((1 + e^(z + d)) / (1 + e^z)) = log1p(s(z) expm1(d))."""
    return tf.math.log1p(tf.sigmoid(z) * tf.math.expm1(d))


def log_difference(z: Any, d: Any) -> Any:
    """log(z + d) - log(z) = log1p(d / z)."""
    return tf.math.log1p(d / z)


def erf_difference(z: Any, d: Any) -> Any:
    """erf(z + d) - erf(z) = 2/sqrt(pi) times the integral of exp(-t^2) over [z, z + d], by Gauss-Legendre.

    Eight nodes leave a relative error below 1e-15 for |d| <= 1/2; beyond that nothing cancels.
    """
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = tf.zeros_like(z + d)
    for node, weight in zip(nodes, weights, strict=True):
        t = z + d * tf.constant((node + 1) / 2, d.dtype)
        total += tf.constant(weight / 2, d.dtype) * tf.exp(-t * t)
    small = tf.constant(2 / math.sqrt(math.pi), d.dtype) * d * total
    return tf.where(tf.abs(d) <= 0.5, small, tf.math.erf(z + d) - tf.math.erf(z))


def times(z: Any, d: Any, f: Any, df: Any) -> Any:
    """Difference of z f: z df + d (f + df)."""
    return z * df + d * (f + df)


def activation_difference(activation: Any, z: Any, d: Any) -> Any:
    """Difference of an activation: by its rule; without one, subtracted in float64."""
    if activation is None:
        return d
    rule = find_activation(activation)
    return rule(z, d) if rule is not None else subtracted(activation, z, d)


def subtracted(function: Any, z: Any, d: Any) -> Any:
    """f(z + d) - f(z) in float64: what is left for functions without a rule."""
    z64, d64 = tf.cast(z, tf.float64), tf.cast(d, tf.float64)
    return tf.cast(function(z64 + d64) - function(z64), d.dtype)


@activation_rule(act.linear)
def linear(z: Any, d: Any) -> Any:
    """The identity: the difference itself."""
    return d


@activation_rule(act.relu)
def relu(z: Any, d: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """slope * min(z - t, 0) + (z where t <= z, cut off at max_value); a jump at a non-zero threshold is subtracted."""
    if threshold:
        return subtracted(lambda x: act.relu(x, negative_slope, max_value, threshold), z, d)
    if max_value is None and negative_slope:
        return leaky_relu(z, d, negative_slope)
    above = relu_difference(z, d) if max_value is None else clip_difference(z, d, 0.0, max_value)
    return above + negative_slope * minimum_difference(z, d) if negative_slope else above


@activation_rule(act.relu6)
def relu6(z: Any, d: Any) -> Any:
    """clip(z, 0, 6)."""
    return clip_difference(z, d, 0.0, 6.0)


@activation_rule(act.leaky_relu)
def leaky_relu(z: Any, d: Any, negative_slope: float = 0.2) -> Any:
    """relu(z) + slope min(z, 0). TensorFlow's operation keeps the slope in float32, for float64 input too."""
    return relu_difference(z, d) + float(np.float32(negative_slope)) * minimum_difference(z, d)


@activation_rule(act.elu)
def elu(z: Any, d: Any, alpha: float = 1.0) -> Any:
    """relu(z) + alpha expm1(min(z, 0))."""
    low = tf.minimum(z, 0)
    return relu_difference(z, d) + alpha * expm1_difference(low, minimum_difference(z, d))


@activation_rule(act.selu)
def selu(z: Any, d: Any) -> Any:
    """scale * elu with the two constants of Klambauer et al. (2017)."""
    return 1.0507009873554805 * elu(z, d, 1.6732632423543772)


def with_logits(out: Any, z: Any, d: Any) -> Any:
    """Let a loss find what a softmax or sigmoid was made of, as Keras does for its own losses."""
    out._fdfast_logits = (z, d)
    return out


@activation_rule(act.sigmoid)
def sigmoid(z: Any, d: Any) -> Any:
    """See `sigmoid_difference`."""
    return with_logits(sigmoid_difference(z, d), z, d)


@activation_rule(act.hard_sigmoid)
def hard_sigmoid(z: Any, d: Any) -> Any:
    """clip(z / 6 + 1/2, 0, 1)."""
    return clip_difference(z / 6 + 0.5, d / 6, 0.0, 1.0)


@activation_rule(act.tanh)
def tanh(z: Any, d: Any) -> Any:
    """tanh(z) = 2 s(2 z) - 1, which never overflows."""
    return 2 * sigmoid_difference(2 * z, 2 * d)


@activation_rule(act.softplus)
def softplus(z: Any, d: Any) -> Any:
    """See `softplus_difference`."""
    return softplus_difference(z, d)


@activation_rule(act.softsign)
def softsign(z: Any, d: Any) -> Any:
    """z / (1 + |z|): over the common denominator d + a|z| - z|a|, a = z + d, where the last two cancel on one side."""
    a = z + d
    crossing = tf.where(a * z < 0, a * tf.abs(z) - z * tf.abs(a), tf.zeros_like(a))
    return (d + crossing) / ((1 + tf.abs(a)) * (1 + tf.abs(z)))


@activation_rule(act.silu)
def silu(z: Any, d: Any) -> Any:
    """z s(z), a product."""
    return times(z, d, tf.sigmoid(z), sigmoid_difference(z, d))


@activation_rule(act.gelu)
def gelu(z: Any, d: Any) -> Any:
    """z Phi(z), a product; Phi by `erf_difference`. TensorFlow's square root of a half is a float32, in float64 too."""
    root = tf.constant(float(np.float32(math.sqrt(0.5))), d.dtype)
    return times(z, d, 0.5 * tf.math.erfc(-z * root), 0.5 * erf_difference(z * root, d * root))


@activation_rule(act.exponential)
def exponential(z: Any, d: Any) -> Any:
    """See `expm1_difference`."""
    return expm1_difference(z, d)


def softmax_difference(z: Any, d: Any, axis: int = -1) -> Any:
    """p (expm1(d) - S) / (1 + S) with S = sum p expm1(d)."""
    p = tf.nn.softmax(z, axis=axis)
    grown = tf.math.expm1(d)
    s = tf.reduce_sum(p * grown, axis=axis, keepdims=True)
    return p * (grown - s) / (1 + s)


@activation_rule(act.softmax)
def softmax(z: Any, d: Any) -> Any:
    """See `softmax_difference`."""
    return with_logits(softmax_difference(z, d), z, d)


@activation_rule(act.log_softmax)
def log_softmax(z: Any, d: Any) -> Any:
    """d - log1p(sum p expm1(d))."""
    p = tf.nn.softmax(z)
    return d - tf.math.log1p(tf.reduce_sum(p * tf.math.expm1(d), axis=-1, keepdims=True))


@difference_rule(keras.layers.Activation)
def activation_layer(layer: Any, z: Any, d: Any) -> Any:
    """The activation's own rule."""
    return activation_difference(layer.activation, z, d)


@difference_rule(keras.layers.ReLU)
def relu_layer(layer: Any, z: Any, d: Any) -> Any:
    """ReLU with the layer's slope, cut-off and threshold."""
    return relu(z, d, layer.negative_slope, layer.max_value, layer.threshold)


@difference_rule(keras.layers.LeakyReLU)
def leaky_relu_layer(layer: Any, z: Any, d: Any) -> Any:
    """relu(z) + slope min(z, 0)."""
    return leaky_relu(z, d, layer.negative_slope)


@difference_rule(keras.layers.PReLU)
def prelu_layer(layer: Any, z: Any, d: Any) -> Any:
    """relu(z) + alpha min(z, 0), one alpha per element."""
    return relu_difference(z, d) + tf.cast(layer.alpha.value, d.dtype) * minimum_difference(z, d)


@difference_rule(keras.layers.ELU)
def elu_layer(layer: Any, z: Any, d: Any) -> Any:
    """relu(z) + alpha expm1(min(z, 0))."""
    return elu(z, d, layer.alpha)


@difference_rule(keras.layers.Softmax)
def softmax_layer(layer: Any, z: Any, d: Any) -> Any:
    """Softmax over the layer's axis; over several axes it is subtracted."""
    if isinstance(layer.axis, int):
        return with_logits(softmax_difference(z, d, layer.axis), z, d)
    return subtracted(layer, z, d)
