"""Convolutions and products: rows as more of the batch, or as more channels."""

from __future__ import annotations

import string
from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel, Unmapped
from fdfast.operations.rows.arranged import (
    aligned,
    all_rows,
    batched,
    broadcast,
    fold,
    from_channels,
    ints,
    more,
    to_channels,
    unfold,
)
from fdfast.operations.table import for_rows


def _require_channels(kernel: Kernel, inputs: int, filters: int) -> None:
    """Rows can be channels where these come last, and are not in groups."""
    if not kernel.attributes["data_format"].endswith(b"C") or inputs != filters:
        raise Unmapped(f"{kernel.kind} has no rule for channels that come first or in groups")


@for_rows("BiasAdd")
def bias_add(kernel: Kernel, rows: int, x: Any, bias: Any) -> Any:
    """A bias that moves is added to the channels of its row."""
    if not kernel.moves[1]:
        return unfold(kernel(fold(x), bias)[0], rows)
    if not kernel.attributes["data_format"].endswith(b"C"):
        raise Unmapped("BiasAdd has no rule for channels that come first")
    return tf.add(x, aligned(bias, x.shape.rank - kernel.moves[0]))


@for_rows("BiasAddGrad")
def bias_add_grad(kernel: Kernel, rows: int, dy: Any) -> Any:
    """Sums per channel."""
    _require_channels(kernel, 0, 0)
    return from_channels(kernel(to_channels(dy))[0], rows)


@for_rows("Conv2D", "Conv3D")
def convolution(kernel: Kernel, rows: int, x: Any, w: Any) -> Any:
    """More images, or more filters."""
    if all(kernel.moves):
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    if kernel.moves[0]:
        return batched(kernel, rows, (x, w), 0)
    _require_channels(kernel, x.shape[-1], w.shape[-2])
    return from_channels(kernel(x, to_channels(w))[0], rows)


@for_rows("Conv2DBackpropInput", "Conv3DBackpropInputV2", moving=(1, 2))
def convolution_back(kernel: Kernel, rows: int, sizes: Any, w: Any, dy: Any) -> Any:
    """More images, or more channels of the result, each with filters of its own."""
    if all(kernel.moves[1:]):
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    if kernel.moves[2]:
        return batched(kernel, rows, (more(sizes, rows, 0), w, dy), 2)
    if len(ints(sizes)) != dy.shape.rank:
        raise Unmapped(f"{kernel.kind} has no rule for a size without channels")
    _require_channels(kernel, ints(sizes)[-1], w.shape[-2])
    return from_channels(kernel(more(sizes, rows, -1), to_channels(w, -2), dy)[0], rows)


@for_rows("Conv2DBackpropFilter", "Conv3DBackpropFilterV2", moving=(0, 2))
def filter_back(kernel: Kernel, rows: int, x: Any, sizes: Any, dy: Any) -> Any:
    """More filters, or more channels in each."""
    if kernel.moves[0] and kernel.moves[2]:
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    _require_channels(kernel, x.shape[-1], ints(sizes)[-2])
    axis = -2 if kernel.moves[0] else -1
    moved = (to_channels(x), dy) if kernel.moves[0] else (x, to_channels(dy))
    return from_channels(kernel(moved[0], more(sizes, rows, axis), moved[1])[0], rows, axis)


@for_rows("DepthwiseConv2dNative")
def depthwise(kernel: Kernel, rows: int, x: Any, w: Any) -> Any:
    """More images, or more filters for each channel."""
    if all(kernel.moves):
        raise Unmapped("DepthwiseConv2dNative has no rule for both inputs moving")
    if kernel.moves[0]:
        return batched(kernel, rows, (x, w), 0)
    _require_channels(kernel, x.shape[-1], w.shape[-2])
    return from_channels(kernel(x, to_channels(w))[0], rows)


@for_rows("DepthwiseConv2dNativeBackpropInput", moving=(2,))
def depthwise_back(kernel: Kernel, rows: int, sizes: Any, w: Any, dy: Any) -> Any:
    """More images."""
    return batched(kernel, rows, (more(sizes, rows, 0), w, dy), 2)


@for_rows("DepthwiseConv2dNativeBackpropFilter", moving=(2,))
def depthwise_filter_back(kernel: Kernel, rows: int, x: Any, sizes: Any, dy: Any) -> Any:
    """More filters for each channel."""
    _require_channels(kernel, x.shape[-1], ints(sizes)[-2])
    return from_channels(kernel(x, more(sizes, rows, -1), to_channels(dy))[0], rows)


@for_rows("MatMul")
def product(kernel: Kernel, rows: int, a: Any, b: Any) -> Any:
    """One product of a tall matrix where the left side moves, else one product per row."""
    flags = kernel.attributes["transpose_a"], kernel.attributes["transpose_b"]
    if kernel.moves == (True, False) and not flags[0]:
        return unfold(kernel(fold(a), b)[0], rows)
    return tf.matmul(a, b, transpose_a=flags[0], transpose_b=flags[1])


@for_rows("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def products(kernel: Kernel, rows: int, a: Any, b: Any) -> Any:
    """One product per row and batch."""
    if kernel.kind == "BatchMatMul":
        return kernel(*all_rows(kernel, rows, (a, b)))
    return kernel(*broadcast(kernel, (a, b)))


@for_rows("Einsum")
def einsum(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """One more letter, for the rows."""
    equation = kernel.attributes["equation"].decode()
    terms, found, result = equation.partition("->")
    letter = next((c for c in string.ascii_letters if c not in equation), "")
    if not found or not letter:
        raise Unmapped(f"Einsum has no rule for {equation}")
    each = [letter * m + term.strip() for m, term in zip(kernel.moves, terms.split(","), strict=True)]
    return kernel(*inputs, equation=f"{','.join(each)}->{letter}{result.strip()}")
