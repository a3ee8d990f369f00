"""Gradients of normalisation over a batch and over neighbouring channels: float64 forms, and their rules."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call
from fdfast.operations.kernel import Kernel
from fdfast.operations.moved import Moved
from fdfast.operations.table import difference_rule, value

_BATCH = ("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3")


def _batch_norm(kernel: Kernel, given: list[Moved]) -> list[Moved]:
    """Gradients for x, scale and offset of y = (x - m) s / sqrt(v + e) + o; in training m and v are x's own."""
    dy, x, s, m, v = given
    over = [0, 1, 2]
    r = (v + float(kernel.attributes["epsilon"])).rsqrt()
    normal = (x - m) * r
    of_scale = (dy * normal).sum(over)
    if kernel.attributes["is_training"]:
        dx = s * r * (dy - dy.mean(over) - normal * (dy * normal).mean(over))
    else:
        dx = dy * (s * r)
    return [dx, of_scale, dy.sum(over)]


@value(*_BATCH)
def batch_norm_grad(kernel: Kernel, dy: Any, x: Any, *more: Any) -> Any:
    """There is no float64 kernel."""
    if kernel.attributes["data_format"] != b"NHWC":
        return NotImplemented
    given = [Moved(tf.cast(t, x.dtype)) for t in (dy, x, *more[:3])]
    dx, scale, offset = (one.z for one in _batch_norm(kernel, given))
    nothing = tf.zeros([0], x.dtype)
    return [dx, tf.reshape(scale, [-1]), tf.reshape(offset, [-1]), nothing, nothing]


@difference_rule(*_BATCH)
def batch_norm_grad_moves(c: Call) -> Any:
    """As a chain of sums, products and a root."""
    if c.kernel.attributes["data_format"] != b"NHWC":
        return NotImplemented
    found = _batch_norm(c.kernel, [Moved(c.z[i], c.aligned(i, 4)) for i in range(5)])
    shapes = ([c.count, *c.out[0].shape], [c.count, -1], [c.count, -1])
    return [None if one.d is None else tf.reshape(one.d, shape) for one, shape in zip(found, shapes, strict=True)]


def _response(kernel: Kernel, dy: Moved, x: Moved) -> Moved:
    """dy n^-b - 2 a b x sum over neighbours of dy x n^(-b - 1), n = bias + a sum of squares over neighbours."""
    reach, channels = int(kernel.attributes["depth_radius"]), x.z.shape[-1]
    bias, alpha, beta = (float(kernel.attributes[name]) for name in ("bias", "alpha", "beta"))
    band = tf.linalg.band_part(tf.ones([channels, channels], x.z.dtype), min(reach, channels), min(reach, channels))
    log = ((x * x).at(band) * alpha + bias).log()
    return dy * (log * -beta).exp() - x * (dy * x * (log * (-beta - 1)).exp()).at(band) * (2 * alpha * beta)


@value("LRNGrad")
def response_grad(kernel: Kernel, dy: Any, x: Any, y: Any) -> Any:
    """TensorFlow's kernel answers in float32."""
    return _response(kernel, Moved(dy), Moved(x)).z


@difference_rule("LRNGrad")
def response_grad_moves(c: Call) -> Any:
    """As a chain of products and powers; the third input is the first one's own value."""
    return _response(c.kernel, Moved(c.z[0], c.d[0]), Moved(c.z[1], c.d[1])).d
