"""The loss of a model as a function of differences on whole maps: rows of d in, f(z + d) - f(z) out."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.differences.graph import Moved, Step, push_steps
from fdfast.differences.rules.elementwise import activation_difference
from fdfast.functions import RowFunction
from fdfast.tape import shared

Float64 = npt.NDArray[np.float64]

_traced: weakref.WeakKeyDictionary[RowFunction, dict[int, RowFunction]] = weakref.WeakKeyDictionary()


class PushedObjective:
    """Differences of a loss that start from one value of a graph, with the interface of an `Objective`.

    Parameters
    ----------
    objective : fdfast.functions.objective.TracedObjective
    rule : fdfast.differences.rules.losses.LossRule
        Of its loss.
    steps : list of Step
        From the value to the model's output.
    start, output : int
        Numbers of the value and of the output.
    shape : tuple of int
        Shape of the value, without its batch axis.
    activation : callable or None
        What is still to be applied to the value before the steps.
    """

    def __init__(
        self,
        objective: Any,
        rule: Any,
        steps: list[Step],
        start: int,
        output: int,
        shape: tuple[int, ...],
        activation: Any = None,
    ) -> None:
        self.shape, self.dtype = shape, objective.dtype
        # Value and difference of the widest step, once more for a temporary, and windows of pools taken apart.
        self.row_bytes = 6 * objective.dtype.itemsize * max(math.prod(shape), *(_size(step) for step in steps), 1)
        self._whole = objective
        self._point: Any = None
        known = _traced.setdefault(objective.traced, {})
        if start not in known:
            context = (tf.zeros((1, *shape), self.dtype), objective.context)
            rows = _rows(rule, objective.loss.sums, steps, start, output, activation)
            known[start] = RowFunction(rows, shape, self.dtype, context)
        self.traced = known[start]

    def at(self, value: npt.NDArray[Any], example: int) -> PushedObjective:
        """Bind the value at one point, any shape of its size, and the example whose target it has."""
        bound = copy.copy(self)
        some = self._whole.select(np.array([example]))
        bound._point = (tf.constant(value.reshape(1, *self.shape), self.dtype), some.context)
        return bound

    def values(self, rows: npt.NDArray[Any], example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Return f(z + d) - f(z) for rows of d, shape (rows, *shape), C-contiguous and 64-byte aligned."""
        return self.tensor_values(shared(rows), example, chunk)

    def tensor_values(self, rows: tf.Tensor, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `values`, for rows that are a tensor already."""
        found: Float64 = self.traced.values(rows, tf.constant(example), tf.constant(chunk), self._point).numpy()
        return found


def _size(step: Step) -> int:
    size: int = max(math.prod(n or 1 for n in one.shape[1:]) for one in tf.nest.flatten(step.operation.output))
    return size


def _rows(rule: Any, sums: bool, steps: list[Step], start: int, output: int, activation: Any) -> Any:
    def of_rows(rows: Any, example: Any, context: Any) -> Any:
        z, target = context
        moved = Moved(z, rows)
        if activation is not None:
            moved = Moved(activation(z), activation_difference(activation, z, rows))
        moved = push_steps(steps, {start: moved}, rows)[output]
        if moved.d is None:
            return tf.zeros(tf.shape(rows)[:1], rows.dtype)
        target = tf.cast(target, moved.d.dtype) if target.dtype.is_floating else target
        values = rule(target, moved.z, moved.d)
        if values.shape.rank > 1:
            values = (tf.reduce_sum if sums else tf.reduce_mean)(values, axis=list(range(1, values.shape.rank)))
        return values

    return of_rows
