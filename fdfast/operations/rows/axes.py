"""Operations on axes: the same axes of each row."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel, Unmapped, repeated
from fdfast.operations.rows.arranged import aligned, all_rows, ints, like, shifted
from fdfast.operations.table import for_rows


@for_rows("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum", moving=(0,))
def reduction(kernel: Kernel, rows: int, x: Any, axes: Any) -> Any:
    """Over the same axes of each row."""
    rank = x.shape.rank - 1
    return kernel(x, like([axis % rank + 1 for axis in ints(axes)] if rank else [], axes))


@for_rows("ArgMax", "ArgMin", "Cumprod", "Cumsum", moving=(0,))
def along_axis(kernel: Kernel, rows: int, x: Any, axis: Any) -> Any:
    """Along the same axis of each row."""
    return kernel(x, like(shifted(int(axis)), axis))


@for_rows("ReverseV2", moving=(0,))
def reverse(kernel: Kernel, rows: int, x: Any, axes: Any) -> Any:
    """Along the same axes of each row."""
    return kernel(x, like([shifted(axis) for axis in ints(axes)], axes))


@for_rows("Reshape", moving=(0,))
def reshape(kernel: Kernel, rows: int, x: Any, shape: Any) -> Any:
    """Each row gets the shape."""
    return kernel(x, like([rows, *ints(shape)], shape))


@for_rows("Squeeze")
def squeeze(kernel: Kernel, rows: int, x: Any) -> Any:
    """Axes of one row: that of the rows stays even where there is but one."""
    shape = x.shape.as_list()[1:]
    axes = [axis % len(shape) for axis in kernel.attributes["squeeze_dims"]]
    kept = [n for i, n in enumerate(shape) if (i not in axes if axes else n != 1)]
    return tf.reshape(x, [rows, *kept])


@for_rows("ExpandDims", moving=(0,))
def expand_dims(kernel: Kernel, rows: int, x: Any, axis: Any) -> Any:
    """At the same place of each row."""
    return kernel(x, like(shifted(int(axis)), axis))


@for_rows("Transpose", "ConjugateTranspose", moving=(0,))
def transpose(kernel: Kernel, rows: int, x: Any, order: Any) -> Any:
    """The axis of the rows stays in front."""
    return kernel(x, like([0, *(axis % (x.shape.rank - 1) + 1 for axis in ints(order))], order))


@for_rows("BroadcastTo", moving=(0,))
def broadcast_to(kernel: Kernel, rows: int, x: Any, shape: Any) -> Any:
    """Each row gets the shape."""
    wanted = ints(shape)
    return kernel(aligned(x, len(wanted)), like([rows, *wanted], shape))


@for_rows("Tile", moving=(0,))
def tile(kernel: Kernel, rows: int, x: Any, multiples: Any) -> Any:
    """Each row is repeated."""
    return kernel(x, like([1, *ints(multiples)], multiples))


@for_rows("Pad", "PadV2", "MirrorPad", "MirrorPadGrad", moving=(0,))
def pad(kernel: Kernel, rows: int, x: Any, paddings: Any, *value: Any) -> Any:
    """Each row is padded, or what was padded is cut."""
    return kernel(x, like([[0, 0], *paddings.numpy().tolist()], paddings), *value)


@for_rows("Slice", moving=(0,))
def slice_(kernel: Kernel, rows: int, x: Any, begin: Any, size: Any) -> Any:
    """The same part of each row."""
    return kernel(x, like([0, *ints(begin)], begin), like([rows, *ints(size)], size))


def _masks(kernel: Kernel) -> dict[str, int]:
    """Bit i stands for entry i of a slice; one entry, which takes everything, comes in front."""
    masks = {name: value << 1 for name, value in kernel.attributes.items() if name.endswith("_mask")}
    return {**masks, "begin_mask": masks["begin_mask"] | 1, "end_mask": masks["end_mask"] | 1}


@for_rows("StridedSlice", moving=(0,))
def strided_slice(kernel: Kernel, rows: int, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    """The same part of each row."""
    cut = [like([i, *ints(held)], held) for i, held in ((0, begin), (0, end), (1, strides))]
    return kernel(x, *cut, **_masks(kernel))


@for_rows("StridedSliceGrad", moving=(4,))
def strided_slice_grad(kernel: Kernel, rows: int, shape: Any, begin: Any, end: Any, strides: Any, dy: Any) -> Any:
    """The same part of each row, put back into zeros."""
    cut = [like([i, *ints(held)], held) for i, held in ((rows, shape), (0, begin), (0, end), (1, strides))]
    return kernel(*cut, dy, **_masks(kernel))


@for_rows("ConcatV2")
def concat(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Each row is joined; the last input is the axis."""
    *parts, axis = inputs
    return kernel(*all_rows(kernel, rows, inputs)[: len(parts)], like(shifted(int(axis)), axis))


@for_rows("Pack")
def pack(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Each row is stacked."""
    return kernel(*all_rows(kernel, rows, inputs), axis=shifted(kernel.attributes["axis"]))


@for_rows("Unpack")
def unpack(kernel: Kernel, rows: int, x: Any) -> Any:
    """Each row is taken apart."""
    return kernel(x, axis=shifted(kernel.attributes["axis"]))


@for_rows("Split", moving=(1,))
def split(kernel: Kernel, rows: int, axis: Any, x: Any) -> Any:
    """Each row is cut."""
    return kernel(like(shifted(int(axis)), axis), x)


@for_rows("SplitV", moving=(0,))
def split_sizes(kernel: Kernel, rows: int, x: Any, sizes: Any, axis: Any) -> Any:
    """Each row is cut."""
    return kernel(x, sizes, like(shifted(int(axis)), axis))


@for_rows("GatherV2", moving=(0,))
def gather(kernel: Kernel, rows: int, x: Any, indices: Any, axis: Any) -> Any:
    """The same places of each row."""
    batch = kernel.attributes["batch_dims"]
    if batch:
        batch = shifted(batch) if batch > 0 else batch
        return kernel(x, repeated(indices, rows), like(shifted(int(axis)), axis), batch_dims=batch)
    return kernel(x, indices, like(shifted(int(axis)), axis))


@for_rows("Roll", moving=(0,))
def roll(kernel: Kernel, rows: int, x: Any, shift: Any, axis: Any) -> Any:
    """Along the same axes of each row."""
    moved = [shifted(one) for one in ints(axis)]
    return kernel(x, shift, like(moved if axis.shape.rank else moved[0], axis))


@for_rows("UnsortedSegmentSum", moving=(0,))
def segment_sum(kernel: Kernel, rows: int, x: Any, segments: Any, count: Any) -> Any:
    """Each row has segments of its own; negative ones are dropped."""
    of_row = tf.reshape(tf.range(rows, dtype=segments.dtype), [-1, *[1] * segments.shape.rank])
    own = tf.where(segments < 0, tf.constant(-1, segments.dtype), segments + of_row * tf.cast(count, segments.dtype))
    (found,) = kernel(x, own, rows * count)
    return tf.reshape(found, tf.concat([[rows, tf.cast(count, tf.int32)], tf.shape(found)[1:]], 0))


@for_rows("InplaceUpdate")
def written(kernel: Kernel, rows: int, x: Any, indices: Any, values: Any) -> Any:
    """The same entries of each row, in a new tensor: TensorFlow writes to the old one."""
    if kernel.moves[1]:
        raise Unmapped("InplaceUpdate has no rule for places that move")
    each = all_rows(kernel, rows, (x, indices, values))
    of_row = tf.repeat(tf.range(rows, dtype=indices.dtype)[:, None], tf.size(indices), 1)
    places = tf.stack([of_row, tf.broadcast_to(tf.reshape(indices, [1, -1]), tf.shape(of_row))], -1)
    return tf.tensor_scatter_nd_update(
        each[0], places, tf.reshape(each[2], [rows, -1, *x.shape[2 if kernel.moves[0] else 1 :]])
    )
