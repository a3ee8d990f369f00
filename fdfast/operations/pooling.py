"""Maxima over windows, and what their gradients pick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.branches import largest, snapped
from fdfast.operations.call import Call
from fdfast.operations.kernel import Kernel
from fdfast.operations.table import difference_rule, smooth_rule


class Windows:
    """The windows of a pool of two or three dimensions, channels last.

    Attributes
    ----------
    taps : list of tuple of slice
        For each place in a window, what it sees of the padded map; the other axes are left out.
    pads : list of (int, int)
        Added before and behind each axis of the map.
    """

    def __init__(self, kernel: Kernel, x: Any, out: Any) -> None:
        at = kernel.attributes
        size, strides = list(at["ksize"])[1:-1], list(at["strides"])[1:-1]
        extent = list(x.shape)[1:-1]
        count = list(out.shape)[1:-1]
        explicit = at.get("explicit_paddings") or []
        self.pads = []
        for i, (k, s, n, m) in enumerate(zip(size, strides, extent, count, strict=True)):
            if at["padding"] == b"EXPLICIT":
                self.pads.append((int(explicit[2 * i + 2]), int(explicit[2 * i + 3])))
            else:
                over = max(0, (m - 1) * s + k - n)
                self.pads.append((over // 2, over - over // 2))
        ranges = [
            [slice(i, i + (m - 1) * s + 1, s) for i in range(k)] for k, s, m in zip(size, strides, count, strict=True)
        ]
        self.taps = [tuple(one) for one in _product(ranges)]
        self._size, self._count, self._apart = size, count, size == strides

    def padded(self, x: Any, fill: float, lead: int) -> Any:
        """The map with its padding; `lead` axes come before those of the map."""
        if not any(a or b for a, b in self.pads):
            return x
        return tf.pad(x, [[0, 0]] * lead + [list(p) for p in self.pads] + [[0, 0]], constant_values=fill)

    def seen(self, x: Any, fill: float, lead: int) -> Iterator[Any]:
        """What each place in a window sees, in the shape of the output."""
        x = self.padded(x, fill, lead)
        if self._apart:
            inside = tuple(slice(0, m * k) for m, k in zip(self._count, self._size, strict=True))
            x = x[(slice(None),) * lead + inside]
            shape = [*x.shape[:lead], *self._count, x.shape[-1]]
            for part in _cut(x, lead, self._size):
                yield tf.reshape(part, shape)
            return
        for tap in self.taps:
            yield x[(slice(None),) * lead + tap]


def _product(ranges: list[list[slice]]) -> Iterator[list[slice]]:
    if not ranges:
        yield []
        return
    for first in ranges[0]:
        for rest in _product(ranges[1:]):
            yield [first, *rest]


def _cut(x: Any, lead: int, size: list[int]) -> Iterator[Any]:
    """Places of windows that lie side by side; pieces of memory, where slices with a stride take six times as long."""
    if len(size) == 1:  # beside the channels: those of one window are one piece
        pieces = tf.reshape(x, [*x.shape[:lead], x.shape[lead] // size[0], size[0] * x.shape[-1]])
        yield from tf.split(pieces, size[0], axis=-1)
        return
    rows = tf.reshape(x, [*x.shape[:lead], x.shape[lead] // size[0], size[0], *x.shape[lead + 1 :]])
    for row in tf.unstack(rows, axis=lead + 1):
        yield from _cut(row, lead + 1, size[1:])


def channels_last(kernel: Kernel) -> bool:
    """Whether the last axis holds the channels."""
    return kernel.attributes.get("data_format", b"NHWC") in (b"NHWC", b"NDHWC")


@difference_rule("MaxPool", "MaxPool3D")
def max_pool(c: Call) -> Any:
    """The largest of what the places of a window move by, less how far they lie below; padding lies infinitely far."""
    if not channels_last(c.kernel):
        return NotImplemented
    windows = Windows(c.kernel, c.z[0], c.out[0])
    gaps = [snapped(c.out[0] - z, c.out[0]) for z in windows.seen(c.z[0], -np.inf, 1)]
    return largest(c, gaps, list(windows.seen(c.d[0], 0.0, 2)))


@smooth_rule("MaxPool", "MaxPool3D")
def max_pool_smooth(c: Call) -> Any:
    """The move of the largest place of each window; places that tie may do so if they move alike."""
    if not channels_last(c.kernel):
        return NotImplemented, tf.constant(True)
    windows, d = Windows(c.kernel, c.z[0], c.out[0]), c.d[0]
    reach = 2 * tf.reduce_max(tf.abs(d))
    near = [snapped(c.out[0] - z, c.out[0]) <= reach for z in windows.seen(c.z[0], -np.inf, 1)]
    moves = list(windows.seen(d, 0.0, 2))
    found = moves[-1]
    for mask, one in zip(near[-2::-1], moves[-2::-1], strict=True):
        found = tf.where(mask, one, found)
    parted = [tf.reduce_any(mask & (one != found)) for mask, one in zip(near, moves, strict=True)]
    return found, tf.reduce_any(tf.stack(parted))


def picked(windows: Windows, x: Any, out: Any) -> Iterator[Any]:
    """For each place of a window, where it is the first to hold the maximum, to which TensorFlow sends gradients."""
    taken = None
    for z in windows.seen(x, -np.inf, 1):
        here = z == out
        if taken is not None:
            here &= ~taken
        taken = here if taken is None else taken | here
        yield here


def spread(windows: Windows, parts: Iterator[Any], x: Any, lead: int) -> Any:
    """Sum of maps that are each seen by one place of a window, put back into the shape of x."""
    extent = [n + a + b for n, (a, b) in zip(list(x.shape)[1:-1], windows.pads, strict=True)]
    total: Any = None
    for tap, part in zip(windows.taps, parts, strict=True):
        shape = [*part.shape[:lead], *extent, part.shape[-1]]
        places = np.arange(int(np.prod(extent))).reshape(extent)[tap]
        flat = tf.reshape(part, [int(np.prod(part.shape[:lead])), -1, part.shape[-1]])
        whole = tf.transpose(
            tf.scatter_nd(
                places.reshape(-1, 1), tf.transpose(flat, [1, 0, 2]), [int(np.prod(extent)), *flat.shape[::2]]
            ),
            [1, 0, 2],
        )
        whole = tf.reshape(whole, shape)
        total = whole if total is None else total + whole
    inner = tuple(slice(a, a + n) for n, (a, _) in zip(list(x.shape)[1:-1], windows.pads, strict=True))
    return total[(slice(None),) * lead + inner]
