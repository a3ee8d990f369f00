"""Differences that are not those of the model are refused, and the layer is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.differences.rules import difference_rule
from fdfast.engines.trust import Untrusted

L = keras.layers


@keras.saving.register_keras_serializable("trust")
class Cube(L.Layer):
    """Registered with a rule that forgets a term."""

    def call(self, x):
        return x**3


@difference_rule(Cube)
def cube(layer, z, d):
    return 3 * z**2 * d  # and not 3 z d^2 + d^3


def inputs():
    return np.random.default_rng(0).uniform(0.5, 1, (6, 6, 1)), np.eye(3)[1]


def model_with(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 6, 1)), *layers, L.Flatten(), L.Dense(3, activation="softmax")])


def test_a_wrong_rule_is_found_and_its_layer_named():
    x, y = inputs()
    model = model_with(L.Conv2D(2, 3), Cube(name="mine"))
    with pytest.raises(Untrusted, match=r"they part at layer 'mine' \(Cube\)\. engine='batch' evaluates f itself"):
        fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine="difference")
    evaluated = fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine="batch")
    for _ in range(2):  # unasked the rule is not taken, then or later
        found = fdfast.gradient(model, x, y=y, loss="categorical_crossentropy")
        np.testing.assert_allclose(found, evaluated, rtol=0, atol=1e-9)  # rounding of a subtraction over the step
        report = fdfast.gradcheck(model, x, y, loss="categorical_crossentropy", check="every")
        assert report.verdict == "pass"
        assert "No layer's rule was taken: pushed through the layers" in str(report.reasons)
    for _ in range(2):  # and asked for it is found again
        with pytest.raises(Untrusted, match="they part at layer"):
            fdfast.gradcheck(model, x, y, loss="categorical_crossentropy", engine="difference")


def test_a_layer_whose_call_was_replaced_is_found():
    x, y = inputs()
    conv = L.Conv2D(2, 3, dtype="float64")
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1), dtype="float64"),
            conv,
            L.Flatten(dtype="float64"),
            L.Dense(3, activation="softmax", dtype="float64"),
        ]
    )
    whole = conv.call
    conv.call = lambda rows: whole(rows) + tf.sin(rows[:, :4, :4])  # the class says nothing of it
    with pytest.raises(Untrusted, match=r"they part at layer|some layer's call does more than its class says"):
        fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine="difference")


def test_nothing_is_said_of_a_good_model():
    x, y = inputs()
    model = model_with(L.Conv2D(2, 3, activation="relu"), L.MaxPooling2D(2))
    one, two = (
        fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine=e) for e in ("difference", "batch")
    )
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-9)  # rounding of a subtraction over a step of 8e-6
