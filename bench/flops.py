"""Multiplications and additions of the windows against the dense pass: ``python -m bench.flops``, a markdown table.

Counted from the receptive fields of every tile, borders included: a convolution costs 2 c_in / groups * c_out for each
pair of an output cell and an input cell that it sees inside the window. Channels that happen to be zero, which the
kernels skip, are not counted out. What the kernels leave to whole maps is dense on both sides.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import numpy.typing as npt

import fdfast
from fdfast.differences.graph import unroll
from fdfast.differences.lowering import Lowered, Node, lower

Ints = npt.NDArray[np.int64]
TILES = (1, 8, 16)
_LINEAR = ("conv", "depthwise")


@dataclass(frozen=True, eq=False)
class Spans:
    """Windows along one axis, half open, one entry per tile; `work[n]` is the mean of cell pairs over the tiles."""

    windows: list[tuple[Ints, Ints]]
    work: list[float]


def spans(lowered: Lowered, axis: int, tile: int) -> Spans:
    """Follow the tiles of one axis (0: rows, 1: columns) through the program."""
    size = lowered.nodes[0].shape[axis]
    start = np.arange(0, size, tile)
    windows: list[tuple[Ints, Ints]] = [(start, np.minimum(start + tile, size))]
    work = [0.0]
    for node in lowered.nodes[1:]:
        low = np.min([windows[s][0] for s in node.sources], axis=0)
        high = np.max([windows[s][1] for s in node.sources], axis=0)
        out = _reached(node, axis, low, high)
        windows.append(out)
        work.append(float(np.mean(_pairs(node, axis, (low, high), out))) if node.op in _LINEAR else 0.0)
    return Spans(windows, work)


def _geometry(node: Node, axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, dilation and padding along an axis."""
    window = node.options.get("window", (1, 1, 1, 1, 1, 1, 0, 0))
    kernel, stride, dilation, before = (window[2 * k + axis] for k in range(4))
    return kernel, stride, dilation, before


def _reached(node: Node, axis: int, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Output cells that see an input cell in [low, high)."""
    kernel, stride, dilation, before = _geometry(node, axis)
    end = node.shape[axis]
    if node.op in ("conv", "depthwise", "average", "maximum"):
        first = -((-(low + before - (kernel - 1) * dilation)) // stride)
        return np.clip(first, 0, end), np.clip((high - 1 + before) // stride + 1, 0, end)
    if node.op == "shift":
        return np.clip(low + before, 0, end), np.clip(high + before, 0, end)
    if node.op == "repeat":
        return low * kernel, high * kernel
    if node.op in ("flatten", "softmax", "cross_entropy", "squared_error"):
        return np.zeros_like(low), np.ones_like(high)
    return low, high


def _pairs(node: Node, axis: int, seen: tuple[Ints, Ints], out: tuple[Ints, Ints]) -> Ints:
    """How many (output cell, tap) meet an input cell inside the window."""
    kernel, stride, dilation, before = _geometry(node, axis)
    count = np.zeros(len(seen[0]), np.int64)
    for cell in range(node.shape[axis]):
        inside = (cell >= out[0]) & (cell < out[1])
        for tap in range(kernel):
            at = cell * stride - before + tap * dilation
            count += inside & (at >= seen[0]) & (at < seen[1])
    return count


def flops(lowered: Lowered, tile: int) -> float:
    """Mean over all tiles of one displaced row."""
    rows, columns = (spans(lowered, axis, tile) for axis in (0, 1))
    total = 0.0
    for n, node in enumerate(lowered.nodes):
        if node.op in _LINEAR:
            channels = np.asarray(node.options["weights"]).shape[-2] if node.op == "conv" else 1
            total += 2.0 * rows.work[n] * columns.work[n] * channels * node.shape[2]
    return total + sum(_dense(step.operation) for step in lowered.rest)


def _dense(layer: Any) -> float:
    """A layer that is left to whole maps; only dense ones are in the networks at hand."""
    kernel = getattr(layer, "kernel", None)
    return 0.0 if kernel is None else 2.0 * math.prod(kernel.shape)


def networks() -> dict[str, keras.Model]:
    """What is measured; weights do not matter."""
    found: dict[str, keras.Model] = {"shipped CNN 28": fdfast.datasets.mnist_cnn(trained=False)}
    for name, side in (("MobileNetV2", 96), ("MobileNetV2", 224), ("ResNet50", 224), ("VGG16", 224)):
        found[f"{name} {side}"] = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))
    return found


def main() -> int:
    """Print the table."""
    head = ["network", "dense pass", *(f"window, tile {t} | dense / window" for t in TILES)]
    print(f"| {' | '.join(head)} |\n|{'---|' * (2 + 2 * len(TILES))}")
    for name, model in networks().items():
        side = model.inputs[0].shape[1]
        lowered = lower(unroll(model), tuple(model.inputs[0].shape[1:]))
        dense = flops(lowered, side)
        cells = [name, _text(dense)]
        for tile in TILES:
            one = flops(lowered, tile)
            cells += [_text(one), f"{dense / one:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


def _text(count: float) -> str:
    return f"{count / 1e9:.3g} G" if count >= 1e9 else f"{count / 1e6:.3g} M"


if __name__ == "__main__":
    sys.exit(main())
