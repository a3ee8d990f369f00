"""Rules of `fdfast.stacked`: an operation of one row, as the same operation with all rows along axis 0.

Rules run the kernel that TensorFlow runs for one row, with rows as more of the batch or as more channels; only products
of matrices per row take TensorFlow's product of many. Operations that are not here, such as those that draw random
numbers, have no rule on purpose or for lack of need.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.functions import Unmapped
from fdfast.kernels import Kernel, repeated, rule

# Element by element ----------------------------------------------------------------------------------------------


def _aligned(tensor: Any, rank: int) -> Any:
    """Rows of tensors of that rank: axes of length 1 are put where broadcasting would."""
    missing = rank - (tensor.shape.rank - 1)
    return tf.reshape(tensor, [tensor.shape[0], *[1] * missing, *tensor.shape[1:]]) if missing > 0 else tensor


def _broadcast(kernel: Kernel, inputs: tuple[Any, ...]) -> list[Any]:
    rank = max(t.shape.rank - m for t, m in zip(inputs, kernel.moves, strict=True))
    return [_aligned(t, rank) if m else t for t, m in zip(inputs, kernel.moves, strict=True)]


@rule(
    *["Abs", "Acos", "Acosh", "Angle", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "ComplexAbs"],
    *["Conj", "Cos", "Cosh", "Digamma", "Elu", "Erf", "Erfc", "Erfinv", "Exp", "Expm1", "Floor", "Identity", "Imag"],
    *["Inv", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "Lgamma", "Log", "Log1p", "LogicalNot", "Ndtri", "Neg"],
    *["OnesLike", "PreventGradient", "Real", "Reciprocal", "Relu", "Relu6", "Rint", "Round", "Rsqrt", "Selu"],
    *["Sigmoid", "Sign", "Sin", "Sinh", "Snapshot", "Softplus", "Softsign", "Sqrt", "Square", "StopGradient", "Tan"],
    *["Tanh", "ZerosLike", "Add", "AddV2", "Atan2", "BitwiseAnd", "Complex", "Div", "DivNoNan", "Equal", "FloorDiv"],
    *["FloorMod", "Greater", "GreaterEqual", "Igamma", "Igammac", "Less", "LessEqual", "LogicalAnd", "LogicalOr"],
    *["Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "NotEqual", "Polygamma", "Pow", "RealDiv", "SelectV2"],
    *["SquaredDifference", "Sub", "TruncateDiv", "TruncateMod", "Xdivy", "Xlog1py", "Xlogy", "Zeta"],
)
def elementwise(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Each element by itself; shapes broadcast."""
    return kernel(*_broadcast(kernel, inputs))


def _all_rows(kernel: Kernel, rows: int, inputs: tuple[Any, ...]) -> list[Any]:
    return [t if m else repeated(t, rows) for t, m in zip(inputs, kernel.moves, strict=True)]


@rule(
    *["AddN", "EluGrad", "IdentityN", "InvGrad", "LeakyReluGrad", "ReciprocalGrad", "Relu6Grad", "ReluGrad"],
    *["RsqrtGrad", "SeluGrad", "SigmoidGrad", "SoftplusGrad", "SoftsignGrad", "SqrtGrad", "TanhGrad"],
)
# Leading axes are a batch already, to these:
@rule("Cholesky", "LogMatrixDeterminant", "LogSoftmax", "MatrixDeterminant", "MatrixInverse", "MatrixSolve")
@rule("MatrixTriangularSolve", "Qr", "SelfAdjointEigV2", "Softmax", "Svd")
def same_shape(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Nothing broadcasts: what does not move is repeated."""
    return kernel(*_all_rows(kernel, rows, inputs))


@rule("ClipByValue", moving=(0,))
def clip_by_value(kernel: Kernel, rows: int, x: Any, low: Any, high: Any) -> Any:
    """Limits are numbers; arrays of them are in the shape of one row, which the kernel does not broadcast."""
    if low.shape.rank or high.shape.rank:
        low, high = repeated(low, rows), repeated(high, rows)
    return kernel(x, low, high)


@rule("EnsureShape")
def ensure_shape(kernel: Kernel, rows: int, x: Any) -> Any:
    """The shape is that of one row."""
    if not tf.TensorShape(kernel.attributes["shape"]).is_compatible_with(x.shape[1:]):
        raise Unmapped("a tensor has another shape than it must have")
    return x


@rule("MatrixBandPart", "MatrixDiagPartV3", "MatrixDiagV3", moving=(0,))
def of_leading_axes(kernel: Kernel, rows: int, x: Any, *held: Any) -> Any:
    """Leading axes are a batch already."""
    return kernel(x, *held)


@rule("MatrixSetDiagV3", moving=(0, 1))
def set_diagonal(kernel: Kernel, rows: int, x: Any, diagonal: Any, k: Any) -> Any:
    """Leading axes are a batch already."""
    return kernel(*_all_rows(kernel, rows, (x, diagonal, k))[:2], k)


# Axes ------------------------------------------------------------------------------------------------------------


def _ints(tensor: Any) -> list[int]:
    return [int(i) for i in np.reshape(tensor.numpy(), -1)]


def _shifted(axis: int) -> int:
    """The axis of one row, counted among those of all rows; negative ones are counted from the end."""
    return axis + 1 if axis >= 0 else axis


def _like(values: Any, held: Any) -> Any:
    return tf.constant(values, held.dtype)


@rule("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum", moving=(0,))
def reduction(kernel: Kernel, rows: int, x: Any, axes: Any) -> Any:
    """Over the same axes of each row."""
    rank = x.shape.rank - 1
    return kernel(x, _like([axis % rank + 1 for axis in _ints(axes)] if rank else [], axes))


@rule("ArgMax", "ArgMin", "Cumprod", "Cumsum", moving=(0,))
def along_axis(kernel: Kernel, rows: int, x: Any, axis: Any) -> Any:
    """Along the same axis of each row."""
    return kernel(x, _like(_shifted(int(axis)), axis))


@rule("ReverseV2", moving=(0,))
def reverse(kernel: Kernel, rows: int, x: Any, axes: Any) -> Any:
    """Along the same axes of each row."""
    return kernel(x, _like([_shifted(axis) for axis in _ints(axes)], axes))


@rule("Reshape", moving=(0,))
def reshape(kernel: Kernel, rows: int, x: Any, shape: Any) -> Any:
    """Each row gets the shape."""
    return kernel(x, _like([rows, *_ints(shape)], shape))


@rule("Squeeze")
def squeeze(kernel: Kernel, rows: int, x: Any) -> Any:
    """Axes of one row: that of the rows stays even where there is but one."""
    shape = x.shape.as_list()[1:]
    axes = [axis % len(shape) for axis in kernel.attributes["squeeze_dims"]]
    kept = [n for i, n in enumerate(shape) if (i not in axes if axes else n != 1)]
    return tf.reshape(x, [rows, *kept])


@rule("ExpandDims", moving=(0,))
def expand_dims(kernel: Kernel, rows: int, x: Any, axis: Any) -> Any:
    """At the same place of each row."""
    return kernel(x, _like(_shifted(int(axis)), axis))


@rule("Transpose", "ConjugateTranspose", moving=(0,))
def transpose(kernel: Kernel, rows: int, x: Any, order: Any) -> Any:
    """The axis of the rows stays in front."""
    return kernel(x, _like([0, *(axis % (x.shape.rank - 1) + 1 for axis in _ints(order))], order))


@rule("BroadcastTo", moving=(0,))
def broadcast_to(kernel: Kernel, rows: int, x: Any, shape: Any) -> Any:
    """Each row gets the shape."""
    wanted = _ints(shape)
    return kernel(_aligned(x, len(wanted)), _like([rows, *wanted], shape))


@rule("Tile", moving=(0,))
def tile(kernel: Kernel, rows: int, x: Any, multiples: Any) -> Any:
    """Each row is repeated."""
    return kernel(x, _like([1, *_ints(multiples)], multiples))


@rule("Pad", "PadV2", "MirrorPad", "MirrorPadGrad", moving=(0,))
def pad(kernel: Kernel, rows: int, x: Any, paddings: Any, *value: Any) -> Any:
    """Each row is padded, or what was padded is cut."""
    return kernel(x, _like([[0, 0], *paddings.numpy().tolist()], paddings), *value)


@rule("Slice", moving=(0,))
def slice_(kernel: Kernel, rows: int, x: Any, begin: Any, size: Any) -> Any:
    """The same part of each row."""
    return kernel(x, _like([0, *_ints(begin)], begin), _like([rows, *_ints(size)], size))


def _masks(kernel: Kernel) -> dict[str, int]:
    """Bit i stands for entry i of a slice; one entry, which takes everything, comes in front."""
    masks = {name: value << 1 for name, value in kernel.attributes.items() if name.endswith("_mask")}
    return {**masks, "begin_mask": masks["begin_mask"] | 1, "end_mask": masks["end_mask"] | 1}


@rule("StridedSlice", moving=(0,))
def strided_slice(kernel: Kernel, rows: int, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    """The same part of each row."""
    cut = [_like([i, *_ints(held)], held) for i, held in ((0, begin), (0, end), (1, strides))]
    return kernel(x, *cut, **_masks(kernel))


@rule("StridedSliceGrad", moving=(4,))
def strided_slice_grad(kernel: Kernel, rows: int, shape: Any, begin: Any, end: Any, strides: Any, dy: Any) -> Any:
    """The same part of each row, put back into zeros."""
    cut = [_like([i, *_ints(held)], held) for i, held in ((rows, shape), (0, begin), (0, end), (1, strides))]
    return kernel(*cut, dy, **_masks(kernel))


@rule("ConcatV2")
def concat(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Each row is joined; the last input is the axis."""
    *parts, axis = inputs
    return kernel(*_all_rows(kernel, rows, inputs)[: len(parts)], _like(_shifted(int(axis)), axis))


@rule("Pack")
def pack(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Each row is stacked."""
    return kernel(*_all_rows(kernel, rows, inputs), axis=_shifted(kernel.attributes["axis"]))


@rule("Unpack")
def unpack(kernel: Kernel, rows: int, x: Any) -> Any:
    """Each row is taken apart."""
    return kernel(x, axis=_shifted(kernel.attributes["axis"]))


@rule("Split", moving=(1,))
def split(kernel: Kernel, rows: int, axis: Any, x: Any) -> Any:
    """Each row is cut."""
    return kernel(_like(_shifted(int(axis)), axis), x)


@rule("SplitV", moving=(0,))
def split_sizes(kernel: Kernel, rows: int, x: Any, sizes: Any, axis: Any) -> Any:
    """Each row is cut."""
    return kernel(x, sizes, _like(_shifted(int(axis)), axis))


@rule("GatherV2", moving=(0,))
def gather(kernel: Kernel, rows: int, x: Any, indices: Any, axis: Any) -> Any:
    """The same places of each row."""
    if kernel.attributes["batch_dims"]:
        raise Unmapped("GatherV2 has no rule for a batch of its own")
    return kernel(x, indices, _like(_shifted(int(axis)), axis))


@rule("UnsortedSegmentSum", moving=(0,))
def segment_sum(kernel: Kernel, rows: int, x: Any, segments: Any, count: Any) -> Any:
    """Each row has segments of its own; negative ones are dropped."""
    of_row = np.arange(rows).reshape(-1, *[1] * segments.shape.rank)
    own = np.where(segments.numpy() < 0, -1, segments.numpy() + of_row * int(count))
    (found,) = kernel(x, _like(own, segments), _like(rows * int(count), count))
    return tf.reshape(found, [rows, int(count), *found.shape[1:]])


# Rows as more of the batch ---------------------------------------------------------------------------------------


def fold(tensor: Any) -> Any:
    """The rows and the axis that follows, as one axis."""
    shape = tensor.shape.as_list()
    return tf.reshape(tensor, [shape[0] * shape[1], *shape[2:]])


def unfold(tensor: Any, rows: int) -> Any:
    """The inverse of `fold`."""
    shape = tensor.shape.as_list()
    return tf.reshape(tensor, [rows, shape[0] // rows, *shape[1:]])


def _batched(kernel: Kernel, rows: int, inputs: tuple[Any, ...], *batched: int) -> list[Any]:
    whole = _all_rows(kernel, rows, inputs)
    taken = [fold(whole[i]) if i in batched else t for i, t in enumerate(inputs)]
    return [unfold(t, rows) for t in kernel(*taken)]


@rule("AvgPool", "AvgPool3D", "DepthToSpace", "LRN", "MaxPool", "MaxPool3D", "SpaceToDepth")
@rule("MaxPoolGrad", "MaxPool3DGrad", "ResizeBicubicGrad", "ResizeBilinearGrad", "SoftmaxCrossEntropyWithLogits")
@rule("SparseSoftmaxCrossEntropyWithLogits")
def of_batch(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Axis 0 of every input is a batch."""
    return _batched(kernel, rows, inputs, *range(len(inputs)))


@rule(
    "ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeNearestNeighborGrad", moving=(0,)
)
def of_first_batch(kernel: Kernel, rows: int, x: Any, size: Any) -> Any:
    """Axis 0 of the first input is a batch."""
    return _batched(kernel, rows, (x, size), 0)


def _more(sizes: Any, rows: int, axis: int) -> Any:
    wanted = _ints(sizes)
    wanted[axis] *= rows
    return _like(wanted, sizes)


@rule("AvgPoolGrad", "AvgPool3DGrad", moving=(1,))
def of_batch_of_shape(kernel: Kernel, rows: int, shape: Any, dy: Any) -> Any:
    """Axis 0 is a batch, whose length is the first number of the shape."""
    return _batched(kernel, rows, (_more(shape, rows, 0), dy), 1)


def _boxes(rows: int, boxes: Any, images: Any, count: int) -> tuple[Any, Any]:
    of_row = np.arange(rows)[:, None] * count
    return tf.tile(boxes, [rows, 1]), _like((images.numpy() + of_row).reshape(-1), images)


@rule("CropAndResize", moving=(0,))
def crop(kernel: Kernel, rows: int, x: Any, boxes: Any, images: Any, size: Any) -> Any:
    """Boxes of a row are cut from images of that row."""
    (found,) = kernel(fold(x), *_boxes(rows, boxes, images, x.shape[1]), size)
    return unfold(found, rows)


@rule("CropAndResizeGradImage", moving=(0,))
def crop_grad(kernel: Kernel, rows: int, dy: Any, boxes: Any, images: Any, size: Any) -> Any:
    """Boxes of a row are put back into images of that row."""
    moved = _boxes(rows, boxes, images, _ints(size)[0])
    (found,) = kernel(fold(dy), *moved, _more(size, rows, 0))
    return unfold(found, rows)


# Rows as more channels -------------------------------------------------------------------------------------------


def to_channels(tensor: Any, axis: int = -1) -> Any:
    """The rows as the faster part of that axis, counted from the end."""
    rank = tensor.shape.rank
    at = rank + axis
    moved = tf.transpose(tensor, [*range(1, at + 1), 0, *range(at + 1, rank)])
    shape = moved.shape.as_list()
    return tf.reshape(moved, [*shape[: at - 1], shape[at - 1] * shape[at], *shape[at + 1 :]])


def from_channels(tensor: Any, rows: int, axis: int = -1) -> Any:
    """The inverse of `to_channels`."""
    shape = tensor.shape.as_list()
    at = len(shape) + axis
    apart = tf.reshape(tensor, [*shape[:at], shape[at] // rows, rows, *shape[at + 1 :]])
    return tf.transpose(apart, [at + 1, *range(at + 1), *range(at + 2, len(shape) + 1)])


def _require_channels(kernel: Kernel, inputs: int, filters: int) -> None:
    """Rows can be channels where these come last, and are not in groups."""
    if not kernel.attributes["data_format"].endswith(b"C") or inputs != filters:
        raise Unmapped(f"{kernel.kind} has no rule for channels that come first or in groups")


@rule("BiasAdd")
def bias_add(kernel: Kernel, rows: int, x: Any, bias: Any) -> Any:
    """A bias that moves is added to the channels of its row."""
    if not kernel.moves[1]:
        return unfold(kernel(fold(x), bias)[0], rows)
    if not kernel.attributes["data_format"].endswith(b"C"):
        raise Unmapped("BiasAdd has no rule for channels that come first")
    return tf.add(x, _aligned(bias, x.shape.rank - kernel.moves[0]))


@rule("BiasAddGrad")
def bias_add_grad(kernel: Kernel, rows: int, dy: Any) -> Any:
    """Sums per channel."""
    _require_channels(kernel, 0, 0)
    return from_channels(kernel(to_channels(dy))[0], rows)


@rule("Conv2D", "Conv3D")
def convolution(kernel: Kernel, rows: int, x: Any, w: Any) -> Any:
    """More images, or more filters."""
    if all(kernel.moves):
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    if kernel.moves[0]:
        return _batched(kernel, rows, (x, w), 0)
    _require_channels(kernel, x.shape[-1], w.shape[-2])
    return from_channels(kernel(x, to_channels(w))[0], rows)


@rule("Conv2DBackpropInput", "Conv3DBackpropInputV2", moving=(1, 2))
def convolution_back(kernel: Kernel, rows: int, sizes: Any, w: Any, dy: Any) -> Any:
    """More images, or more channels of the result, each with filters of its own."""
    if all(kernel.moves[1:]):
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    if kernel.moves[2]:
        return _batched(kernel, rows, (_more(sizes, rows, 0), w, dy), 2)
    if len(_ints(sizes)) != dy.shape.rank:
        raise Unmapped(f"{kernel.kind} has no rule for a size without channels")
    _require_channels(kernel, _ints(sizes)[-1], w.shape[-2])
    return from_channels(kernel(_more(sizes, rows, -1), to_channels(w, -2), dy)[0], rows)


@rule("Conv2DBackpropFilter", "Conv3DBackpropFilterV2", moving=(0, 2))
def filter_back(kernel: Kernel, rows: int, x: Any, sizes: Any, dy: Any) -> Any:
    """More filters, or more channels in each."""
    if kernel.moves[0] and kernel.moves[2]:
        raise Unmapped(f"{kernel.kind} has no rule for both inputs moving")
    _require_channels(kernel, x.shape[-1], _ints(sizes)[-2])
    axis = -2 if kernel.moves[0] else -1
    moved = (to_channels(x), dy) if kernel.moves[0] else (x, to_channels(dy))
    return from_channels(kernel(moved[0], _more(sizes, rows, axis), moved[1])[0], rows, axis)


@rule("DepthwiseConv2dNative")
def depthwise(kernel: Kernel, rows: int, x: Any, w: Any) -> Any:
    """More images, or more filters for each channel."""
    if all(kernel.moves):
        raise Unmapped("DepthwiseConv2dNative has no rule for both inputs moving")
    if kernel.moves[0]:
        return _batched(kernel, rows, (x, w), 0)
    _require_channels(kernel, x.shape[-1], w.shape[-2])
    return from_channels(kernel(x, to_channels(w))[0], rows)


@rule("DepthwiseConv2dNativeBackpropInput", moving=(2,))
def depthwise_back(kernel: Kernel, rows: int, sizes: Any, w: Any, dy: Any) -> Any:
    """More images."""
    return _batched(kernel, rows, (_more(sizes, rows, 0), w, dy), 2)


@rule("DepthwiseConv2dNativeBackpropFilter", moving=(2,))
def depthwise_filter_back(kernel: Kernel, rows: int, x: Any, sizes: Any, dy: Any) -> Any:
    """More filters for each channel."""
    _require_channels(kernel, x.shape[-1], _ints(sizes)[-2])
    return from_channels(kernel(x, _more(sizes, rows, -1), to_channels(dy))[0], rows)


# Products --------------------------------------------------------------------------------------------------------


@rule("MatMul")
def product(kernel: Kernel, rows: int, a: Any, b: Any) -> Any:
    """One product of a tall matrix where the left side moves, else one product per row."""
    flags = kernel.attributes["transpose_a"], kernel.attributes["transpose_b"]
    if kernel.moves == (True, False) and not flags[0]:
        return unfold(kernel(fold(a), b)[0], rows)
    return tf.matmul(a, b, transpose_a=flags[0], transpose_b=flags[1])


@rule("BatchMatMul", "BatchMatMulV2")
def products(kernel: Kernel, rows: int, a: Any, b: Any) -> Any:
    """One product per row and batch."""
    if kernel.kind == "BatchMatMul":
        return kernel(*_all_rows(kernel, rows, (a, b)))
    return kernel(*_broadcast(kernel, (a, b)))


@rule("Einsum")
def einsum(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """One more letter, for the rows."""
    equation = kernel.attributes["equation"].decode()
    terms, found, result = equation.partition("->")
    letter = next((c for c in string.ascii_letters if c not in equation), "")
    if not found or not letter:
        raise Unmapped(f"Einsum has no rule for {equation}")
    each = [letter * m + term.strip() for m, term in zip(kernel.moves, terms.split(","), strict=True)]
    return kernel(*inputs, equation=f"{','.join(each)}->{letter}{result.strip()}")
