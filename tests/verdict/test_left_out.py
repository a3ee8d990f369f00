"""What was not checked, and what nothing was learnt of, is said in the first lines, and is no pass."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 2))


class Kullback(keras.layers.Layer):
    """Adds a term of its input to the loss, as the sampling layer of a VAE does."""

    def call(self, z: Any) -> Any:
        self.add_loss(0.5 * tf.reduce_mean(tf.square(z)))
        return z


def model_of(*layers: Any) -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), *layers, L.Dense(2)])


def trained_gradient(model: Any, wrt: str) -> Any:
    """Gradient of what `fit` would go down."""
    x = tf.constant(X, tf.float32)
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_mean(keras.losses.mean_squared_error(Y, model(x))) + sum(model.losses)
        value = value if wrt == "weights" else value * len(X)
    return tape.gradient(value, variables if wrt == "weights" else x)


#: Layers; how many terms are said to be left out where every element is looked at by itself, by x and by weights.
MODELS = {
    "plain": ([L.Dense(3, activation="tanh")], "", ""),
    "add_loss": ([L.Dense(3, activation="tanh"), Kullback()], "1 term that a layer adds", "1 term that a layer adds"),
    "activity": ([L.Dense(3, activation="tanh", activity_regularizer="l2")], "1 term that", "1 term that"),
    "penalty": ([L.Dense(3, activation="tanh", kernel_regularizer="l2")], "", "penalty of 1 regularized variable"),
}


@pytest.mark.parametrize("wrt", ["input", "weights"])
@pytest.mark.parametrize("name", MODELS)
def test_what_layers_add_is_in_or_said_to_be_out(name: str, wrt: str) -> None:
    layers, of_x, of_weights = MODELS[name]
    model = model_of(*layers)
    said = of_x if wrt == "input" else of_weights
    first = "\n".join(str(fdfast.gradcheck(model, X, Y, loss="mse", wrt=wrt, check="every")).split("\n\n")[0].split())
    assert ("is_not_part_of_what_was_checked" in "_".join(first.split())) == bool(said)
    assert said.replace(" ", "\n") in first
    # Left open, such a check goes where they are in: the true gradient of training passes, and one without fails.
    report = fdfast.gradcheck(model, X, Y, loss="mse", wrt=wrt)
    assert report.verdict == "pass"
    assert not any("not part of" in one for one in report.caveats)
    true = trained_gradient(model, wrt)
    given = [g.numpy() for g in true] if wrt == "weights" else true.numpy()
    options = {"loss": "mse", "wrt": wrt, "check": "directions"}
    wide = {"rtol": 1e-3, **options}  # the gradient of training is in float32
    assert fdfast.gradcheck(model, X, Y, analytic=given, **wide).counts["wrong"] == 0
    half = [0.5 * g for g in given] if wrt == "weights" else 0.5 * given
    assert fdfast.gradcheck(model, X, Y, analytic=half, **wide).verdict == "fail"


@pytest.mark.parametrize("check", ["every", "directions"])
def test_the_other_side_is_said_to_be_unchecked(check: str) -> None:
    model = model_of(L.Dense(3, activation="tanh"))
    by_x = fdfast.gradcheck(model, X, Y, loss="mse", check=check)
    assert "Checked by x; the gradient by the 23 weights was not (wrt='weights')." in by_x.caveats
    by_weights = fdfast.gradcheck(model, X, Y, loss="mse", check=check, wrt="weights")
    assert "Checked by the weights; the gradient by x was not (wrt='input')." in by_weights.caveats
    assert by_x.caveats[-1] in " ".join(str(by_x).split("\n\n")[0].split())
    if check == "directions":
        both = fdfast.gradcheck(model, X, Y, loss="mse", check=check, wrt="all")
        assert both.caveats == []
    assert fdfast.gradcheck(lambda x: tf.reduce_sum(x**2), X).caveats == []


@pytest.mark.parametrize("check", ["every", "directions"])
def test_dead_variables_are_no_pass(check: str) -> None:
    """42 of 44 derivatives are exactly zero on both sides, and agree with anything."""
    model = model_of(L.Dense(6, activation="relu", bias_initializer=keras.initializers.Constant(-9.0)))
    report = fdfast.gradcheck(model, X, Y, loss="mse", wrt="weights", check=check)
    assert report.verdict == "inconclusive"
    assert (report.counts["agree"], report.counts["unresolved"]) == (2, 42)
    assert any("is exactly zero on both sides, so nothing was learnt about it: dead units" in r for r in report.reasons)
    alive = model_of(L.Dense(6, activation="relu", bias_initializer=keras.initializers.Constant(9.0)))
    assert fdfast.gradcheck(alive, X, Y, loss="mse", wrt="weights", check=check).verdict == "pass"
