"""How one example is cut into tiles, and how tile values become pixel maps and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fdfast.moves.asked import shown

Channels = Literal["together", "apart"]
Layout = Literal["last", "first"]
Reduction = Literal["mean", "sum"]
TileLike = int | Sequence[int]

_LEVELS = 2**8  # amplitudes that elements of one tile may move by


@dataclass(frozen=True, eq=False)
class Tiling:
    """A partition of the elements of one example into axis-aligned tiles.

    Attributes
    ----------
    shape : tuple of int
        Shape of one example.
    tile : tuple of int
        Extent of a whole tile along each axis of `shape`; tiles at the far edges may be smaller.
    grid : tuple of int
        Number of tiles along each axis.
    offsets : ndarray of int64, shape (tiles + 1,)
        Tile t owns ``members[offsets[t]:offsets[t + 1]]``.
    members : ndarray of int64, shape (size,)
        Flat (C order) element indices, tile by tile.
    channel_axis : int or None
        Axis of `shape` that holds the channels; None where every axis is spatial.
    weights : ndarray of float64, shape (size,), or None
        How far each of the members moves, in units of the tile's step; None: all by 1. In [-1, 1], none is 0.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    grid: tuple[int, ...]
    offsets: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    channel_axis: int | None = None
    weights: npt.NDArray[np.float64] | None = None

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.offsets) - 1

    @property
    def size(self) -> int:
        """Number of elements of one example."""
        return len(self.members)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of elements of each tile, shape (tiles,)."""
        return np.diff(self.offsets)

    def sums(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Sum an element map over each tile, weighted as its elements move: the derivative along the tile.

        Parameters
        ----------
        values : array_like, shape (..., *shape)
            Element maps, for instance gradients.

        Returns
        -------
        ndarray of float64, shape (..., tiles)
        """
        values = np.asarray(values, np.float64)
        flat = values.reshape((*values.shape[: values.ndim - len(self.shape)], self.size))
        by_tile: npt.NDArray[np.float64] = flat[..., self.members]
        if self.weights is not None:
            by_tile = by_tile * self.weights
        if self.tiles == self.size:
            return by_tile
        return np.add.reduceat(by_tile, self.offsets[:-1], axis=-1)

    def expand(self, values: npt.ArrayLike, reduction: Reduction = "mean") -> npt.NDArray[np.float64]:
        """Spread tile derivatives over the elements of their tiles.

        Parameters
        ----------
        values : array_like, shape (..., tiles)
            Derivatives along each tile's indicator, that is sums of the gradient over the tile.
        reduction : {"mean", "sum"}
            ``"mean"`` gives each element its share, value / element count; ``"sum"`` the value itself.

        Returns
        -------
        ndarray of float64, shape (..., *shape)
        """
        values = np.asarray(values, np.float64)
        check_choice("reduction", reduction, get_args(Reduction))
        share = values / self.counts if reduction == "mean" else values
        flat = np.empty((*values.shape[:-1], self.size))
        flat[..., self.members] = np.repeat(share, self.counts, axis=-1)
        return flat.reshape((*values.shape[:-1], *self.shape))

    def mixed(self, seed: int, *, signed: bool = True) -> Tiling:
        """Return the same tiles, whose elements move by random amplitudes in [1/2, 1], and to random sides if `signed`.

        Errors of a gradient that sum to zero over a tile then do not. The amplitudes are multiples of 2^-8, so that
        steps by powers of two stay exact in float32.
        """
        rng = np.random.default_rng((seed, self.size))
        weights = rng.integers(_LEVELS // 2, _LEVELS + 1, self.size) / _LEVELS
        if signed:
            weights *= rng.choice([-1.0, 1.0], self.size)
        return replace(self, weights=weights)

    def on_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View per-tile values (..., tiles) as (..., *grid)."""
        return values.reshape((*values.shape[:-1], *self.grid))

    def where(self, tile: int) -> tuple[int, ...]:
        """Index, along each axis of `shape`, of the first element of a tile."""
        return tuple(int(i) for i in np.unravel_index(int(self.members[self.offsets[tile]]), self.shape))


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}")


def make_tiling(
    shape: Sequence[int], tile: TileLike = 1, channels: Channels = "apart", layout: Layout = "last"
) -> Tiling:
    """Cut an example into tiles.

    Parameters
    ----------
    shape : sequence of int
        Shape of one example, without the batch axis; at least one element.
    tile : int or sequence of int
        Extent of a tile in elements. An int holds for every spatial axis; a sequence has one entry per spatial
        axis, or one per axis of `shape`. Tiles at the far edges are cut off, not dropped.
    channels : {"apart", "together"}
        With three or more axes one holds the channels: each moves on its own, or all of a tile together. With fewer
        axes every axis is spatial and this has no effect.
    layout : {"last", "first"}
        Which axis holds the channels.

    Returns
    -------
    Tiling

    Raises
    ------
    TypeError
        A tile extent is not an integer.
    ValueError
        The example is empty, a tile extent is below 1 or larger than its axis, or has the wrong length.
    """
    dims = tuple(int(n) for n in shape)
    check_choice("channels", channels, get_args(Channels))
    check_choice("layout", layout, get_args(Layout))
    if math.prod(dims) == 0:
        raise ValueError(f"x is empty: one example has shape {dims}; there is nothing to differentiate")
    axis = None if len(dims) < 3 else 0 if layout == "first" else len(dims) - 1
    return _cut(dims, _extents(dims, tile, channels, axis), axis)


def as_tile(tile: Any) -> int | tuple[int, ...]:
    """Return the extents of a tile as an int or a tuple of them; TypeError if they are something else."""
    given = tile.tolist() if isinstance(tile, np.ndarray) else tile
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    entries = given if several else (given,)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in entries):
        raise TypeError(f"tile must be an int or a sequence of ints, got {tile!r}")
    return tuple(map(int, entries)) if several else int(given)


def _extents(shape: tuple[int, ...], tile: TileLike, channels: Channels, axis: int | None) -> tuple[int, ...]:
    spatial = len(shape) - (axis is not None)
    tile = as_tile(tile)
    entries = tile if isinstance(tile, tuple) else (tile,) * spatial
    if len(entries) == spatial and axis is not None:
        entries = (*entries[:axis], shape[axis] if channels == "together" else 1, *entries[axis:])
    if len(entries) != len(shape):
        wanted = f"{spatial} (spatial axes) or {len(shape)} (all axes)" if axis is not None else f"{len(shape)}"
        raise ValueError(f"tile {tuple(entries)} has {len(entries)} entries; for shape {shape} it needs {wanted}")
    for axis, (n, extent) in enumerate(zip(shape, entries, strict=True)):
        if not 1 <= extent <= n:
            raise ValueError(
                f"tile extent {extent} does not fit axis {axis} of shape {shape}: it must be between 1 and {n}"
            )
    return tuple(int(n) for n in entries)


@lru_cache(maxsize=64)
def _cut(shape: tuple[int, ...], tile: tuple[int, ...], channel_axis: int | None) -> Tiling:
    grid = tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
    owner = np.zeros((1,) * len(shape), np.int64)
    for axis, (n, t, g) in enumerate(zip(shape, tile, grid, strict=True)):
        along = np.arange(n, dtype=np.int64) // t
        owner = owner * g + along.reshape(tuple(n if a == axis else 1 for a in range(len(shape))))
    owner = owner.ravel()
    members = np.argsort(owner, kind="stable").astype(np.int64)
    offsets = np.zeros(math.prod(grid) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=math.prod(grid)), out=offsets[1:])
    # Shared between calls by the cache: nobody may write to them.
    members.flags.writeable = offsets.flags.writeable = False
    return Tiling(shape, tile, grid, offsets, members, channel_axis)
