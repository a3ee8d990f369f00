"""Rows for an accelerator: built there from the points and the tile indices, or sent if that is less traffic."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.moves import Tiling

Float64 = npt.NDArray[np.float64]


def accelerator() -> str | None:
    """Name of the first GPU that TensorFlow sees, or None."""
    found = tf.config.list_logical_devices("GPU")
    return found[0].name if found else None


class RemoteRows:
    """Builds perturbed rows on a device.

    Sending a whole row costs ``size * itemsize`` bytes; describing it costs an index pair and a value per element
    of its tile. Rows are described whenever that is less. The values are computed here, in the dtype of the points,
    so that a row is bit-identical to the one that the kernel would have written.
    """

    def __init__(self, objective: Any, tiling: Tiling, device: str) -> None:
        self._objective = objective
        self._tiling = tiling
        self.device = device
        item = objective.dtype.itemsize
        self.builds = float(tiling.counts.mean()) * (8 + item) < tiling.size * item
        self._points: tf.Tensor | None = None

    def load(self, points: npt.NDArray[Any]) -> None:
        """Send the points to the device, once per call."""
        with tf.device(self.device):
            self._points = tf.identity(tf.constant(points))

    def describe(self, points: npt.NDArray[Any], pairs: Any, moved: Float64) -> tuple[tf.Tensor, int]:
        """Make the rows of `pairs` on the device; returns them and the first row that did not move or -1."""
        tiling = self._tiling
        row_point = np.repeat(pairs.point, 2)
        row_tile = np.repeat(pairs.tile, 2)
        step = pairs.step.reshape(-1)
        counts = np.where(row_tile >= 0, tiling.counts[row_tile], 0)
        row = np.repeat(np.arange(len(row_tile)), counts)
        first = np.repeat(tiling.offsets[row_tile], counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        member = first + within
        element = tiling.members[member]
        weight = 1.0 if tiling.weights is None else tiling.weights[member]
        x = points[row_point[row], element]
        values = x + (step[row] * weight).astype(points.dtype)
        distance = (values.astype(np.float64) - x.astype(np.float64)) / weight
        total = np.bincount(row, weights=distance, minlength=len(row_tile))
        moved[...] = (total / np.maximum(counts, 1)).reshape(-1, 2)
        unmoved = row[(distance == 0) & (step[row] != 0)]
        rows = self._build(points, row_point, row, element, values)
        return rows, int(unmoved[0]) if unmoved.size else -1

    def _build(self, points: npt.NDArray[Any], row_point: Any, row: Any, element: Any, values: Any) -> tf.Tensor:
        shape = (len(row_point), *self._tiling.shape)
        if not self.builds:
            host = points[row_point]
            host[row, element] = values
            with tf.device(self.device):
                return tf.identity(tf.constant(host.reshape(shape)))
        where = np.stack([row, element], axis=1).astype(np.int32)
        with tf.device(self.device):
            rows = tf.gather(self._points, tf.constant(row_point.astype(np.int32)))
            return tf.reshape(tf.tensor_scatter_nd_update(rows, where, values), shape)

    def values(self, rows: tf.Tensor, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Evaluate rows on the device."""
        with tf.device(self.device):
            found: Float64 = self._objective.tensor_values(rows, example, chunk)
            return found
