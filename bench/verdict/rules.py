"""The usual rules, on the same models and inputs: what each of them would have called wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

CS231N_STEP, CS231N_LIMIT = 1e-5, 1e-2  # the course's step, and the error from which it suspects the gradient
TF_STEP, TF_LIMIT = 1 / 1024, 1e-3  # tf.test.compute_gradient's delta; the limit usual in TensorFlow's tests
TORCH_STEP, TORCH_ATOL, TORCH_RTOL = 1e-6, 1e-5, 1e-3  # torch.autograd.gradcheck's defaults
NAMES = ("CS231n, float32", "CS231n, float64", "tf.test, 1e-3", "one direction")
_CHUNK = 256


def losses(objective: Any, points: Float64, offsets: Float64) -> Float64:
    """f at every point displaced by every offset, shape (examples, offsets); the sums are rounded as x's dtype does."""
    x = points.astype(objective.dtype)
    rows = (x[:, None] + offsets.astype(objective.dtype)).reshape(-1, *objective.shape)
    example = np.repeat(np.arange(len(x), dtype=np.int32), len(offsets))
    found: Float64 = objective.tensor_values(tf.constant(rows), example, _CHUNK).reshape(len(x), -1)
    return found


def _both_sides(objective: Any, points: Float64, h: float) -> tuple[Float64, Float64]:
    eye = h * np.eye(points.shape[1])
    values = losses(objective, points, np.concatenate([eye, -eye]))
    return values[:, : len(eye)], values[:, len(eye) :]


@dataclass(frozen=True, eq=False)
class Numerics:
    """Everything that the rules need to know of f; a faulty gradient leaves it as it is.

    Arrays have shape (examples, size).
    """

    cs32: Float64
    cs64: Float64
    tf32: Float64
    direction: Float64
    along: Float64
    right: Float64
    left: Float64
    base: Float64

    @staticmethod
    def of(double: Any, single: Any, points: Float64, rng: np.random.Generator) -> Numerics:
        """Evaluate f, in float64 and float32, at all rows."""
        h = CS231N_STEP
        plus, minus = _both_sides(double, points, h)
        base = losses(double, points, np.zeros((1, points.shape[1])))
        plus32, minus32 = _both_sides(single, points, h)
        plus_tf, minus_tf = (v.astype(np.float32) for v in _both_sides(single, points, TF_STEP))
        u = rng.random(points.shape[1])
        u /= np.linalg.norm(u)
        ends = losses(double, points, TORCH_STEP * np.stack([u, -u]))
        return Numerics(
            cs32=(plus32 - minus32) / (2 * h),
            cs64=(plus - minus) / (2 * h),
            tf32=((plus_tf - minus_tf) / np.float32(2 * TF_STEP)).astype(np.float64),
            direction=u,
            along=(ends[:, 0] - ends[:, 1]) / (2 * TORCH_STEP),
            right=(plus - base) / h,
            left=(base - minus) / h,
            base=base[:, 0],
        )

    def smooth(self, truth: Float64) -> Bool:
        """Coordinates at which the right and left slopes agree to 1 %, and their mean is `truth` to 0.1 %.

        Behind a softmax saturated beyond float64, autodiff itself is not the truth; no fault can be due there.
        """
        size = np.maximum(np.abs(self.right), np.abs(self.left))
        near = np.abs(self.right - self.left) <= 0.01 * size
        return near & (np.abs(self.cs64 - truth) <= 1e-3 * size)

    def accusations(self, double: Float64, single: Float64) -> dict[str, Bool]:
        """Which examples each rule calls wrong, given the gradient under test in float64 and float32."""
        allowed = TORCH_ATOL * self.direction.sum()  # torch adjusts atol to the direction in this way
        along = double @ self.direction
        return {
            NAMES[0]: cs231n_error(self.cs32, single) > CS231N_LIMIT,
            NAMES[1]: cs231n_error(self.cs64, double) > CS231N_LIMIT,
            NAMES[2]: np.abs(self.tf32 - single).max(axis=1) >= TF_LIMIT,
            NAMES[3]: np.abs(self.along - along) > allowed + TORCH_RTOL * np.abs(self.along),
        }


def cs231n_error(a: Float64, b: Float64) -> Float64:
    """max |a - b| / max(1e-8, |a| + |b|) over the coordinates of each example."""
    error: Float64 = (np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))).max(axis=1)
    return error
