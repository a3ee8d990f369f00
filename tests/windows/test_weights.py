"""Many weights are known by who wrote to them: whatever writes is seen, and the caller's values are read."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fdfast
from fdfast.functions import flat_callable, recorded
from fdfast.windows import windows as module
from fdfast.windows import windows_at
from fdfast.windows.weights import Weights

X = np.random.default_rng(0).uniform(0.1, 1.0, (6, 6, 2)).astype(np.float32)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(X.shape),
            layers.Lambda(lambda x: x * 1.5),  # so that it is no model of known layers alone
            layers.Conv2D(40, 3, activation="tanh"),
            layers.Flatten(),
            layers.Dense(150, activation="tanh"),
            layers.Dense(1),
        ]
    )


def kernel_of(model):
    return model.layers[3].kernel


def by_optimizer(model):
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.apply([v.value * 0.3 for v in model.trainable_variables], model.trainable_variables)


def in_place(model):
    variable = kernel_of(model).value
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=0.5, delta=variable * 0.3)


#: What writes to weights.
WRITERS = {
    "assign": lambda model: kernel_of(model).assign(kernel_of(model) * 0.7),
    "set_weights": lambda model: model.set_weights([w * 0.7 for w in model.get_weights()]),
    "in a function": lambda model: tf.function(lambda: kernel_of(model).value.assign_add(kernel_of(model).value))(),
    "optimizer": by_optimizer,
    "in place": in_place,
    "one row": lambda model: kernel_of(model).value.scatter_update(tf.IndexedSlices(tf.ones([1, 150]), [3])),
}


def exactly(model):
    x = tf.constant(X[None])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = model(x)
    return tape.gradient(value, x)[0].numpy()


@pytest.mark.parametrize("name", WRITERS)
def test_what_writes_to_weights_is_seen(model, name):
    assert sum(w.size for w in model.get_weights()) > module._MANY
    f = lambda x: model(x[None])[0, 0]  # noqa: E731
    for _ in range(3):  # written, and written again
        for _ in range(2):  # in the second call weights are known
            # Autodiff rounds in float32.
            np.testing.assert_allclose(fdfast.gradient(f, X), exactly(model), rtol=0, atol=1e-5)
        WRITERS[name](model)


def test_a_weight_that_is_set_to_itself_has_not_changed(model):
    flat = flat_callable(lambda x: model(x[None])[0, 0], X, {})
    whole = recorded(flat)
    made, _ = windows_at(whole, whole.point(flat.points()))
    kernel_of(model).assign(kernel_of(model).numpy())
    again, _ = windows_at(whole, whole.point(flat.points()))
    assert again is made
    kernel_of(model).assign(kernel_of(model).numpy() * 1.0001)
    other, _ = windows_at(whole, whole.point(flat.points()))
    assert other is not made


def test_weights_that_were_written_to_after_the_recording_are_not_those_of_the_program(model):
    flat = flat_callable(lambda x: model(x[None])[0, 0], X, {})
    tape = recorded(flat).point(flat.points()).tape
    assert Weights(tape).same()
    kernel_of(model).assign(kernel_of(model) * 2.0)
    assert not Weights(tape).same()
