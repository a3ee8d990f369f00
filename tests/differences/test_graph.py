"""Whole models: differences pushed through the graph against the model itself, and the engine in the public calls."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.differences.compiled import compiled_for
from fdfast.differences.graph import Moved, NoGraph, layers_without_rule, push
from fdfast.engines.difference import DifferenceEngine
from fdfast.engines.pairs import Pairs
from fdfast.functions.model import model_objective
from fdfast.moves.tiling import make_tiling

L = keras.layers
SHAPE = (8, 8, 2)


def branched():
    keras.utils.set_random_seed(1)
    x = keras.Input(SHAPE)
    a = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    shared = L.Conv2D(4, 3, padding="same", activation="tanh")
    b = L.Add()([shared(a), a])
    c = L.Concatenate()([L.MaxPooling2D(2)(b), L.AveragePooling2D(2)(shared(b))])
    inner = keras.Sequential(
        [keras.Input((4, 4, 8)), L.BatchNormalization(), L.Flatten(), L.Dense(6, activation="gelu")]
    )
    return keras.Model(x, L.Dense(3, activation="softmax")(inner(c)), name="branched")


def with_operations():
    keras.utils.set_random_seed(2)
    x = keras.Input((6,))
    y = keras.ops.exp(L.Dense(4)(x)) * 2 + x[:, :4]
    return keras.Model(x, L.Dense(2)(y))


def in_float64(model):
    from fdfast.functions.shadow import shadow_of

    return shadow_of(model, tuple(model.inputs[0].shape[1:])).model


@pytest.mark.parametrize("make", [branched, with_operations])
def test_a_graph_moves_as_the_model_does(make):
    model = in_float64(make())
    shape = tuple(model.inputs[0].shape[1:])
    rng = np.random.default_rng(0)
    x, d = tf.constant(rng.random((1, *shape))), tf.constant(0.1 * rng.normal(size=(5, *shape)))
    out = push(model, Moved(x, d))
    np.testing.assert_array_equal(out.z, model(x))
    # Rounding of a subtraction of terms of order one.
    np.testing.assert_allclose(out.d, model(x + d) - model(x), rtol=0, atol=1e-13)


def test_layers_without_a_rule_are_named():
    assert layers_without_rule(branched()) == []
    assert len(layers_without_rule(with_operations())) >= 2


def test_a_subclassed_model_is_no_graph_of_layers():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = L.Dense(2)

        def call(self, x):
            return self.inner(x)

    own = Own()
    own(np.zeros((1, 4), "float32"))
    with pytest.raises(NoGraph, match="not a graph of layers"):
        push(own, Moved(tf.zeros((1, 4)), tf.zeros((2, 4))))
    # By operations it has windows all the same.
    x = np.ones((1, 4), "float32")
    slopes = fdfast.gradient(own, x, y=np.ones((1, 2)), loss="mse", engine="windows")
    np.testing.assert_allclose(
        slopes, fdfast.gradient(own, x, y=np.ones((1, 2)), loss="mse", engine="batch"), rtol=1e-5
    )


def test_tiny_steps_leave_full_precision():
    # h = 2^-40: subtracting losses would leave 3 digits; truncation is nil. 1e-11 is the rounding of autodiff's sums.
    model = branched()
    rng = np.random.default_rng(3)
    x, y = rng.random(SHAPE), np.eye(3)[1]
    tiling = make_tiling(SHAPE, 1, "apart")
    objective = model_objective(model, y, "categorical_crossentropy", SHAPE, 1, batched=False)
    tile = np.arange(tiling.tiles)
    pairs = Pairs(np.zeros_like(tile), tile, np.tile([2.0**-40, -(2.0**-40)], (len(tile), 1)))
    compiled = compiled_for(objective, np.dtype(np.float64))
    found = DifferenceEngine(objective, tiling, compiled).differences(x.reshape(1, -1), np.zeros(1, np.int32), pairs)
    slope = (found.delta[:, 0] - found.delta[:, 1]) / (found.moved[:, 0] - found.moved[:, 1])
    wanted = objective.gradient(x.reshape(1, -1)).ravel()
    np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-11 * np.abs(wanted).max())


def test_both_engines_agree_and_the_report_says_which_ran():
    model = branched()
    rng = np.random.default_rng(4)
    x, y = rng.random((2, *SHAPE)).astype("float32"), np.eye(3)[[1, 2]]
    options = {"loss": "categorical_crossentropy", "tile": 2}
    one, other = (fdfast.gradient(model, x, y=y, engine=e, **options) for e in ("batch", "difference"))
    # Rounding of a loss of order one over a step of 8e-6.
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    report = fdfast.gradcheck(model, x, y, engine="difference", **options)
    assert report
    assert (report.engine, report.dtype) == ("difference", "float64")
    assert "difference engine in float64" in str(report)
