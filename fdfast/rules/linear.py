"""Affine layers: the bias cancels, so the linear part is applied to d; then the activation's own difference."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fdfast.rules.elementwise import activation_difference
from fdfast.rules.registry import difference_rule

ops = keras.ops
layers = keras.layers


def _affine(layer: Any, apply: Any, bias: Any, z: Any, d: Any) -> Any:
    """activation(apply(x) + bias) for a linear `apply`."""
    moved = apply(d)
    if layer.activation is None or layer.activation is keras.activations.linear:
        return moved
    base = apply(z)
    return activation_difference(layer.activation, base if bias is None else base + tf.cast(bias, base.dtype), moved)


def _weights(variable: Any, like: Any) -> Any:
    return tf.cast(variable.value if hasattr(variable, "value") else variable, like.dtype)


def _channel_bias(layer: Any) -> Any:
    if not layer.use_bias:
        return None
    if layer.data_format == "channels_last":
        return layer.bias.value
    return tf.reshape(layer.bias.value, [-1] + [1] * layer.rank)


@difference_rule(layers.Dense)
def dense(layer: Any, z: Any, d: Any) -> Any:
    """y = zW + b, so the difference of y is dW: the bias cancels."""
    kernel = _weights(layer.kernel, d)
    return _affine(layer, lambda x: ops.matmul(x, kernel), None if layer.bias is None else layer.bias.value, z, d)


@difference_rule(layers.EinsumDense)
def einsum_dense(layer: Any, z: Any, d: Any) -> Any:
    """y = einsum(z, W) + b."""
    kernel = _weights(layer.kernel, d)
    bias = None if layer.bias is None else layer.bias.value
    return _affine(layer, lambda x: ops.einsum(layer.equation, x, kernel), bias, z, d)


@difference_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def conv(layer: Any, z: Any, d: Any) -> Any:
    """y = z * W + b."""
    kernel = _weights(layer.kernel, d)

    def apply(x: Any) -> Any:
        padding = layer.padding
        if padding == "causal":
            # Zeros before the first step only; what lies there does not move either.
            before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            steps = (before, 0)
            x = ops.pad(x, [(0, 0), steps, (0, 0)] if layer.data_format == "channels_last" else [(0, 0), (0, 0), steps])
            padding = "valid"
        return ops.conv(
            x,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return _affine(layer, apply, _channel_bias(layer), z, d)


@difference_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_conv(layer: Any, z: Any, d: Any) -> Any:
    """Each channel with kernels of its own."""
    kernel = _weights(layer.kernel, d)

    def apply(x: Any) -> Any:
        return ops.depthwise_conv(
            x,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return _affine(layer, apply, _channel_bias(layer), z, d)


@difference_rule(layers.SeparableConv1D, layers.SeparableConv2D)
def separable_conv(layer: Any, z: Any, d: Any) -> Any:
    """Depthwise, then pointwise: linear both."""
    depthwise, pointwise = _weights(layer.depthwise_kernel, d), _weights(layer.pointwise_kernel, d)

    def apply(x: Any) -> Any:
        return ops.separable_conv(
            x,
            depthwise,
            pointwise,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return _affine(layer, apply, _channel_bias(layer), z, d)


@difference_rule(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def conv_transpose(layer: Any, z: Any, d: Any) -> Any:
    """The transpose of a convolution is linear too."""
    kernel = _weights(layer.kernel, d)

    def apply(x: Any) -> Any:
        return ops.conv_transpose(
            x,
            kernel,
            strides=list(layer.strides),
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return _affine(layer, apply, _channel_bias(layer), z, d)


@difference_rule(
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.RepeatVector,
    layers.Identity,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def linear(layer: Any, z: Any, d: Any) -> Any:
    """Linear without a bias: apply the layer to the difference."""
    return layer(d)


@difference_rule(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
)
def identity(layer: Any, z: Any, d: Any) -> Any:
    """Nothing happens at inference."""
    return d


@difference_rule(layers.Rescaling)
def rescaling(layer: Any, z: Any, d: Any) -> Any:
    """y = scale z + offset."""
    return d * tf.cast(layer.scale, d.dtype)


@difference_rule(layers.Normalization)
def normalization(layer: Any, z: Any, d: Any) -> Any:
    """y = (z - mean) / max(sqrt(variance), epsilon), or its inverse."""
    spread = tf.maximum(tf.sqrt(tf.cast(layer.variance, d.dtype)), tf.constant(keras.config.epsilon(), d.dtype))
    return d * spread if layer.invert else d / spread


@difference_rule(layers.BatchNormalization)
def batch_normalization(layer: Any, z: Any, d: Any) -> Any:
    """At inference y = gamma (z - mean) / sqrt(variance + epsilon) + beta with stored statistics."""
    factor = tf.math.rsqrt(_weights(layer.moving_variance, d) + tf.constant(layer.epsilon, d.dtype))
    if layer.scale:
        factor *= _weights(layer.gamma, d)
    axis = layer.axis % len(d.shape)
    return d * tf.reshape(factor, [-1 if a == axis else 1 for a in range(len(d.shape))])


@difference_rule(layers.LayerNormalization)
def layer_normalization(layer: Any, z: Any, d: Any) -> Any:
    """y = gamma c / sqrt(v + epsilon) + beta with c = z - mean(z), v = mean(c^2).

    v moves by mean(dc (2 c + dc)), and 1/sqrt(w) by -dw / (sqrt(w) sqrt(w') (sqrt(w) + sqrt(w'))), w' = w + dw.
    """
    axis = [a % len(d.shape) for a in (layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis])]
    c, dc = (x - tf.reduce_mean(x, axis=axis, keepdims=True) for x in (z, d))
    w = tf.reduce_mean(c * c, axis=axis, keepdims=True) + tf.constant(layer.epsilon, d.dtype)
    dw = tf.reduce_mean(dc * (2 * c + dc), axis=axis, keepdims=True)
    root, moved = tf.sqrt(w), tf.sqrt(w + dw)
    y = -c * dw / (root * moved * (root + moved)) + dc / moved
    if layer.scale:
        shape = [d.shape[a] if a in axis else 1 for a in range(len(d.shape))]
        y *= tf.reshape(_weights(layer.gamma, d), shape)
    return y
