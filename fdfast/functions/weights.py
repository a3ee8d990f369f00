"""The loss of a model over a batch as a function of its weights: displaced copies in, values and gradients out.

No variable is ever written: copies of weights stand in for the variables in a scope of Keras' own, inside traced
functions. So there is nothing to restore, whatever is raised and whenever.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.objective import TracedObjective
from fdfast.functions.over_rows import OverRows, dense, first_line, same_values
from fdfast.functions.returned import known_gradients
from fdfast.functions.row_function import RowFunction
from fdfast.tape import Traced

Float64 = npt.NDArray[np.float64]

_TAPED = 4  # gradients by an eager tape before the backward pass is traced: two checks
_TAPE_BYTES = 64 << 20


class WeightObjective:
    """Loss of a model at fixed inputs as a function of its trainable variables.

    The loss of each example is that of the objective; they are averaged over the batch, or summed where the Keras loss
    says ``reduction="sum"``. Penalties on weights (``model.losses``) are not part of it.

    Parameters
    ----------
    objective : fdfast.functions.objective.TracedObjective
        Of the model's input, for the batch.
    model : keras.Model
        The caller's; `objective` may evaluate a float64 copy of it.

    Attributes
    ----------
    variables, own : list of keras.Variable
        Trainable variables of what is evaluated, and of the caller's model, in the same order.
    """

    def __init__(self, objective: TracedObjective, model: keras.Model) -> None:
        evaluated = objective.model
        assert evaluated is not None
        assert objective.traced is not None
        trainable = {id(v) for v in model.trainable_variables}
        chosen = [i for i, w in enumerate(model.weights) if id(w) in trainable]
        self.own = [model.weights[i] for i in chosen]
        self.variables = [evaluated.weights[i] for i in chosen]
        self.inputs = objective
        self.dtype = objective.dtype
        self.sharp = objective.traced.is_sharp
        known = _known.setdefault(objective.traced, {})
        key = tuple(chosen)
        if key not in known:
            known[key] = _Traced(objective, self.variables, model, self.own)
        self._traced = known[key]

    @property
    def names(self) -> list[str]:
        """Path of each variable in the caller's model."""
        return [v.path for v in self.own]

    @property
    def unseen(self) -> list[int]:
        """Variables that the model also reads around Keras, so that a copy cannot stand in for them."""
        return self._traced.unseen

    def share(self, examples: int) -> float:
        """Weight of one example in the loss of the batch."""
        return 1.0 if self.inputs.loss is not None and self.inputs.loss.sums else 1.0 / examples

    def value(self, points: npt.NDArray[Any], values: list[Any]) -> float:
        """Loss of the batch with these weights in the place of the variables."""
        total = self._traced.value([tf.constant(v) for v in values], self._rows(points), self.inputs.context)
        return float(total) * self.share(len(points))

    def weights(self) -> list[npt.NDArray[Any]]:
        """Weights as they are."""
        return [v.numpy() for v in self.variables]

    def gradients(self, points: npt.NDArray[Any]) -> list[Float64]:
        """Autodiff gradient with respect to each variable, in its shape."""
        return self._summed(self._traced.gradient, points, self.dtype)

    def deployed_gradients(self, points: npt.NDArray[Any]) -> list[Float64] | None:
        """Compute the gradients as the caller's own model does, in its dtype; None where that is `gradients`."""
        if self._traced.deployed is None:
            return None
        return self._summed(self._traced.deployed, points, np.dtype(np.float32))

    def of_variable(self, number: int, points: npt.NDArray[Any]) -> TracedObjective:
        """Loss of the batch as a function of one variable, rows being copies of it: an `Objective`."""
        context = (self._rows(points), self.inputs.context)
        rows, looped, why = self._traced.rows(number, context, self.share(len(points)))
        variable = self.variables[number]
        size = int(np.prod(variable.shape)) * self.dtype.itemsize
        notes = [f"weights of {variable.path} are evaluated one copy after the other ({why})"] if looped else []
        row_bytes = max(rows.row_bytes, len(points) * self.inputs.row_bytes + 3 * size)
        return TracedObjective(rows, context, tuple(variable.shape), row_bytes, notes)

    def _rows(self, points: npt.NDArray[Any], dtype: Any = None) -> Any:
        return tf.constant(points.reshape(-1, *self.inputs.shape), dtype or self.dtype)

    def _summed(self, gradient: _Gradient, points: npt.NDArray[Any], dtype: np.dtype[Any]) -> list[Float64]:
        # The tape keeps every intermediate until the backward pass: some three times a forward row.
        chunk = max(1, _TAPE_BYTES // (3 * self.inputs.row_bytes))
        total = [np.zeros(v.shape) for v in self.variables]
        for start in range(0, len(points), chunk):
            some = slice(start, start + chunk)
            found = gradient(self._rows(points[some], dtype), self.inputs.select(some).context)
            for sum_, part in zip(total, found, strict=True):
                sum_ += part
        return [self.share(len(points)) * t for t in total]


class _Traced:
    """Functions of one model and loss, traced when first needed; none holds the model."""

    def __init__(self, objective: TracedObjective, variables: list[Any], model: Any, own: list[Any]) -> None:
        loss = objective.loss
        assert loss is not None
        evaluated = objective.model
        sharp = loss.sharp if objective.traced is not None and objective.traced.is_sharp else loss.of_rows
        self._sum = _sum_of(weakref.ref(evaluated), sharp)
        self._variables = [weakref.ref(v) for v in variables]
        self._dtype = objective.dtype
        self._sums = loss.sums
        self._rows: dict[int, tuple[RowFunction, bool, str]] = {}
        self.gradient = _Gradient(objective, _sum_of(weakref.ref(evaluated), loss.of_rows), variables, self._dtype)
        self.deployed = None
        if evaluated is not model:
            dtype = np.dtype(np.float32)
            self.deployed = _Gradient(objective, _sum_of(weakref.ref(model), loss.of_rows), own, dtype)

        def value(values: list[Any], points: Any, targets: Any) -> Any:
            return self._displaced(dict(enumerate(values)), points, targets)

        specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
        signature = [specs, *_specs(objective, self._dtype)]
        self._value = Traced(tf.function(value, input_signature=signature, autograph=False))
        # A variable that is still read was not reached by its copy.
        read = [id(outside) for outside, _ in self._value.graph.captures]
        self.unseen = [i for i, v in enumerate(variables) if id(v.value.handle) in read]

    def value(self, values: list[Any], points: Any, targets: Any) -> Any:
        """Sum over the examples with all weights replaced."""
        return self._value(values, points, targets)

    def rows(self, number: int, context: Any, share: float) -> tuple[RowFunction, bool, str]:
        """Rows of one variable to losses, whether they are taken one after the other, and why."""
        if number not in self._rows:
            variable = self._variables[number]()
            assert variable is not None
            shape, base = tuple(variable.shape), variable.numpy()
            why = ""
            for looped in (False, True):
                made = RowFunction(self._row_values(number, looped), shape, self._dtype, context)
                self._rows[number] = made, looped, why
                if looped:
                    break
                try:
                    # A single row may be broadcast.
                    two = tf.constant(np.stack([base] * 2))
                    twice = made.values(two, tf.zeros(2, tf.int32), tf.constant(2), context).numpy()
                    once = float(self._displaced({}, *context)) * share
                    if same_values(twice, np.full(2, once)):
                        break
                    why = "batched by TensorFlow it gives another value"
                except Exception as error:  # whatever tracing or batching raises, the loop may do without
                    why = first_line(error)
        return self._rows[number]

    def _displaced(self, values: dict[int, Any], points: Any, targets: Any) -> Any:
        variables = [(self._variables[i](), value) for i, value in values.items()]
        with keras.StatelessScope(state_mapping=variables):
            return self._sum(points, targets)

    def _row_values(self, number: int, looped: bool) -> Callable[[Any, Any, Any], Any]:
        over = OverRows()

        def of_rows(rows: Any, example: Any, context: Any) -> Any:
            points, targets = context
            share = 1.0 if self._sums else 1.0 / tf.cast(tf.shape(points)[0], tf.float64)

            def one(row: Any) -> Any:
                return self._displaced({number: row}, points, targets) * share

            if looped:
                return tf.map_fn(one, rows, fn_output_signature=tf.float64, parallel_iterations=1)
            return over(one, rows)

        return of_rows


class _Gradient:
    """Gradient of a sum over examples for some variables: an eager tape at first, then traced."""

    def __init__(self, objective: TracedObjective, of_batch: Any, variables: list[Any], dtype: np.dtype[Any]) -> None:
        weak = [weakref.ref(v) for v in variables]

        def gradient(points: Any, targets: Any) -> list[Any]:
            sources = [v().value for v in weak]  # type: ignore[union-attr]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for source in sources:
                    tape.watch(source)
                value = of_batch(points, targets)
            found = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [tf.cast(dense(g), tf.float64) for g in found]

        self._eager = gradient
        self._function = tf.function(gradient, input_signature=_specs(objective, dtype), autograph=False)
        self._traced: Traced | None = None
        self._taped = 0

    def __call__(self, points: Any, targets: Any) -> list[Float64]:
        self._taped += 1
        with known_gradients():
            if self._taped <= _TAPED:
                found = self._eager(points, targets)
            else:
                self._traced = self._traced or Traced(self._function, ordered=True)
                found = self._traced(points, targets)
        return [g.numpy() for g in found]


_known: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], _Traced]] = weakref.WeakKeyDictionary()


def _sum_of(model: Any, loss: Any) -> Callable[[Any, Any], Any]:
    """Sum over the examples of their losses, float64; `model` is a weak reference."""

    def total(points: Any, targets: Any) -> Any:
        alive = model()
        assert alive is not None, "the model was deleted during its own evaluation"
        prediction = alive(points, training=False)
        if prediction.dtype in (tf.float16, tf.bfloat16):
            prediction = tf.cast(prediction, tf.float32)  # as Keras does before it computes a loss
        target = tf.cast(targets, prediction.dtype) if targets.dtype.is_floating else targets
        return tf.reduce_sum(tf.cast(loss(target, prediction), tf.float64))

    return total


def _specs(objective: TracedObjective, dtype: Any) -> list[tf.TensorSpec]:
    targets = objective.context
    return [tf.TensorSpec([None, *objective.shape], dtype), tf.TensorSpec([None, *targets.shape[1:]], targets.dtype)]
