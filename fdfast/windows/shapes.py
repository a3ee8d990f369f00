"""Operations that arrange what moves: views, slices, paddings, concatenation, repetition."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from fdfast.tape import Entry
from fdfast.windows.program import Making, NotLowered, Value, lowers, only_first


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


@lowers("StridedSlice", "Slice")
def cut(m: Making, entry: Entry, moving: list[int]) -> None:
    """A block of the map: which elements it takes is asked of the operation itself."""
    source = only_first(entry, moving)
    for number in entry.inputs[1:]:
        m.integers(number)
    shape, out = m.shape(source), entry.outputs[0]
    places = np.arange(math.prod(shape)).reshape(shape)
    taken = np.asarray(entry.kernel(tf.constant(places), *(m.tape.values[i] for i in entry.inputs[1:]))[0]).reshape(-1)
    if not taken.size:
        raise NotLowered("it takes nothing")
    if len(taken) == places.size and (np.diff(taken) == 1).all():
        m.view(out, moving[0])
        return
    node = m.node_of[moving[0]]
    h, w, c = m.nodes[node].shape
    where = np.stack(np.unravel_index(taken, (h, w, c)), 1)
    low, high = where.min(0), where.max(0) + 1
    whole = np.arange(h * w * c).reshape(h, w, c)[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if not np.array_equal(whole.reshape(-1), taken):
        raise NotLowered("it takes other than a block")
    if (high - low)[2] != c:
        node = _channels(m, node, int(low[2]), int(high[2] - low[2]))
    if tuple(high - low)[:2] != (h, w):
        size = (int(high[0] - low[0]), int(high[1] - low[1]), m.nodes[node].shape[2])
        node = m.add("shift", [node], size, None, window=(1, 1, 1, 1, 1, 1, -int(low[0]), -int(low[1])))
    m.nodes[node].value = Value(out)
    m.settle(out, node)


def _channels(m: Making, node: int, first: int, count: int) -> int:
    """Some channels of a map."""
    h, w, _ = m.nodes[node].shape
    return m.add("part", [node], (h, w, count), None, window=(1, 1, 1, 1, 1, 1, 0, first))


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
        part = _channels(m, node, start, count)
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


@lowers("ReverseV2")
def reverse(m: Making, entry: Entry, moving: list[int]) -> None:
    """The order of all cells."""
    source, axes = only_first(entry, moving), m.integers(entry.inputs[1])
    shape, (h, w, c) = m.shape(source), m.nodes[m.node_of[source]].shape
    long = [axis for axis, n in enumerate(shape) if n != 1]
    if long[:1] != [axis % len(shape) for axis in axes] or shape[long[0]] != h * w:
        raise NotLowered("it reverses other than the cells")
    node, placed = m.node_of[source], []
    for number in range(h * w):
        y, x = divmod(number, w)
        cell = m.add("shift", [node], (1, 1, c), None, window=(1, 1, 1, 1, 1, 1, -y, -x))
        y, x = divmod(h * w - 1 - number, w)
        placed.append(m.add("shift", [cell], (h, w, c), None, window=(1, 1, 1, 1, 1, 1, y, x)))
    joined = m.add("add", placed, (h, w, c), Value(entry.outputs[0]), coefficients=[1.0] * len(placed))
    m.settle(entry.outputs[0], joined)


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
                node = m.add("flatten", [node], (1, 1, size), Value(one))
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


@lowers("ResizeNearestNeighbor")
def nearest(m: Making, entry: Entry, moving: list[int]) -> None:
    """By whole numbers."""
    node = m.spatial(moving[0])
    h, w, c = m.nodes[node].shape
    high, wide = m.integers(entry.inputs[1])
    if high % h or wide % w:
        raise NotLowered("it is not enlarged by whole numbers")
    repeat(m, entry.outputs[0], node, (high, wide, c))


def repeat(m: Making, out: int, node: int, shape: tuple[int, int, int]) -> None:
    """Every cell of a map, as often as the shape asks for."""
    h, w, _ = m.nodes[node].shape
    window = (shape[0] // h, shape[1] // w, 1, 1, 1, 1, 0, 0)
    m.keep(out, m.add("repeat", [node], shape, Value(out), window=window))


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
        repeat(m, out, node, (h, w * times[axis], c))
    elif len(more) == 1 and shape[axis] == 1 and (before, after) == (h, w * c):
        repeat(m, out, node, (h * times[axis], w, c))
    else:
        raise NotLowered("it repeats other than every row or every column")
