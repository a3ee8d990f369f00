"""Every difference rule against plain subtraction where moves are large, and against autodiff where they are tiny."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.operations import TABLE, Notes
from fdfast.tape import Recorder, push

RAW = tf.raw_ops
ROWS = 3
#: Kinds that no table here calls: what they do is tested where it is used, or they are older names of the same.
ELSEWHERE = {
    *(
        "BatchMatMul",
        "BatchMatMulV3",
        "Copy",
        "DebugIdentityV2",
        "DeepCopy",
        "Div",
        "Inv",
        "InvGrad",
        "PlaceholderWithDefault",
    ),
    *(
        "FusedBatchNorm",
        "FusedBatchNormV2",
        *("FusedBatchNormGrad", "FusedBatchNormGradV2"),
        "ParallelConcat",
        "SegmentSumV2",
        "MatrixDiag",
        "MatrixDiagV2",
        "MatrixDiagPart",
    ),
    *(
        "MatrixDiagPartV2",
        "MatrixSetDiag",
        "MatrixSetDiagV2",
        "Gather",
        "TopK",
        "Reverse",
        "SpaceToBatch",
        "BatchToSpace",
    ),
    *(
        "CheckNumericsV2",
        "ParallelDynamicStitch",
        "ImageProjectiveTransformV2",
        "Conv",
        "Mod",
        "SparseTensorDenseMatMul",
    ),
    *("Bincount", "Conv3DBackpropFilterV2", "Snapshot", "ScaleAndTranslate"),
}


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def between(low, high, *shape, seed=1):
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape)


def definite(*batch, n=3):
    a = normal(*batch, n, n)
    return a @ np.swapaxes(a, -1, -2) + 2 * np.eye(n)


def symmetric(f):
    return lambda a: f((a + tf.linalg.matrix_transpose(a)) / 2)


X, Y = normal(2, 5), normal(2, 5, seed=3)
P, Q = between(0.2, 0.9, 2, 5), between(0.2, 0.9, 2, 5, seed=4)
IMAGE, BIG = normal(2, 6, 7, 3), normal(2, 5, 6, 4, 2)
FILTER, FILTER3 = normal(3, 2, 3, 4), normal(2, 2, 2, 2, 3)
IDS = np.array([0, 2, 0, 1, 2])
ONE = {"strides": [1, 1, 1, 1], "padding": "SAME"}
ONE3 = {"strides": [1, 1, 1, 1, 1], "padding": "SAME"}

POOL = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
POOL3 = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 2, 2, 2, 1], "padding": "SAME"}


def _batch_norm_grad(g, x, scale, mean, variance, *, training):
    found = RAW.FusedBatchNormGradV3(
        y_backprop=g, x=x, scale=scale, reserve_space_1=mean, reserve_space_2=variance,
        reserve_space_3=tf.zeros([0]), is_training=training,
    )  # fmt: skip
    return found[0] + found[1] + found[2]


#: Functions of arrays that may all move.
CASES = {
    **{
        kind: (getattr(RAW, kind), X)
        for kind in (
            *("Abs", "Atan", "Asinh", "Cos", "Cosh", "Elu", "Erf", "Erfc", "Exp", "Expm1", "Identity", "LeakyRelu"),
            *("Neg", "Relu", "Relu6", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Square"),
            *("StopGradient", "Tan", "Tanh", "Softmax", "LogSoftmax", "Sign", "Floor", "Ceil", "Rint", "Round"),
            *("ZerosLike", "OnesLike", "L2Loss"),
        )
    },
    **{
        kind: (getattr(RAW, kind), P)
        for kind in (
            *("Acos", "Asin", "Atanh", "Digamma", "Erfinv", "Lgamma", "Log", "Log1p", "Ndtri", "Reciprocal", "Rsqrt"),
            *("Sqrt",),
        )
    },
    "Acosh": (RAW.Acosh, 1 + P),
    **{
        kind: (getattr(RAW, kind), X, Y[:1])
        for kind in ("Add", "AddV2", "Maximum", "Minimum", "Mul", "MulNoNan", "SquaredDifference", "Sub", "Atan2")
    },
    **{kind: (getattr(RAW, kind), X, P) for kind in ("DivNoNan", "RealDiv", "Xdivy")},
    **{kind: (getattr(RAW, kind), P, Q) for kind in ("Pow", "Xlogy", "Xlog1py")},
    "Pow of a number": (lambda x: x**2 + x**3 + tf.abs(x) ** 2.5, X),
    "Pow of an exponent": (lambda b: 1.7**b, X),
    **{
        kind: (lambda x, y, kind=kind: tf.cast(getattr(RAW, kind)(x=x, y=y), tf.float64) * x, X, Y)
        for kind in ("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual")
    },
    "FloorMod": (lambda x: RAW.FloorMod(x=x, y=tf.constant(0.7, tf.float64)), X),
    "FloorDiv": (lambda x: RAW.FloorDiv(x=x, y=tf.constant(0.7, tf.float64)), X),
    "TruncateMod": (lambda x: RAW.TruncateMod(x=x, y=tf.constant(0.7, tf.float64)), X),
    "TruncateDiv": (lambda x: RAW.TruncateDiv(x=x, y=tf.constant(0.7, tf.float64)), P),
    "IsFinite": (lambda x: tf.where(tf.math.is_finite(x) & ~tf.math.is_nan(x) & ~tf.math.is_inf(x), x, -x), X),
    "ArgMax": (lambda x: tf.one_hot(tf.argmax(x, 1), 5, dtype=x.dtype) * x, X),
    "ArgMin": (lambda x: tf.one_hot(tf.argmin(x, 1), 5, dtype=x.dtype) * x, X),
    "Cast": (lambda x: tf.cast(tf.cast(x, tf.float32), tf.float64) + tf.cast(x > 0, tf.float64), X),
    "SelectV2": (lambda x, y: tf.where(x > y, tf.sin(x), y), X, Y[:1]),
    "Select": (lambda x, y: RAW.Select(condition=tf.constant([True, False]), x=x, y=y), X, Y),
    "ClipByValue": (lambda x: RAW.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.7), X),
    "EuclideanNorm": (lambda x: tf.raw_ops.EuclideanNorm(input=x, axis=[1]), X),
    **{
        kind: (lambda x, kind=kind: getattr(RAW, kind)(input=x, axis=[1], keep_dims=True), normal(2, 5, 3))
        for kind in ("Max", "Min", "Mean", "Prod", "Sum")
    },
    "Sum of nothing": (lambda x: tf.reduce_sum(tf.reduce_sum(x, []), [0, 2]), normal(2, 5, 3)),
    "Cumsum": (lambda x: tf.cumsum(x, 1, reverse=True), X),
    "Cumprod": (lambda x: tf.math.cumprod(x, 1) + tf.math.cumprod(x, 1, exclusive=True, reverse=True), X),
    "AddN": (lambda x, y: tf.add_n([x, y, x]), X, Y),
    "ConcatV2": (lambda x, y: tf.concat([x, y, tf.zeros_like(x)], 1), X, Y),
    "Pack": (lambda x, y: tf.stack([x, tf.ones_like(y), y], 1), X, Y),
    "Unpack": (lambda x: tf.unstack(x, axis=1)[2], X),
    "IdentityN": (lambda x, y: sum(RAW.IdentityN(input=[x, tf.ones_like(y), y])), X, Y),
    "Split": (lambda x: tf.split(x, 5, axis=1)[3], X),
    "SplitV": (lambda x: tf.split(x, [2, 3], axis=1)[1], X),
    "Pad": (lambda x: RAW.Pad(input=x, paddings=[[1, 0], [0, 2]]), X),
    "PadV2": (lambda x: RAW.PadV2(input=x, paddings=[[1, 0], [0, 2]], constant_values=tf.constant(3.0, tf.float64)), X),
    "MirrorPad": (lambda x: tf.pad(x, [[0, 0], [1, 2]], "REFLECT"), X),
    "MirrorPadGrad": (lambda x: RAW.MirrorPadGrad(input=x, paddings=[[0, 0], [1, 1]], mode="REFLECT"), X),
    "Reshape": (lambda x: tf.reshape(x, [5, 2]), X),
    "Squeeze": (lambda x: tf.squeeze(x, [1]), X[:, None]),
    "ExpandDims": (lambda x: tf.expand_dims(x, 1), X),
    "Transpose": (lambda x: tf.transpose(x), X),
    "ConjugateTranspose": (lambda x: RAW.ConjugateTranspose(x=x, perm=[1, 0]), X),
    "Tile": (lambda x: tf.tile(x, [2, 1]), X),
    "BroadcastTo": (lambda x: tf.broadcast_to(x, [3, 2, 5]), X),
    "EnsureShape": (lambda x: tf.ensure_shape(x, [2, None]), X),
    "CheckNumerics": (lambda x: tf.debugging.check_numerics(x, "no"), X),
    "Slice": (lambda x: tf.slice(x, [0, 1], [2, 3]), X),
    "StridedSlice": (lambda x: x[:, ::-2], X),
    "StridedSliceGrad": (
        lambda x: RAW.StridedSliceGrad(shape=[2, 9], begin=[0, 0], end=[2, 9], strides=[1, 2], dy=x),
        X,
    ),
    "TensorStridedSliceUpdate": (
        lambda x, y: RAW.TensorStridedSliceUpdate(input=x, begin=[0, 1], end=[2, 3], strides=[1, 1], value=y),
        X,
        Y[:, :2],
    ),
    "ReverseV2": (lambda x: tf.reverse(x, [1]), X),
    "ReverseSequence": (lambda x: tf.reverse_sequence(x, [2, 4], seq_axis=1), X),
    "Roll": (lambda x: tf.roll(x, 2, 1), X),
    "GatherV2": (lambda x: tf.gather(x, [3, 0, 3], axis=1), X),
    "GatherNd": (lambda x: tf.gather_nd(x, [[0, 1], [1, 4]]), X),
    "ScatterNd": (lambda x: tf.scatter_nd([[1], [3]], x, [5, 5]), X),
    "TensorScatterUpdate": (lambda x, y: tf.tensor_scatter_nd_update(x, [[1]], y), X, Y[:1]),
    "TensorScatterAdd": (lambda x, y: tf.tensor_scatter_nd_add(x, [[1]], y), X, Y[:1]),
    "TensorScatterSub": (lambda x, y: tf.tensor_scatter_nd_sub(x, [[1]], y), X, Y[:1]),
    "DynamicPartition": (lambda x: tf.dynamic_partition(x, [1, 0], 2)[1], X),
    "DynamicStitch": (lambda x, y: tf.dynamic_stitch([[0, 2], [1, 3]], [x, y]), X, Y),
    "Fill": (lambda x: tf.fill([2, 3], x), np.array(0.7)),
    "Diag": (lambda x: tf.raw_ops.Diag(diagonal=x), X[0]),
    "DiagPart": (lambda x: tf.raw_ops.DiagPart(input=x), normal(3, 3)),
    "Trace": (lambda x: tf.linalg.trace(x), normal(3, 3)),
    **{
        kind: (lambda x, kind=kind: getattr(RAW, kind)(data=x, segment_ids=[0, 0, 2, 2, 2]), normal(5, 3))
        for kind in ("SegmentMax", "SegmentMean", "SegmentMin", "SegmentProd", "SegmentSum")
    },
    **{
        kind: (lambda x, kind=kind: getattr(RAW, kind)(data=x, segment_ids=IDS, num_segments=4), normal(5, 3))
        for kind in ("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd", "UnsortedSegmentSum")
    },
    **{
        kind: (
            lambda x, kind=kind: getattr(RAW, kind)(data=x, indices=[0, 2, 3], segment_ids=[0, 0, 1]),
            normal(5, 3),
        )
        for kind in ("SparseSegmentMean", "SparseSegmentSqrtN", "SparseSegmentSum")
    },
    "MatMul": (lambda a, b: tf.linalg.matmul(a, b, transpose_b=True), X, Y),
    "BatchMatMulV2": (lambda a, b: tf.linalg.matmul(a, b), normal(2, 3, 4), normal(4, 5)),
    "Einsum": (lambda a, b: tf.einsum("bij,bjk->bik", a, b), normal(2, 3, 4), normal(2, 4, 2)),
    "Einsum of one": (lambda a: tf.einsum("ij->j", a), X),
    "SparseTensorDenseMatMul": (
        lambda v, b: tf.sparse.sparse_dense_matmul(tf.SparseTensor([[0, 1], [2, 0]], v, [3, 2]), b),
        Y[0, :2],
        X,
    ),
    "Cross": (lambda a, b: tf.linalg.cross(a, b), normal(4, 3), normal(4, 3, seed=5)),
    "Conv2D": (lambda x, w: RAW.Conv2D(input=x, filter=w, **ONE), IMAGE, FILTER),
    "Conv2D, channels first": (
        lambda x, w: RAW.Conv2D(input=x, filter=w, data_format="NCHW", **ONE),
        normal(2, 3, 6, 7),
        FILTER,
    ),
    "Conv2D in groups": (lambda x, w: RAW.Conv2D(input=x, filter=w, **ONE), normal(1, 5, 5, 4), normal(3, 3, 2, 6)),
    "Conv2D by channel": (lambda x, w: RAW.Conv2D(input=x, filter=w, **ONE), normal(1, 5, 5, 4), normal(3, 3, 1, 8)),
    "Conv3D": (lambda x, w: RAW.Conv3D(input=x, filter=w, **ONE3), BIG, FILTER3),
    "DepthwiseConv2dNative": (
        lambda x, w: RAW.DepthwiseConv2dNative(input=x, filter=w, **ONE),
        IMAGE,
        normal(3, 2, 3, 2),
    ),
    "Conv2DBackpropInput": (
        lambda w, y: RAW.Conv2DBackpropInput(input_sizes=[2, 6, 7, 3], filter=w, out_backprop=y, **ONE),
        FILTER,
        normal(2, 6, 7, 4),
    ),
    "Conv2DBackpropFilter": (
        lambda x, y: RAW.Conv2DBackpropFilter(input=x, filter_sizes=[3, 2, 3, 4], out_backprop=y, **ONE),
        IMAGE,
        normal(2, 6, 7, 4),
    ),
    "Conv2DBackpropInput in groups": (
        lambda w, y: RAW.Conv2DBackpropInput(input_sizes=[2, 5, 5, 4], filter=w, out_backprop=y, **ONE),
        normal(3, 3, 2, 6),
        normal(2, 5, 5, 6),
    ),
    "Conv2DBackpropFilter in groups": (
        lambda x, y: RAW.Conv2DBackpropFilter(input=x, filter_sizes=[3, 3, 2, 6], out_backprop=y, **ONE),
        normal(2, 5, 5, 4),
        normal(2, 5, 5, 6),
    ),
    "Conv3DBackpropInputV2": (
        lambda w, y: RAW.Conv3DBackpropInputV2(input_sizes=[2, 5, 6, 4, 2], filter=w, out_backprop=y, **ONE3),
        FILTER3,
        normal(2, 5, 6, 4, 3),
    ),
    "DepthwiseConv2dNativeBackpropInput": (
        lambda w, y: RAW.DepthwiseConv2dNativeBackpropInput(input_sizes=[2, 6, 7, 3], filter=w, out_backprop=y, **ONE),
        normal(3, 2, 3, 2),
        normal(2, 6, 7, 6),
    ),
    "DepthwiseConv2dNativeBackpropFilter": (
        lambda x, y: RAW.DepthwiseConv2dNativeBackpropFilter(input=x, filter_sizes=[3, 2, 3, 2], out_backprop=y, **ONE),
        IMAGE,
        normal(2, 6, 7, 6),
    ),
    "BiasAdd": (RAW.BiasAdd, IMAGE, normal(3)),
    "BiasAdd, channels first": (
        lambda x, b: RAW.BiasAdd(value=x, bias=b, data_format="NCHW"),
        normal(2, 3, 6, 7),
        normal(3),
    ),
    "BiasAddGrad": (lambda y: RAW.BiasAddGrad(out_backprop=y), IMAGE),
    **{
        f"{kind} {padding}": (
            lambda x, kind=kind, padding=padding: getattr(RAW, kind)(
                **{"value" if kind == "AvgPool" else "input": x},
                ksize=[1, 3, 2, 1],
                strides=[1, 2, 2, 1],
                padding=padding,
            ),
            IMAGE,
        )
        for kind in ("AvgPool", "MaxPool")
        for padding in ("SAME", "VALID")
    },
    **{
        f"{kind} {padding}": (
            lambda x, kind=kind, padding=padding: getattr(RAW, kind)(
                input=x, ksize=[1, 2, 3, 2, 1], strides=[1, 2, 2, 1, 1], padding=padding
            ),
            BIG,
        )
        for kind in ("AvgPool3D", "MaxPool3D")
        for padding in ("SAME", "VALID")
    },
    "AvgPoolGrad": (
        lambda y: RAW.AvgPoolGrad(
            orig_input_shape=[2, 6, 6, 3], grad=y, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME"
        ),
        normal(2, 3, 3, 3),
    ),
    "AvgPool3DGrad": (
        lambda y: RAW.AvgPool3DGrad(
            orig_input_shape=[2, 4, 4, 4, 3], grad=y, ksize=[1, 3, 2, 2, 1], strides=[1, 2, 2, 2, 1], padding="SAME"
        ),
        normal(2, 2, 2, 2, 3),
    ),
    "MaxPoolGrad": (
        lambda y: RAW.MaxPoolGrad(
            orig_input=IMAGE,
            orig_output=RAW.MaxPool(input=IMAGE, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME"),
            grad=y,
            ksize=[1, 2, 2, 1],
            strides=[1, 2, 2, 1],
            padding="SAME",
        ),
        normal(2, 3, 4, 3),
    ),
    "MaxPool3DGrad": (
        lambda y: RAW.MaxPool3DGrad(
            orig_input=tf.constant(BIG, tf.float32),
            orig_output=RAW.MaxPool3D(
                input=tf.constant(BIG, tf.float32), ksize=[1, 2, 2, 2, 1], strides=[1, 2, 2, 2, 1], padding="SAME"
            ),
            grad=y,
            ksize=[1, 2, 2, 2, 1],
            strides=[1, 2, 2, 2, 1],
            padding="SAME",
        ),
        normal(2, 3, 3, 2, 2),
    ),
    "DepthToSpace": (lambda x: tf.nn.depth_to_space(x, 2), normal(1, 2, 3, 8)),
    "SpaceToDepth": (lambda x: tf.nn.space_to_depth(x, 2), normal(1, 4, 6, 2)),
    "SpaceToBatchND": (lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [1, 1]]), normal(1, 4, 6, 2)),
    "BatchToSpaceND": (lambda x: tf.batch_to_space(x, [2, 2], [[0, 0], [1, 0]]), normal(4, 4, 6, 2)),
    "ExtractImagePatches": (lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 2, 1], [1] * 4, "SAME"), IMAGE),
    **{
        kind: (lambda x, kind=kind: getattr(RAW, kind)(images=x, size=[9, 5]), IMAGE)
        for kind in ("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor")
    },
    "ResizeBilinear, centres": (lambda x: tf.image.resize(x, [9, 5]), IMAGE),
    "ResizeBilinearGrad": (
        lambda y: RAW.ResizeBilinearGrad(grads=y, original_image=tf.zeros([2, 6, 7, 3])),
        normal(2, 9, 5, 3),
    ),
    "ResizeBicubicGrad": (
        lambda y: RAW.ResizeBicubicGrad(grads=y, original_image=tf.zeros([2, 6, 7, 3])),
        normal(2, 9, 5, 3),
    ),
    "ResizeNearestNeighborGrad": (lambda y: RAW.ResizeNearestNeighborGrad(grads=y, size=[6, 7]), normal(2, 9, 5, 3)),
    "ScaleAndTranslate": (lambda x: tf.image.resize(x, [9, 5], "lanczos3", antialias=True), IMAGE),
    "CropAndResize": (
        lambda x: RAW.CropAndResize(
            image=x,
            boxes=[[0.1, 0.2, 0.8, 0.9], [-0.2, 0.0, 1.2, 1.0]],
            box_ind=[1, 0],
            crop_size=[3, 4],
            extrapolation_value=2.0,
        ),
        IMAGE,
    ),
    "CropAndResizeGradImage": (
        lambda y: RAW.CropAndResizeGradImage(
            grads=y, boxes=[[0.1, 0.2, 0.8, 0.9]], box_ind=[1], image_size=[2, 6, 7, 3], T=tf.float32
        ),
        normal(1, 3, 4, 3),
    ),
    "ImageProjectiveTransformV3": (
        lambda x: RAW.ImageProjectiveTransformV3(
            images=x,
            transforms=[[0.9, 0.1, 0.3, -0.1, 1.1, 0.2, 0.0, 0.0]],
            output_shape=[6, 7],
            fill_value=0.0,
            interpolation="BILINEAR",
        ),
        IMAGE,
    ),
    "LRN": (lambda x: tf.nn.lrn(x, 1, 1.0, 0.5, 0.7), IMAGE),
    "AdjustContrastv2": (lambda x: tf.image.adjust_contrast(x, 1.7), IMAGE),
    "SoftmaxCrossEntropyWithLogits": (
        lambda z, y: tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(y), z),
        X,
        P,
    ),
    "its gradient": (lambda z, y: RAW.SoftmaxCrossEntropyWithLogits(features=z, labels=y)[1], X, P),
    "SparseSoftmaxCrossEntropyWithLogits": (
        lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([1, 4]), z),
        X,
    ),
    "FusedBatchNormV3": (
        lambda x, s, o, m, v: RAW.FusedBatchNormV3(x=x, scale=s, offset=o, mean=m, variance=v, is_training=False)[0],
        IMAGE,
        normal(3),
        normal(3, seed=8),
        normal(3, seed=9),
        between(0.5, 2, 3),
    ),
    "FusedBatchNormV3 in training": (
        lambda x, s, o: RAW.FusedBatchNormV3(
            x=x, scale=s, offset=o, mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True
        )[0],
        IMAGE,
        normal(3),
        normal(3, seed=8),
    ),
    "MatrixSolve": (tf.linalg.solve, definite(2), normal(2, 3, 2)),
    "MatrixSolve, adjoint": (lambda a, b: tf.linalg.solve(a, b, adjoint=True), definite(2), normal(2, 3, 2)),
    "MatrixTriangularSolve": (tf.linalg.triangular_solve, definite(2), normal(2, 3, 2)),
    "MatrixTriangularSolve, upper": (
        lambda a, b: tf.linalg.triangular_solve(a, b, lower=False, adjoint=True),
        definite(2),
        normal(2, 3, 2),
    ),
    "MatrixInverse": (tf.linalg.inv, definite(2)),
    "MatrixDeterminant": (tf.linalg.det, definite(2)),
    "LogMatrixDeterminant": (lambda a: tf.linalg.slogdet(a)[1], definite(2)),
    "Cholesky": (symmetric(tf.linalg.cholesky), definite(2)),
    "SelfAdjointEigV2": (symmetric(lambda a: tf.linalg.eigh(a)[0]), definite(2) + np.diag([0.0, 3.0, 7.0])),
    "SelfAdjointEigV2, vectors": (
        symmetric(lambda a: tf.square(tf.linalg.eigh(a)[1])),
        definite(2) + np.diag([0.0, 3.0, 7.0]),
    ),
    "MatrixBandPart": (lambda a: tf.linalg.band_part(a, 1, 0), normal(2, 3, 3)),
    "MatrixDiagV3": (lambda x: tf.linalg.diag(x), X),
    "MatrixDiagPartV3": (lambda a: tf.linalg.diag_part(a), normal(2, 3, 3)),
    "MatrixSetDiagV3": (lambda a, x: tf.linalg.set_diag(a, x), normal(2, 3, 3), normal(2, 3)),
    "TopKV2": (lambda x: tf.math.top_k(x, 3)[0], X),
    "sort": (lambda x: tf.sort(x) * tf.cast(tf.argsort(x), x.dtype), X),
    "Complex": (
        lambda x, y: tf.math.real(tf.math.conj(tf.complex(x, y)) * tf.complex(y, x)) + tf.math.imag(tf.complex(y, x)),
        X,
        Y,
    ),
    "ComplexAbs": (lambda x, y: tf.abs(tf.complex(x, y)), X, Y),
    "Angle": (lambda x, y: tf.math.angle(tf.complex(x, y)), P, Y),
    **{
        kind: (
            lambda x, y, kind=kind: tf.math.real(getattr(RAW, kind)(input=tf.complex(x, y))) * 2.0,
            s,
            s[::-1].copy(),
        )
        for kind, s in (
            ("FFT", normal(4, 6)),
            ("IFFT", normal(4, 6)),
            ("FFT2D", normal(4, 6)),
            ("IFFT2D", normal(4, 6)),
        )
    },
    **{
        kind: (
            lambda x, y, kind=kind: tf.math.imag(getattr(RAW, kind)(input=tf.complex(x, y))),
            normal(2, 3, 4),
            normal(2, 3, 4),
        )
        for kind in ("FFT3D", "IFFT3D")
    },
    "RFFT": (lambda x: tf.math.real(tf.signal.rfft(x)) + tf.math.imag(tf.signal.rfft(x)), X),
    "RFFT2D": (lambda x: tf.math.real(tf.signal.rfft2d(x)), normal(2, 4, 6)),
    "RFFT3D": (lambda x: tf.math.real(tf.signal.rfft3d(x)), normal(2, 4, 6)),
    "IRFFT": (lambda x, y: tf.signal.irfft(tf.complex(x, y)), X, Y),
    "IRFFT2D": (lambda x, y: tf.signal.irfft2d(tf.complex(x, y)), normal(2, 4, 3), normal(2, 4, 3)),
    "IRFFT3D": (lambda x, y: tf.signal.irfft3d(tf.complex(x, y)), normal(2, 4, 3), normal(2, 4, 3)),
    **{
        kind: (getattr(RAW, kind), P, Y)
        for kind in ("TanhGrad", "SigmoidGrad", "SqrtGrad", "RsqrtGrad", "ReciprocalGrad")
    },
    **{
        kind: (lambda g, x, kind=kind: getattr(RAW, kind)(gradients=g, features=x), Y, X)
        for kind in ("SoftplusGrad", "SoftsignGrad", "ReluGrad", "LeakyReluGrad", "Relu6Grad")
    },
    "Relu6Grad, of what came out": (lambda g, x: RAW.Relu6Grad(gradients=g, features=tf.nn.relu6(8 * x)), Y, X),
    **{
        kind: (lambda g, y, kind=kind: getattr(RAW, kind)(gradients=g, outputs=y), Y, X)
        for kind in ("EluGrad", "SeluGrad")
    },
    **{
        f"{kind}, of x too": (
            lambda x, g, pool=pool, kind=kind, at=at: getattr(RAW, kind)(
                orig_input=x, orig_output=getattr(RAW, pool)(input=x, **at), grad=g, **at
            ),
            x,
            normal(*shape),
        )
        for pool, x, at, small in (
            ("MaxPool", IMAGE, POOL, (2, 3, 4, 3)),
            ("MaxPool3D", BIG, POOL3, (2, 3, 3, 2, 2)),
        )
        for kind, shape in ((f"{pool}Grad", small), (f"{pool}GradGrad", x.shape))
    },
    "FusedBatchNormGradV3": (
        lambda g, x, s, m, v: _batch_norm_grad(g, x, s, m, v, training=False),
        IMAGE,
        normal(2, 6, 7, 3, seed=5),
        normal(3),
        normal(3, seed=9),
        between(0.5, 2, 3),
    ),
    "FusedBatchNormGradV3 in training": (
        lambda g, x, s: _batch_norm_grad(
            g, x, s, tf.reduce_mean(x, [0, 1, 2]), tf.math.reduce_variance(x, [0, 1, 2]), training=True
        ),
        IMAGE,
        normal(2, 6, 7, 3, seed=5),
        normal(3),
    ),
    "LRNGrad": (
        lambda g, x: RAW.LRNGrad(
            input_grads=g,
            input_image=x,
            output_image=tf.nn.lrn(x, 1, 1.0, 0.5, 0.7),
            depth_radius=1,
            bias=1.0,
            alpha=0.5,
            beta=0.7,
        ),
        normal(2, 6, 7, 3, seed=5),
        IMAGE,
    ),
    **{
        f"SparseSegment{kind}Grad": (
            lambda g, kind=kind: getattr(RAW, f"SparseSegment{kind}Grad")(
                grad=g, indices=[0, 2, 3], segment_ids=[0, 0, 1], output_dim0=5
            ),
            normal(2, 3),
        )
        for kind in ("Mean", "SqrtN", "Sum")
    },
    "Polygamma": (lambda x: tf.math.polygamma(tf.ones_like(x), 3 + x), between(0.2, 0.9, 2, 5)),
    "ScaleAndTranslateGrad": (
        lambda g: RAW.ScaleAndTranslateGrad(
            grads=g,
            original_image=tf.zeros([2, 6, 7, 3]),
            kernel_type="lanczos3",
            antialias=True,
            scale=tf.constant([1.4, 2.25]),
            translation=tf.constant([0.2, -0.3]),
        ),
        normal(2, 7, 9, 3),
    ),
    **{
        kind: (
            lambda g, x, kind=kind, ends=ends: tf.concat(
                [tf.reshape(t, [-1]) for t in tf.nest.flatten(getattr(RAW, kind)(gradients=g, inputs=x, **ends))], 0
            ),
            Y,
            X,
        )
        for kind, ends in (
            ("FakeQuantWithMinMaxArgsGradient", {"min": -0.6, "max": 0.7}),
            ("FakeQuantWithMinMaxVarsGradient", {"min": -0.6, "max": 0.7}),
            (
                "FakeQuantWithMinMaxVarsPerChannelGradient",
                {"min": [-0.6, -1.0, -0.2, -0.6, -2.0], "max": [0.7, 0.5, 0.9, 1.0, 2.0]},
            ),
        )
    },
    "PreventGradient": (lambda x: RAW.PreventGradient(input=x), X),
}
#: Where nothing is smooth, or where TensorFlow has no gradient.
NO_AUTODIFF = {
    *(
        "Sign",
        "Floor",
        "Ceil",
        "Rint",
        "Round",
        "StopGradient",
        "FloorDiv",
        "TruncateDiv",
        "TruncateMod",
        "PreventGradient",
    ),
    *("Fill", "Ndtri", "AvgPool3DGrad", "MirrorPadGrad", "ResizeBicubicGrad", "CropAndResizeGradImage", "SegmentProd"),
    *("ResizeNearestNeighborGrad", "SparseSegmentMean", "TensorStridedSliceUpdate", "DynamicPartition", "its gradient"),
    *(
        "UnsortedSegmentProd",
        "SegmentMax",
        "LRN",
        "AdjustContrastv2",
        "MaxPoolGrad",
        "MaxPool3DGrad",
        *("MaxPool3DGrad, of x too", "MaxPool3DGradGrad, of x too", "LRNGrad", "ScaleAndTranslateGrad"),
        *(f"FakeQuantWithMinMax{kind}Gradient" for kind in ("Args", "Vars", "VarsPerChannel")),
        *(f"FusedBatchNormGradV3{how}" for how in ("", " in training")),
        *(f"SparseSegment{kind}Grad" for kind in ("Mean", "SqrtN", "Sum")),
        "EluGrad",
        "SeluGrad",
    ),
    *("MulNoNan", "ResizeArea", "ConjugateTranspose", "SoftsignGrad", "RFFT3D", "IRFFT3D", "Conv2D in groups"),
    *("Conv2DBackpropInput in groups", "Conv2DBackpropFilter in groups"),
    # No kernel in float64, or (the last one) a gradient that is no more than close.
    *("AvgPool3D SAME", "AvgPool3D VALID", "MaxPool3D SAME", "MaxPool3D VALID", "Conv2D, channels first", "Cast"),
    *("Conv2D by channel", "FusedBatchNormV3", "FusedBatchNormV3 in training", "CropAndResize", "ResizeBilinearGrad"),
    *("ImageProjectiveTransformV3", "ScaleAndTranslate"),
}
#: Traced in float32, for want of a kernel in float64, and lifted.
LIFTED = {
    *("MaxPool3D SAME", "MaxPool3D VALID", "MaxPool3DGrad", "LRN", "FusedBatchNormV3", "FusedBatchNormV3 in training"),
    *("ResizeBilinearGrad", "ResizeBicubicGrad", "CropAndResizeGradImage"),
    *("MaxPool3DGrad, of x too", "MaxPool3DGradGrad, of x too", "LRNGrad", "ScaleAndTranslateGrad"),
    *(f"FakeQuantWithMinMax{kind}Gradient" for kind in ("Args", "Vars", "VarsPerChannel")),
    *("FusedBatchNormGradV3", "FusedBatchNormGradV3 in training"),
}
SEEN: set[str] = set()


def taped(name):
    """The tape of a case at its arrays, and what they are."""
    f, *arrays = CASES[name]
    tensors = [tf.constant(np.asarray(a, np.float64)) for a in arrays]
    names = list(f.__code__.co_varnames) if f.__name__ == "<lambda>" else None
    assert names is None or len(names) >= len(arrays)
    call = f if f.__name__ == "<lambda>" or f.__module__.startswith(("test", "tensorflow.python.ops.linalg")) else None
    if call is None:
        parameters = [p for p in __import__("inspect").signature(f).parameters][: len(arrays)]

        def call(*given):
            return f(**dict(zip(parameters, given, strict=True)))

    dtype = tf.float32 if name in LIFTED else tf.float64
    specs = [tf.TensorSpec(t.shape, dtype) for t in tensors]
    concrete = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
    return Recorder(concrete), tensors, call


def moves(arrays, size, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for a in arrays:
        scale = np.abs(a.numpy()).max()
        found.append(size * scale * rng.choice([-1, 1], (ROWS, *a.shape)) * rng.uniform(0.5, 1, (ROWS, *a.shape)))
    return found


@pytest.mark.parametrize("size", [0.05, 0.4], ids=["small", "large"])
@pytest.mark.parametrize("name", CASES)
def test_a_move_of_any_size_is_what_subtraction_gives(name, size):
    if size > 0.05 and name in (
        "Acos",
        "Asin",
        "Atanh",
        "Erfinv",
        "Ndtri",
        "Cholesky",
        "SelfAdjointEigV2",
        "SelfAdjointEigV2, vectors",
    ):
        size = 0.1  # they are defined on a short interval, or their rule is for small moves
    recorder, tensors, _ = taped(name)
    tape = recorder(tensors)
    SEEN.update(entry.kernel.kind for entry in tape.entries)
    every = moves(tensors, size)
    for which in [(i,) for i in range(len(tensors))] + ([tuple(range(len(tensors)))] if len(tensors) > 1 else []):
        notes = Notes()
        moved = {tape.arguments[i]: tf.constant(every[i]) for i in which}
        (found,) = push(tape, moved, ROWS, notes=notes)
        base = tape.values[tape.outputs[0]].numpy()
        for row in range(ROWS):
            at = [t + every[i][row] if i in which else t for i, t in enumerate(tensors)]
            there = recorder(at)
            wanted = there.values[there.outputs[0]].numpy() - base
            mine = np.zeros_like(wanted) if found is None else found[row].numpy()
            largest = max(np.abs(base).max(), np.abs(wanted).max(), 1e-300)
            # What the subtraction itself loses: some units in the last place of the largest value.
            np.testing.assert_allclose(mine, wanted, rtol=0, atol=2e-13 * largest, err_msg=str(which))
        if name not in (
            "Cholesky",
            "SelfAdjointEigV2",
            "SelfAdjointEigV2, vectors",
            "MatrixDeterminant",
            "LogMatrixDeterminant",
            "sort",
        ):
            assert notes.subtracted == []


@pytest.mark.parametrize("name", sorted(set(CASES) - NO_AUTODIFF))
def test_a_tiny_move_is_the_derivative(name):
    recorder, tensors, call = taped(name)
    tape = recorder(tensors)
    every = moves(tensors, 1.0)
    h = 2.0**-100
    notes = Notes()
    (found,) = push(
        tape, {i: tf.constant(h * d) for i, d in zip(tape.arguments, every, strict=True)}, ROWS, notes=notes
    )
    assert notes.subtracted == []
    with tf.GradientTape() as gradient:
        gradient.watch(tensors)
        value = call(*tensors)
        weights = tf.constant(normal(*value.shape, seed=11))
        total = tf.reduce_sum(tf.cast(value, tf.float64) * weights)
    slopes = gradient.gradient(total, tensors, unconnected_gradients="zero")
    slopes = [tf.convert_to_tensor(s).numpy() for s in slopes]
    for row in range(ROWS):
        terms = [s * d[row] for s, d in zip(slopes, every, strict=True)]
        mine = 0.0 if found is None else float(np.sum(found[row].numpy() / h * weights.numpy()))
        size = sum(np.abs(t).sum() for t in terms)
        # Both sum up as many terms in another order; kernels of float32 gradients (resize) keep seven digits.
        digits = 1e-6 if "Resize" in name else 1e-12
        assert abs(mine - sum(t.sum() for t in terms)) <= digits * max(size, 1e-300)
    assert not any(bool(tf.reduce_any(tie)) for _, tie, _ in notes.branches if tie is not None)


def test_every_rule_has_been_tried():
    if len(SEEN) > 150:  # where only some cases were selected, not
        ruled = {kind for kind, entry in TABLE.items() if entry.difference is not None}
        assert ruled - SEEN - ELSEWHERE - {"Shape", "ShapeN", "Size", "Rank"} == set()


@pytest.mark.parametrize("kind", ["Relu", "Abs", "MaxPool", "Maximum", "Greater", "Sign", "Max"])
def test_a_wrong_rule_is_found_out(kind, monkeypatch):
    entry = TABLE[kind]
    rule = entry.smooth

    def wrong(call):
        found, special = rule(call)
        return (tf.zeros([call.count, *call.out[0].shape], tf.float64) if found is None else 1.01 * found), special

    monkeypatch.setattr(entry, "smooth", wrong)
    monkeypatch.setattr(entry, "difference", lambda call: tf.ones([call.count, *call.out[0].shape], tf.float64))
    name = next(n for n in CASES if n.split()[0] == kind)
    with pytest.raises(AssertionError):
        test_a_move_of_any_size_is_what_subtraction_gives(name, 0.05)


@pytest.mark.parametrize(
    ("f", "x", "d", "wanted"),
    [
        (tf.nn.relu, [0.0], [-1e-30], [0.0]),
        (tf.nn.relu, [0.0], [1e-30], [1e-30]),
        (tf.abs, [0.0], [-1e-30], [1e-30]),
        (lambda x: tf.reduce_max(x, 0), [2.0, 2.0, 1.0], [1e-30, -1e-30, 5e-30], 1e-30),
        (lambda x: tf.maximum(x[0], x[1]), [2.0, 2.0], [-2e-30, -1e-30], -1e-30),
        # Equal but for rounding: which of them is the largest is chance.
        (lambda x: tf.reduce_max(x, 0), [2.0, 2.0 - 2.0**-52, 1.0], [1e-30, 3e-30, 5e-30], 3e-30),
        (lambda x: tf.reduce_min(x, 0), [2.0, 2.0 + 2.0**-51, 3.0], [1e-30, -3e-30, 5e-30], -3e-30),
        (lambda x: tf.maximum(x[0], x[1]), [2.0, 2.0 + 2.0**-51], [3e-30, 1e-30], 3e-30),
        (
            lambda x: tf.nn.max_pool1d(x[None, :, None], 3, 1, "VALID"),
            [2.0, 2.0 - 2.0**-52, 1.0],
            [1e-30, 3e-30, 0.0],
            [[[3e-30]]],
        ),
        (lambda x: tf.cast(x > 1.0, tf.float64), [1.0], [1e-30], [1.0]),
        (lambda x: tf.cast(x > 1.0, tf.float64), [1.0], [-1e-30], [0.0]),
        (tf.floor, [1.0], [-1e-30], [-1.0]),
        (tf.sign, [0.0], [1e-30], [1.0]),
        (lambda x: tf.nn.relu6(x), [6.0], [1e-30], [0.0]),
        (lambda x: tf.sort(x)[0], [1.0, 1.0], [3e-30, 1e-30], 1e-30),
    ],
)
def test_ties_are_broken_by_the_move_and_noted(f, x, d, wanted):
    spec = tf.TensorSpec([len(x)], tf.float64)
    tape = Recorder(tf.function(f, input_signature=[spec], autograph=False).get_concrete_function())([np.array(x)])
    notes = Notes()
    (found,) = push(tape, {tape.arguments[0]: tf.constant([d], tf.float64)}, 1, notes=notes)
    np.testing.assert_array_equal(np.zeros(1) if found is None else found[0], wanted)
    assert [bool(tie.numpy().all()) for _, tie, _ in notes.branches if tie.numpy().any()]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tf.reduce_max(x, 0),
        lambda x: tf.maximum(x[0], x[1]),
        lambda x: tf.nn.max_pool1d(x[None, :, None], 2, 1, "VALID"),
    ],
)
def test_what_is_apart_by_more_than_rounding_does_not_tie(f):
    x, spec = [2.0, 2.0 - 2.0**-40], tf.TensorSpec([2], tf.float64)
    tape = Recorder(tf.function(f, input_signature=[spec], autograph=False).get_concrete_function())([np.array(x)])
    notes = Notes()
    (found,) = push(tape, {tape.arguments[0]: tf.constant([[1e-30, 3e-30]], tf.float64)}, 1, notes=notes)
    assert float(tf.reshape(found, [])) == 1e-30
    assert not notes.ties
