"""Random directions in which every element counts alike, whole or on a part of the elements."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core

Float64 = npt.NDArray[np.float64]
#: Of the largest gradient: below it an element counts less than its share.
FLOOR = 1e-9
_ALIGNED = 8  # numbers
_PIECE = 1 << 15
_PARTS = 1_000_003_000  # between the draws of two ranges of one array


@dataclass(frozen=True)
class Group:
    """Some elements: whole arrays, or ranges of one, in an order in which the last axis comes first.

    Attributes
    ----------
    parts : tuple of (int, int, int)
        Place of an array, and first and end of its elements. Halves of several parts are fewer parts, those of one
        are its channels first, and only then places within a channel.
    """

    parts: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self.parts)

    @property
    def places(self) -> list[int]:
        """Of its arrays."""
        return [place for place, *_ in self.parts]

    def halves(self) -> list[Group]:
        """Cut in two."""
        if len(self.parts) > 1:
            middle = len(self.parts) // 2
            return [Group(self.parts[:middle]), Group(self.parts[middle:])]
        ((place, start, stop),) = self.parts
        middle = (start + stop) // 2
        return [Group(((place, start, middle),)), Group(((place, middle, stop),))]


class Directions:
    """Directions v with v_i = s u unit / max(|g_i|, floor max|g|): s a random sign, u uniform in [1/2, 1].

    An error of one element's gradient, relative to that gradient, then moves g.v by that share of `unit`, whatever the
    size of the gradient (down to the floor).

    Parameters
    ----------
    gradients : sequence of ndarray of float64
        Claimed gradient of every array that may move.
    seed : int
    held : sequence of ndarray of bool, optional
        Elements that do not move.
    at_once : int
        Directions that may be moved together.
    examples : sequence of int, optional
        Along the first axis of each array; 1 for one that all examples share.

    Attributes
    ----------
    unit : float
        The share of one element: |g_i v_i| for u = 1. The largest |v_i| is at most 1.
    low : float
        Gradient below which an element counts less than its share.
    """

    def __init__(
        self,
        gradients: Sequence[Float64],
        seed: int,
        held: Sequence[npt.NDArray[np.bool_] | None] | None = None,
        at_once: int = 8,
        examples: Sequence[int] | None = None,
    ) -> None:
        self.at_once = at_once
        self._examples = list(examples or [1] * len(gradients))
        self.gradients = [np.asarray(g, np.float64, order="C") for g in gradients]
        self._held = list(held) if held is not None else [None] * len(gradients)
        extents = [_extent(g.reshape(-1)) for g in self.gradients]
        least, largest = (min((e[0] for e in extents), default=0.0), max((e[1] for e in extents), default=0.0))
        self.low = FLOOR * largest if largest > 0 else 1.0
        self.unit = max(least, self.low)
        self._seed = seed
        self._threads = os.cpu_count() or 1

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the arrays."""
        return [g.shape for g in self.gradients]

    def weights(self, place: int) -> Float64:
        """Relative error of each element that counts as one of an element at its full share."""
        found: Float64 = np.maximum(self.low / np.maximum(np.abs(self.gradients[place]), 1e-300), 1.0)
        return found

    def whole(self, count: int, first: int = 0) -> dict[int, Float64]:
        """Directions of all arrays together, by place; shape (count, *shape). `first` makes them others."""
        found = {}
        for place, (g, v) in enumerate(
            zip(self.gradients, _in_one([(count, g.size) for g in self.gradients]), strict=True)
        ):
            for k in range(count):
                self._draw(g.reshape(-1), v[k], first + k, place)
            found[place] = self._free(place, v.reshape(count, *g.shape))
        return found

    def of(self, groups: Sequence[Group], turn: int) -> dict[int, Float64]:
        """One direction for each group, zero elsewhere; `turn` makes them fresh."""
        found: dict[int, Float64] = {}
        for place in sorted({place for group in groups for place in group.places}):
            g = self.gradients[place]
            order = _channels_first(g)
            v = np.zeros((len(groups), g.size))
            for k, group in enumerate(groups):
                ranges = [(start, stop) for mine, start, stop in group.parts if mine == place]
                for part, (start, stop) in enumerate(ranges):
                    number = 1000 + turn + part * _PARTS
                    self._draw(np.ascontiguousarray(order[start:stop]), v[k, start:stop], number, place)
            found[place] = self._free(place, _channels_last(v, g.shape))
        return found

    def single(self, places: Sequence[tuple[int, int]]) -> dict[int, Float64]:
        """Directions of one element each, given by (place, flat index), of length 1."""
        found: dict[int, Float64] = {}
        for place in sorted({place for place, _ in places}):
            v = np.zeros((len(places), self.gradients[place].size))
            for k, (mine, index) in enumerate(places):
                if mine == place:
                    v[k, index] = 1.0
            found[place] = v.reshape(len(places), *self.gradients[place].shape)
        return found

    def everything(self) -> Group:
        """All elements of all arrays."""
        return Group(tuple((place, 0, g.size) for place, g in enumerate(self.gradients) if g.size))

    def by_example(self, groups: Sequence[Group], most: int) -> list[Group]:
        """The arrays of some groups cut into examples, where they have more than one and at most so many."""
        places = sorted({place for group in groups for place in group.places})
        cut = [place for place in places if 1 < self._examples[place] <= most]
        if not cut:
            return []
        found: dict[int, list[tuple[int, int, int]]] = {}
        for place in cut:
            g = self.gradients[place]
            channels = 1 if g.ndim < 2 else g.shape[-1]
            each = g.size // channels // self._examples[place]
            for i in range(self._examples[place]):
                starts = range(i * each, g.size, g.size // channels)
                found.setdefault(i, []).extend((place, start, start + each) for start in starts)
        kept = [tuple(part for part in group.parts if part[0] not in cut) for group in groups]
        return [Group(parts) for parts in kept if parts] + [Group(tuple(parts)) for parts in found.values() if parts]

    def elements(self, group: Group) -> list[tuple[int, int]]:
        """Place and flat index of every element of a group that moves."""
        return [(place, int(i)) for place, start, stop in group.parts for i in self._moving(place, start, stop)]

    def telling(self, group: Group, count: int, seed: int) -> list[tuple[int, int]]:
        """Some elements of a group: half of those drawn have a gradient other than zero, where there are any."""
        rng = np.random.default_rng(seed)
        found: dict[tuple[int, int], None] = {}
        for place, start, stop in group.parts:
            flat = self._moving(place, start, stop)
            alive = flat[self.gradients[place].reshape(-1)[flat] != 0]
            for pool, many in ((alive, -(-count // 2)), (flat, count)):
                some = rng.choice(pool, min(many, len(pool)), replace=False) if len(pool) else pool
                found |= {(place, int(i)): None for i in some}
        return list(found)[:count]

    def dot(self, directions: dict[int, Float64], gradients: Sequence[Float64] | None = None) -> Float64:
        """Claimed derivative g.v along each direction, in twice the precision; or that of other gradients."""
        of = self.gradients if gradients is None else [np.asarray(g, np.float64, order="C") for g in gradients]
        count = len(next(iter(directions.values())))
        found = np.zeros(count)
        for k in range(count):
            found[k] = math.fsum(
                _core.dot(v[k].reshape(-1), of[place].reshape(-1), threads=self._threads)
                for place, v in directions.items()
            )
        return found

    def _moving(self, place: int, start: int, stop: int) -> npt.NDArray[np.intp]:
        """Flat indices of the elements of a range that move."""
        flat = _channels_first(np.arange(self.gradients[place].size).reshape(self.shapes[place]))[start:stop]
        held = self._held[place]
        return flat if held is None else flat[~held.reshape(-1)[flat]]

    def _draw(self, g: Float64, v: Float64, number: int, place: int) -> None:
        seed = (self._seed * 1_000_003 + number) * 1_000_003 + place
        _core.draw(g, v, low=self.low, unit=self.unit, seed=seed % (1 << 63), threads=self._threads)

    def _free(self, place: int, v: Float64) -> Float64:
        held = self._held[place]
        if held is not None:
            v[:, held] = 0.0
        return v


def _extent(g: Float64) -> tuple[float, float]:
    """The least and the largest size of numbers, a piece at a time, which stays in the cache."""
    least, largest, sizes = np.inf, 0.0, np.empty(min(g.size, _PIECE))
    for start in range(0, g.size, _PIECE):
        piece = np.abs(g[start : start + _PIECE], out=sizes[: g.size - start])
        least, largest = min(least, float(piece.min())), max(largest, float(piece.max()))
    return least, largest


def _in_one(shapes: Sequence[tuple[int, int]]) -> list[Float64]:
    """Arrays without contents, one behind the other in one piece of memory, each aligned as tensors are."""
    ends = np.cumsum([0, *(-(-rows * columns // _ALIGNED) * _ALIGNED for rows, columns in shapes)])
    piece = np.empty(int(ends[-1]) + _ALIGNED)
    piece = piece[-(piece.ctypes.data // piece.itemsize) % _ALIGNED :]
    return [
        piece[start : start + rows * columns].reshape(rows, columns)
        for start, (rows, columns) in zip(ends, shapes, strict=False)
    ]


def _channels_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(-1) if array.ndim < 2 else np.moveaxis(array, -1, 0).reshape(-1)


def _channels_last(v: Float64, shape: tuple[int, ...]) -> Float64:
    if len(shape) < 2:
        return v.reshape(len(v), *shape)
    moved = v.reshape(len(v), shape[-1], *shape[:-1])
    return np.ascontiguousarray(np.moveaxis(moved, 1, -1))
