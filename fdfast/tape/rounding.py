"""Random rounding: what the digits are worth that a computation ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fdfast.operations import Kernel

#: What these make is copied, chosen or negated: no digit is lost.
_EXACT = (
    *["Abs", "ArgMax", "BatchToSpaceND", "Bitcast", "BroadcastTo", "Cast", "ConcatV2"],
    *["Conj", "DepthToSpace", "Diag", "DiagPart", "ExpandDims", "Fill", "Gather", "GatherNd", "GatherV2", "Identity"],
    *["IdentityN", "Imag", "MatrixBandPart", "MatrixDiagPartV3", "MatrixDiagV3", "Max", "MaxPool", "MaxPoolV2"],
    *["Maximum", "Min", "Minimum", "MirrorPad", "Neg", "OnesLike", "Pack", "Pad", "PadV2", "PreventGradient", "Real"],
    *["Relu", "Relu6", "ReluGrad", "Relu6Grad", "Reshape", "ReverseSequence", "ReverseV2", "Roll", "Select"],
    *["SelectV2", "Sign", "Slice", "Snapshot", "SpaceToBatchND", "SpaceToDepth", "Split", "SplitV", "Squeeze"],
    *["StopGradient", "StridedSlice", "StridedSliceGrad", "Tile", "TopKV2", "Transpose", "Unpack", "Where"],
    *["ZerosLike", "Floor", "Ceil", "Round", "Rint", "ReadVariableOp"],
)
_SUMS, _PRODUCTS = ("Add", "AddV2", "Sub"), ("Mul", "MulNoNan")
_FUSED = ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")  # a loss, and softmax minus target


class Rounding:
    """Moves every rounded number by at most a unit in its last place, at random.

    Numbers that come out of an operation exactly, as a copy, a sum with zero or a product with one, stay as they are:
    else what cancels exactly would not. J. Vignes, "A stochastic arithmetic for reliable scientific computation",
    Mathematics and Computers in Simulation 35 (1993).
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._turn = seed, 0

    def __call__(self, kernel: Kernel, inputs: Sequence[Any], value: Any) -> Any:
        """The value of an operation, moved."""
        if kernel.kind in _EXACT or not value.shape.num_elements():
            return value
        self._turn += 1
        share = tf.random.stateless_uniform(value.shape, [self._seed, self._turn], -(2.0**-52), 2.0**-52, tf.float64)
        if kernel.kind in _FUSED and value.shape.rank == 2:
            # The target is taken away from a number of its size, which has been rounded.
            target = (
                inputs[1] if inputs[1].dtype.is_floating else tf.one_hot(inputs[1], value.shape[1], dtype=value.dtype)
            )
            return value + tf.maximum(tf.abs(value), target) * tf.cast(share, value.dtype)
        moved = value + value * tf.cast(share, value.dtype)
        if kernel.kind in _SUMS:
            a, b = inputs
            # Knuth's: what a sum is off by.
            part = value - a
            off = (a - (value - part)) + ((-b if kernel.kind == "Sub" else b) - part)
            return tf.where(off == 0, value, moved)
        if kernel.kind in _PRODUCTS:
            exact = [tf.equal(one, 1) | tf.equal(one, 0) for one in map(tf.abs, inputs)]
            return tf.where(tf.broadcast_to(exact[0] | exact[1], value.shape), value, moved)
        return moved
