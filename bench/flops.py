"""Multiplications and additions of the windows against the dense pass: ``python -m bench.flops``, a markdown table."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

import fdfast
from bench.timing import markdown
from fdfast.differences.graph import unroll
from fdfast.differences.lowering import Lowered, Node, lower

TILES = (1, 8, 16)
NETWORKS = (("MobileNetV2", 96), ("MobileNetV2", 224), ("ResNet50", 224), ("VGG16", 224))


def links(node: Node, axis: int, size: int) -> Any:
    """How many taps join each output cell of an axis (0: rows, 1: columns) with each of its `size` input cells."""
    window = node.options.get("window", (1, 1, 1, 1, 1, 1, 0, 0))
    kernel, stride, dilation, before = (window[2 * k + axis] for k in range(4))
    cells, inputs = np.arange(node.shape[axis])[:, None], np.arange(size)
    if node.op in ("conv", "depthwise", "average", "maximum"):
        return sum(cells * stride - before + tap * dilation == inputs for tap in range(kernel)) * 1
    if node.op in ("reshape", "softmax", "cross_entropy", "squared_error"):
        return np.ones((1, size), int)
    return {"shift": cells - before, "repeat": cells // kernel}.get(node.op, cells) == inputs


def pairs(lowered: Lowered, axis: int, tile: int) -> list[float]:
    """Follow the tiles of one axis through the program: mean of the pairs of cells, for every node."""
    at = np.arange(lowered.nodes[0].shape[axis]) // tile
    seen, work = [at == np.arange(at[-1] + 1)[:, None]], [0.0]  # of every node: (tiles, cells)
    for node in lowered.nodes[1:]:
        before = np.any([seen[source] for source in node.sources], axis=0)
        met = before.astype(int) @ links(node, axis, before.shape[1]).T
        seen.append(met > 0)
        work.append(float(met.sum(axis=1).mean()))
    return work


def flops(lowered: Lowered, tile: int) -> float:
    """Mean over all tiles of one displaced row."""
    total = 0.0
    for node, down, across in zip(lowered.nodes, pairs(lowered, 0, tile), pairs(lowered, 1, tile), strict=True):
        if node.op in ("conv", "depthwise"):
            channels = np.asarray(node.options["weights"]).shape[-2] if node.op == "conv" else 1
            total += 2.0 * down * across * channels * node.shape[2]
    # A layer that is left to whole maps; only dense ones are in the networks at hand.
    kernels = (getattr(step.operation, "kernel", None) for step in lowered.rest)
    return total + sum(2.0 * math.prod(kernel.shape) for kernel in kernels if kernel is not None)


def cells(name: str, model: keras.Model) -> list[str]:
    shape: Any = model.inputs[0].shape[1:]
    lowered = lower(unroll(model), tuple(shape))
    dense, *windows = (flops(lowered, tile) for tile in (shape[0], *TILES))
    text = [f"{n / 1e9:.3g} G" if n >= 1e9 else f"{n / 1e6:.3g} M" for n in (dense, *windows)]
    more = [cell for t, n in zip(text[1:], windows, strict=True) for cell in (t, f"{dense / n:.1f}")]
    return [f"{name} {shape[0]}", text[0], *more]


if __name__ == "__main__":
    found = [cells("shipped CNN", fdfast.datasets.mnist_cnn(trained=False))]
    for one, side in NETWORKS:
        found.append(cells(one, getattr(keras.applications, one)(weights=None, input_shape=(side, side, 3))))
    head = [text for tile in TILES for text in (f"window, tile {tile}", "dense / window")]
    print(markdown(["network", "dense pass", *head], found))
