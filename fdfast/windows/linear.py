"""Convolutions, matrices, pools and means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fdfast.tape import Entry
from fdfast.windows.program import Making, Map, NotLowered, Value, lowers, only_first

Float64 = npt.NDArray[np.float64]


def _window(
    m: Making, entry: Entry, node: int, kernel: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return kh, kw, sh, sw, dh, dw, top, left, and height and width of the output."""
    given = entry.kernel.attributes
    if given.get("data_format", b"NHWC") != b"NHWC":
        raise NotLowered("its channels come first")
    strides, padding = given["strides"][1:3], given["padding"]
    sizes, pads = [], []
    for axis, (n, k, s, d) in enumerate(zip(m.nodes[node].shape[:2], kernel, strides, dilation, strict=True)):
        reach = (k - 1) * d + 1
        if padding == b"SAME":
            sizes.append(-(-n // s))
            pads.append(max((sizes[-1] - 1) * s + reach - n, 0) // 2)
        else:
            before, after = (
                given["explicit_paddings"][2 * axis + 2 : 2 * axis + 4] if padding == b"EXPLICIT" else (0, 0)
            )
            sizes.append((n + before + after - reach) // s + 1)
            pads.append(before)
    return (*kernel, *strides, *dilation, *pads), (sizes[0], sizes[1])


@lowers("Conv2D", "DepthwiseConv2dNative")
def convolution(m: Making, entry: Entry, moving: list[int]) -> None:
    """By a constant kernel."""
    node = m.spatial(only_first(entry, moving))
    weights = m.constant(entry.inputs[1])
    window, size = _window(m, entry, node, weights.shape[:2], entry.kernel.attributes["dilations"][1:3])
    _correlated(m, entry, node, weights, window, size, entry.outputs[0])


def _correlated(
    m: Making,
    entry: Entry,
    node: int,
    weights: Float64,
    window: tuple[int, ...],
    size: tuple[int, ...],
    out: int,
) -> None:
    """Node of a convolution, grouped or not, or of one kernel for each channel: several of these are as many groups."""
    high, wide, given, many = weights.shape
    channels, value = m.nodes[node].shape[2], Value(out)
    if entry.kernel.kind != "Conv2D" and many == 1:
        kernel = np.ascontiguousarray(weights[..., 0])
        m.keep(out, m.add("depthwise", [node], (size[0], size[1], channels), value, weights=kernel, window=window))
        return
    groups = channels // given
    if entry.kernel.kind != "Conv2D":
        weights, groups = weights.reshape(high, wide, 1, -1), channels
    shape = (size[0], size[1], weights.shape[3])
    weights = np.ascontiguousarray(weights)
    m.keep(out, m.add("conv", [node], shape, value, weights=weights, window=window, groups=groups))


@lowers("SpaceToBatchND")
def dilated(m: Making, entry: Entry, moving: list[int]) -> None:
    """With a convolution of the parts, and BatchToSpaceND: how TensorFlow writes a dilated convolution."""
    passed, inner = _behind_views(m, entry)
    more, last = _behind_views(m, inner) if inner is not None else ([], None)
    if inner is None or last is None or last.kernel.kind != "BatchToSpaceND":
        raise NotLowered("no convolution and BatchToSpaceND follow")
    given, block = inner.kernel.attributes, m.integers(entry.inputs[1])
    pads, crops = (np.reshape(m.integers(one.inputs[2]), (-1, 2)) for one in (entry, last))
    valid = given.get("padding") == b"VALID" and given["strides"] == [1] * 4 and given["dilations"] == [1] * 4
    if inner.kernel.kind not in ("Conv2D", "DepthwiseConv2dNative") or not valid or block != m.integers(last.inputs[1]):
        raise NotLowered("what is between is no plain convolution")
    if given.get("data_format", b"NHWC") != b"NHWC" or len(block) > 2:
        raise NotLowered("its channels come first")
    node, weights = m.spatial(moving[0]), m.constant(inner.inputs[1])
    both = len(m.shape(moving[0])) == 4 and len(block) == 1  # of rows alone, then
    rates = [*block, 1] if both else [1] * (2 - len(block)) + block
    starts = [int(p[0] - c[0]) for p, c in zip(pads, crops, strict=True)]
    tops = [*starts, 0] if both else [0] * (2 - len(starts)) + starts
    out = last.outputs[0]
    window, size = (*weights.shape[:2], 1, 1, *rates, *tops), m.shape(out)[-3:-1]
    m.taken |= {id(one) for one in (*passed, inner, *more, last)}
    _correlated(m, inner, node, weights, window, size, out)


def _behind_views(m: Making, entry: Entry) -> tuple[list[Entry], Entry | None]:
    """The only reader of an operation's output, and the views on the way to it; None where there is no such."""
    passed: list[Entry] = []
    reader = m.only_reader(entry.outputs[0])
    while reader is not None and reader.kernel.kind in ("ExpandDims", "Squeeze", "Reshape"):
        passed.append(reader)
        reader = m.only_reader(reader.outputs[0])
    return passed, reader


@lowers("Conv2DBackpropInput")
def transposed(m: Making, entry: Entry, moving: list[int]) -> None:
    """A convolution backwards: zeros between the cells, then the kernel turned round."""
    sizes, kernel, source = entry.inputs
    given, out = entry.kernel.attributes, entry.outputs[0]
    if moving != [source] or given["dilations"][1:3] != [1, 1]:
        raise NotLowered("its kernel moves, or is dilated")
    m.integers(sizes)
    node, weights = m.spatial(source), m.constant(kernel)
    if weights.shape[3] != m.nodes[node].shape[2] or given.get("data_format", b"NHWC") != b"NHWC":
        raise NotLowered("its channels come first, or in groups")
    height, width, channels = m.shape(out)[-3:]
    h, w, c = m.nodes[node].shape
    strides, padding = given["strides"][1:3], given["padding"]
    if padding == b"EXPLICIT":
        before = given["explicit_paddings"][2:6:2]
    elif padding == b"SAME":  # as of the convolution that goes the other way
        ends = zip((h, w), weights.shape[:2], strides, (height, width), strict=True)
        before = [max((n - 1) * s + k - size, 0) // 2 for n, k, s, size in ends]
    else:
        before = [0, 0]
    if strides != [1, 1]:
        wide = (h * strides[0], w * strides[1], c)
        node = m.add("dilate", [node], wide, None, window=(*strides, 1, 1, 1, 1, 0, 0))
    top, left = (k - 1 - p for k, p in zip(weights.shape[:2], before, strict=True))
    turned = np.ascontiguousarray(weights[::-1, ::-1].transpose(0, 1, 3, 2))
    window = (*weights.shape[:2], 1, 1, 1, 1, top, left)
    m.keep(out, m.add("conv", [node], (height, width, channels), Value(out), weights=turned, window=window))


@lowers("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def matrix(m: Making, entry: Entry, moving: list[int]) -> None:
    """By a constant matrix on the right: of a flattened map, a correlation with a window as large as the map."""
    source, given = only_first(entry, moving), entry.kernel.attributes
    weights = m.constant(entry.inputs[1])
    if given.get("transpose_a") or given.get("adj_x"):
        raise NotLowered("it transposes what moves")
    while weights.ndim > 2 and weights.shape[0] == 1:
        weights = weights[0]
    if weights.ndim != 2:
        raise NotLowered("it is several products")
    if given.get("transpose_b") or given.get("adj_y"):
        weights = weights.T
    node, out = m.node_of[source], entry.outputs[0]
    h, w, c = m.nodes[node].shape
    if m.shape(source)[-1] == c:
        window, shape, weights = (1,) * 6 + (0, 0), (h, w, weights.shape[1]), weights[None, None]
    elif m.shape(source)[-1] == h * w * c:
        window, shape = (h, w, 1, 1, 1, 1, 0, 0), (1, 1, weights.shape[1])
        weights = weights.reshape(h, w, c, -1)
    else:
        raise NotLowered(f"it reads {m.nodes[node].shape} as {m.shape(source)}")
    made = m.add("conv", [node], shape, Value(out), weights=np.ascontiguousarray(weights), window=window)
    m.keep(out, made)


@lowers("MaxPool", "AvgPool")
def pool(m: Making, entry: Entry, moving: list[int]) -> None:
    """The largest, or the mean, of a window."""
    node = m.spatial(moving[0])
    kernel = entry.kernel.attributes["ksize"]
    if kernel[0] != 1 or kernel[3] != 1:
        raise NotLowered("it pools examples or channels")
    window, size = _window(m, entry, node, kernel[1:3])
    op = "maximum" if entry.kernel.kind == "MaxPool" else "average"
    out = entry.outputs[0]
    m.keep(out, m.add(op, [node], (*size, m.nodes[node].shape[2]), Value(out), window=window))


@lowers("Mean", "Sum", "Max")
def reduce(m: Making, entry: Entry, moving: list[int]) -> None:
    """Over rows and columns by a window, over channels by a matrix of ones."""
    source, kind, out = only_first(entry, moving), entry.kernel.kind, entry.outputs[0]
    shape = m.shape(source)
    axes = {axis % len(shape) for axis in m.integers(entry.inputs[1])}
    axes = {axis for axis in axes if shape[axis] != 1}
    if not axes:
        m.view(out, source)
        return
    node = m.node_of[source]
    start, map_ = m.channels_from(shape, node), m.nodes[node].shape
    cells = {axis for axis, n in enumerate(shape[:start]) if n != 1} if start is not None else set()
    into = np.zeros(map_[2], np.int64)  # which of the channels that are left each one goes into
    if all(axis in axes or n == 1 for axis, n in enumerate(shape)):
        over = {axis for axis in range(3) if map_[axis] != 1}  # of everything, however it is arranged
    elif start is not None and (cells <= axes or not cells & axes):
        over = {0, 1} if cells & axes else set()  # of all cells or none, however they are arranged
        kept = [1 if axis in axes else n for axis, n in enumerate(shape)][start:]
        which = np.arange(math.prod(kept)).reshape(kept)
        into = np.broadcast_to(which, shape[start:]).reshape(-1)
        over |= {2} if which.size < map_[2] else set()
    else:
        node = m.spatial(source)
        over, into = {axis - len(shape) + 3 for axis in axes}, np.zeros(m.nodes[node].shape[2], np.int64)
    if min(over) < 0:
        raise NotLowered("it reduces examples")
    h, w, c = m.nodes[node].shape
    if kind == "Max" and 2 in over:
        raise NotLowered("it takes the largest of channels")
    count = 1
    if over - {2}:
        high, wide = (n if axis in over else 1 for axis, n in enumerate((h, w)))
        h, w, count = h // high, w // wide, high * wide
        op = "maximum" if kind == "Max" else "average"
        value = Value(out) if kind != "Sum" and 2 not in over else None
        node = m.add(op, [node], (h, w, c), value, window=(high, wide, 1, 1, 1, 1, 0, 0))
    factor = float(count) if kind == "Sum" else 1.0
    if 2 in over:
        many = int(into.max()) + 1
        weights = np.zeros((1, 1, c, many))
        weights[0, 0, np.arange(c), into] = factor * many / c if kind == "Mean" else factor
        node = m.add("conv", [node], (h, w, many), Value(out), weights=weights)
    elif kind == "Sum":
        node = m.add("scale", [node], (h, w, c), Value(out), weights=np.full(c, factor))
    m.settle(out, node)


@lowers("FusedBatchNormV3", "FusedBatchNormV2", "FusedBatchNorm")
def batch_norm(m: Making, entry: Entry, moving: list[int]) -> None:
    """By given means and variances."""
    given = entry.kernel.attributes
    if given["is_training"] or given.get("data_format", b"NHWC") != b"NHWC":
        raise NotLowered("its channels come first, or it takes the mean of what moves")
    source = only_first(entry, moving)
    gamma, variance = m.constant(entry.inputs[1]), m.constant(entry.inputs[4])
    scaled(m, entry.outputs[0], source, gamma / np.sqrt(variance + given["epsilon"]))


def scaled(m: Making, out: int, source: int, factor: Float64) -> None:
    """A factor for each channel; into the weights before it where nothing else reads those."""
    node = m.node_of[source]
    before = m.nodes[node]
    if before.op in ("conv", "depthwise") and m.alone(node) and len(factor) == before.shape[2]:
        before.options["weights"] = before.options["weights"] * factor
        before.value = Value(out)
        m.keep(out, node)
        return
    shape: Map = before.shape
    m.keep(out, m.add("scale", [node], shape, Value(out), weights=np.ascontiguousarray(factor)))
