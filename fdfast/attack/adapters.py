"""fdfast's gradients in the attacks of other libraries, which are loaded when they are asked for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.attack.projected import way_of
from fdfast.attack.slopes import GradientKind, slope_of
from fdfast.attack.subject import Subject, subject_of
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

    def predict(x: Array) -> Array:
        found = model.predict(x, verbose=0) if hasattr(model, "predict") else model(x)
        return np.asarray(found)

    class Classifier(LossGradientsMixin, BlackBoxClassifierNeuralNetwork):  # type: ignore[misc]
        """A classifier of ART whose gradient is fdfast's."""

        def loss_gradient(self, x: Array, y: Array, **kwargs: Any) -> Array:
            """Gradient of the loss at x, shape and dtype of x; y is one-hot or class numbers."""
            target = _targets(model, loss, np.asarray(y), classes)
            with subject_of(model, x, target, loss, None) as subject:
                found = _slope(subject, gradient, h, samples, spread, queries, tile, channels, seed)
            return found.astype(x.dtype)

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

    @tf.custom_gradient
    def scores(x: Any) -> Any:
        def pulled_back(weights: Any, variables: Any = None) -> Any:
            # The gradient of a weighted sum of the scores, whatever loss the weights come from.
            with subject_of(model, x.numpy(), weights.numpy(), _weighted, None) as subject:
                step = auto_step(subject.scored.dtype) if h == "auto" else h
                found = _slope(subject, gradient, step, samples, spread, queries, tile, channels, seed)
            moved = tf.constant(found, x.dtype)
            return moved if variables is None else (moved, [None] * len(variables))

        is_keras = hasattr(model, "predict")
        return tf.convert_to_tensor(model(x, training=False) if is_keras else model(x)), pulled_back

    return foolbox.TensorFlowModel(scores, bounds=bounds)


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


def _slope(
    subject: Subject,
    gradient: Any,
    h: Any,
    samples: Any,
    spread: Any,
    queries: Any,
    tile: Any,
    channels: Any,
    seed: int,
) -> Array:
    way = way_of(subject, gradient, h, samples, spread, queries, tile, channels, seed, 1.0)
    return slope_of(subject, way)(subject.points, subject.every).reshape(subject.x.shape)
