"""Values of a network at points, and autodiff's gradients beside them: what differences start from."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.differences.graph import Step, Unrolled, call_step
from fdfast.differences.lowering import Where
from fdfast.differences.meanwhile import meanwhile
from fdfast.differences.rules.linear import before_activation
from fdfast.tape import Traced, view

Float64 = npt.NDArray[np.float64]

#: TensorFlow operations that Keras' activations are.
_OPERATIONS = {
    keras.activations.relu: "Relu",
    keras.activations.relu6: "Relu6",
    keras.activations.sigmoid: "Sigmoid",
    keras.activations.tanh: "Tanh",
    keras.activations.softmax: "Softmax",
    keras.activations.softplus: "Softplus",
    keras.activations.softsign: "Softsign",
    keras.activations.exponential: "Exp",
}


@dataclass(frozen=True, eq=False)
class Foreseen:
    """What is known of points, shape (points, size), and of as many others near them, before differences are pushed.

    Attributes
    ----------
    values : list of ndarray of float64, each (2 points, ...)
        Of the network: at the points, then at those near them.
    base : ndarray of float64, shape (2 points,)
        Losses, layer by layer.
    gradients : ndarray of float64, shape (2 points, *shape)
        By autodiff.
    """

    values: list[Float64]
    base: Float64
    gradients: Float64
    _own: tuple[Future[list[Any]], np.dtype[Any]] | None

    def deployed(self) -> tuple[Float64, np.dtype[Any]] | None:
        """Gradient as the model itself computes it, shape (points, *shape), and its own dtype.

        None where that is the one in `gradients`. It is computed while the caller goes on, and waited for here.
        """
        if self._own is None:
            return None
        found, dtype = self._own
        return view(found.result()[0]), dtype


class BasePass:
    """Values of the network at points, traced once: each layer called as Keras does, in float64."""

    def __init__(self, graph: Unrolled, wanted: list[Where], objective: Any, *, own: bool = True) -> None:
        keys = sorted(set(wanted))
        self._order = [keys.index(where) for where in wanted]
        # None of the functions may hold the objective: it holds the key that this object is kept by.
        model, of_rows, deployed = objective.model, objective.loss.of_rows, objective.deployed
        sharp = objective.loss.sharp if objective.traced.is_sharp else of_rows

        def loss_of(prediction: Any, targets: Any, loss: Any = sharp) -> Any:
            target = tf.cast(targets, prediction.dtype) if targets.dtype.is_floating else targets
            return tf.reshape(loss(target, prediction), [-1])

        def forward(points: Any) -> tuple[list[Any], Any]:
            found: dict[Where, Any] = {(0, "out"): points}
            out: dict[int, Any] = {0: points}
            for step in graph.steps:
                number = step.outputs[0]
                out.update(zip(step.outputs, call_step(step, out), strict=True))
                if (number, "pre") in keys:
                    found[(number, "pre")] = _before_last(out[number], step, out)
            found.update({(number, "out"): value for number, value in out.items()})
            return [found[key] for key in keys], out[graph.output]

        def values(points: Any, targets: Any) -> list[Any]:
            found, prediction = forward(points)
            losses = [loss_of(prediction, targets)]
            if own:
                losses.append(loss_of(model(points, training=False), targets))
            return [*found, *losses]

        def foresee(points: Any, near: Any, targets: Any) -> list[Any]:
            both, twice = tf.concat([points, near], 0), tf.concat([targets, targets], 0)
            with tf.GradientTape() as tape:
                tape.watch(both)
                found, prediction = forward(both)
                # The loss whose gradient is under test is the caller's, not the sharp one.
                each = loss_of(prediction, twice, of_rows)
            gradients = tape.gradient(each, both, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [*found, loss_of(prediction, twice), gradients]

        def own_gradient(points: Any, targets: Any) -> list[Any]:
            rows = tf.cast(points, deployed.dtype)
            return [deployed.gradient_at_once(rows, tf.range(tf.shape(points)[0]), targets)]

        spec = tf.TensorSpec([None, *objective.shape], tf.float64)
        context = tf.TensorSpec([None, *objective.context.shape[1:]], objective.context.dtype)
        self._values = tf.function(values, input_signature=[spec, context], autograph=False)
        self._foresee = tf.function(foresee, input_signature=[spec, spec, context], autograph=False)
        self._own: tuple[Any, np.dtype[Any]] | None = None
        if deployed is not None:
            self._own = tf.function(own_gradient, input_signature=[spec, context], autograph=False), deployed.dtype
        self._traced: dict[Any, Traced] = {}
        self._ordered = not objective.traced.is_sharp  # a softmax loses more digits by itself
        self._shape, self._losses = objective.shape, len(keys)

    def __call__(self, points: Float64, targets: Any) -> tuple[list[Float64], Float64, Float64]:
        """Return the values in the order asked for; the losses, layer by layer and by the model; each (points,).

        Without `own` the model as a whole is not called, and both losses are the same.
        """
        found = self._call(self._values, targets, self._rows(points))
        return [found[i] for i in self._order], found[self._losses], found[-1]

    def foresee(self, points: Float64, near: Float64, targets: Any) -> Foreseen:
        """Values and gradients at points and at as many others, which have the same targets."""
        own, rows = None, self._rows(points)
        if self._own is not None:
            # What this needs of a second core, the calls below and the Python between them leave idle.
            function, dtype = self._own
            own = meanwhile(self._known(function), rows, targets), dtype
        found = self._call(self._foresee, targets, rows, self._rows(near))
        base, gradients = found[self._losses : self._losses + 2]
        return Foreseen([found[i] for i in self._order], base, gradients, own)

    def _call(self, function: Any, targets: Any, *rows: tf.Tensor) -> list[npt.NDArray[Any]]:
        return [view(found) for found in self._known(function)(*rows, targets)]

    def _known(self, function: Any) -> Traced:
        if function not in self._traced:
            self._traced[function] = Traced(function, ordered=self._ordered)
        return self._traced[function]

    def _rows(self, points: Float64) -> tf.Tensor:
        return tf.constant(points.reshape(-1, *self._shape), tf.float64)


def _before_last(value: Any, step: Step, values: dict[int, Any]) -> Any:
    """What a layer's activation was applied to: the input of the operation it ends with, or else computed again.

    The layer's own tensor is better: it costs nothing more.
    """
    operation = getattr(value, "op", None)
    activation = getattr(step.operation, "activation", None)
    if operation is not None and operation.type == _OPERATIONS.get(activation):
        return operation.inputs[0]
    source = values[step.inputs[0]]
    before = before_activation(step.operation, source)
    return source if before is None else before  # an activation layer: what comes in
