"""Each element, or each matrix, by itself: leading axes are a batch already."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel, Unmapped, repeated
from fdfast.operations.rows.arranged import all_rows, broadcast
from fdfast.operations.table import for_rows


@for_rows(
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
    return kernel(*broadcast(kernel, inputs))


@for_rows(
    *["AddN", "EluGrad", "IdentityN", "InvGrad", "LeakyReluGrad", "ReciprocalGrad", "Relu6Grad", "ReluGrad"],
    *["RsqrtGrad", "SeluGrad", "SigmoidGrad", "SoftplusGrad", "SoftsignGrad", "SqrtGrad", "TanhGrad"],
)
# Leading axes are a batch already, to these:
@for_rows("Cholesky", "LogMatrixDeterminant", "LogSoftmax", "MatrixDeterminant", "MatrixInverse", "MatrixSolve")
@for_rows("Betainc", "Cross", "Eig", "FFT", "FFT2D", "HSVToRGB", "IFFT", "IFFT2D", "RGBToHSV", "TridiagonalSolve")
@for_rows("MatrixTriangularSolve", "Qr", "SelfAdjointEigV2", "Softmax", "Svd")
def same_shape(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Nothing broadcasts: what does not move is repeated."""
    return kernel(*all_rows(kernel, rows, inputs))


@for_rows("ClipByValue", moving=(0,))
def clip_by_value(kernel: Kernel, rows: int, x: Any, low: Any, high: Any) -> Any:
    """Limits are numbers; arrays of them are in the shape of one row, which the kernel does not broadcast."""
    if low.shape.rank or high.shape.rank:
        low, high = repeated(low, rows), repeated(high, rows)
    return kernel(x, low, high)


@for_rows("Select")
def select(kernel: Kernel, rows: int, condition: Any, x: Any, y: Any) -> Any:
    """Nothing broadcasts, but a condition that is one number for each entry of the first axis."""
    each = all_rows(kernel, rows, (condition, x, y))
    if condition.shape.rank - kernel.moves[0] not in (0, each[1].shape.rank - 1):
        raise Unmapped("Select has no rule for a condition of another rank")
    return kernel(*each)


@for_rows("L2Loss")
def half_of_squares(kernel: Kernel, rows: int, x: Any) -> Any:
    """Half of the sum of squares; the kernel takes all there is."""
    return tf.reduce_sum(tf.square(x), list(range(1, x.shape.rank))) / 2


@for_rows("EnsureShape")
def ensure_shape(kernel: Kernel, rows: int, x: Any) -> Any:
    """The shape is that of one row."""
    if not tf.TensorShape(kernel.attributes["shape"]).is_compatible_with(x.shape[1:]):
        raise Unmapped("a tensor has another shape than it must have")
    return x


@for_rows("IRFFT", "IRFFT2D", "RFFT", "RFFT2D", "TopKV2", moving=(0,))
@for_rows("MatrixBandPart", "MatrixDiagPartV3", "MatrixDiagV3", moving=(0,))
def of_leading_axes(kernel: Kernel, rows: int, x: Any, *held: Any) -> Any:
    """Leading axes are a batch already."""
    return kernel(x, *held)


@for_rows("MatrixSetDiagV3", moving=(0, 1))
def set_diagonal(kernel: Kernel, rows: int, x: Any, diagonal: Any, k: Any) -> Any:
    """Leading axes are a batch already."""
    return kernel(*all_rows(kernel, rows, (x, diagonal, k))[:2], k)
