"""Operations that arrange what moves: views, slices, paddings, concatenation, repetition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.tape import Entry
from fdfast.windows.program import Making, Map, NotLowered, Value, as_map, lowers, only_first
from fdfast.windows.resampling import keep, repeat, resample


@lowers(
    *("Identity", "StopGradient", "Snapshot", "PreventGradient", "CheckNumerics", "EnsureShape", "Cast"),
    *("ExpandDims", "Squeeze", "Reshape"),
)
def view(m: Making, entry: Entry, moving: list[int]) -> None:
    """The same elements in the same order."""
    if m.tape.values[entry.outputs[0]].dtype != tf.float64:
        raise NotLowered("it makes whole numbers of what moves")
    m.view(entry.outputs[0], moving[0])


@lowers("IdentityN")
def views(m: Making, entry: Entry, moving: list[int]) -> None:
    """Several at once."""
    for one, out in zip(entry.inputs, entry.outputs, strict=True):
        if m.moves(one):
            m.view(out, one)


@lowers("Transpose")
def transpose(m: Making, entry: Entry, moving: list[int]) -> None:
    """Of axes of length 1."""
    order, shape = m.integers(entry.inputs[1]), m.shape(moving[0])
    long = [axis for axis in order if shape[axis] != 1]
    if long != sorted(long):
        raise NotLowered("it changes the order of axes")
    m.view(entry.outputs[0], moving[0])


@lowers("Pad", "PadV2")
def pad(m: Making, entry: Entry, moving: list[int]) -> None:
    """Rows and columns of a constant."""
    node = m.spatial(only_first(entry, moving))
    pads = np.reshape(m.integers(entry.inputs[1]), (-1, 2))
    (top, bottom), (left, right), (front, back) = np.concatenate([np.zeros((3, 2), int), pads])[-3:]
    if pads[:-3].any() or front or back:
        raise NotLowered("it pads other than rows and columns")
    h, w, c = m.nodes[node].shape
    out = (int(h + top + bottom), int(w + left + right), c)
    window = (1, 1, 1, 1, 1, 1, int(top), int(left))
    m.keep(entry.outputs[0], m.add("shift", [node], out, Value(entry.outputs[0]), window=window))


@lowers("StridedSlice", "Slice", "GatherV2", "ReverseV2", "Roll", "MirrorPad")
def taken(m: Making, entry: Entry, moving: list[int]) -> None:
    """Some rows, columns and channels, in any order: which elements it takes is asked of the operation itself."""
    source = only_first(entry, moving)
    for number in entry.inputs[1:]:
        m.integers(number)
    shape, out = m.shape(source), entry.outputs[0]
    places = np.arange(math.prod(shape)).reshape(shape)
    found = np.asarray(entry.kernel(tf.constant(places), *(m.tape.values[i] for i in entry.inputs[1:]))[0]).reshape(-1)
    if not found.size:
        raise NotLowered("it takes nothing")
    if len(found) == places.size and (np.diff(found) == 1).all():
        m.view(out, moving[0])
        return
    node = m.node_of[source]
    h, w, c = m.nodes[node].shape
    rows, columns, channels = _grid(found, (h, w, c), m.shape(out))
    if len(channels) != c or (np.diff(channels) != 1).any():
        node = _channels(m, node, channels)
    if len(rows) != h or len(columns) != w or (np.diff(rows) != 1).any() or (np.diff(columns) != 1).any():
        if (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all():
            window = (1, 1, 1, 1, 1, 1, -int(rows[0]), -int(columns[0]))
            node = m.add("shift", [node], (len(rows), len(columns), len(channels)), None, window=window)
        else:
            node = resample(m, node, np.eye(h)[rows], np.eye(w)[columns])
    m.nodes[node].value = Value(out)
    m.settle(out, node)


def _grid(found: Any, shape: Map, out: Sequence[int]) -> tuple[Any, Any, Any]:
    """Rows, columns and channels that elements of a map are the crossings of, in order."""
    _, wide, deep = shape
    own = tuple(len(np.unique(one)) for one in np.unravel_index(found, shape))
    for counts in (own, shape, as_map(out)):
        if math.prod(counts) == len(found):
            grid = np.reshape(found, counts)
            rows, columns, channels = grid[:, 0, 0] // (wide * deep), grid[0, :, 0] // deep % wide, grid[0, 0] % deep
            if np.array_equal(grid, (rows[:, None, None] * wide + columns[:, None]) * deep + channels):
                return rows, columns, channels
    raise NotLowered("it takes other than some rows, columns and channels")


def _channels(m: Making, node: int, some: Any) -> int:
    """Some channels of a map."""
    h, w, c = m.nodes[node].shape
    if (np.diff(some) == 1).all():
        return m.add("part", [node], (h, w, len(some)), None, window=(1, 1, 1, 1, 1, 1, 0, int(some[0])))
    return m.add("conv", [node], (h, w, len(some)), None, weights=np.ascontiguousarray(np.eye(c)[:, some])[None, None])


@lowers("Split", "SplitV")
def split(m: Making, entry: Entry, moving: list[int]) -> None:
    """Along the channels."""
    value, axis = (1, 0) if entry.kernel.kind == "Split" else (0, 2)
    source = entry.inputs[value]
    shape = m.shape(source)
    if m.integers(entry.inputs[axis])[0] % len(shape) != len(shape) - 1:
        raise NotLowered("it splits along another axis than the last")
    node, start = m.by_channel(source), 0
    for out in entry.outputs:
        count = m.shape(out)[-1]
        part = _channels(m, node, np.arange(start, start + count))
        m.nodes[part].value = Value(out)
        m.keep(out, part)
        start += count


@lowers("Unpack")
def unpack(m: Making, entry: Entry, moving: list[int]) -> None:
    """Rows, or columns, one by one."""
    source, axis = moving[0], entry.kernel.attributes["axis"]
    shape, node = m.shape(source), m.node_of[moving[0]]
    h, w, c = m.nodes[node].shape
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if before != 1 or h * w != shape[axis] or after != c:
        raise NotLowered("it takes other than cells one by one")
    for number, out in enumerate(entry.outputs):
        y, x = divmod(number, w)
        window = (1, 1, 1, 1, 1, 1, -y, -x)
        m.settle(out, m.add("shift", [node], (1, 1, c), Value(out), window=window))


@lowers("Pack")
def pack(m: Making, entry: Entry, moving: list[int]) -> None:
    """Vectors as cells of one column."""
    out, axis = entry.outputs[0], entry.kernel.attributes["axis"]
    shape = m.shape(out)
    size = math.prod(shape) // len(entry.inputs)
    if math.prod(shape[:axis]) != 1:
        raise NotLowered("it does not put one behind the other")
    placed = []
    for number, one in enumerate(entry.inputs):
        if m.moves(one):
            node = m.node_of[one]
            if m.nodes[node].shape != (1, 1, size):
                node = m.add("reshape", [node], (1, 1, size), Value(one))
            window = (1, 1, 1, 1, 1, 1, number, 0)
            placed.append(m.add("shift", [node], (len(entry.inputs), 1, size), None, window=window))
    joined = m.add("add", placed, (len(entry.inputs), 1, size), Value(out), coefficients=[1.0] * len(placed))
    m.settle(out, joined)


@lowers("ConcatV2")
def concatenate(m: Making, entry: Entry, moving: list[int]) -> None:
    """Along the channels; parts that do not move are left out by taking the place of the others."""
    *parts, axis = entry.inputs
    out = entry.outputs[0]
    rank = len(m.shape(out))
    if m.integers(axis)[0] % rank != rank - 1:
        raise NotLowered("it does not concatenate along the last axis")
    sizes = [m.shape(part)[-1] for part in parts]
    nodes = [m.by_channel(part) if m.moves(part) else None for part in parts]
    cells = {m.nodes[node].shape[:2] for node in nodes if node is not None}
    if len(cells) > 1:
        raise NotLowered("its parts are arranged in different ways")
    shape = (*cells.pop(), sum(sizes))
    if all(node is not None for node in nodes):
        m.keep(out, m.add("concat", [n for n in nodes if n is not None], shape, Value(out)))
        return
    placed, start = [], 0
    for node, size in zip(nodes, sizes, strict=True):
        if node is not None:
            weights = np.zeros((1, 1, size, shape[2]))
            weights[0, 0, np.arange(size), start + np.arange(size)] = 1
            placed.append(m.add("conv", [node], shape, None, weights=weights))
        start += size
    m.keep(out, m.add("add", placed, shape, Value(out), coefficients=[1.0] * len(placed)))


@lowers("Tile")
def tile(m: Making, entry: Entry, moving: list[int]) -> None:
    """Of an axis of length 1 behind the rows or the columns: `UpSampling2D` is that, axis by axis."""
    times, shape, out = m.integers(entry.inputs[1]), m.shape(moving[0]), entry.outputs[0]
    more = [axis for axis, n in enumerate(times) if n > 1]
    if not more:
        m.view(out, moving[0])
        return
    axis = more[0]
    node = m.node_of[moving[0]]
    before, after, (h, w, c) = math.prod(shape[:axis]), math.prod(shape[axis:]), m.nodes[node].shape
    if len(more) == 1 and shape[axis] == 1 and (before, after) == (h * w, c):
        keep(m, out, repeat(m, node, (h, w * times[axis], c)))
    elif len(more) == 1 and shape[axis] == 1 and (before, after) == (h, w * c):
        keep(m, out, repeat(m, node, (h * times[axis], w, c)))
    else:
        raise NotLowered("it repeats other than every row or every column")
