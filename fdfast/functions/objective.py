"""What is differentiated: rows in, one float64 value per row out, and the autodiff gradient beside it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.lifted import LiftedRows, lifted_rows
from fdfast.functions.losses import Loss
from fdfast.functions.over_rows import dense
from fdfast.functions.returned import NotOneNumber, known_gradients, plain_value
from fdfast.functions.row_function import RowFunction
from fdfast.tape import NoTape, shared

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_MANY_ROWS = 100  # rows of a loop that are worth a warning
#: What is said where the tape finds no way from the value back to x through code that it cannot follow.
CUT = (
    "f has no autodiff gradient: TensorFlow finds no way from its value back to x, because NumPy or Python code in "
    "between (np.asarray, .numpy(), tf.py_function, tf.numpy_function) cuts the tape. Write that part with "
    "TensorFlow's "
    "operations, give it a gradient by tf.custom_gradient, or pass analytic="
)


class Objective(Protocol):
    """A function of rows.

    Attributes
    ----------
    shape : tuple of int
        Shape of one example.
    dtype : numpy.dtype
        What rows are computed in.
    traced : RowFunction, LiftedRows or None
        The traced form; None where rows are evaluated one by one, or by NumPy.
    row_bytes : int
        Estimate of the memory that one row in flight needs, activations included.
    notes : list of str
        What the user should know about how f is evaluated.
    model : keras.Model or None
        The model that is evaluated: the caller's, or its float64 copy.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    traced: RowFunction | LiftedRows | None
    row_bytes: int
    notes: list[str]
    model: keras.Model | None

    def select(self, examples: Any) -> Objective:
        """Return the same objective for some of the examples, by slice or by index."""

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Evaluate f on rows, shape (rows, *shape); row i belongs to example ``example[i]``."""

    def gradient(self, points: Array) -> Float64 | None:
        """Autodiff gradient at points, one per example, shape (examples, *shape); None where there is none."""

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """Compute the gradient as the model itself does, in its own dtype; None where that is `gradient`."""


class TracedObjective:
    """An objective evaluated by TensorFlow, all rows of a chunk in one forward pass."""

    def __init__(
        self,
        traced: RowFunction | LiftedRows,
        context: Any,
        shape: tuple[int, ...],
        row_bytes: int,
        notes: list[str],
        deployed: RowFunction | None = None,
        model: keras.Model | None = None,
        loss: Loss | None = None,
    ) -> None:
        self.traced: RowFunction | LiftedRows | None = traced
        self._traced = traced
        self.context = context
        self._examples = next((int(t.shape[0]) for t in tf.nest.flatten(context)), None)
        self.deployed = deployed
        self.model = model
        self.loss = loss
        self.shape = shape
        self.dtype = traced.dtype
        self.row_bytes = row_bytes
        self.notes = notes
        #: Why it is not in float64: a note, once it is clear that it stays so.
        self.narrow_because = ""
        #: Which weights the float64 copy has; None where the model itself is evaluated.
        self.version: int | None = None

    def widened(self, points: Array) -> TracedObjective:
        """Return the same in float64, operation by operation, where f computes in less; `points`, (examples, size).

        Raises
        ------
        fdfast.tape.NoTape
            It computes something that cannot be run by itself, or not in float64.
        """
        if isinstance(self._traced, LiftedRows):
            return self
        wide = lifted_rows(self._traced, self.context)
        if wide is None:
            return self
        if not wide.settled:
            first = tf.constant(points[:1].reshape(1, *self.shape), tf.float64)
            wide.values(first, tf.constant([0]), 1, self.context)
        if wide.narrow:
            raise NoTape(f"there is no form of {wide.narrow[0]} that computes in it")
        deployed = self.deployed or self._traced
        return TracedObjective(
            wide, self.context, self.shape, self.row_bytes, self.notes, deployed, self.model, self.loss
        )

    def select(self, examples: Any) -> TracedObjective:
        """Return the same objective for some of the examples."""
        if self._are_all(examples):
            return self
        some = copy.copy(self)
        if not isinstance(examples, slice):
            index = tf.constant(np.asarray(examples, np.int32))
            some.context = tf.nest.map_structure(
                lambda t: tf.raw_ops.GatherV2(params=t, indices=index, axis=0), self.context
            )
            some._examples = len(examples)
        elif self._examples is not None:
            some.context = tf.nest.map_structure(lambda t: t[examples], self.context)
            some._examples = len(range(*examples.indices(self._examples)))
        return some

    def _are_all(self, examples: Any) -> bool:
        count = self._examples
        if count is None or isinstance(examples, slice):
            return count is None or examples.indices(count) == (0, count, 1)
        return len(examples) == count and bool((examples == np.arange(count)).all())

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `Objective.values`; `rows` must be C-contiguous and 64-byte aligned (see `fdfast._core`)."""
        return self.tensor_values(shared(rows), example, chunk)

    def tensor_values(self, rows: tf.Tensor, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `values`, for rows that are a tensor already."""
        found: Float64 = self._traced.values(rows, tf.constant(example), tf.constant(chunk), self.context).numpy()
        return found

    def gradient(self, points: Array) -> Float64 | None:
        """See `Objective.gradient`."""
        return self._gradient_by(self._traced, points)

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """See `Objective.deployed_gradient`."""
        if self.deployed is None:
            return None
        return self._gradient_by(self.deployed, points), self.deployed.narrowest

    def _gradient_by(self, traced: RowFunction | LiftedRows, points: Array) -> Float64:
        rows = tf.constant(points.reshape(-1, *self.shape), traced.dtype)
        example = tf.constant(np.arange(len(points), dtype=np.int32))
        with known_gradients():
            found: Float64 = traced.gradient(rows, example, self.rows_at_once, self.context).numpy()
        return found

    @property
    def rows_at_once(self) -> int:
        """Rows that a gradient takes in one piece: the tape keeps all intermediates, some three times a forward row."""
        return max(1, (64 << 20) // (3 * self.row_bytes))


class LoopObjective:
    """A function of one example at a time, or of NumPy rows: no tracing, and autodiff only if it returns tensors."""

    traced = None
    model = None

    def __init__(
        self,
        f: Callable[..., Any],
        kwargs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        batched: bool,
        tensors: bool,
        why: str = "",
        refused: str = "",
    ) -> None:
        self._f = f
        self._kwargs = kwargs
        self._batched = batched
        self._tensors, self._why = tensors, why
        self.looped = bool(why)
        #: Why there is no autodiff gradient.
        self.without_gradient = refused or "f returns no TensorFlow tensor"
        self.shape = shape
        self.dtype = dtype
        self.row_bytes = 2 * math.prod(shape) * dtype.itemsize
        name = getattr(f, "__name__", type(f).__name__)
        self.notes = (
            []
            if batched
            else [
                f"the function {name} takes one example at a time, so it was called in a loop, once per row"
                f"{why and f' ({why})'}; batched=True evaluates all rows at once"
            ]
        )

    def select(self, examples: Any) -> LoopObjective:
        """Return the same objective for some of the examples: a callable has but one."""
        return self

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `Objective.values`."""
        rows = rows.reshape(-1, *self.shape)
        if not self._batched:
            if self._why and len(rows) > _MANY_ROWS:
                warnings.warn(
                    f"f is called {len(rows)} times, one row after the other: {self._why}. Write that part with "
                    "TensorFlow's operations, or f for rows and pass batched=True",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._why = ""
            return np.array([self._scalar(row) for row in rows])
        parts = [self._rows(rows[i : i + chunk]) for i in range(0, len(rows), chunk)]
        return np.concatenate(parts)

    def _rows(self, rows: Array) -> Float64:
        values = plain_value(self._f(rows.copy(), **self._kwargs))
        if values.shape == (len(rows), 1):
            values = values[:, 0]
        if values.shape != (len(rows),):
            raise ValueError(
                f"with batched=True f must return one value per row, shape ({len(rows)},); it returned shape "
                f"{values.shape}"
            )
        return values

    def _scalar(self, row: Array) -> float:
        # f gets a copy: it may keep or change what it is given.
        value = plain_value(self._f(tf.constant(row) if self._tensors else row.copy(), **self._kwargs))
        if value.size != 1:
            raise NotOneNumber(
                f"f must return a scalar for one x of shape {self.shape}; it returned shape {value.shape}. For a "
                "function of rows pass batched=True"
            )
        return float(value.reshape(()))

    def gradient(self, points: Array) -> Float64 | None:
        """See `Objective.gradient`."""
        if not self._tensors:
            return None
        found = []
        for point in points.reshape(-1, *self.shape):
            x = tf.constant(point)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = self._f(x, **self._kwargs)
            with known_gradients():
                gradient = tape.gradient(value, x)
            if gradient is None:
                raise TypeError(CUT)
            found.append(dense(gradient).numpy().astype(np.float64))
        return np.stack(found)

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """See `Objective.deployed_gradient`."""
        return None
