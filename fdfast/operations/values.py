"""Float64 stand-ins for kernels that have no float64 form here: channels first, pools of three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.operations.kernel import Kernel
from fdfast.operations.pooling import Windows, channels_last, picked, spread
from fdfast.operations.table import value


def _turned(kernel: Kernel) -> Kernel:
    """The same kernel with the channels last."""

    def last(numbers: Any) -> Any:
        return [numbers[0], *numbers[2:], numbers[1]]

    at = dict(kernel.attributes)
    for name in ("strides", "dilations", "ksize"):
        if name in at:
            at[name] = last(list(at[name]))
    if at.get("explicit_paddings"):
        pads = np.reshape(at["explicit_paddings"], (-1, 2)).tolist()
        at["explicit_paddings"] = [n for pair in last(pads) for n in pair]
    at["data_format"] = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}[at["data_format"]]
    found = kernel.moving(kernel.moves)
    found.attributes = at
    return found


def _last(x: Any) -> Any:
    return tf.transpose(x, [0, *range(2, x.shape.rank), 1])


def _first(x: Any) -> Any:
    return tf.transpose(x, [0, x.shape.rank - 1, *range(1, x.shape.rank - 1)])


def _sizes(size: Any) -> Any:
    n = tf.get_static_value(size)
    return tf.constant([n[0], *n[2:], n[1]], size.dtype) if n.size > 2 else size


@value("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def convolution(kernel: Kernel, x: Any, w: Any) -> Any:
    """Channels first by way of channels last; groups of one channel by the depthwise kernel, which is far faster."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_last(x), w)[0])
    if kernel.kind == "Conv2D" and w.shape[2] == 1 and x.shape[-1] > 1 and w.shape[3] % x.shape[-1] == 0:
        return _by_channel(kernel, x, w)
    return NotImplemented


def _by_channel(kernel: Kernel, x: Any, w: Any) -> Any:
    at = kernel.attributes
    if at["padding"] == b"EXPLICIT" or at["strides"][1] != at["strides"][2]:
        return NotImplemented
    per = w.shape[3] // x.shape[-1]
    # Filters of group g make outputs g * per .. (g + 1) * per, as the depthwise kernel's do.
    filters = tf.reshape(w, [w.shape[0], w.shape[1], x.shape[-1], per])
    if list(at["dilations"]) != [1, 1, 1, 1]:
        if at["strides"][1] != 1:
            return NotImplemented
        return tf.nn.depthwise_conv2d(x, filters, at["strides"], at["padding"].decode(), dilations=at["dilations"][1:3])
    return tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=filters, strides=at["strides"], padding=at["padding"].decode()
    )


def _known(size: Any) -> npt.NDArray[Any]:
    """A size that is written down in the graph, to be changed."""
    return np.array(tf.get_static_value(size))


def _by_group(run: Callable[..., list[Any]], groups: int, size: Any, *tensors: Any) -> Any:
    """What `run` makes of the size and channels of each group, side by side; nothing where there is one group."""
    if groups == 1:
        return NotImplemented
    wide = _known(size)
    wide[-1] //= groups
    parts = zip(*(tf.split(tensor, groups, -1) for tensor in tensors), strict=True)
    return tf.concat([run(tf.constant(wide, size.dtype), *part)[0] for part in parts], -1)


_IN_GROUPS = ("Conv2DBackpropInput", "Conv2DBackpropFilter", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")


@value("Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNativeBackpropInput")
def convolution_back(kernel: Kernel, size: Any, w: Any, dy: Any) -> Any:
    """Channels first by way of channels last; of groups of channels each by itself."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_sizes(size), w, _last(dy))[0])
    wide = _known(size)
    groups = wide[-1] // w.shape[-2] if len(wide) == dy.shape.rank and kernel.kind in _IN_GROUPS else 1
    return _by_group(kernel, groups, size, w, dy)


@value("Conv2DBackpropFilter", "Conv3DBackpropFilterV2", "DepthwiseConv2dNativeBackpropFilter")
def filter_back(kernel: Kernel, x: Any, size: Any, dy: Any) -> Any:
    """Channels first by way of channels last; of groups of channels each by itself."""
    if not channels_last(kernel):
        return _turned(kernel)(_last(x), size, _last(dy))[0]
    wide = _known(size)
    groups = x.shape[-1] // wide[-2] if kernel.kind in _IN_GROUPS else 1
    return _by_group(lambda size, x, dy: kernel(x, size, dy), groups, size, x, dy)


@value("BiasAdd")
def bias_add(kernel: Kernel, x: Any, bias: Any) -> Any:
    """Channels first."""
    if channels_last(kernel):
        return NotImplemented
    return x + tf.reshape(bias, [1, -1, *[1] * (x.shape.rank - 2)])


@value("BiasAddGrad")
def bias_add_grad(kernel: Kernel, dy: Any) -> Any:
    """Channels first."""
    return NotImplemented if channels_last(kernel) else tf.reduce_sum(dy, [0, *range(2, dy.shape.rank)])


@value("MaxPool", "MaxPool3D")
def max_pool(kernel: Kernel, x: Any) -> Any:
    """Channels first, and maxima over windows of three dimensions, place by place."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_last(x))[0])
    if kernel.kind == "MaxPool":
        return NotImplemented
    windows, best = Windows(kernel, x, _pooled(kernel, x)), None
    for one in windows.seen(x, -np.inf, 1):
        best = one if best is None else tf.maximum(best, one)
    return best


@value("AvgPool", "AvgPool3D")
def average_pool(kernel: Kernel, x: Any) -> Any:
    """Channels first, and means over windows of three dimensions, padding not counted."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_last(x))[0])
    if kernel.kind == "AvgPool":
        return NotImplemented
    windows = Windows(kernel, x, _pooled(kernel, x))
    total = sum(windows.seen(x, 0.0, 1))
    return total / sum(windows.seen(tf.ones_like(x), 0.0, 1))


@value("AvgPoolGrad", "AvgPool3DGrad")
def average_pool_grad(kernel: Kernel, shape: Any, dy: Any) -> Any:
    """The transpose."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_sizes(shape), _last(dy))[0])
    if kernel.kind == "AvgPoolGrad":
        return NotImplemented
    like = tf.ones([int(n) for n in tf.get_static_value(shape)], dy.dtype)  # a constant, also while a graph is made
    windows = Windows(kernel, like, dy)
    each = dy / sum(windows.seen(like, 0.0, 1))
    return spread(windows, (each for _ in windows.taps), like, 1)


@value("MaxPoolGrad", "MaxPool3DGrad")
def max_pool_grad(kernel: Kernel, x: Any, y: Any, dy: Any) -> Any:
    """To the first place of each window that holds the maximum."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_last(x), _last(y), _last(dy))[0])
    if kernel.kind == "MaxPoolGrad":
        return NotImplemented
    windows = Windows(kernel, x, dy)
    return spread(windows, (tf.where(m, dy, tf.zeros_like(dy)) for m in picked(windows, x, y)), x, 1)


@value("MaxPoolGradGrad", "MaxPool3DGradGrad")
def max_pool_grad_grad(kernel: Kernel, x: Any, y: Any, seen: Any) -> Any:
    """What is seen by the first place of each window that holds the maximum."""
    if not channels_last(kernel):
        return _first(_turned(kernel)(_last(x), _last(y), _last(seen))[0])
    if kernel.kind == "MaxPoolGradGrad":
        return NotImplemented
    windows = Windows(kernel, x, y)
    both = zip(picked(windows, x, y), windows.seen(seen, 0.0, 1), strict=True)
    return sum(tf.where(mask, one, tf.zeros_like(one)) for mask, one in both)


def _pooled(kernel: Kernel, x: Any) -> Any:
    """Something of the shape of the output."""
    at = kernel.attributes
    size = []
    for n, k, s in zip(list(x.shape)[1:-1], list(at["ksize"])[1:-1], list(at["strides"])[1:-1], strict=True):
        size.append(-(-n // s) if at["padding"] == b"SAME" else (n - k) // s + 1)
    return tf.zeros([x.shape[0], *size, x.shape[-1]], x.dtype)


@value("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(kernel: Kernel, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
    """There is no float64 kernel."""
    if kernel.attributes["data_format"] != b"NHWC":
        return NotImplemented
    if kernel.attributes["is_training"]:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
    factor = scale * tf.math.rsqrt(variance + float(kernel.attributes["epsilon"]))
    outputs = [(x - mean) * factor + offset, mean, variance, mean, variance, tf.zeros([0], x.dtype)]
    return outputs if kernel.kind == "FusedBatchNormV3" else outputs[:-1]


@value("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quantised(kernel: Kernel, x: Any, low: Any, high: Any) -> Any:
    """To the nearest of the steps between both limits, which are moved so that zero is one of them."""
    steps = 2.0 ** int(kernel.attributes["num_bits"]) - 1 - float(kernel.attributes["narrow_range"])
    width = (high - low) / steps
    first = tf.clip_by_value(tf.round(-low / width), 0.0, steps)
    bottom = -first * width
    clipped = tf.clip_by_value(x, bottom, bottom + steps * width)
    return tf.floor((clipped - bottom) / width + 0.5) * width + bottom
