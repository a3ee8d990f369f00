"""How each layer of Keras becomes nodes of a program of the compiled kernels."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fdfast.differences.lowering import LARGEST, NOBODY, Held, Lowering, Map, NotCompiled, Where, as_map, lowers

layers = keras.layers
activations = keras.activations
Float64 = npt.NDArray[np.float64]


def _array(variable: Any) -> Float64:
    return np.asarray(variable, np.float64)


def _channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise NotCompiled("its channels come first")


def _pair(values: Any, fill: int) -> tuple[int, int]:
    values = (values,) if isinstance(values, int) else tuple(values)
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def _window(source: Map, kernel: Any, strides: Any, dilation: Any, padding: str) -> tuple[tuple[int, ...], int, int]:
    """Return kh, kw, sh, sw, dh, dw, top, left, and height and width of the output."""
    k, s, d = (_pair(v, 1) for v in (kernel, strides, dilation))
    out, pads = [], []
    for n, kernel_, stride, rate in zip(source[:2], k, s, d, strict=True):
        reach = (kernel_ - 1) * rate + 1
        if padding == "same":
            size = -(-n // stride)
            pads.append(max((size - 1) * stride + reach - n, 0) // 2)
        elif padding == "causal" and rate * kernel_ >= 1 and n == source[1]:
            # Only the last of the two axes is time.
            pads.append(reach - 1 if kernel_ > 1 else 0)
            size = -(-n // stride)
        else:
            pads.append(0)
            size = (n - reach) // stride + 1
        out.append(size)
    return (*k, *s, *d, *pads), out[0], out[1]


def _activated(making: Lowering, node: int, activation: Any, value: int) -> Held:
    """Apply an activation to a node whose value is already that before the activation."""
    shape = making.nodes[node].shape
    if activation is None or activation is activations.linear:
        return Held(node)
    kind = _activations.get(activation)
    if kind is None:
        raise NotCompiled(f"its activation {getattr(activation, '__name__', activation)!r} has no compiled kernel")
    op, options = kind
    if op == "softmax" and shape[:2] != (1, 1):
        raise NotCompiled("it takes the softmax of a map")
    selu = activation is activations.selu
    made = making.add(op, [node], shape, NOBODY if selu else (value, "out"), **options)
    if selu:
        made = making.add("scale", [made], shape, (value, "out"), weights=np.full(shape[2], 1.0507009873554805))
    return Held(made)


_activations: dict[Any, tuple[str, dict[str, Any]]] = {
    activations.relu: ("ramp", {}),
    activations.relu6: ("ramp", {"cap": 6.0}),
    activations.leaky_relu: ("ramp", {"slope": float(np.float32(0.2))}),
    activations.elu: ("smooth", {"function": "elu"}),
    activations.selu: ("smooth", {"function": "elu", "alpha": 1.6732632423543772}),
    activations.softmax: ("softmax", {}),
    **{
        function: ("smooth", {"function": name})
        for name, function in {
            "sigmoid": activations.sigmoid,
            "tanh": activations.tanh,
            "softplus": activations.softplus,
            "softsign": activations.softsign,
            "silu": activations.silu,
            "gelu": activations.gelu,
            "exponential": activations.exponential,
        }.items()
    },
}


def _before(layer: Any, value: int) -> Where:
    plain = layer.activation is None or layer.activation is activations.linear
    return (value, "out" if plain else "pre")


@lowers(layers.Conv1D, layers.Conv2D)
def _conv(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    _channels_last(layer)
    source, shape = making.plain(held[0])
    window, h, w = _window(shape, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding)
    kernel = _array(layer.kernel)
    kernel = kernel.reshape((*(1,) * (4 - kernel.ndim), *kernel.shape))
    out = (h, w, layer.filters)
    node = making.add("conv", [source], out, _before(layer, value), weights=kernel, window=window, groups=layer.groups)
    return _activated(making, node, layer.activation, value)


@lowers(layers.Dense)
def _dense(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    kernel = _array(layer.kernel)
    if kernel.size > LARGEST:
        raise NotCompiled(f"its {kernel.size:,} weights are too many to be held twice: {LARGEST:,} is the limit")
    shape = making.nodes[held[0].node].shape
    if held[0].flat:
        # A flattened map times a matrix is a correlation with a window as large as the map.
        window = (shape[0], shape[1], 1, 1, 1, 1, 0, 0)
        weights = kernel.reshape(*shape, layer.units)
        out: Map = (1, 1, layer.units)
    else:
        window, weights, out = (1, 1, 1, 1, 1, 1, 0, 0), kernel[None, None], (*shape[:2], layer.units)
    node = making.add("conv", [held[0].node], out, _before(layer, value), weights=weights, window=window)
    return _activated(making, node, layer.activation, value)


@lowers(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node = _by_channel(making, layer, held, _array(layer.kernel), _before(layer, value))
    return _activated(making, node, layer.activation, value)


def _by_channel(making: Lowering, layer: Any, held: list[Held], kernel: Float64, where: Where) -> int:
    _channels_last(layer)
    if layer.depth_multiplier != 1:
        raise NotCompiled("its depth_multiplier is not 1")
    source, shape = making.plain(held[0])
    window, h, w = _window(shape, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding)
    kernel = kernel.reshape(window[0], window[1], shape[2])
    return making.add("depthwise", [source], (h, w, shape[2]), where, weights=kernel, window=window)


@lowers(layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node = _by_channel(making, layer, held, _array(layer.depthwise_kernel), NOBODY)
    shape = making.nodes[node].shape
    kernel = _array(layer.pointwise_kernel).reshape(1, 1, shape[2], layer.filters)
    node = making.add("conv", [node], (*shape[:2], layer.filters), _before(layer, value), weights=kernel)
    return _activated(making, node, layer.activation, value)


@lowers(layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)
def _pool(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    _channels_last(layer)
    source, shape = making.plain(held[0])
    strides = layer.strides if layer.strides is not None else layer.pool_size
    window, h, w = _window(shape, layer.pool_size, strides, 1, layer.padding)
    op = "maximum" if isinstance(layer, layers.MaxPooling1D | layers.MaxPooling2D) else "average"
    return Held(making.add(op, [source], (h, w, shape[2]), (value, "out"), window=window))


@lowers(
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
)
def _global_pool(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    _channels_last(layer)
    source, shape = making.plain(held[0])
    op = "maximum" if isinstance(layer, layers.GlobalMaxPooling1D | layers.GlobalMaxPooling2D) else "average"
    window = (shape[0], shape[1], 1, 1, 1, 1, 0, 0)
    return Held(making.add(op, [source], (1, 1, shape[2]), (value, "out"), window=window))


@lowers(layers.BatchNormalization)
def _batch_normalization(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node, shape = making.plain(held[0])
    factor = 1 / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        factor = factor * _array(layer.gamma)
    if layer.axis not in (-1, len(layer.input.shape) - 1):
        raise NotCompiled("its axis is not the last")
    before = making.nodes[node]
    direct = before.where == (making.read[0], "out") and making.uses[making.read[0]] == 1
    if before.op in ("conv", "depthwise") and direct:
        # Only this layer reads the convolution: it may as well be scaled by the weights.
        before.options["weights"] = before.options["weights"] * factor
        before.where = (value, "out")
        return Held(node)
    return Held(making.add("scale", [node], shape, (value, "out"), weights=factor))


@lowers(layers.Rescaling)
def _rescaling(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node, shape = making.plain(held[0])
    if np.ndim(layer.scale):
        raise NotCompiled("it has several scales")
    scale = float(np.float32(layer.scale))  # TensorFlow makes a float32 constant of it, in float64 too
    return Held(making.add("scale", [node], shape, (value, "out"), weights=np.full(shape[2], scale)))


@lowers(layers.Activation)
def _activation(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node, _ = making.plain(held[0])
    return _activated(making, node, layer.activation, value)


@lowers(layers.Softmax)
def _softmax(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    if layer.axis != -1:
        raise NotCompiled("its axis is not the last")
    return _activated(making, making.plain(held[0])[0], activations.softmax, value)


@lowers(layers.ReLU)
def _relu(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    if layer.threshold:
        raise NotCompiled("it has a threshold")
    node, shape = making.plain(held[0])
    cap = math.inf if layer.max_value is None else float(layer.max_value)
    # Without a cap, TensorFlow's leaky_relu keeps the slope in float32.
    slope = float(np.float32(layer.negative_slope)) if layer.max_value is None else float(layer.negative_slope)
    return Held(making.add("ramp", [node], shape, (value, "out"), slope=slope, cap=cap))


@lowers(layers.LeakyReLU)
def _leaky_relu(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node, shape = making.plain(held[0])
    return Held(making.add("ramp", [node], shape, (value, "out"), slope=float(np.float32(layer.negative_slope))))


@lowers(layers.ELU)
def _elu(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    node, shape = making.plain(held[0])
    return Held(making.add("smooth", [node], shape, (value, "out"), function="elu", alpha=float(layer.alpha)))


@lowers(layers.Add, layers.Subtract, layers.Average)
def _sum(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    nodes = [making.flat(h) for h in held]
    shape = making.nodes[nodes[0]].shape
    if any(making.nodes[n].shape != shape for n in nodes):
        raise NotCompiled("its inputs are of different shapes")
    factors = {layers.Add: [1.0] * len(nodes), layers.Subtract: [1.0, -1.0]}
    coefficients = factors.get(type(layer), [1.0 / len(nodes)] * len(nodes))
    return Held(making.add("add", nodes, shape, (value, "out"), coefficients=coefficients))


@lowers(layers.Multiply)
def _product(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    nodes = [making.flat(h) for h in held]
    shape = making.nodes[nodes[0]].shape
    if len(nodes) != 2 or making.nodes[nodes[1]].shape != shape:
        raise NotCompiled("it takes other than two inputs of the same shape")
    return Held(making.add("multiply", nodes, shape, (value, "out")))


@lowers(layers.Concatenate)
def _concatenate(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    nodes = [making.flat(h) for h in held]
    shapes = [making.nodes[n].shape for n in nodes]
    rank = len(layer.output.shape)
    if layer.axis not in (-1, rank - 1) or any(s[:2] != shapes[0][:2] for s in shapes):
        raise NotCompiled("its axis is not the last")
    return Held(making.add("concat", nodes, (*shapes[0][:2], sum(s[2] for s in shapes)), (value, "out")))


@lowers(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D)
def _shift(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    _channels_last(layer)
    node, (h, w, c) = making.plain(held[0])
    crops = isinstance(layer, layers.Cropping1D | layers.Cropping2D)
    by = layer.cropping if crops else layer.padding
    (top, bottom), (left, right) = by if isinstance(by[0], tuple | list) else ((0, 0), by)
    if crops:
        top, bottom, left, right = -top, -bottom, -left, -right
    out = (h + top + bottom, w + left + right, c)
    return Held(making.add("shift", [node], out, (value, "out"), window=(1, 1, 1, 1, 1, 1, top, left)))


@lowers(layers.UpSampling1D, layers.UpSampling2D)
def _repeat(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    _channels_last(layer)
    if getattr(layer, "interpolation", "nearest") != "nearest":
        raise NotCompiled(f"it interpolates ({layer.interpolation})")
    node, (h, w, c) = making.plain(held[0])
    high, wide = _pair(layer.size, 1)
    window = (high, wide, 1, 1, 1, 1, 0, 0)
    return Held(making.add("repeat", [node], (h * high, w * wide, c), (value, "out"), window=window))


@lowers(layers.Flatten, layers.Reshape)
def _flatten(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    if len(layer.output.shape) != 2:
        if as_map(tuple(layer.output.shape[1:])) == making.nodes[held[0].node].shape and not held[0].flat:
            return held[0]
        raise NotCompiled("it makes other than a vector")
    return Held(held[0].node, True, (value, "out"))


@lowers(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)
def _identity(making: Lowering, layer: Any, held: list[Held], value: int) -> Held:
    return held[0]
