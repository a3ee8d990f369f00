"""fdfast's gradients in the attacks of other libraries, which are loaded when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.attack.projected import way_of
from fdfast.attack.slopes import GradientKind, slope_of
from fdfast.attack.subject import subject_of
from fdfast.functions import resolve_loss
from fdfast.moves import Bounds, Channels, TileLike, auto_step

Array = npt.NDArray[Any]


def for_art(
    model: Any,
    *,
    classes: int,
    loss: Any = None,
    bounds: Bounds | None = (0, 1),
    gradient: GradientKind = "difference",
    h: float | Literal["auto"] = "auto",
    samples: int = 1,
    spread: float = 0.0,
    queries: int | None = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    seed: int = 0,
) -> Any:
    """Wrap a model as a classifier of the Adversarial Robustness Toolbox whose loss gradient is fdfast's.

    Parameters
    ----------
    model : keras.Model or callable
        As in `fdfast.attack.pgd`; it returns scores.
    classes : int
        Number of classes.
    bounds : (float, float) or None
        ART's clip_values.
    loss, gradient, h, samples, spread, queries, tile, channels, seed
        As in `fdfast.attack.pgd`.

    Returns
    -------
    art.estimators.classification.BlackBoxClassifierNeuralNetwork
        With `loss_gradient`, so that ART's FastGradientMethod and ProjectedGradientDescent take it.

    Raises
    ------
    ImportError
        adversarial-robustness-toolbox is not installed.
    """
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    from art.estimators.estimator import LossGradientsMixin

    found = _Gradients(model, gradient, samples, spread, queries, tile, channels, seed)

    def predict(x: Array) -> Array:
        return np.asarray(model.predict(x, verbose=0) if found.is_keras else model(x))

    class Classifier(LossGradientsMixin, BlackBoxClassifierNeuralNetwork):  # type: ignore[misc]
        """A classifier of ART whose gradient is fdfast's."""

        def loss_gradient(self, x: Array, y: Array, **kwargs: Any) -> Array:
            """Gradient of the loss at x, shape and dtype of x; y is one-hot or class numbers."""
            return found.of(x, _targets(model, loss, np.asarray(y), classes), loss, h).astype(x.dtype)

    shape = tuple(model.input_shape[1:]) if hasattr(model, "input_shape") else ()
    return Classifier(predict, input_shape=shape, nb_classes=classes, clip_values=bounds)


def for_foolbox(
    model: Any,
    *,
    bounds: Bounds = (0, 1),
    gradient: GradientKind = "difference",
    h: float | Literal["auto"] = "auto",
    samples: int = 1,
    spread: float = 0.0,
    queries: int | None = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    seed: int = 0,
) -> Any:
    """Wrap a model for Foolbox: TensorFlow's tape, wherever Foolbox uses it, gets fdfast's gradient.

    Parameters
    ----------
    model : keras.Model or callable
        Of rows; it returns scores. Foolbox takes them for logits.
    bounds : (float, float)
        Foolbox's bounds.
    gradient, h, samples, spread, queries, tile, channels, seed
        As in `fdfast.attack.pgd`. Differences are central ones of the scores as they are.

    Returns
    -------
    foolbox.TensorFlowModel

    Raises
    ------
    ImportError
        foolbox is not installed.
    """
    import foolbox
    import tensorflow as tf

    found = _Gradients(model, gradient, samples, spread, queries, tile, channels, seed)

    @tf.custom_gradient
    def scores(x: Any) -> Any:
        def pulled_back(weights: Any, variables: Any = None) -> Any:
            # The gradient of a weighted sum of the scores, whatever loss the weights come from.
            step = auto_step(x.dtype.as_numpy_dtype) if h == "auto" else h
            moved = tf.constant(found.of(x.numpy(), weights.numpy(), _weighted, step), x.dtype)
            return moved if variables is None else (moved, [None] * len(variables))

        return tf.convert_to_tensor(model(x, training=False) if found.is_keras else model(x)), pulled_back

    return foolbox.TensorFlowModel(scores, bounds=bounds)


@dataclass(frozen=True)
class _Gradients:
    """fdfast's gradient of a model, as another library asks for it: at rows, for targets of the moment."""

    model: Any
    gradient: Any
    samples: Any
    spread: Any
    queries: Any
    tile: Any
    channels: Any
    seed: int

    @property
    def is_keras(self) -> bool:
        """Whether the model takes Keras' arguments."""
        return hasattr(self.model, "predict")

    def of(self, x: Array, y: Any, loss: Any, h: Any) -> Array:
        """Gradient of the loss at rows, shape of x."""
        with subject_of(self.model, x, y, loss, None) as subject:
            way = way_of(
                subject, self.gradient, h, self.samples, self.spread, self.queries, self.tile, self.channels,
                self.seed, 1.0,
            )  # fmt: skip
            return slope_of(subject, way)(subject.points, subject.every).reshape(subject.x.shape)


def _weighted(weights: Any, scores: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(weights * scores, axis=-1)


def _targets(model: Any, loss: Any, y: Array, classes: int) -> Array:
    """ART's targets in the form that the loss takes."""
    numbers = y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] == classes else y.reshape(-1)
    named = loss is not None or hasattr(model, "layers")
    if not named or resolve_loss(loss, model).kind == "classes":
        return np.asarray(numbers, np.int64)
    return np.eye(classes)[numbers.astype(np.int64)]
