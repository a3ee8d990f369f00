"""Every rule of `fdfast.operations.rows`: operations at many rows at once give what they give row by row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions.over_rows import as_array
from fdfast.functions.single import Single
from fdfast.functions.stacked import Stacked
from fdfast.operations import TABLE

ROWS = 3
RNG = np.random.default_rng(0)
RAW = tf.raw_ops


def normal(*shape, dtype="float32"):
    return RNG.normal(size=shape).astype(dtype)


def positive(*shape):
    return RNG.uniform(0.1, 0.9, shape).astype("float32")


def stack(f, arguments, place):
    """Rows of one argument, f of all of them at once, and one by one."""
    tensors = [tf.constant(a) for a in arguments]
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]
    one = Single(f, specs)
    moving = np.asarray(arguments[place])
    rows = np.stack([moving * np.asarray(1 + 0.1 * i).astype(moving.dtype) for i in range(ROWS)])
    together = Stacked(one.traced, place).bind(tensors)(rows)
    apart = []
    for row in rows:
        tensors[place] = tf.constant(row)
        apart.append([as_array(t) for t in tf.nest.flatten(f(*tensors))])
    return [as_array(t) for t in together], [np.stack(column) for column in zip(*apart, strict=True)], one


UNARY = [
    *["Abs", "Acos", "Angle", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Conj", "Cos", "Cosh", "Digamma", "Elu", "Erf"],
    *["Erfc", "Erfinv", "Exp", "Expm1", "Floor", "Identity", "Imag", "Inv", "IsFinite", "IsInf", "IsNan", "LeakyRelu"],
    *["Lgamma", "Log", "Log1p", "Ndtri", "Neg", "OnesLike", "PreventGradient", "Real", "Reciprocal", "Relu", "Relu6"],
    *["Rint", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Snapshot", "Softplus", "Softsign", "Sqrt"],
    *["Square", "StopGradient", "Tan", "Tanh", "ZerosLike"],
]
COMPLEX = ["Angle", "Conj", "Imag", "Real"]
BINARY = [
    *["Add", "AddV2", "Atan2", "Complex", "Div", "DivNoNan", "Equal", "FloorDiv", "FloorMod", "Greater", "Igamma"],
    *["GreaterEqual", "Igammac", "Less", "LessEqual", "Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "NotEqual"],
    *["Pow", "RealDiv", "SquaredDifference", "Sub", "TruncateMod", "Xdivy", "Xlog1py", "Xlogy"],
]
OF_GRADIENT = [
    *["EluGrad", "InvGrad", "LeakyReluGrad", "ReciprocalGrad", "Relu6Grad", "ReluGrad", "RsqrtGrad", "SeluGrad"],
    *["SigmoidGrad", "SoftplusGrad", "SoftsignGrad", "SqrtGrad", "TanhGrad"],
]


def raw(name):
    """A raw operation by position."""
    names = [arg.name for arg in tf.raw_ops.__dict__[name].__signature__.parameters.values()]
    return lambda *inputs, **options: getattr(RAW, name)(**dict(zip(names, inputs, strict=False)), **options)


IMAGE, FILTER = normal(2, 6, 5, 3), normal(3, 2, 3, 4)
VOLUME, FILTER3 = normal(2, 4, 5, 3, 2), normal(2, 2, 2, 2, 3)
HALF = normal(2, 3, 3, 4)  # of IMAGE by FILTER, stride 2
SQUARE = normal(4, 4, dtype="float64") + 4 * np.eye(4)
DIAGONAL = {"k": 0, "padding_value": np.float64(0)}
SIZE = [9, 8]
IDS = [[0, 1], [1, 0]]
WINDOW = normal(2, 2, 3)
NHWC = {"strides": [1, 2, 2, 1], "padding": "SAME"}
NDHWC = {"strides": [1, 1, 2, 1, 1], "padding": "SAME"}
POOL = {"ksize": [1, 3, 2, 1], **NHWC}
POOL3 = {"ksize": [1, 2, 2, 2, 1], **NDHWC}


def pool(x):
    return RAW.MaxPool(input=x, **POOL)


def pool3(x):
    return RAW.MaxPool3D(input=x, **POOL3)


def twice(kind, at):
    """What a second backward pass through a pool sees."""

    def pull(x, seen):
        y = getattr(RAW, kind)(input=x, **at)
        return getattr(RAW, f"{kind}GradGrad")(orig_input=x, orig_output=y, grad=seen, **at)

    return pull


def backward(run):
    """The gradient of an operation of one tensor, as a function of the tensor and of the upstream gradient."""

    def pull(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
        return tape.gradient(y, x, dy)

    return pull


BOXES = [[0.1, 0.1, 0.8, 0.9], [0.0, 0.2, 0.7, 0.7], [0.2, 0.0, 0.9, 1.0]]
OWNERS = [1, 0, 1]


def crop_back(dy):
    return RAW.CropAndResizeGradImage(
        grads=dy, boxes=BOXES, box_ind=OWNERS, image_size=[2, 6, 5, 3], T=tf.float32, method="bilinear"
    )


# What is called, with which arguments; every one of these moves in turn, unless places are given.
CASES = {
    "Cast": (lambda x: tf.cast(x, tf.float64), [normal(2, 3)]),
    "Acosh": (tf.acosh, [1 + positive(2, 3)]),
    "ComplexAbs": (tf.abs, [normal(2, 3) + 1j * normal(2, 3)]),
    "logic": (lambda x: tf.logical_not((x > 0) & (x < 1) | (x < -1)), [normal(4, 3)]),
    "BitwiseAnd, TruncateDiv": (
        lambda x: tf.bitwise.bitwise_and(RAW.TruncateDiv(x=tf.cast(9 * x, tf.int32), y=2), 3),
        [normal(4, 3)],
    ),
    "Polygamma": (lambda x: tf.math.polygamma(tf.ones_like(x), x), [positive(3)]),
    "Zeta": (lambda x: tf.math.zeta(2 + x, x), [positive(3)]),
    "SelectV2": (lambda x, y: tf.where(x > 0, x, y), [normal(2, 4), normal(4)]),
    "SelectV2 of another rank": (lambda x, y: tf.where(y > 0, x, y), [np.float32(2), normal(3, 4)]),
    "AddN": (lambda x, y: tf.add_n([x, y, x]), [normal(2, 3), normal(2, 3)]),
    "IdentityN": (lambda x, y: tf.identity_n([x, y]), [normal(2, 3), normal(4)]),
    "ClipByValue": (lambda x: RAW.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.5), [normal(2, 3)]),
    "ClipByValue of arrays": (
        lambda x, low: RAW.ClipByValue(t=x, clip_value_min=low, clip_value_max=low + 0.1),
        [normal(2, 3), normal(2, 3)],
        [0],
    ),
    "EnsureShape": (lambda x: RAW.EnsureShape(input=x, shape=[None, 3]), [normal(2, 3)]),
    "shapes": (lambda x: x * tf.cast(tf.size(x) + tf.rank(x) + tf.shape(x)[1], x.dtype), [normal(2, 3)]),
    "ShapeN": (lambda x: tf.reshape(x, RAW.ShapeN(input=[tf.transpose(x)])[0]), [normal(2, 3)]),
    "not of the rows": (lambda x, y: [tf.sin(y), x], [normal(2), normal(3)], [0]),
    # axes
    **{
        name: (lambda x, name=name: getattr(RAW, name)(input=x, axis=[-1, 0], keep_dims=False), [normal(2, 3, 4)])
        for name in ("EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")
    },
    "kept axes": (lambda x: tf.reduce_sum(x, 1, keepdims=True), [normal(2, 3, 4)]),
    "Sum of a number": (lambda x: RAW.Sum(input=x, axis=[]), [np.float32(2)]),
    "All, Any": (lambda x: [tf.reduce_all(x > -1, 0), tf.reduce_any(x > 0, -1)], [normal(3, 4)]),
    "ArgMax, ArgMin": (lambda x: [tf.argmax(x, 0), tf.argmin(x, -1)], [normal(3, 4)]),
    "Cumsum, Cumprod": (lambda x: [tf.cumsum(x, 0), tf.math.cumprod(x, -1, reverse=True)], [normal(3, 4)]),
    "ReverseV2": (lambda x: tf.reverse(x, [0, -1]), [normal(2, 3, 4)]),
    "Reshape": (lambda x: tf.reshape(x, [4, -1]), [normal(2, 3, 4)]),
    "Reshape to a number": (lambda x: tf.reshape(x, []), [normal(1, 1)]),
    "Squeeze": (lambda x: [tf.squeeze(x), tf.squeeze(x, 0), tf.squeeze(x, [-1])], [normal(1, 3, 1)]),
    "ExpandDims": (lambda x: [tf.expand_dims(x, axis) for axis in (-3, -2, -1, 0, 1, 2)], [normal(2, 3)]),
    "Transpose": (lambda x: tf.transpose(x, [2, 0, 1]), [normal(2, 3, 4)]),
    "ConjugateTranspose": (lambda x: tf.transpose(x, conjugate=True), [normal(2, 3) + 1j * normal(2, 3)]),
    "BroadcastTo": (lambda x: tf.broadcast_to(x, [4, 2, 3]), [normal(2, 1)]),
    "Tile": (lambda x: tf.tile(x, [2, 3]), [normal(2, 3)]),
    "Pad, PadV2": (
        lambda x: [tf.pad(x, [[1, 0], [0, 2]]), tf.pad(x, [[1, 0], [0, 2]], constant_values=3.0)],
        [normal(2, 3)],
    ),
    "MirrorPad": (lambda x: tf.pad(x, [[1, 0], [0, 2]], "REFLECT"), [normal(2, 3)]),
    "MirrorPadGrad": (backward(lambda x: tf.pad(x, [[1, 0], [0, 2]], "REFLECT")), [normal(2, 3), normal(3, 5)], [1]),
    "Slice": (lambda x: tf.slice(x, [1, 0], [-1, 2]), [normal(3, 4)]),
    "StridedSlice": (
        lambda x: [x[1:, ::2], x[:, -1], x[..., None, 1], x[::-1, :2], x[0], x[..., 1:3, :1]],
        [normal(3, 4)],
    ),
    "StridedSliceGrad": (
        lambda x, *dys: [
            backward(cut)(x, dy)
            for cut, dy in zip((lambda x: x[1:, ::2], lambda x: x[..., None, 1], lambda x: x[0]), dys, strict=True)
        ],
        [normal(3, 4), normal(2, 2), normal(3, 1), normal(4)],
        [1, 2, 3],
    ),
    "ConcatV2": (lambda x, y: [tf.concat([x, y], 0), tf.concat([y, x], -1)], [normal(2, 3), normal(2, 3)]),
    "Pack": (lambda x, y: [tf.stack([x, y], axis) for axis in (0, 1, -1)], [normal(2, 3), normal(2, 3)]),
    "Unpack": (lambda x: [*tf.unstack(x), *tf.unstack(x, axis=-1)], [normal(2, 3)]),
    "Split, SplitV": (lambda x: [*tf.split(x, 2), *tf.split(x, [1, 2], -1)], [normal(2, 3)]),
    "GatherV2": (lambda x: [tf.gather(x, [2, 0, 0, 1]), tf.gather(x, [[1], [3]], axis=-1)], [normal(3, 4)]),
    "UnsortedSegmentSum": (
        lambda x: tf.math.unsorted_segment_sum(x, [[0, 2], [-1, 0], [1, 2]], 4),
        [normal(3, 2, 5)],
    ),
    "InplaceUpdate": (lambda x, v: RAW.InplaceUpdate(x=x * 1, i=[2, 0], v=v), [normal(3, 4), normal(2, 4)]),
    "GatherV2 in batches": (lambda x: tf.gather(x, [[0, 2], [1, 1]], batch_dims=1), [normal(2, 3, 4)]),
    "Roll": (lambda x: [tf.roll(x, [1, -2], [0, -1]), tf.roll(x, 1, 1)], [normal(3, 4)]),
    # rows behind the axes that are picked from
    "GatherNd": (lambda x: [tf.gather_nd(x, [[0, 1], [2, 2]]), tf.gather_nd(x, [[[1]]])], [normal(3, 3, 2)]),
    "ScatterNd": (
        lambda x: [tf.scatter_nd([[0], [4], [0]], x, [6, 5]), tf.scatter_nd([[0, 1], [1, 1], [0, 0]], x, [2, 2, 5])],
        [normal(3, 5)],
    ),
    **{
        f"TensorScatter{name}": (
            lambda x, u, name=name: getattr(RAW, f"TensorScatter{name}")(tensor=x, indices=[[0], [3]], updates=u),
            [normal(5, 3), normal(2, 3)],
        )
        for name in ("Add", "Max", "Min", "Sub", "Update")
    },
    **{
        f"Segment{name}": (
            lambda x, name=name: getattr(RAW, f"Segment{name}")(data=x, segment_ids=[0, 0, 2, 2]),
            [normal(4, 3)],
        )
        for name in ("Max", "Mean", "Min", "Prod", "Sum")
    },
    **{
        f"UnsortedSegment{name}": (
            lambda x, name=name: getattr(RAW, f"UnsortedSegment{name}")(data=x, segment_ids=IDS, num_segments=2),
            [normal(2, 2, 3)],
        )
        for name in ("Max", "Min", "Prod")
    },
    "DynamicStitch": (lambda x, y: RAW.DynamicStitch(indices=[[0, 2], [1]], data=[x, y]), [normal(2, 3), normal(1, 3)]),
    "ParallelDynamicStitch": (
        lambda x, y: RAW.ParallelDynamicStitch(indices=[[0, 2], [1]], data=[x, y]),
        [normal(2, 3), normal(1, 3)],
    ),
    "DynamicPartition": (lambda x: tf.dynamic_partition(x, [0, 1, 0], 2), [normal(3, 2)]),
    "SparseTensorDenseMatMul": (
        lambda x: tf.sparse.sparse_dense_matmul(tf.SparseTensor([[0, 1], [2, 3]], [1.0, -2.0], [5, 4]), x),
        [normal(4, 3)],
    ),
    "ReverseSequence": (lambda x: tf.reverse_sequence(x, [2, 4], seq_axis=1), [normal(2, 5, 3)]),
    "SpaceToBatchND": (lambda x: tf.space_to_batch(x, [2, 3], [[0, 0], [1, 1]]), [normal(2, 4, 4, 2)]),
    "BatchToSpaceND": (lambda x: tf.batch_to_space(x, [2, 3], [[0, 0], [1, 0]]), [normal(12, 2, 2, 3)]),
    # rows as more of the batch
    "ExtractImagePatches": (
        lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 1, 1], [1, 1, 1, 1], "SAME"),
        [IMAGE],
    ),
    "Dilation2D": (lambda x: tf.nn.dilation2d(x, WINDOW, [1] * 4, "SAME", "NHWC", [1] * 4), [IMAGE]),
    "Dilation2DBackpropInput": (
        backward(lambda x: tf.nn.dilation2d(x, WINDOW, [1] * 4, "SAME", "NHWC", [1] * 4)),
        [IMAGE, IMAGE[::-1].copy()],
        [1],
    ),
    "ScaleAndTranslate": (lambda x: tf.image.resize(x, (3, 3), antialias=True), [IMAGE]),
    "ScaleAndTranslateGrad": (
        backward(lambda x: tf.image.resize(x, (3, 3), antialias=True)),
        [IMAGE, normal(2, 3, 3, 3)],
        [1],
    ),
    "MaxPool": (pool, [IMAGE]),
    "MaxPoolGrad": (backward(pool), [IMAGE, normal(2, 3, 3, 3)]),
    "MaxPoolGradGrad": (twice("MaxPool", POOL), [IMAGE, IMAGE[::-1].copy()]),
    "MaxPool3DGradGrad": (twice("MaxPool3D", POOL3), [VOLUME, VOLUME[::-1].copy()]),
    "LRNGrad": (backward(lambda x: tf.nn.local_response_normalization(x, 1)), [IMAGE, IMAGE[::-1].copy()]),
    "MaxPool3D": (pool3, [VOLUME]),
    "MaxPool3DGrad": (backward(pool3), [VOLUME, normal(2, 4, 3, 3, 2)]),
    "AvgPool": (lambda x: RAW.AvgPool(value=x, **POOL), [IMAGE]),
    "AvgPoolGrad": (backward(lambda x: RAW.AvgPool(value=x, **POOL)), [IMAGE, normal(2, 3, 3, 3)], [1]),
    "AvgPool3D": (lambda x: RAW.AvgPool3D(input=x, **POOL3), [VOLUME]),
    "AvgPool3DGrad": (backward(lambda x: RAW.AvgPool3D(input=x, **POOL3)), [VOLUME, normal(2, 4, 3, 3, 2)], [1]),
    "DepthToSpace": (lambda x: tf.nn.depth_to_space(x, 2), [normal(2, 2, 3, 8)]),
    "SpaceToDepth": (lambda x: tf.nn.space_to_depth(x, 2), [normal(2, 4, 6, 3)]),
    "LRN": (lambda x: tf.nn.local_response_normalization(x, 1), [IMAGE]),
    "ResizeArea": (lambda x: tf.image.resize(x, SIZE, "area"), [IMAGE]),
    "ResizeBicubic": (lambda x: RAW.ResizeBicubic(images=x, size=SIZE), [IMAGE]),
    "ResizeBicubicGrad": (
        lambda dy: RAW.ResizeBicubicGrad(grads=dy, original_image=tf.zeros([2, 6, 5, 3])),
        [normal(2, 9, 8, 3)],
    ),
    "ResizeBilinear": (lambda x: tf.image.resize(x, SIZE), [IMAGE]),
    "ResizeBilinearGrad": (backward(lambda x: tf.image.resize(x, SIZE)), [IMAGE, normal(2, 9, 8, 3)]),
    "ResizeNearestNeighbor": (lambda x: tf.image.resize(x, SIZE, "nearest"), [IMAGE]),
    "ResizeNearestNeighborGrad": (
        backward(lambda x: tf.image.resize(x, SIZE, "nearest")),
        [IMAGE, normal(2, 9, 8, 3)],
        [1],
    ),
    "CropAndResize": (lambda x: tf.image.crop_and_resize(x, BOXES, OWNERS, (4, 3)), [IMAGE]),
    "CropAndResizeGradImage": (crop_back, [normal(3, 4, 3, 3)]),
    "SparseSoftmaxCrossEntropyWithLogits": (
        lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits([0, 2], x),
        [normal(2, 3)],
    ),
    "SoftmaxCrossEntropyWithLogits": (
        lambda x, p: RAW.SoftmaxCrossEntropyWithLogits(features=x, labels=p),
        [normal(2, 3), positive(2, 3)],
    ),
    "Softmax, LogSoftmax": (lambda x: [tf.nn.softmax(x), tf.nn.log_softmax(x)], [normal(2, 3)]),
    # rows as more channels
    "BiasAdd": (tf.nn.bias_add, [IMAGE, normal(3)]),
    "BiasAddGrad": (lambda dy: RAW.BiasAddGrad(out_backprop=dy), [IMAGE]),
    "Conv2D": (lambda x, w: RAW.Conv2D(input=x, filter=w, **NHWC), [IMAGE, FILTER]),
    "Conv2D in groups": (lambda x, w: RAW.Conv2D(input=x, filter=w, **NHWC), [normal(2, 6, 5, 6), FILTER], [0]),
    "Conv2D with borders": (
        lambda x, w: tf.nn.conv2d(x, w, 1, [[0, 0], [1, 2], [0, 1], [0, 0]], dilations=2),
        [IMAGE, FILTER],
    ),
    "Conv2DBackpropInput": (
        lambda w, dy: RAW.Conv2DBackpropInput(input_sizes=[2, 6, 5, 3], filter=w, out_backprop=dy, **NHWC),
        [FILTER, HALF],
    ),
    "Conv2DBackpropFilter": (
        lambda x, dy: RAW.Conv2DBackpropFilter(input=x, filter_sizes=[3, 2, 3, 4], out_backprop=dy, **NHWC),
        [IMAGE, HALF],
    ),
    "Conv3D": (lambda x, w: RAW.Conv3D(input=x, filter=w, **NDHWC), [VOLUME, FILTER3]),
    "Conv3DBackpropInputV2": (
        lambda w, dy: RAW.Conv3DBackpropInputV2(input_sizes=VOLUME.shape, filter=w, out_backprop=dy, **NDHWC),
        [FILTER3, normal(2, 4, 3, 3, 3)],
    ),
    "Conv3DBackpropFilterV2": (
        lambda x, dy: RAW.Conv3DBackpropFilterV2(input=x, filter_sizes=FILTER3.shape, out_backprop=dy, **NDHWC),
        [VOLUME, normal(2, 4, 3, 3, 3)],
    ),
    "DepthwiseConv2dNative": (
        lambda x, w: RAW.DepthwiseConv2dNative(input=x, filter=w, **NHWC),
        [IMAGE, normal(3, 2, 3, 2)],
    ),
    "DepthwiseConv2dNativeBackpropInput": (
        lambda w, dy: RAW.DepthwiseConv2dNativeBackpropInput(
            input_sizes=[2, 6, 5, 3], filter=w, out_backprop=dy, **NHWC
        ),
        [normal(3, 2, 3, 2), normal(2, 3, 3, 6)],
        [1],
    ),
    "DepthwiseConv2dNativeBackpropFilter": (
        lambda x, dy: RAW.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=[3, 2, 3, 2], out_backprop=dy, **NHWC
        ),
        [IMAGE, normal(2, 3, 3, 6)],
        [1],
    ),
    # products
    **{
        f"MatMul {a:d}{b:d}": (
            lambda x, y, a=a, b=b: RAW.MatMul(a=x, b=y, transpose_a=a, transpose_b=b),
            [normal(4, 2) if a else normal(2, 4), normal(3, 4) if b else normal(4, 3)],
        )
        for a, b in itertools.product((False, True), repeat=2)
    },
    "MatMul of complex": (
        lambda x, y: RAW.MatMul(a=x, b=y, transpose_a=True),
        [normal(4, 2) + 1j * normal(4, 2), normal(4, 3) + 1j * normal(4, 3)],
    ),
    "MatMul of itself": (lambda x: x @ tf.transpose(x), [normal(3, 4)]),
    "BatchMatMul": (lambda x, y: RAW.BatchMatMul(x=x, y=y, adj_y=True), [normal(2, 3, 4), normal(2, 5, 4)]),
    "BatchMatMulV2": (lambda x, y: tf.matmul(x, y), [normal(2, 3, 4), normal(5, 1, 4, 2)]),
    "BatchMatMulV3": (
        lambda x, y: RAW.BatchMatMulV3(x=x, y=y, Tout=x.dtype, adj_y=True),
        [normal(2, 3, 4), normal(5, 1, 2, 4)],
    ),
    "Einsum": (lambda x, y: tf.einsum("b...ij,bjk->bik...", x, y), [normal(2, 5, 3, 4), normal(2, 4, 2)]),
    # linear algebra
    "Cholesky": (lambda x: tf.linalg.cholesky(x @ tf.transpose(x)), [SQUARE]),
    "LogMatrixDeterminant": (tf.linalg.slogdet, [SQUARE]),
    "MatrixDeterminant": (tf.linalg.det, [SQUARE]),
    "MatrixInverse": (tf.linalg.inv, [SQUARE]),
    "MatrixSolve": (tf.linalg.solve, [SQUARE, normal(4, 2, dtype="float64")]),
    "MatrixTriangularSolve": (tf.linalg.triangular_solve, [SQUARE, normal(4, 2, dtype="float64")]),
    "Qr": (tf.linalg.qr, [SQUARE]),
    "SelfAdjointEigV2": (lambda x: tf.linalg.eigvalsh(x + tf.transpose(x)), [SQUARE]),
    "Svd": (lambda x: tf.linalg.svd(x, compute_uv=False), [SQUARE]),
    "Betainc": (tf.math.betainc, [positive(2, 3), positive(2, 3), positive(2, 3)]),
    "Cross": (tf.linalg.cross, [normal(2, 3), normal(2, 3)]),
    "Eig": (lambda x: tf.math.real(tf.linalg.eigvals(x @ tf.transpose(x))), [SQUARE]),
    "FFT, IFFT": (lambda x: [tf.signal.fft(x), tf.signal.ifft(x)], [normal(2, 5) + 1j * normal(2, 5)]),
    "FFT2D, IFFT2D": (lambda x: [tf.signal.fft2d(x), tf.signal.ifft2d(x)], [normal(2, 3, 5) + 1j * normal(2, 3, 5)]),
    "RFFT, IRFFT": (lambda x: tf.signal.irfft(tf.signal.rfft(x) ** 2), [normal(2, 6)]),
    "RFFT2D, IRFFT2D": (lambda x: tf.signal.irfft2d(tf.signal.rfft2d(x) ** 2), [normal(2, 4, 6)]),
    "RGBToHSV, HSVToRGB": (lambda x: [tf.image.rgb_to_hsv(x), tf.image.hsv_to_rgb(x / 2)], [positive(2, 2, 3)]),
    "TridiagonalSolve": (
        lambda d, b: RAW.TridiagonalSolve(diagonals=d + tf.constant([[0.0], [3.0], [0.0]], d.dtype), rhs=b),
        [positive(3, 4).astype("float64"), normal(4, 2, dtype="float64")],
    ),
    "TopKV2": (lambda x: tf.math.top_k(x, 2), [normal(3, 4)]),
    "Select": (lambda x, y: RAW.Select(condition=x > 0, x=x, y=y), [normal(2, 3), normal(2, 3)]),
    "Select by a number": (lambda x, y: RAW.Select(condition=x[0, 0] > 0, x=x, y=y), [normal(2, 3), normal(2, 3)]),
    "L2Loss": (tf.nn.l2_loss, [normal(3, 4)]),
    "MatrixBandPart": (lambda x: tf.linalg.band_part(x, 1, 0), [SQUARE]),
    "MatrixDiagV3, MatrixDiagPartV3": (lambda x: tf.linalg.diag(tf.linalg.diag_part(x)), [SQUARE]),
    "MatrixSetDiagV3": (tf.linalg.set_diag, [SQUARE, normal(4, dtype="float64")]),
}
for _name in UNARY:
    _x = positive(2, 3) + (1j * positive(2, 3) if _name in COMPLEX else 0)
    CASES[_name] = (raw(_name), [_x])
for _name in BINARY:
    CASES[_name] = (raw(_name), [positive(2, 3), positive(3)])
    CASES[f"{_name} of another rank"] = (raw(_name), [np.float32(0.3), positive(2, 1)])
for _name in OF_GRADIENT:
    CASES[_name] = (raw(_name), [positive(2, 3), positive(2, 3)])

SEEN = set()


@pytest.mark.parametrize("name", CASES)
def test_rows_at_once_are_the_rows_one_by_one(name):
    f, arguments, *places = CASES[name]
    for place in places[0] if places else range(len(arguments)):
        together, apart, one = stack(f, arguments, place)
        SEEN.update(op.type for op in one.traced.graph.get_operations())
        for mine, wanted in zip(together, apart, strict=True):
            assert (mine.dtype, mine.shape) == (wanted.dtype, wanted.shape)
            # Sums of up to 100 numbers of order one, in another order.
            np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-5)


def test_every_rule_has_been_tried():
    if len(SEEN) > 100:  # where only some cases were selected, not
        assert {kind for kind, entry in TABLE.items() if entry.rows is not None} - SEEN == set()
