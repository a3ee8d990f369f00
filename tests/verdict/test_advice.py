"""Every piece of advice that a message gives is followed here, on the case that triggers it, and leads out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 2))
A = RNG.normal(size=(4, 4))
SYMMETRIC = A @ A.T + 5 * np.eye(4)
every = functools.partial(fdfast.gradcheck, check="every")


def seeded(*layers: Any, shape: tuple[int, ...] = (4,), **options: Any) -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape, **options), *layers])


PLAIN = seeded(L.Dense(3, activation="tanh"), L.Dense(2))
DROPPING = seeded(L.Dense(8, activation="tanh"), L.Dropout(0.5), L.Dense(2))
NORMAL = seeded(L.BatchNormalization(), L.Dense(2))
TWO = keras.Model(PLAIN.inputs, [PLAIN.outputs[0], PLAIN.layers[0].output])
FROZEN = seeded(L.Dense(2))
FROZEN.trainable = False


def recurrent(*, stateful: bool) -> Any:
    return seeded(
        L.LSTM(3, stateful=stateful, name="lstm"), L.Dense(2), shape=(5, 4), batch_size=1 if stateful else None
    )


SERIES = RNG.normal(size=(1, 5, 4))
STATEFUL, STATELESS = recurrent(stateful=True), recurrent(stateful=False)
STATELESS.set_weights(STATEFUL.get_weights())


def of_rows(model: Any, *, training: bool) -> Any:
    return lambda rows: tf.reduce_sum(model(rows, training=training) ** 2, axis=1)


def two_losses(x: Any) -> Any:
    first, second = TWO(x[None])
    return tf.reduce_sum(first**2) + tf.reduce_sum(tf.sin(second))


@tf.custom_gradient
def rounded(x: Any) -> Any:
    return tf.round(x), lambda d: d


@tf.custom_gradient
def outside(x: Any) -> Any:
    """NumPy's tanh with the gradient that TensorFlow cannot know."""
    value = tf.ensure_shape(tf.numpy_function(np.tanh, [x], tf.float64), x.shape)
    return value, lambda d: d * (1 - value**2)


@tf.custom_gradient
def outside_in_float32(x: Any) -> Any:
    value = tf.numpy_function(lambda a: np.tanh(a).astype(np.float32), [x], tf.float32)
    value = tf.ensure_shape(value, x.shape)
    return value, lambda d: tf.cast(d * (1 - value**2), x.dtype)


def cut(x: Any) -> Any:
    return tf.reduce_sum(tf.numpy_function(np.tanh, [x], tf.float64) ** 2)


def swapped(x: Any) -> Any:
    return 2 * x[..., ::-1]


COLOURS = RNG.uniform(0.1, 0.9, (4, 4, 3))


def through_python(x: Any) -> Any:
    return tf.py_function(lambda t: float((t.numpy() ** 2).sum()), [x], tf.float64)


def squares(x: Any) -> Any:
    return tf.reduce_sum(x**2)


def saturated(x: Any) -> Any:
    return tf.reduce_sum(tf.nn.relu(x - 100.0))


def floored(x: Any) -> Any:
    return tf.reduce_sum(tf.floor(x) + x**2)


def around_float32(x: Any) -> Any:
    return tf.reduce_sum(tf.sin(8 * PLAIN(x)) ** 2)


def passes(*arguments: Any, **options: Any) -> None:
    report = fdfast.gradcheck(*arguments, **options)
    assert report.verdict == "pass", str(report)


def detached(x: Any) -> Any:
    return tf.reduce_sum(tf.stop_gradient(tf.tanh(x)) * x)


def checked_beside_a_constant() -> None:
    constant = tf.tanh(tf.constant(X))
    passes(lambda x: tf.reduce_sum(constant * x), X)


def trained_again() -> None:
    FROZEN.trainable = True
    try:
        passes(FROZEN, X, Y, loss="mse", wrt="weights")
    finally:
        FROZEN.trainable = False


def names_the_elements() -> None:
    report = every(squares, COLOURS, analytic=swapped(COLOURS), tile=1, channels="apart")
    assert report.counts["wrong"] == 2 * 16  # the middle channel stays


def half_of_a_matrix(x: Any) -> Any:
    return tf.linalg.logdet(x)


#: What triggers the message; the advice in it; what follows it.
IMAGE_RGB = np.random.default_rng(0).uniform(size=(1, 3, 3, 2)).astype("float32")


def contrasted(x: Any) -> Any:
    return tf.reduce_sum(tf.raw_ops.AdjustContrastv2(images=x, contrast_factor=1.5) ** 2)


def contrasted_back(x: Any) -> Any:
    """y = m + 1.5 (x - m), m the mean of a channel: its gradient of the sum of squares."""
    m = np.mean(x, (1, 2), keepdims=True)
    return 3 * (1.5 * (x - m)) + 2 * m


@tf.custom_gradient
def contrasted_by_hand(x: Any) -> Any:
    m = tf.reduce_mean(x, (1, 2), keepdims=True)
    return contrasted(x), lambda g: g * (4.5 * (x - m) + 2 * m)


ADVICE: dict[str, tuple[Callable[[], Any], str, Callable[[], Any]]] = {
    "dropout in training": (
        lambda: every(of_rows(DROPPING, training=True), X[0], batched=True),
        "call it with training=False",
        lambda: passes(of_rows(DROPPING, training=False), X[0], batched=True),
    ),
    "batch norm in training": (
        lambda: every(of_rows(NORMAL, training=True), X[0], batched=True),
        "call it with training=False",
        lambda: passes(of_rows(NORMAL, training=False), X[0], batched=True),
    ),
    "state from call to call": (
        lambda: every(STATEFUL, SERIES, Y[:1], loss="mse"),
        "build it without batch_size, rows come in any number, and lstm with stateful=False; the copy takes its "
        "weights",
        lambda: passes(STATELESS, SERIES, Y[:1], loss="mse"),
    ),
    "several outputs": (
        lambda: fdfast.gradient(TWO, X, y=Y, loss="mse"),
        "pick one with keras.Model",
        lambda: fdfast.gradient(keras.Model(TWO.inputs, TWO.outputs[0]), X, y=Y, loss="mse"),
    ),
    "several losses": (
        lambda: fdfast.gradient(TWO, X, y=[Y, Y], loss=["mse", "mse"]),
        "a function of x that calls it and adds the losses up",
        lambda: passes(two_losses, X[0]),
    ),
    "several losses, checked": (
        lambda: fdfast.gradient(TWO, X, y=[Y, Y], loss=["mse", "mse"]),
        "gradcheck(..., check='directions')",
        lambda: passes(TWO, X, [Y, np.zeros((3, 3))], loss=["mse", "mse"], check="directions"),
    ),
    "one loss for the batch": (
        lambda: every(PLAIN, X, Y, loss=lambda y, p: tf.reduce_mean((y - p) ** 2)),
        "reduce over axes 1 and up only",
        lambda: passes(PLAIN, X, Y, loss=lambda y, p: tf.reduce_mean((y - p) ** 2, axis=1)),
    ),
    "the class of a loss": (
        lambda: every(PLAIN, X, Y, loss=keras.losses.MeanSquaredError),
        "pass an object of it: MeanSquaredError()",
        lambda: passes(PLAIN, X, Y, loss=keras.losses.MeanSquaredError()),
    ),
    "no loss": (
        lambda: every(PLAIN, X, Y),
        "pass loss='categorical_crossentropy' or the like",
        lambda: passes(PLAIN, X, np.eye(2)[[0, 1, 1]], loss=keras.losses.CategoricalCrossentropy(from_logits=True)),
    ),
    "class numbers": (
        lambda: every(PLAIN, X, [0, 1, 1], loss=keras.losses.CategoricalCrossentropy(from_logits=True)),
        "use keras.utils.to_categorical(y, 2)",
        lambda: passes(
            PLAIN,
            X,
            keras.utils.to_categorical([0, 1, 1], 2),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        ),
    ),
    "several numbers, rows": (
        lambda: fdfast.gradient(lambda x: x**2, X[0]),
        "For a function of rows pass batched=True",
        lambda: fdfast.gradient(lambda rows: tf.reduce_sum(rows**2, axis=1), X[0], batched=True),
    ),
    "several numbers, outputs": (
        lambda: fdfast.gradient(lambda x: x**2, X[0]),
        "for several outputs use fdfast.jacobian",
        lambda: fdfast.jacobian(lambda x: x**2, X[0]),
    ),
    "a step that vanishes": (
        lambda: fdfast.gradient(squares, X, 1e-30, engine="batch"),
        "leave h='auto'",
        lambda: passes(squares, X, h="auto"),
    ),
    "left open in float32": (
        lambda: every(around_float32, X[:1], precision="float32", rtol=1e-7),
        "precision='auto', which runs f in float64",
        lambda: passes(around_float32, X[:1], precision="auto", rtol=1e-7, check="every"),
    ),
    "out of reach in float64": (
        lambda: every(lambda x: squares(outside_in_float32(x)), X, precision="float64"),
        "precision='auto' checks f to what it has",
        lambda: passes(lambda x: squares(outside_in_float32(x)), X, check="every", rtol=0.2),
    ),
    "a tape that is cut, by TensorFlow": (
        lambda: every(cut, X),
        "Write that part with TensorFlow's operations",
        lambda: passes(lambda x: tf.reduce_sum(tf.tanh(x) ** 2), X),
    ),
    "a tape that is cut, by hand": (
        lambda: every(cut, X),
        "give it a gradient by tf.custom_gradient",
        lambda: passes(lambda x: squares(outside(x)), X, check="every"),
    ),
    "a tape that is cut, given": (
        lambda: every(cut, X),
        "or pass analytic=",
        lambda: passes(cut, X, analytic=2 * np.tanh(X) * (1 - np.tanh(X) ** 2), check="every"),
    ),
    "wrong inside a tile": (
        lambda: every(squares, COLOURS, analytic=swapped(COLOURS), channels="together"),
        "tile=1 with channels='apart' names the elements",
        names_the_elements,
    ),
    "symmetric": (
        lambda: fdfast.gradcheck(half_of_a_matrix, SYMMETRIC),
        "check f((x + transpose(x)) / 2) as a function of x",
        lambda: passes(lambda x: half_of_a_matrix((x + tf.transpose(x)) / 2), SYMMETRIC),
    ),
    "straight through": (
        lambda: fdfast.gradcheck(lambda x: tf.reduce_sum(rounded(4 * x) ** 2), X),
        "with the rounding replaced by what the gradient takes it for",
        lambda: passes(lambda x: tf.reduce_sum(tf.identity(4 * x) ** 2), X),
    ),
    "detached": (
        lambda: fdfast.gradcheck(detached, X),
        "compute it outside of f, and pass that",
        checked_beside_a_constant,
    ),
    "a jump": (
        lambda: fdfast.gradcheck(floored, np.round(X)),
        "Check at a point beside the jump",
        lambda: passes(floored, np.round(X) + 0.25),
    ),
    "zero on both sides": (
        lambda: fdfast.gradcheck(saturated, X),
        "Check at a point where it does",
        lambda: passes(saturated, X + 110),
    ),
    "nothing to train": (
        lambda: fdfast.gradcheck(FROZEN, X, Y, loss="mse", wrt="weights"),
        "set trainable=True on what is to be checked",
        trained_again,
    ),
    "weights of a function": (
        lambda: fdfast.gradcheck(squares, X, wrt="weights"),
        "for a function of its weights pass them as x",
        lambda: passes(lambda w: tf.reduce_sum(tf.tanh(X @ w) ** 2), PLAIN.layers[0].get_weights()[0].astype(float)),
    ),
    "the other engine": (
        lambda: every(lambda x: tf.reduce_sum(tf.sin(x)), X, engine="windows"),
        "engine='tape' pushes differences through the operations of any function",
        lambda: passes(squares, X, engine="tape"),
    ),
    "an engine for what cannot be traced": (
        lambda: every(through_python, X, engine="tape", analytic=lambda x: 2 * x),
        "engine='batch' evaluates f itself",
        lambda: passes(through_python, X, engine="batch", analytic=lambda x: 2 * x),
    ),
    "budget": (
        lambda: every(squares, X, budget=100),
        "for inputs a larger tile= costs less",
        lambda: passes(squares, X, tile=2),
    ),
    "no gradient in TensorFlow": (
        lambda: every(contrasted, IMAGE_RGB),
        "TensorFlow has none of its operation AdjustContrastv2. Give that part one by tf.custom_gradient",
        lambda: passes(contrasted_by_hand, IMAGE_RGB),
    ),
    "no gradient in TensorFlow, an array": (
        lambda: every(contrasted, IMAGE_RGB),
        "or pass analytic=",
        lambda: passes(contrasted, IMAGE_RGB, analytic=contrasted_back(IMAGE_RGB)),
    ),
    "arrays only": (
        lambda: fdfast.gradcheck(lambda x: float((np.asarray(x) ** 2).sum()), X),
        "pass analytic=, an array or a function of x",
        lambda: passes(lambda x: float((np.asarray(x) ** 2).sum()), X, analytic=lambda x: 2 * x),
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_leads_out(name: str) -> None:
    trigger, advice, follow = ADVICE[name]
    try:
        said = " ".join(str(trigger()).split())
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())
    assert advice in said, said
    follow()


def test_what_is_in_force_already_is_not_advised() -> None:
    """In float64 no wider precision is promised, nor where there is none."""

    def noisy(x: Any) -> Any:
        return tf.reduce_sum(tf.cast(tf.cast(tf.sin(x) * 1e6, tf.int64), tf.float64)) * 1e-6

    for f, options in ((noisy, {}), (lambda x: tf.reduce_sum(outside(x) ** 2), {"rtol": 0.0})):
        report = every(f, X, **options)
        assert "precision=" not in str(report)
