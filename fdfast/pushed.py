"""The loss of a model as a function of differences of its input: rows of d in, f(x + d) - f(x) out."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.differences import Moved, NoGraph, layers_without_rule, push
from fdfast.objective import RowFunction
from fdfast.rules.losses import LossRule, find_loss

Float64 = npt.NDArray[np.float64]

_traced: weakref.WeakKeyDictionary[RowFunction, RowFunction] = weakref.WeakKeyDictionary()


class NoDifferences(Exception):
    """Differences cannot be pushed through this objective; the message says what stands in the way."""


class PushedObjective:
    """Differences of an objective at one point, with the interface of `fdfast.objective.Objective`.

    Parameters
    ----------
    objective : fdfast.objective.TracedObjective
        Of a Sequential or functional Keras model and a loss with a rule.

    Raises
    ------
    NoDifferences
    """

    def __init__(self, objective: Any) -> None:
        model, loss = objective.model, objective.loss
        if model is None:
            raise NoDifferences("f is a callable, not a Keras model with a loss")
        rule = find_loss(loss.original)
        if rule is None:
            raise NoDifferences(f"the loss {loss.name!r} has no difference rule")
        try:
            self.without_rule = layers_without_rule(model)
        except NoGraph as error:
            raise NoDifferences(str(error)) from None
        self.shape, self.dtype = objective.shape, objective.dtype
        self.model = model
        self.notes: list[str] = []
        if self.without_rule:
            self.notes.append(f"subtracted for want of a difference rule: {', '.join(self.without_rule)}")
        # A window of a max pool is taken apart into its cells, which a forward pass never does.
        self.row_bytes = 2 * objective.row_bytes
        self._whole = objective
        self._point: Any = None
        if objective.traced not in _traced:
            point = tf.zeros((1, *self.shape), self.dtype)
            context = (point, objective.context)
            _traced[objective.traced] = RowFunction(_rows(model, rule, loss.sums), self.shape, self.dtype, context)
        self.traced: RowFunction = _traced[objective.traced]

    def at(self, point: npt.NDArray[Any], example: int) -> PushedObjective:
        """Bind the point, shape (size,), and the example whose target it has."""
        bound = copy.copy(self)
        some = self._whole.select(np.array([example]))
        bound._point = (tf.constant(point.reshape(1, *self.shape), self.dtype), some.context)
        return bound

    def values(self, rows: npt.NDArray[Any], example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Return f(x + d) - f(x) for rows of d, shape (rows, *shape), C-contiguous and 64-byte aligned."""
        return self.tensor_values(tf.experimental.dlpack.from_dlpack(rows.__dlpack__()), example, chunk)

    def tensor_values(self, rows: tf.Tensor, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `values`, for rows that are a tensor already."""
        found: Float64 = self.traced.values(rows, tf.constant(example), tf.constant(chunk), self._point).numpy()
        return found

    def base(self, points: npt.NDArray[Any], example: npt.NDArray[np.int32]) -> Float64:
        """Return the model's own loss at points, shape (points, size)."""
        rows = tf.constant(points.reshape(-1, *self.shape), self.dtype)
        found: Float64 = self._whole.tensor_values(rows, example, 64)
        return found


def _rows(model: keras.Model, rule: LossRule, sums: bool) -> Any:
    weak = weakref.ref(model)

    def of_rows(rows: Any, example: Any, context: Any) -> Any:
        alive = weak()
        assert alive is not None, "the model was deleted during its own evaluation"
        point, target = context
        moved = push(alive, Moved(point, rows))
        if moved.d is None:
            return tf.zeros(tf.shape(rows)[:1], rows.dtype)
        target = tf.cast(target, moved.d.dtype) if target.dtype.is_floating else target
        values = rule(target, moved.z, moved.d)
        if values.shape.rank > 1:
            values = (tf.reduce_sum if sums else tf.reduce_mean)(values, axis=list(range(1, values.shape.rank)))
        return values

    return of_rows
