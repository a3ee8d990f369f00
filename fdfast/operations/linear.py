"""Operations that are linear in what moves: the operation of the differences, held parts taken as zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.call import Call, at_rows, is_real, settled
from fdfast.operations.table import difference_rule

#: y(z + d) = y(z) + y(d) in all floating-point inputs together.
LINEAR = (
    *("AddN", "AvgPool", "AvgPool3D", "AvgPoolGrad", "AvgPool3DGrad", "BatchToSpace", "BatchToSpaceND", "BiasAddGrad"),
    *("BroadcastTo", "CheckNumerics", "CheckNumericsV2", "Complex", "ConcatV2", "Conj", "ConjugateTranspose", "Copy"),
    *("Cumsum", "DebugIdentityV2", "DeepCopy", "DepthToSpace", "Diag", "DiagPart", "EnsureShape"),
    *("ExpandDims", "ExtractImagePatches", "FFT", "FFT2D", "FFT3D", "Fill", "GatherNd", "GatherV2", "IFFT", "IFFT2D"),
    *("IFFT3D", "IRFFT", "IRFFT2D", "IRFFT3D", "Identity", "IdentityN", "Imag", "MatrixBandPart"),
    *("MatrixDiagPartV3", "MatrixDiagV3", "MatrixSetDiagV3", "Mean", "MirrorPad", "MirrorPadGrad", "Neg", "Pack"),
    *("Pad", "ParallelConcat", "PlaceholderWithDefault", "PreventGradient", "RFFT", "RFFT2D", "RFFT3D", "Real"),
    *("Reshape", "ResizeArea", "ResizeBicubic", "ResizeBicubicGrad", "ResizeBilinear", "ResizeBilinearGrad"),
    *("ResizeNearestNeighbor", "ResizeNearestNeighborGrad", "ReverseSequence", "ReverseV2", "Roll", "ScatterNd"),
    *("SegmentMean", "SegmentSum", "SegmentSumV2", "Slice", "Snapshot", "SpaceToBatch", "SpaceToBatchND"),
    *("SparseSegmentMeanGrad", "SparseSegmentSqrtNGrad", "SparseSegmentSumGrad"),
    *("SpaceToDepth", "SparseSegmentMean", "SparseSegmentSqrtN", "SparseSegmentSum", "Split", "SplitV", "Squeeze"),
    *("StopGradient", "StridedSlice", "StridedSliceGrad", "Sum", "TensorScatterAdd", "TensorScatterSub"),
    *("TensorScatterUpdate", "TensorStridedSliceUpdate", "Tile", "Transpose", "Unpack"),
    *("UnsortedSegmentSum", "DynamicStitch"),
    *("DynamicPartition", "ParallelDynamicStitch", "Bincount"),
    *("MatrixDiag", "MatrixDiagV2", "MatrixDiagPart", "MatrixDiagPartV2", "MatrixSetDiag", "MatrixSetDiagV2", "Gather"),
)


@difference_rule(*LINEAR)
def linear(c: Call) -> Any:
    """L(z + d) - L(z) = L d; integer inputs, which say where, may not move."""
    if any(d is not None and not is_real(z) for z, d in zip(c.z, c.d, strict=True)):
        return NotImplemented
    several = sum(is_real(z) for z in c.z) > 1
    found = at_rows(c, c.d, fill=several)
    if c.kernel.kind == "IdentityN":
        return [None if d is None else f for f, d in zip(found, c.d, strict=True)]
    return [f if is_real(out) else None for f, out in zip(found, c.out, strict=True)]


@difference_rule("CropAndResize", "CropAndResizeGradImage", "ImageProjectiveTransformV3", "ScaleAndTranslate")
def sampled(c: Call) -> Any:
    """Linear in the image: where it is sampled stays, and what stands outside of it is not of the difference."""
    if any(d is not None for d in c.d[1:]):
        return NotImplemented
    kernel, z = c.kernel, list(c.z)
    if "extrapolation_value" in kernel.attributes:
        kernel = kernel.moving(kernel.moves)
        kernel.attributes = {**kernel.attributes, "extrapolation_value": 0.0}
    if kernel.kind == "ImageProjectiveTransformV3":
        z[3] = tf.zeros_like(z[3])
    return at_rows(c.only(kernel=kernel, z=z), c.d)[0]


@difference_rule("OneHot")
def one_hot(c: Call) -> Any:
    """Of moved places; the two values that it writes stay."""
    if any(d is not None for d in c.d[2:]):
        return NotImplemented
    return settled(c, at_rows(c, c.d))


@difference_rule("PadV2")
def pad_value(c: Call) -> Any:
    """The value that is padded with is not of the difference."""
    if c.d[2] is not None:
        return NotImplemented
    return tf.pad(c.d[0], tf.concat([[[0, 0]], tf.cast(c.z[1], tf.int32)], 0))


@difference_rule("AddV2", "Add", "Sub", "BiasAdd")
def plus(c: Call) -> Any:
    """(a + da) + (b + db) - (a + b) = da + db."""
    first = c.kernel.attributes.get("data_format") == b"NCHW"
    if c.kernel.kind == "BiasAdd" and first and c.d[1] is not None:
        shape = [c.count, 1, c.z[1].shape[0], *[1] * (c.z[0].shape.rank - 2)]
        a, b = c.d[0], tf.reshape(c.d[1], shape)
    else:
        a, b = c.aligned(0), c.aligned(1)
    if c.kernel.kind == "Sub" and b is not None:
        b = -b
    return c.broad(a if b is None else b if a is None else a + b)


@difference_rule("ZerosLike", "OnesLike", "Shape", "ShapeN", "Size", "Rank")
def of_shape(c: Call) -> Any:
    """What depends on the shape alone does not move."""
    return [None] * len(c.out)


@difference_rule("IsFinite", "IsNan", "IsInf")
def is_finite(c: Call) -> Any:
    """Of the moved value; a difference would not do."""
    return settled(c, at_rows(c, [c.moved(0)]))


@difference_rule("Cast")
def cast(c: Call) -> Any:
    """Between floats: of the difference. From integers or bools: of the moved value."""
    to = c.out[0].dtype
    if is_real(c.z[0]) and is_real(c.out[0]):
        return tf.cast(c.d[0], to)
    if is_real(c.out[0]):
        return tf.cast(c.d[0], to) - c.out[0]
    return NotImplemented


@difference_rule("Select", "SelectV2")
def select(c: Call) -> Any:
    """By condition; where the condition moves, from one branch to the other."""
    old, a, b = c.z
    if c.kernel.kind == "Select" and old.shape.rank == 1 and a.shape.rank > 1:  # chooses rows
        old = tf.reshape(old, [-1, *[1] * (a.shape.rank - 1)])
        moved = None if c.d[0] is None else tf.reshape(c.d[0], [c.count, *old.shape])
    else:
        moved = c.aligned(0)
    zero = tf.zeros([], c.out[0].dtype)
    da, db = (zero if c.d[i] is None else c.aligned(i) for i in (1, 2))
    if not is_real(c.out[0]):
        new = old if moved is None else moved
        return c.broad(tf.where(new, a if c.d[1] is None else c.aligned(1), b if c.d[2] is None else c.aligned(2)))
    if moved is None:
        return c.broad(tf.where(old, da, db))
    return c.broad(tf.where(old, tf.where(moved, da, b - a + db), tf.where(moved, a - b + da, db)))


def axes_of(tensor: Any, rank: int) -> list[int]:
    """Axes that an operation reduces, as numbers from 0."""
    return [int(axis) % rank for axis in np.reshape(tensor, -1)] if rank else []
