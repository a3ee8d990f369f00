"""Maps whose rows and columns are made of those of another: by constant shares, or repeated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fdfast.operations import axis_weights
from fdfast.tape import Entry
from fdfast.windows.program import Making, Value, lowers, only_first

Float64 = npt.NDArray[np.float64]


def resample(m: Making, node: int, rows: Float64, columns: Float64) -> int:
    """Node of a map whose rows and columns are shares of another's; `rows` has shape (h, h of the source)."""
    shape = (len(rows), len(columns), m.nodes[node].shape[2])
    return m.add("resample", [node], shape, None, weights=np.concatenate([rows.ravel(), columns.ravel()]))


def repeat(m: Making, node: int, shape: tuple[int, int, int]) -> int:
    """Node of a map with every cell of another, as often as the shape asks for."""
    h, w, _ = m.nodes[node].shape
    return m.add("repeat", [node], shape, None, window=(shape[0] // h, shape[1] // w, 1, 1, 1, 1, 0, 0))


def keep(m: Making, out: int, node: int) -> None:
    """Let a value of the tape be that of a new node."""
    m.nodes[node].value = Value(out)
    m.keep(out, node)


@lowers("ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor")
def resize(m: Making, entry: Entry, moving: list[int]) -> None:
    """By TensorFlow's own weights; whole numbers of nearest cells are repeated."""
    node = m.spatial(only_first(entry, moving))
    h, w, c = m.nodes[node].shape
    high, wide = m.integers(entry.inputs[1])
    if entry.kernel.kind == "ResizeNearestNeighbor" and not (high % h or wide % w):
        keep(m, entry.outputs[0], repeat(m, node, (high, wide, c)))
        return
    rows, columns = (axis_weights(entry.kernel, *sizes).numpy() for sizes in ((h, high), (w, wide)))
    keep(m, entry.outputs[0], resample(m, node, rows, columns))
