"""Differences of losses, one value per row, without ever subtracting two losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fdfast.differences.rules.elementwise import (
    absolute_difference,
    clip_difference,
    log_difference,
    relu_difference,
    softplus_difference,
)
from fdfast.functions import is_stock, settings_of

#: (target, z, d) -> difference of the loss for each row, still to be reduced over what is left.
LossRule = Callable[[Any, Any, Any], Any]
keras_losses = keras.losses


def find_loss(loss: Any) -> LossRule | None:
    """Rule of a Keras loss, by exact function or class and its settings; None if there is none.

    Parameters
    ----------
    loss : Keras loss function or `keras.losses.Loss`
    """
    name, config = described(loss)
    if name is None or config.get("axis", -1) != -1 or config.get("ignore_class") is not None:
        return None
    if name in _OF_PROBABILITIES:
        return _from_probabilities(name, config)
    if name == "huber":
        return lambda y, z, d: huber(y, z, d, config.get("delta", 1.0))
    return _PLAIN[name]


def described(loss: Any) -> tuple[str | None, dict[str, Any]]:
    """Name of a Keras loss in this module, None for any other; and its settings."""
    if not isinstance(loss, keras_losses.Loss):
        return _NAMES.get(loss), {}
    return _NAMES.get(type(loss)) if is_stock(loss) else None, settings_of(loss)


def _from_probabilities(name: str, config: dict[str, Any]) -> LossRule:
    smoothing = config.get("label_smoothing", 0.0)
    of_logits, of_probabilities = _OF_PROBABILITIES[name]

    def rule(y: Any, z: Any, d: Any) -> Any:
        if name == "sparse_categorical_crossentropy":
            y = tf.one_hot(y, z.shape[-1], dtype=d.dtype)
        elif smoothing:
            share = 0.5 if name == "binary_crossentropy" else 1 / z.shape[-1]
            y = y * (1 - smoothing) + smoothing * share
        # As Keras does, which takes the logits behind a softmax even where from_logits is set.
        logits = getattr(d, "_fdfast_logits", (z, d) if config.get("from_logits") else None)
        return of_probabilities(y, z, d) if logits is None else of_logits(y, *logits)

    return rule


def cross_entropy_logits(y: Any, z: Any, d: Any) -> Any:
    """sum_j y_j log1p(sum_k p_k expm1(d_k - d_j)): log sum exp grows by log(sum p e^d), each logit by d_j.

    With d_j outside of the logarithm the two would cancel where p_j is near 1.
    """
    p = tf.nn.softmax(z)
    inside = tf.math.expm1(d[..., None, :] - d[..., :, None])
    # p_k expm1(0) is zero for k = j, so what is summed is small where p_j is near 1.
    grown = tf.math.log1p(tf.reduce_sum(p[..., None, :] * inside, axis=-1))
    return tf.reduce_sum(y * grown, axis=-1)


def cross_entropy(y: Any, z: Any, d: Any) -> Any:
    """-sum y log q for q = clip(z / sum z), as Keras clips: 1e-7 from either end."""
    eps = keras.config.epsilon()
    total, moved = tf.reduce_sum(z, axis=-1, keepdims=True), tf.reduce_sum(d, axis=-1, keepdims=True)
    q = z / total
    dq = (d - q * moved) / (total + moved)
    return -tf.reduce_sum(
        y * log_difference(tf.clip_by_value(q, eps, 1 - eps), clip_difference(q, dq, eps, 1 - eps)), axis=-1
    )


def sparse_cross_entropy(y: Any, z: Any, d: Any) -> Any:
    """-log q_y + log sum q for q = clip(z): Keras takes the softmax of log q, which renormalises after clipping."""
    eps = keras.config.epsilon()
    q, dq = tf.clip_by_value(z, eps, 1 - eps), clip_difference(z, d, eps, 1 - eps)
    total, moved = tf.reduce_sum(q, axis=-1), tf.reduce_sum(dq, axis=-1)
    return log_difference(total, moved) - tf.reduce_sum(y * log_difference(q, dq), axis=-1)


def binary_cross_entropy_logits(y: Any, z: Any, d: Any) -> Any:
    """y softplus(-z) + (1 - y) softplus(z)."""
    return tf.reduce_mean(y * softplus_difference(-z, -d) + (1 - y) * softplus_difference(z, d), axis=-1)


def binary_cross_entropy(y: Any, z: Any, d: Any) -> Any:
    """-y log q - (1 - y) log(1 - q) for q = clip(z), as Keras clips."""
    eps = keras.config.epsilon()
    q, dq = tf.clip_by_value(z, eps, 1 - eps), clip_difference(z, d, eps, 1 - eps)
    return -tf.reduce_mean(y * log_difference(q, dq) + (1 - y) * log_difference(1 - q, -dq), axis=-1)


def mean_squared_error(y: Any, z: Any, d: Any) -> Any:
    """(e + d)^2 - e^2 = d (2 e + d), e = z - y."""
    return tf.reduce_mean(d * (2 * (z - y) + d), axis=-1)


def mean_absolute_error(y: Any, z: Any, d: Any) -> Any:
    """|e + d| - |e|, e = z - y."""
    return tf.reduce_mean(absolute_difference(z - y, d), axis=-1)


def huber(y: Any, z: Any, d: Any, delta: float = 1.0) -> Any:
    """c^2 / 2 + delta relu(|e| - delta), with c = clip(e, -delta, delta)."""
    e = z - y
    c, dc = tf.clip_by_value(e, -delta, delta), clip_difference(e, d, -delta, delta)
    outside = relu_difference(tf.abs(e) - delta, absolute_difference(e, d))
    return tf.reduce_mean(dc * (2 * c + dc) / 2 + delta * outside, axis=-1)


def log_cosh(y: Any, z: Any, d: Any) -> Any:
    """e + softplus(-2 e) - log 2, e = z - y."""
    e = z - y
    return tf.reduce_mean(d + softplus_difference(-2 * e, -2 * d), axis=-1)


def hinge(y: Any, z: Any, d: Any) -> Any:
    """relu(1 - y z); targets 0 and 1 stand for -1 and 1."""
    y = _signs(y)
    return tf.reduce_mean(relu_difference(1 - y * z, -y * d), axis=-1)


def squared_hinge(y: Any, z: Any, d: Any) -> Any:
    """The square of `hinge`'s relu."""
    y = _signs(y)
    r, dr = tf.nn.relu(1 - y * z), relu_difference(1 - y * z, -y * d)
    return tf.reduce_mean(dr * (2 * r + dr), axis=-1)


def kl_divergence(y: Any, z: Any, d: Any) -> Any:
    """sum y log(y / q), q and y clipped to [1e-7, 1] as Keras does."""
    eps = keras.config.epsilon()
    y = tf.clip_by_value(y, eps, 1.0)
    return -tf.reduce_sum(y * log_difference(tf.clip_by_value(z, eps, 1.0), clip_difference(z, d, eps, 1.0)), axis=-1)


def poisson(y: Any, z: Any, d: Any) -> Any:
    """z - y log(z + epsilon)."""
    return tf.reduce_mean(d - y * log_difference(z + keras.config.epsilon(), d), axis=-1)


def mean_squared_logarithmic_error(y: Any, z: Any, d: Any) -> Any:
    """The square of log1p(z) - log1p(y), z and y no lower than 1e-7."""
    eps = keras.config.epsilon()
    z, d = tf.maximum(z, eps), relu_difference(z - eps, d)
    e, de = tf.math.log1p(z) - tf.math.log1p(tf.maximum(y, eps)), log_difference(1 + z, d)
    return tf.reduce_mean(de * (2 * e + de), axis=-1)


def _signs(y: Any) -> Any:
    binary = tf.reduce_all((y == 0) | (y == 1))
    return tf.where(binary, 2 * y - 1, y)


_OF_PROBABILITIES: dict[str, tuple[LossRule, LossRule]] = {
    "categorical_crossentropy": (cross_entropy_logits, cross_entropy),
    "sparse_categorical_crossentropy": (cross_entropy_logits, sparse_cross_entropy),
    "binary_crossentropy": (binary_cross_entropy_logits, binary_cross_entropy),
}
_PLAIN: dict[str, LossRule] = {
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_logarithmic_error": mean_squared_logarithmic_error,
    "log_cosh": log_cosh,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
    "kl_divergence": kl_divergence,
    "poisson": poisson,
}
_NAMES: dict[Any, str] = {
    keras_losses.categorical_crossentropy: "categorical_crossentropy",
    keras_losses.CategoricalCrossentropy: "categorical_crossentropy",
    keras_losses.sparse_categorical_crossentropy: "sparse_categorical_crossentropy",
    keras_losses.SparseCategoricalCrossentropy: "sparse_categorical_crossentropy",
    keras_losses.binary_crossentropy: "binary_crossentropy",
    keras_losses.BinaryCrossentropy: "binary_crossentropy",
    keras_losses.mean_squared_error: "mean_squared_error",
    keras_losses.MeanSquaredError: "mean_squared_error",
    keras_losses.mean_absolute_error: "mean_absolute_error",
    keras_losses.MeanAbsoluteError: "mean_absolute_error",
    keras_losses.mean_squared_logarithmic_error: "mean_squared_logarithmic_error",
    keras_losses.MeanSquaredLogarithmicError: "mean_squared_logarithmic_error",
    keras_losses.huber: "huber",
    keras_losses.Huber: "huber",
    keras_losses.log_cosh: "log_cosh",
    keras_losses.LogCosh: "log_cosh",
    keras_losses.hinge: "hinge",
    keras_losses.Hinge: "hinge",
    keras_losses.squared_hinge: "squared_hinge",
    keras_losses.SquaredHinge: "squared_hinge",
    keras_losses.kl_divergence: "kl_divergence",
    keras_losses.KLDivergence: "kl_divergence",
    keras_losses.poisson: "poisson",
    keras_losses.Poisson: "poisson",
}
