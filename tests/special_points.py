"""Points at which f or its gradient is special, as people report them.

Every row of the tables is a pair of function and point. A word per element says what it must be called: a(gree),
w(rong), k(ink), s(ingular), u(nresolved).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

F = Callable[[Any], Any]


def at(*values: float) -> np.ndarray:
    return np.array(values, float)


def letters(report: Any) -> str:
    return "".join(name[0] for name in report.classes.ravel())


def total(f: F) -> F:
    return lambda x: tf.reduce_sum(f(x))


def distance(a: Any, b: Any) -> Any:
    return tf.norm(a - b)


def triplet(x: Any) -> Any:
    """Anchor, positive and negative, two numbers each."""
    return tf.maximum(distance(x[:2], x[2:4]) - distance(x[:2], x[4:]) + 4.0, 0.0)


NAN = "NaN or infinite on"


# f, the point, what its elements are called, some words of a reason or hint
NOT_FINITE: dict[str, tuple[F, np.ndarray, str, str]] = {
    "norm at zero": (tf.norm, at(0, 0, 0), "www", NAN),
    "norm elsewhere": (tf.norm, at(1, 0, 2), "aaa", ""),
    "a triplet whose positive is its anchor": (triplet, at(1, 2, 1, 2, 3, 3), "wwwwaa", NAN),
    "a triplet": (triplet, at(1, 2, 1, 2.5, 3, 3), "aaaaaa", ""),
    "deviation of equal numbers": (tf.math.reduce_std, at(2, 2, 2), "www", NAN),
    "deviation": (tf.math.reduce_std, at(2, 2, 3), "aaa", ""),
    "sqrt(x^2)": (total(lambda x: tf.sqrt(x**2)), at(0, 0.5), "wa", NAN),
    "where behind a division": (
        total(lambda x: tf.where(x == 0, tf.ones_like(x), tf.sin(x) / x)),
        at(0, 0.5),
        "wa",
        "0 * inf behind a tf.where",
    ),
    "where around its argument": (
        total(lambda x: tf.where(x == 0, tf.ones_like(x), tf.sin(y := tf.where(x == 0, tf.ones_like(x), x)) / y)),
        at(0, 0.5),
        "aa",
        "",
    ),
    "sqrt at zero": (total(tf.sqrt), at(0, 1), "sa", "f is not finite at x[0]"),
    "sqrt of a size at zero": (total(lambda x: tf.sqrt(tf.abs(x))), at(0, 1), "sa", "grows without bound"),
    "acos at one": (total(tf.acos), at(1, 0.5), "sa", "f is not finite at x[0]"),
    "x log x at zero": (total(lambda x: tf.math.xlogy(x, tf.abs(x))), at(0, 1), "sa", "grows without bound"),
    "a power of zero": (total(lambda x: x**2.5), at(0, 1), "sa", "f is not finite at x[0]"),
    "zero to a power": (total(lambda y: tf.pow(tf.constant(at(0, 2)), y)), at(1.5, 2), "aa", ""),
    "atan2 of zeros": (lambda x: tf.atan2(x[0], x[1]), at(0, 0), "ss", "f jumps at x"),
    "a division that says zero": (
        total(lambda x: tf.math.divide_no_nan(tf.sin(x), x)),
        at(0, 0.5),
        "sa",
        "f jumps at x, by 1 at most",
    ),
}


def saddle(x: Any) -> Any:
    return tf.reduce_prod(x) + tf.reduce_sum(tf.sin(x))


def cumprod(x: Any) -> Any:
    return tf.reduce_sum(tf.math.cumprod(x))


def cumprod_by_hand(x: Any) -> Any:
    """The same, with a gradient that does not divide."""
    parts = [x[0]]
    for i in range(1, 4):
        parts.append(parts[-1] * x[i])
    return tf.add_n(parts)


@tf.custom_gradient
def square(x: Any) -> Any:
    """x^2, whose gradient is 2 x but for a special case at 1/2."""
    return x**2, lambda g: g * tf.where(x == 0.5, 3.0 * x, 2.0 * x)


@tf.custom_gradient
def ramp(x: Any) -> Any:
    """max(x, 0), whose gradient at 0 is neither slope nor between them."""
    return tf.maximum(
        x, 0.0
    ), lambda g: g * tf.where(x == 0, tf.fill(tf.shape(x), tf.cast(7.0, x.dtype)), tf.cast(x > 0, x.dtype))


ALONE = "wrong at x alone"


# f, the point, what its elements are called, some words of a reason
AT_X_ALONE: dict[str, tuple[F, np.ndarray, str, str]] = {
    "cumprod with a zero": (cumprod, at(2, 0, 3, 4), "awaa", ALONE),
    "cumprod without": (cumprod, at(2, 1, 3, 4), "aaaa", ""),
    "cumprod by hand with a zero": (cumprod_by_hand, at(2, 0, 3, 4), "aaaa", ""),
    "prod with a zero": (saddle, at(2, 0, 3), "aaa", ""),
    "x log y at zero": (total(lambda x: tf.math.xlogy(x, at(2, 3))), at(0, 1), "wa", ALONE),
    "x log y elsewhere": (total(lambda x: tf.math.xlogy(x, at(2, 3))), at(0.1, 1), "aa", ""),
    "a special case at a half": (total(square), at(0.5, 1, -0.5), "waa", ALONE),
    "a kink excuses what is between its slopes": (total(tf.nn.relu), at(0, 1), "aa", "sits exactly on a kink"),
    "a kink excuses what is not": (total(ramp), at(0, 1), "aa", "sits exactly on a kink"),
}


TIES: dict[str, tuple[F, np.ndarray]] = {
    "relu": (total(tf.nn.relu), at(0, 0.5, -1)),
    "abs": (total(tf.abs), at(0, 0.5, -1)),
    "clip at its bounds": (total(lambda x: tf.clip_by_value(x, 0.0, 1.0)), at(0, 0.5, 1)),
    "max of equals": (tf.reduce_max, at(1, 1, 0.5)),
    "sort of equals": (lambda x: tf.reduce_sum(tf.sort(x) * [1.0, 2.0, 3.0]), at(1, 1, 0.5)),
    "huber at its corner": (total(lambda x: keras.losses.huber(tf.zeros((3, 1), x.dtype), x[:, None])), at(1, 0.5, -1)),
    "segment mean, empty segments": (
        lambda x: tf.reduce_sum(tf.math.unsorted_segment_mean(x, [0, 0, 2], 4) ** 2),
        at(1, 2, 3),
    ),
    "normalised zeros": (total(lambda x: tf.math.l2_normalize(x) * at(1, 2, 3)), at(0, 0, 0)),
    "softplus far out": (total(tf.nn.softplus), at(-800, 0, 800)),
    "eigenvalues": (lambda x: tf.reduce_sum(tf.linalg.eigvalsh(tf.reshape(x, [2, 2])) ** 2), at(2, 0, 0.5, 1)),
}


class Weighted(keras.layers.Layer):
    """A function of the weights times the input."""

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(3,), initializer="ones", name="w")

    def call(self, x: Any) -> Any:
        return self.formula(x * tf.convert_to_tensor(self.w))


@keras.saving.register_keras_serializable("special")
class Norms(Weighted):
    def formula(self, z: Any) -> Any:
        return tf.norm(z, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("special")
class Products(Weighted):
    def formula(self, z: Any) -> Any:
        return tf.math.cumprod(z, axis=-1)


@keras.saving.register_keras_serializable("special")
class Roots(Weighted):
    def formula(self, z: Any) -> Any:
        return tf.sqrt(tf.abs(z))


# Layer, weights, what these are called, some words. Near x the inputs move, the weights stay.
WEIGHTS: dict[str, tuple[type[Weighted], list[float], str, str]] = {
    "norm of weights at zero": (Norms, [0, 0, 0], "www", NAN),
    "norm of weights": (Norms, [1, 0, 2], "aaa", ""),
    "cumprod of weights with a zero": (Products, [2, 0, 3], "awa", "is wrong there"),
    "cumprod of weights": (Products, [2, 1, 3], "aaa", ""),
    "roots of weights at zero": (Roots, [0, 1, 2], "saa", "grows without bound"),
}


Options = dict[str, Any]


BESIDE = "a point beside the jump"


# A message's advice, and what following it leads to: f, x, words, options, another point
ADVICE: dict[str, tuple[F, np.ndarray, str, Options, np.ndarray | None]] = {
    "bounds": (total(lambda x: x**2.5), at(0, 1), "bounds=(low, high)", {"bounds": (0, 2)}, None),
    "a point inside": (total(tf.acos), at(1, 0.5), "a point inside of it", {}, at(0.9, 0.5)),
    "another point": (total(lambda x: tf.sqrt(tf.abs(x))), at(0, 0.5), "another point", {}, at(0.1, 0.5)),
    "beside the jump": (total(lambda x: tf.floor(x) * x), at(1, 2.5), BESIDE, {}, at(1.2, 2.5)),
}
