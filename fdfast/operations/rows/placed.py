"""Operations that pick, put or add up entries of leading axes: rows as an axis behind these, which no index names."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel, Unmapped
from fdfast.operations.rows.arranged import all_rows, like, shifted
from fdfast.operations.table import for_rows


def behind(tensor: Any, axes: int) -> Any:
    """The rows behind that many axes."""
    return tf.transpose(tensor, [*range(1, axes + 1), 0, *range(axes + 1, tensor.shape.rank)])


def in_front(tensor: Any, axes: int) -> Any:
    """The inverse of `behind`."""
    return tf.transpose(tensor, [axes, *range(axes), *range(axes + 1, tensor.shape.rank)])


def _require_held(kernel: Kernel, *places: int) -> None:
    if any(kernel.moves[place] for place in places):
        raise Unmapped(f"{kernel.kind} has no rule for places that move")


@for_rows("GatherNd", moving=(0,))
def gather_nd(kernel: Kernel, rows: int, x: Any, indices: Any) -> Any:
    """The same places of each row."""
    (found,) = kernel(behind(x, indices.shape[-1]), indices)
    return in_front(found, indices.shape.rank - 1)


@for_rows("ScatterNd", moving=(1,))
def scatter_nd(kernel: Kernel, rows: int, indices: Any, updates: Any, shape: Any) -> Any:
    """To the same places of each row."""
    depth, sizes = indices.shape[-1], shape.numpy().tolist()
    whole = like([*sizes[:depth], rows, *sizes[depth:]], shape)
    return in_front(kernel(indices, behind(updates, indices.shape.rank - 1), whole)[0], depth)


@for_rows("TensorScatterAdd", "TensorScatterMax", "TensorScatterMin", "TensorScatterSub", "TensorScatterUpdate")
def tensor_scatter(kernel: Kernel, rows: int, x: Any, indices: Any, updates: Any) -> Any:
    """To the same places of each row."""
    _require_held(kernel, 1)
    each = all_rows(kernel, rows, (x, indices, updates))
    depth = indices.shape[-1]
    return in_front(kernel(behind(each[0], depth), indices, behind(each[2], indices.shape.rank - 1))[0], depth)


@for_rows("SegmentMax", "SegmentMean", "SegmentMin", "SegmentProd", "SegmentSum", moving=(0,))
@for_rows("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd", moving=(0,))
def segments(kernel: Kernel, rows: int, x: Any, numbers: Any, *count: Any) -> Any:
    """The same segments of each row."""
    return in_front(kernel(behind(x, numbers.shape.rank), numbers, *count)[0], 1)


@for_rows("DynamicStitch", "ParallelDynamicStitch")
def stitch(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """To the same places of each row; the first half of the inputs are these places."""
    half = len(inputs) // 2
    _require_held(kernel, *range(half))
    data = all_rows(kernel, rows, inputs)[half:]
    moved = [behind(one, places.shape.rank) for one, places in zip(data, inputs[:half], strict=True)]
    return in_front(kernel(*inputs[:half], *moved)[0], 1)


@for_rows("DynamicPartition", moving=(0,))
def partition(kernel: Kernel, rows: int, x: Any, parts: Any) -> Any:
    """The same parts of each row."""
    return [in_front(found, 1) for found in kernel(behind(x, parts.shape.rank), parts)]


@for_rows("SparseTensorDenseMatMul", moving=(3,))
def sparse_product(kernel: Kernel, rows: int, indices: Any, values: Any, shape: Any, b: Any) -> Any:
    """One product, of more columns."""
    if kernel.attributes["adjoint_b"]:
        raise Unmapped("SparseTensorDenseMatMul has no rule for an adjoint")
    _, inner, columns = b.shape
    (found,) = kernel(indices, values, shape, tf.reshape(behind(b, 1), [inner, rows * columns]))
    return in_front(tf.reshape(found, [-1, rows, columns]), 1)


@for_rows("ReverseSequence", moving=(0,))
def reverse_sequence(kernel: Kernel, rows: int, x: Any, lengths: Any) -> Any:
    """Along the same axis of each row."""
    return kernel(x, lengths, **{name: shifted(kernel.attributes[name]) for name in ("seq_dim", "batch_dim")})


@for_rows("SpaceToBatchND", moving=(0,))
def space_to_batch(kernel: Kernel, rows: int, x: Any, block: Any, paddings: Any) -> Any:
    """Blocks are the slower part of the batch of the result, rows come behind them."""
    (found,) = kernel(tf.reshape(x, [rows * x.shape[1], *x.shape[2:]]), block, paddings)
    many, batch = found.shape[0] // (rows * x.shape[1]), x.shape[1]
    apart = in_front(tf.reshape(found, [many, rows, batch, *found.shape[1:]]), 1)
    return tf.reshape(apart, [rows, many * batch, *found.shape[1:]])


@for_rows("BatchToSpaceND", moving=(0,))
def batch_to_space(kernel: Kernel, rows: int, x: Any, block: Any, crops: Any) -> Any:
    """The inverse."""
    many = int(tf.reduce_prod(block))
    batch = x.shape[1] // many
    together = behind(tf.reshape(x, [rows, many, batch, *x.shape[2:]]), 1)
    (found,) = kernel(tf.reshape(together, [many * rows * batch, *x.shape[2:]]), block, crops)
    return tf.reshape(found, [rows, batch, *found.shape[1:]])
