"""Volumes: depth and height are a map's rows and columns, width and channels together its channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.tape import Entry
from fdfast.windows.program import LARGEST, Making, NotLowered, Value, lowers, only_first

Float64 = npt.NDArray[np.float64]
#: Size of the output along an axis, the window, stride, and padding in front.
_Axis = tuple[int, int, int, int]


def _volume(m: Making, number: int) -> tuple[int, tuple[int, int, int, int]]:
    """Node of a value as (depth, height, width times channels), and these four."""
    shape, node = m.shape(number), m.node_of[number]
    deep, high, wide, channels = shape[-4:]
    if math.prod(shape[:-4]) != 1 or m.nodes[node].shape != (deep, high, wide * channels):
        raise NotLowered(f"it reads {m.nodes[node].shape} as {shape}")
    return node, (deep, high, wide, channels)


def _axes(entry: Entry, sizes: Sequence[int], windows: Sequence[int]) -> list[_Axis]:
    given = entry.kernel.attributes
    if given.get("data_format", b"NDHWC") != b"NDHWC" or given.get("dilations", [1] * 5) != [1] * 5:
        raise NotLowered("its channels come first, or it is dilated")
    found = []
    for n, k, s in zip(sizes, windows, given["strides"][1:4], strict=True):
        if given["padding"] == b"SAME":
            count = -(-n // s)
            found.append((count, k, s, max((count - 1) * s + k - n, 0) // 2))
        else:
            found.append(((n - k) // s + 1, k, s, 0))
    return found


def _window(deep: _Axis, high: _Axis) -> tuple[int, ...]:
    return deep[1], high[1], deep[2], high[2], 1, 1, deep[3], high[3]


def _seen(wide: _Axis, n: int) -> list[tuple[int, int, int]]:
    """Place of the output, tap, and place of the input that it sees, along the width."""
    count, taps, stride, before = wide
    places = ((o, k, o * stride - before + k) for o in range(count) for k in range(taps))
    return [(o, k, i) for o, k, i in places if 0 <= i < n]


@lowers("Conv3D")
def convolution(m: Making, entry: Entry, moving: list[int]) -> None:
    """By a constant kernel: along the width a band of a matrix."""
    node, (*sizes, channels) = _volume(m, only_first(entry, moving))
    weights = m.constant(entry.inputs[1])
    if weights.shape[3] != channels:
        raise NotLowered("its channels go in groups")
    deep, high, wide = _axes(entry, sizes, weights.shape[:3])
    many = weights.shape[4]
    if math.prod(weights.shape[:2]) * sizes[2] * channels * wide[0] * many > LARGEST:
        raise NotLowered("it is too wide for a matrix along its width")
    band = np.zeros((*weights.shape[:2], sizes[2], channels, wide[0], many))
    for o, k, i in _seen(wide, sizes[2]):
        band[:, :, i, :, o] = weights[:, :, k]
    shape, out = (deep[0], high[0], wide[0] * many), entry.outputs[0]
    kernel = band.reshape(*weights.shape[:2], sizes[2] * channels, -1)
    m.settle(out, m.add("conv", [node], shape, Value(out), weights=kernel, window=_window(deep, high)))


@lowers("AvgPool3D")
def average(m: Making, entry: Entry, moving: list[int]) -> None:
    """Of rows and columns, then along the width: cells outside count nowhere."""
    node, sizes, (deep, high, wide) = _pooled(m, entry, moving[0])
    channels, out = sizes[3], entry.outputs[0]
    shape = deep[0], high[0], sizes[2] * channels
    node = m.add("average", [node], shape, None, window=_window(deep, high))
    share = np.zeros((sizes[2], wide[0]))
    for o, _, i in _seen(wide, sizes[2]):
        share[i, o] = 1
    m.settle(out, _chosen(m, node, share / share.sum(axis=0), channels, Value(out)))


@lowers("MaxPool3D")
def largest(m: Making, entry: Entry, moving: list[int]) -> None:
    """Of rows and columns, then along the width, tap after tap: the larger one of two is b + relu(a - b)."""
    source, out = moving[0], entry.outputs[0]
    node, sizes, (deep, high, wide) = _pooled(m, entry, source)
    channels, seen = sizes[3], _seen(wide, sizes[2])
    if len(seen) != wide[0] * wide[1]:
        raise NotLowered("it pools beyond the border along its width")
    shape = deep[0], high[0], sizes[2] * channels
    node = m.add("maximum", [node], shape, None, window=_window(deep, high))

    def values(z: Any) -> Float64:
        return _largest_cells(np.reshape(z, (*sizes[:2], -1)), deep, high).reshape(*shape[:2], sizes[2], channels)

    taps = [[i for _, k, i in seen if k == tap] for tap in range(wide[1])]
    best = _chosen(m, node, np.eye(sizes[2])[:, taps[0]], channels, None)
    shape = m.nodes[best].shape
    for tap in range(1, wide[1]):
        other = _chosen(m, node, np.eye(sizes[2])[:, taps[tap]], channels, None)

        def gap(z: Any, tap: int = tap) -> Float64:
            cells = np.stack([values(z)[:, :, places] for places in taps[: tap + 1]])
            return np.asarray(cells[tap] - cells[:tap].max(axis=0))

        apart = m.add("add", [other, best], shape, Value(source, gap), coefficients=[1.0, -1.0])
        more = m.add("ramp", [apart], shape, None)
        best = m.add("add", [best, more], shape, None, coefficients=[1.0, 1.0])
    m.nodes[best].value = Value(out)
    m.settle(out, best)


def _pooled(m: Making, entry: Entry, source: int) -> tuple[int, tuple[int, int, int, int], list[_Axis]]:
    node, sizes = _volume(m, source)
    kernel = entry.kernel.attributes["ksize"]
    if kernel[0] != 1 or kernel[4] != 1:
        raise NotLowered("it pools examples or channels")
    return node, sizes, _axes(entry, sizes[:3], kernel[1:4])


def _chosen(m: Making, node: int, share: Float64, channels: int, value: Value | None) -> int:
    """A map whose places along the width are shares of another's, shape (places, places of the result)."""
    h, w, _ = m.nodes[node].shape
    matrix = np.einsum("io,cd->icod", share, np.eye(channels)).reshape(1, 1, share.shape[0] * channels, -1)
    shape = (h, w, matrix.shape[3])
    return m.add("conv", [node], shape, value, weights=np.ascontiguousarray(matrix))


def _largest_cells(z: Float64, deep: _Axis, high: _Axis) -> Float64:
    """The largest cell of every window of rows and columns."""
    found = np.full((deep[0], high[0], z.shape[2]), -np.inf)
    for o, _, i in _seen(deep, z.shape[0]):
        for p, _, j in _seen(high, z.shape[1]):
            np.maximum(found[o, p], z[i, j], out=found[o, p])
    return found
