"""Operations with a batch of their own: rows as more of the batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel
from fdfast.operations.rows.arranged import batched, fold, ints, more, unfold
from fdfast.operations.table import for_rows


@for_rows("ExtractImagePatches")
@for_rows("AvgPool", "AvgPool3D", "DepthToSpace", "LRN", "MaxPool", "MaxPool3D", "SpaceToDepth")
@for_rows("MaxPoolGrad", "MaxPool3DGrad", "ResizeBicubicGrad", "ResizeBilinearGrad", "SoftmaxCrossEntropyWithLogits")
@for_rows("LRNGrad", "MaxPoolGradGrad", "MaxPool3DGradGrad", "SparseSoftmaxCrossEntropyWithLogits")
def of_batch(kernel: Kernel, rows: int, *inputs: Any) -> Any:
    """Axis 0 of every input is a batch."""
    return batched(kernel, rows, inputs, *range(len(inputs)))


@for_rows(
    "ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeNearestNeighborGrad", moving=(0,)
)
def of_first_batch(kernel: Kernel, rows: int, x: Any, size: Any) -> Any:
    """Axis 0 of the first input is a batch."""
    return batched(kernel, rows, (x, size), 0)


@for_rows("Dilation2D", "ScaleAndTranslate", moving=(0,))
def of_images(kernel: Kernel, rows: int, x: Any, *held: Any) -> Any:
    """Axis 0 of the first input is a batch."""
    return batched(kernel, rows, (x, *held), 0)


@for_rows("ScaleAndTranslateGrad", moving=(0,))
def of_images_and_their_shape(kernel: Kernel, rows: int, dy: Any, x: Any, *held: Any) -> Any:
    """Axis 0 of the first two inputs is a batch."""
    return batched(kernel, rows, (dy, x, *held), 0, 1)


@for_rows("Dilation2DBackpropInput", moving=(2,))
def dilation_back(kernel: Kernel, rows: int, x: Any, w: Any, dy: Any) -> Any:
    """Axis 0 of images and of the upstream gradient is a batch."""
    return batched(kernel, rows, (x, w, dy), 0, 2)


@for_rows("AvgPoolGrad", "AvgPool3DGrad", moving=(1,))
def of_batch_of_shape(kernel: Kernel, rows: int, shape: Any, dy: Any) -> Any:
    """Axis 0 is a batch, whose length is the first number of the shape."""
    return batched(kernel, rows, (more(shape, rows, 0), dy), 1)


def _boxes(rows: int, boxes: Any, images: Any, count: int) -> tuple[Any, Any]:
    of_row = tf.range(rows, dtype=images.dtype)[:, None] * count
    return tf.tile(boxes, [rows, 1]), tf.reshape(images + of_row, [-1])


@for_rows("CropAndResize", moving=(0,))
def crop(kernel: Kernel, rows: int, x: Any, boxes: Any, images: Any, size: Any) -> Any:
    """Boxes of a row are cut from images of that row."""
    (found,) = kernel(fold(x), *_boxes(rows, boxes, images, x.shape[1]), size)
    return unfold(found, rows)


@for_rows("CropAndResizeGradImage", moving=(0,))
def crop_grad(kernel: Kernel, rows: int, dy: Any, boxes: Any, images: Any, size: Any) -> Any:
    """Boxes of a row are put back into images of that row."""
    moved = _boxes(rows, boxes, images, ints(size)[0])
    (found,) = kernel(fold(dy), *moved, more(size, rows, 0))
    return unfold(found, rows)
