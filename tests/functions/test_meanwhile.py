"""Another thread trains the model that is looked at: that is said, and its work is left alone."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions.behind import WeightsMoved

X = np.random.default_rng(0).uniform(size=(8, 6, 6, 1)).astype("float32")
Y = np.eye(3)[np.arange(8) % 3]
WORDS = r"of the variables behind f changed while f was looked at \(.*/kernel first\): something else trains the model"


def model():
    made = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    made.compile(loss="categorical_crossentropy", optimizer="sgd")
    return made


CALLS = {
    "gradient": lambda f: fdfast.gradient(f, X, y=Y),
    "estimate, batch": lambda f: fdfast.estimate(f, X, y=Y, engine="batch"),
    "gradcheck": lambda f: fdfast.gradcheck(f, X, Y),
    "directions": lambda f: fdfast.gradcheck(f, X, Y, wrt="all"),
    "weights": lambda f: fdfast.gradcheck(f, X, Y, wrt="weights", check="every", budget=400),
    "directional": lambda f: fdfast.directional(f, X, X, y=Y),
    "jacobian": lambda f: fdfast.jacobian(f, X),
    "of a function": lambda f: fdfast.gradcheck(lambda x: tf.reduce_sum(f(x[None])), X[0]),
}


def trained(f, call):
    """What a call gives while steps are made, the number of steps, and what they would have come to alone."""
    begun, over = threading.Event(), threading.Event()
    steps = []

    def train():
        while not over.is_set():
            for v in f.trainable_variables:
                v.assign_add(tf.ones_like(v.value) * 2.0**-10)
            f.optimizer.iterations.assign_add(1)
            steps.append(1)
            begun.set()

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait()
    try:
        return call(f)
    finally:
        over.set()
        thread.join()
        assert int(f.optimizer.iterations) == len(steps)
        # One that was put back would lag behind the others, which are sums of powers of two.
        bias = f.layers[-1].bias.numpy()
        np.testing.assert_array_equal(bias, np.float32(len(steps) * 2.0**-10))


@pytest.mark.parametrize("call", CALLS)
def test_training_meanwhile_is_said_and_kept(call):
    with pytest.raises(WeightsMoved, match=WORDS):
        trained(model(), CALLS[call])


def test_the_remedy_works():
    def of_a_copy(f):
        copy = keras.models.clone_model(f)
        copy.set_weights(f.get_weights())
        return fdfast.gradcheck(copy, X, Y, loss="categorical_crossentropy")

    assert trained(model(), of_a_copy)


def test_a_step_that_no_optimizer_counts_is_said_too():
    f = model()

    def loss(y, prediction):
        return tf.reduce_sum((y - prediction) ** 2, axis=1)

    def disturb(done, expected):
        f.layers[0].kernel.assign_add(tf.ones_like(f.layers[0].kernel.value))

    with pytest.raises(WeightsMoved, match="1 of the variables behind f changed"):
        fdfast.gradient(f, X, y=Y, loss=loss, engine="batch", progress=disturb)


def test_what_f_itself_writes_is_put_back():
    f = model()
    before = [v.numpy() for v in f.variables]
    with pytest.raises(ValueError, match="evaluating f changes its state"):
        fdfast.gradient(lambda x: tf.reduce_sum(f(x[None], training=True)), X[0])
    for was, variable in zip(before, f.variables, strict=True):
        np.testing.assert_array_equal(was, variable.numpy())
