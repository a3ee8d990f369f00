"""How values of different shapes meet: factors of what moves, and several moving values element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.windows.linear import scaled
from fdfast.windows.program import Making, Map, NotLowered, Value, as_map

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def factors(m: Making, out: int, source: int, factor: Float64) -> None:
    """What moves times a constant: one number, one for each channel, or more of them than there are channels.

    Raises
    ------
    NotLowered
    """
    node, shape = m.node_of[source], m.shape(out)
    h, w, c = m.nodes[node].shape
    if factor.size == 1 and math.prod(shape) == m.size(node):
        scaled(m, out, source, np.full(c, float(factor.reshape(-1)[0])))
        return
    rank = len(shape)
    own, other = _padded(m.shape(source), rank), _padded(factor.shape, rank)
    start = m.channels_from(own, node)
    if start is None:  # flattened by now
        node = m.by_channel(source)
        m.keep(source, node)
        (h, w, c), start = m.nodes[node].shape, rank - 1
    if math.prod(other[:start]) != 1 or shape[:start] != own[:start] or math.prod(own[start:]) != c:
        raise NotLowered(f"its factor has shape {factor.shape} and is not one for each channel")
    from_channel = _channels(own[start:], shape[start:])
    weights = np.broadcast_to(factor.reshape(other[start:]), shape[start:]).reshape(-1)
    if np.array_equal(from_channel, np.arange(c)):
        scaled(m, out, source, weights)
        return
    matrix = np.zeros((1, 1, c, len(weights)))
    matrix[0, 0, from_channel, np.arange(len(weights))] = weights
    m.settle(out, m.add("conv", [node], (h, w, len(weights)), Value(out), weights=matrix))


def together(m: Making, numbers: list[int], out: int, *, inverse: bool = False) -> tuple[list[int], Map]:
    """Nodes of values that meet element by element, each as large as the result; with `inverse` 1 by the last of them.

    Raises
    ------
    NotLowered
    """
    nodes = [m.node_of[number] for number in numbers]
    maps, wanted = [m.nodes[node].shape for node in nodes], m.shape(out)
    shapes = [_padded(m.shape(number), len(wanted)) for number in numbers]
    shape, start = _of_largest(m, shapes, nodes, wanted)
    if not all(_is_part(*one, start, shape) for one in zip(shapes, maps, strict=True)):
        nodes, shape, start = [m.spatial(number) for number in numbers], as_map(wanted), len(wanted) - 1
    made: list[Any] = [None] * len(numbers)
    if inverse:
        own = m.nodes[nodes[-1]].shape
        made[-1] = np.reciprocal
        nodes[-1] = m.add("smooth", [nodes[-1]], own, Value(numbers[-1], np.reciprocal), function="reciprocal")
    found = []
    for number, node, given, of in zip(numbers, nodes, shapes, made, strict=True):
        channels = m.nodes[node].shape[2]
        tail = given[start:] if math.prod(given[start:]) == channels else (channels,)
        found.append(_spread(m, number, node, shape, _channels(tail, wanted[start:]), of))
    return found, shape


def _of_largest(
    m: Making, shapes: Sequence[tuple[int, ...]], nodes: Sequence[int], wanted: tuple[int, ...]
) -> tuple[Map, int]:
    """Map of a value as large as the result, and the first of the axes that are its channels; zeros for none."""
    for own, node in zip(shapes, nodes, strict=True):
        start = m.channels_from(wanted, node)
        if own == wanted and start is not None:
            return m.nodes[node].shape, start
    return (0, 0, 0), 0


def _is_part(own: tuple[int, ...], at: Map, start: int, shape: Map) -> bool:
    """Whether a value's leading axes are all cells of a map, or one, and those from `start` on its channels."""
    cells = math.prod(own[:start])
    return math.prod(own[start:]) == at[2] and cells == at[0] * at[1] and (at[:2] == shape[:2] or cells == 1)


def _padded(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + tuple(shape)


def _channels(own: tuple[int, ...], wanted: tuple[int, ...]) -> Int64:
    """Which of a value's channels each channel of the result is made of."""
    return np.broadcast_to(np.arange(math.prod(own)).reshape(own), wanted).reshape(-1)


def _spread(m: Making, number: int, node: int, shape: Map, channels: Int64, made: Any = None) -> int:
    """A map broadcast to a larger one: channels by a convolution by ones, cells by repetition."""
    h, w, c = m.nodes[node].shape
    of: Any = made or np.asarray
    if len(channels) != c:
        matrix = np.zeros((1, 1, c, len(channels)))
        matrix[0, 0, channels, np.arange(len(channels))] = 1
        value = Value(number, lambda z: of(z).reshape(h, w, c)[..., channels])
        node = m.add("conv", [node], (h, w, len(channels)), value, weights=matrix)
    if (h, w) != shape[:2]:
        if h not in (1, shape[0]) or w not in (1, shape[1]):
            raise NotLowered(f"it spreads {(h, w, c)} to {shape}")
        value = Value(number, lambda z: np.broadcast_to(of(z).reshape(h, w, c)[..., channels], shape))
        node = m.add("repeat", [node], shape, value, window=(shape[0] // h, shape[1] // w, 1, 1, 1, 1, 0, 0))
    if m.nodes[node].shape != shape:
        raise NotLowered(f"it spreads {m.nodes[node].shape} to {shape}")
    return node
