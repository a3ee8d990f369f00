"""Affine layers: the bias cancels, so the linear part is applied to d; then the activation's own difference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fdfast.differences.rules.elementwise import activation_difference
from fdfast.differences.rules.registry import difference_rule

ops = keras.ops
layers = keras.layers


#: (layer, like) -> the linear map, in the dtype of `like`, and the bias or None
Affine = Callable[[Any, Any], tuple[Callable[[Any], Any], Any]]
_affine: dict[type, Affine] = {}


def _parts_of(*layer_classes: type) -> Callable[[Affine], Affine]:
    """Register an affine layer with an activation: its parts, and with them its rule."""

    def register(parts: Affine) -> Affine:
        for one in layer_classes:
            _affine[one] = parts

        # A rule of its own for each, so that a second registration is told where the first is.
        @functools.wraps(parts)
        def rule(layer: Any, z: Any, d: Any) -> Any:
            return activated(layer, z, d)

        difference_rule(*layer_classes)(rule)
        return parts

    return register


def activated(layer: Any, z: Any, d: Any) -> Any:
    """activation(A(z) + b): A applied to d, without b, then the activation's own difference."""
    apply, _ = _affine[type(layer)](layer, d)
    moved = apply(d)
    if layer.activation is None or layer.activation is keras.activations.linear:
        return moved
    return activation_difference(layer.activation, before_activation(layer, z), moved)


def before_activation(layer: Any, z: Any) -> Any:
    """A(z) + b of an affine layer; None for a layer of another kind."""
    if type(layer) not in _affine:
        return None
    apply, bias = _affine[type(layer)](layer, z)
    return apply(z) if bias is None else apply(z) + tf.cast(bias, z.dtype)


def _weights(variable: Any, like: Any) -> Any:
    return tf.cast(variable.value if hasattr(variable, "value") else variable, like.dtype)


def _channel_bias(layer: Any) -> Any:
    if not layer.use_bias:
        return None
    if layer.data_format == "channels_last":
        return layer.bias.value
    return tf.reshape(layer.bias.value, [-1] + [1] * layer.rank)


@_parts_of(layers.Dense)
def dense(layer: Any, like: Any) -> Any:
    """y = zW + b."""
    kernel = _weights(layer.kernel, like)
    return lambda x: ops.matmul(x, kernel), None if layer.bias is None else layer.bias.value


@_parts_of(layers.EinsumDense)
def einsum_dense(layer: Any, like: Any) -> Any:
    """y = einsum(z, W) + b."""
    kernel = _weights(layer.kernel, like)
    return lambda x: ops.einsum(layer.equation, x, kernel), None if layer.bias is None else layer.bias.value


@_parts_of(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def conv(layer: Any, like: Any) -> Any:
    """y = z * W + b."""
    kernel = _weights(layer.kernel, like)

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

    return apply, _channel_bias(layer)


@_parts_of(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_conv(layer: Any, like: Any) -> Any:
    """Each channel with kernels of its own."""
    kernel = _weights(layer.kernel, like)

    def apply(x: Any) -> Any:
        return ops.depthwise_conv(
            x,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return apply, _channel_bias(layer)


@_parts_of(layers.SeparableConv1D, layers.SeparableConv2D)
def separable_conv(layer: Any, like: Any) -> Any:
    """Depthwise, then pointwise: linear both."""
    depthwise, pointwise = _weights(layer.depthwise_kernel, like), _weights(layer.pointwise_kernel, like)

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

    return apply, _channel_bias(layer)


@_parts_of(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def conv_transpose(layer: Any, like: Any) -> Any:
    """The transpose of a convolution is linear too."""
    kernel = _weights(layer.kernel, like)

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

    return apply, _channel_bias(layer)


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
