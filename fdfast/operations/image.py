"""Resampling: float64 stand-ins for kernels that answer in float32, and rules of what else images need."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call
from fdfast.operations.elementwise import exponential, log
from fdfast.operations.kernel import Kernel
from fdfast.operations.products import product, square
from fdfast.operations.table import difference_rule, value

_RESIZES = ("ResizeBilinear", "ResizeBicubic", "ResizeArea")


def axis_weights(kernel: Kernel, count: int, wanted: int) -> Any:
    """How each of `wanted` places is made of `count` ones along an axis: what TensorFlow makes of unit vectors.

    The kernel computes the weights in float32, so these are the weights that it really has.
    """
    kind = kernel.kind.removesuffix("Grad")
    how = {name: v for name, v in kernel.attributes.items() if name in ("align_corners", "half_pixel_centers")}
    run = getattr(tf.raw_ops, kind)
    with tf.init_scope():
        unit = tf.eye(count, dtype=tf.float32)
        # The other axis has one place, which stays: along one axis the weights are those of that axis alone.
        found = run(images=unit[None, :, None, :], size=tf.constant([wanted, 1]), **how)
        return tf.cast(found[0, :, 0, :], tf.float64)


@value(*_RESIZES)
def resize(kernel: Kernel, x: Any, size: Any) -> Any:
    """Rows and columns one after the other."""
    high, wide = (int(n) for n in tf.get_static_value(size))
    rows, columns = axis_weights(kernel, x.shape[1], high), axis_weights(kernel, x.shape[2], wide)
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


@value("ResizeBilinearGrad", "ResizeBicubicGrad")
def resize_grad(kernel: Kernel, dy: Any, x: Any) -> Any:
    """The transpose."""
    rows, columns = axis_weights(kernel, x.shape[1], dy.shape[1]), axis_weights(kernel, x.shape[2], dy.shape[2])
    return tf.einsum("yh,byxc,xw->bhwc", rows, dy, columns)


def _corners(x: Any, boxes: Any, size: Any) -> tuple[Any, Any]:
    """Coordinates of the samples of boxes (y1, x1, y2, x2) on an image, shapes (boxes, rows) and (boxes, columns)."""
    found = []
    for first, last, extent, count in ((0, 2, x.shape[1], int(size[0])), (1, 3, x.shape[2], int(size[1]))):
        start, end = boxes[:, first] * (extent - 1), boxes[:, last] * (extent - 1)
        if count > 1:
            steps = tf.range(count, dtype=tf.float64) / (count - 1)
            found.append(start[:, None] + steps * (end - start)[:, None])
        else:
            found.append((start + end)[:, None] / 2)
    return found[0], found[1]


def _shares(at: Any, extent: int) -> Any:
    """Linear weights of samples on a line, shape (boxes, samples, extent); zero outside."""
    places = tf.range(extent, dtype=tf.float64)
    inside = (at >= 0) & (at <= extent - 1)
    share = tf.maximum(1 - tf.abs(at[..., None] - places), 0)
    return tf.where(inside[..., None], share, tf.zeros_like(share))


@value("CropAndResize")
def crop(kernel: Kernel, x: Any, boxes: Any, images: Any, size: Any) -> Any:
    """Bilinear samples of boxes; TensorFlow's kernel answers in float32."""
    if kernel.attributes["method"] != b"bilinear":
        return NotImplemented
    x, boxes = tf.cast(x, tf.float64), tf.cast(boxes, tf.float64)
    at_y, at_x = _corners(x, boxes, tf.get_static_value(size))
    found = tf.einsum("nyh,nhwc,nxw->nyxc", _shares(at_y, x.shape[1]), tf.gather(x, images), _shares(at_x, x.shape[2]))
    outside = float(kernel.attributes["extrapolation_value"])
    if outside:
        in_y, in_x = ((at >= 0) & (at <= n - 1) for at, n in ((at_y, x.shape[1]), (at_x, x.shape[2])))
        found = tf.where((in_y[:, :, None] & in_x[:, None, :])[..., None], found, outside * tf.ones_like(found))
    return found


@value("CropAndResizeGradImage")
def crop_grad(kernel: Kernel, dy: Any, boxes: Any, images: Any, size: Any) -> Any:
    """The transpose."""
    if kernel.attributes["method"] != b"bilinear":
        return NotImplemented
    batch, high, wide, channels = (int(n) for n in tf.get_static_value(size))
    dy, boxes = tf.cast(dy, tf.float64), tf.cast(boxes, tf.float64)
    blank = tf.zeros([1, high, wide, channels], tf.float64)
    at_y, at_x = _corners(blank, boxes, (dy.shape[1], dy.shape[2]))
    each = tf.einsum("nyh,nyxc,nxw->nhwc", _shares(at_y, high), dy, _shares(at_x, wide))
    return tf.math.unsorted_segment_sum(each, images, batch)


@value("LRN")
def normalised(kernel: Kernel, x: Any) -> Any:
    """x / (bias + alpha sum of squares over neighbouring channels)^beta."""
    return x * tf.exp(-float(kernel.attributes["beta"]) * tf.math.log(_density(kernel, x, tf.square(x))))


def _density(kernel: Kernel, x: Any, squares: Any, bias: bool = True) -> Any:
    reach, n = int(kernel.attributes["depth_radius"]), x.shape[-1]
    band = tf.linalg.band_part(tf.ones([n, n], x.dtype), min(reach, n), min(reach, n))
    return float(kernel.attributes["alpha"]) * (squares @ band) + (float(kernel.attributes["bias"]) if bias else 0.0)


@difference_rule("LRN")
def normalised_moves(c: Call) -> Any:
    """x by density to the power of -beta: a product, and the power by logarithm."""
    z, d, beta = c.z[0], c.d[0], float(c.kernel.attributes["beta"])
    density = _density(c.kernel, z, tf.square(z))
    grown = -beta * log(density, _density(c.kernel, z, square(z, d), bias=False))
    power = -beta * tf.math.log(density)
    return product(z, d, tf.exp(power), exponential(power, grown))


@value("AdjustContrastv2")
def contrast(kernel: Kernel, images: Any, factor: Any) -> Any:
    """(x - mean) factor + mean, each channel by itself."""
    mean = tf.reduce_mean(images, [-3, -2], keepdims=True)
    return (images - mean) * tf.cast(factor, images.dtype) + mean


@difference_rule("AdjustContrastv2")
def contrast_moves(c: Call) -> Any:
    """Linear in the image."""
    if c.d[1] is not None:
        return NotImplemented
    return contrast(c.kernel, c.d[0], c.z[1])


def _folded(at: Any, extent: int, mode: bytes) -> Any:
    """Coordinates brought back into an image, as TensorFlow's fill modes do."""
    if mode == b"NEAREST":
        return tf.clip_by_value(at, 0.0, extent - 1.0)
    if mode == b"WRAP":
        turn = max(extent - 1.0, 1.0)
        below = at + extent * (tf.floor(-at / turn) + 1)
        above = at - extent * tf.floor(at / turn)
        return tf.clip_by_value(tf.where(at < 0, below, tf.where(at > extent - 1, above, at)), 0.0, extent - 1.0)
    if mode == b"REFLECT":
        there = tf.math.floormod(at, 2.0 * extent)
        return tf.clip_by_value(tf.where(there >= extent, 2.0 * extent - there - 1, there), 0.0, extent - 1.0)
    return at


@value("ImageProjectiveTransformV3", "ImageProjectiveTransformV2")
def projected(kernel: Kernel, x: Any, transforms: Any, size: Any, *fill: Any) -> Any:
    """Samples of the image at projected coordinates; TensorFlow's kernel rounds them to float32."""
    if kernel.attributes["interpolation"] != b"BILINEAR":
        return NotImplemented
    high, wide = (int(n) for n in tf.get_static_value(size))
    mode = kernel.attributes.get("fill_mode", b"CONSTANT")
    outside = tf.cast(fill[0], x.dtype) if fill else tf.zeros([], x.dtype)
    t = tf.broadcast_to(tf.cast(transforms, tf.float64), [x.shape[0], 8])[..., None, None]
    row, column = tf.range(high, dtype=tf.float64)[:, None], tf.range(wide, dtype=tf.float64)[None]
    depth = t[:, 6] * column + t[:, 7] * row + 1
    at_x = _folded((t[:, 0] * column + t[:, 1] * row + t[:, 2]) / depth, x.shape[2], mode)
    at_y = _folded((t[:, 3] * column + t[:, 4] * row + t[:, 5]) / depth, x.shape[1], mode)
    found = tf.zeros([], x.dtype)
    for y in (tf.floor(at_y), tf.floor(at_y) + 1):
        for z in (tf.floor(at_x), tf.floor(at_x) + 1):
            share = (1 - tf.abs(at_y - y)) * (1 - tf.abs(at_x - z))
            inside = (y >= 0) & (y < x.shape[1]) & (z >= 0) & (z < x.shape[2])
            places = tf.stack(
                [tf.clip_by_value(y, 0.0, x.shape[1] - 1.0), tf.clip_by_value(z, 0.0, x.shape[2] - 1.0)], -1
            )
            seen = tf.gather_nd(x, tf.cast(places, tf.int32), batch_dims=1)
            found += share[..., None] * tf.where(inside[..., None], seen, outside)
    return found
