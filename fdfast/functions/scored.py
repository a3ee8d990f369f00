"""What an attack asks of a model or callable at rows: its losses, its outputs and its own autodiff gradient.

Nothing is taken for granted here: f may be random, cut off from its gradient, or Python code. It is what it is at
every call, in its own precision; a float64 copy is what the other files of this room make.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.losses import Loss, check_targets, one_hot, resolve_loss
from fdfast.functions.over_rows import dense
from fdfast.functions.returned import known_gradients

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
#: The name of the loss that does not saturate, for those who ask for it.
MARGIN = "margin"


class Scores(NamedTuple):
    """What f says to rows.

    Attributes
    ----------
    loss : ndarray of float64, shape (rows,)
    measure : ndarray of float64, shape (rows,)
        `margin_loss` where the loss is a cross-entropy of one class, else the loss: rises as the loss does.
    outputs : ndarray or None, shape (rows, classes)
        None where f returns losses.
    """

    loss: Float64
    measure: Float64
    outputs: Array | None


class Scored:
    """A model with its loss, or a callable, at rows that belong to examples.

    Parameters
    ----------
    f : keras.Model or callable
        A model in inference mode; or a callable of rows that returns scores, (rows, classes), or losses, (rows,).
    points : ndarray of float, shape (examples, *shape)
    y : array_like or None
        One target per example; None only for a callable that returns losses.
    loss : str, keras.losses.Loss, callable or None
        See `fdfast.functions.losses.resolve_loss`; ``"margin"`` takes `margin_loss`. None: the one that the model was
        compiled with; of a callable's scores the cross-entropy, of probabilities if they sum to one, else of logits.
    chunk : int
        Rows of one call of f.
    traced : bool, optional
        Whether f is traced by TensorFlow, as models are by default: a callable may draw numbers in Python.

    Attributes
    ----------
    queries : int
        Rows that f was evaluated at, its gradients included.
    classes : ndarray of int64 or None, shape (examples,)
        The class that each target names, where it names one.
    """

    def __init__(
        self,
        f: Any,
        points: Array,
        y: Any,
        loss: Any = None,
        *,
        batched: bool = True,
        chunk: int = 256,
        traced: bool | None = None,
    ) -> None:
        self.f, self.chunk, self.queries = f, chunk, 0
        self.is_model = isinstance(f, keras.Model)
        self.dtype = np.dtype(_dtype_of(f) if self.is_model else points.dtype)
        self._loss: Loss | None = None
        self.classes: npt.NDArray[np.int64] | None = None
        #: Whether outputs are tensors, so that there is a tape at all.
        self.tensors = True
        first = self._outputs(tf.constant(points[:1], self.dtype))
        if first.shape.rank == 1 and not self.is_model:
            _refuse_loss(loss)
            self._targets = tf.zeros([len(points)])
        elif first.shape.rank != 2 and not self.is_model:
            raise ValueError(
                f"f returned shape {tuple(first.shape)} for one row; it must return scores, shape (rows, classes), or "
                "one loss per row, shape (rows,)"
            )
        else:
            self._take_loss(loss, y, first, len(points), batched)
        known: Any = self._loss
        self._by_margin = known is not None and known.margin is not None and self.classes is not None
        self._plain = loss == MARGIN if isinstance(loss, str) else False
        if self._plain and not self._by_margin:
            raise ValueError("loss='margin' needs targets that name one class each")
        signature = [
            tf.TensorSpec([None, *points.shape[1:]], self.dtype),
            tf.TensorSpec([None, *self._targets.shape[1:]], self._targets.dtype),
        ]
        trace = tf.function(input_signature=signature) if traced or (traced is None and self.is_model) else _as_it_is
        self._forward, self._backward = trace(self._values), {of: trace(self._slope(of)) for of in (0, 1)}
        self._cut: dict[int, bool] = {}

    def _take_loss(self, loss: Any, y: Any, first: Any, examples: int, batched: bool) -> None:
        if loss == MARGIN if isinstance(loss, str) else False:
            loss = getattr(self.f, "loss", None) if getattr(self.f, "compiled", False) else None
            loss = loss or _cross_entropy(y, first)
        elif loss is None and not self.is_model:
            loss = _cross_entropy(y, first)
        self._loss = resolve_loss(loss, self.f)
        self._output = tuple(first.shape[1:])
        self._take_targets(y, examples, batched)

    def _take_targets(self, y: Any, examples: int, batched: bool) -> None:
        assert self._loss is not None
        targets = check_targets(y, self._loss, self._output, examples, batched)
        if self._loss.kind != "custom" and len(self._output) == 1 and one_hot(targets, self._loss):
            self.classes = targets if self._loss.kind == "classes" else targets.argmax(axis=-1)
        floats = targets.dtype.kind == "f" or self._loss.kind == "dense"
        self._targets = tf.constant(targets, self.dtype if floats else None)

    def for_targets(self, y: Any) -> Scored:
        """The same for other examples, one for each target; nothing is traced anew."""
        other = copy.copy(self)
        other.queries = 0
        other._take_targets(y, len(y), True)
        return other

    @property
    def margin_of_rows(self) -> Any:
        """(target rows, prediction rows) -> the loss that does not saturate; None where there is none."""
        return self._loss.margin if self._loss is not None and self._by_margin else None

    def at(self, rows: Array, example: npt.NDArray[np.int64]) -> Scores:
        """Losses, measures and outputs of rows; row i belongs to example ``example[i]``."""
        parts = []
        forward = _ready(self._forward)
        for some, targets in self._chunks(rows, example):
            parts.append([np.asarray(one) for one in forward(some, targets)])
        loss, measure, *outputs = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Scores(loss.astype(np.float64), measure.astype(np.float64), outputs[0] if outputs else None)

    def gradient(self, rows: Array, example: npt.NDArray[np.int64], *, of: str = "loss") -> Float64 | None:
        """Autodiff gradient of losses, or of measures, in f's own precision; None where there is no way back."""
        which = ("loss", "measure").index(of)
        if not self.tensors:
            return None
        found = []
        with known_gradients():
            backward = _ready(self._backward[which])
            for some, targets in self._chunks(rows, example):
                found.append(backward(some, targets).numpy())
                if self._cut[which]:
                    return None
        return np.concatenate(found).astype(np.float64)

    def _chunks(self, rows: Array, example: npt.NDArray[np.int64]) -> Any:
        self.queries += len(rows)
        for start in range(0, len(rows), self.chunk):
            some = slice(start, start + self.chunk)
            yield tf.constant(rows[some], self.dtype), tf.gather(self._targets, example[some])

    def _outputs(self, rows: Any) -> Any:
        if self.is_model:
            found = self.f(rows, training=False)
            if not tf.is_tensor(found):
                raise TypeError(f"{self.f.name!r} returns {type(found).__name__}; it must return one tensor")
            return found
        if self.tensors:
            try:
                found = self.f(rows)
            except Exception:  # written for arrays: if that fails, too, it is the error to show
                found = self.f(np.array(rows))
            self.tensors = tf.is_tensor(found)
        else:
            found = self.f(np.array(rows))
        return tf.convert_to_tensor(found, None if self.tensors else self.dtype)

    def _values(self, rows: Any, targets: Any) -> Any:
        outputs = self._outputs(rows)
        if outputs.dtype in (tf.float16, tf.bfloat16):
            outputs = tf.cast(outputs, tf.float32)
        if self._loss is None:
            return outputs, outputs
        targets = tf.cast(targets, outputs.dtype) if targets.dtype.is_floating else targets
        measure = self._loss.margin(targets, outputs) if self._by_margin else None  # type: ignore[misc]
        loss = measure if self._plain else self._loss.of_rows(targets, outputs)
        return loss, loss if measure is None else measure, outputs

    def _slope(self, which: int) -> Callable[[Any, Any], Any]:
        def slope(rows: Any, targets: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(rows)
                values = self._values(rows, targets)[which]
            found = tape.gradient(values, rows)
            self._cut[which] = found is None  # known once it is traced, and at each call of what is not
            return tf.zeros_like(rows) if found is None else dense(found)

        return slope


def _ready(function: Any) -> Any:
    """Trace ahead of the call: calls that trace make TensorFlow warn of retracing once there are five models."""
    if hasattr(function, "get_concrete_function"):
        function.get_concrete_function()
    return function


def _as_it_is(function: Any) -> Any:
    return function


def _dtype_of(model: keras.Model) -> str:
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) != 1:
        raise TypeError(f"{model.name!r} has {len(inputs)} inputs; an attack moves one: wrap it in a callable of rows")
    return str(inputs[0].dtype) if inputs else str(model.input_dtype if hasattr(model, "input_dtype") else "float32")


def _refuse_loss(loss: Any) -> None:
    if loss is not None:
        raise TypeError("loss goes with scores, shape (rows, classes); f returns one number per row, the loss itself")


def _cross_entropy(y: Any, outputs: Any) -> keras.losses.Loss:
    """Of what a callable returns: probabilities if they are at least zero and sum to one, else logits."""
    sums = np.asarray(tf.reduce_sum(outputs, axis=-1))
    logits = not (np.abs(sums - 1).max() < 1e-3 and float(tf.reduce_min(outputs)) >= 0)
    sparse = y is None or np.ndim(y) < 2
    kind = keras.losses.SparseCategoricalCrossentropy if sparse else keras.losses.CategoricalCrossentropy
    return kind(from_logits=logits)
