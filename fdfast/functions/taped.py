"""The objective of a recorded function of one x: nothing but its tape is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.flat import Flat
from fdfast.functions.over_rows import dense
from fdfast.tape import Recorded

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class TapedObjective:
    """A function of one x, recorded; see `fdfast.functions.objective.Objective`.

    Parameters
    ----------
    flat : Flat
        Of x alone, or with others that are held.
    recorded : Recorded
    shape : tuple of int
        Of x.
    """

    traced = None
    model = None
    loss = None
    context = ()
    narrow_because = ""
    row_bytes = 0

    def __init__(self, flat: Flat, recorded: Recorded, shape: tuple[int, ...]) -> None:
        self._flat, self._recorded = flat, recorded
        self.shape, self.dtype = shape, np.dtype(np.float64)
        self.notes = list(flat.notes)

    def select(self, examples: Any) -> TapedObjective:
        """There is one example."""
        return self

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Values of f at rows, shape (rows, *shape)."""
        return np.array([self._recorded.point(self._at(row)).value for row in rows])

    def gradient(self, points: Array) -> Float64:
        """Autodiff gradient at points, shape (points, *shape): f's own, with every operation in float64."""
        found = np.zeros((len(points), *self.shape))
        for row, point in zip(found, points, strict=True):
            gradient = self._recorded.point(self._at(point)).gradients.get(0)
            if gradient is not None:
                row[...] = gradient
        return found

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """Gradient as f itself computes it, in what it computes in; None where that is float64."""
        if self._recorded.narrow == np.float64:
            return None
        found = np.zeros((len(points), *self.shape))
        for row, point in zip(found, points, strict=True):
            given = [
                tf.cast(tf.constant(one), a.dtype) for one, a in zip(self._at(point), self._flat.arguments, strict=True)
            ]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(given[0])
                value = self._flat.call(*given)
            gradient = tape.gradient(value, given[0])
            if gradient is not None:
                row[...] = dense(gradient).numpy()
        return found, self._recorded.narrow

    def _at(self, point: Array) -> list[Array]:
        own, *others = self._flat.points()
        return [np.asarray(point, np.float64).reshape(own.shape), *others]
