"""Checks while a model is trained: what is logged, and that training goes on as if there were none."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.callback import GradientCheck

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype(np.float32)
Y = RNG.normal(size=(32, 1)).astype(np.float32)
KEYS = ("gradcheck_pass", "gradcheck_coverage", "gradcheck_wrong", "gradcheck_median_rel_error")


@tf.custom_gradient
def doubled(x):
    """The identity, with a gradient that is twice too large."""
    return tf.identity(x), lambda upstream: 2 * upstream


@keras.saving.register_keras_serializable("fdfast_tests")
class Wrong(keras.layers.Layer):
    def call(self, x):
        return doubled(x)


def trained(callbacks=(), epochs=3, wrong=False, verbose=0):
    """A small network with all that has a state: dropout, batch norm, a shuffled epoch, an optimizer with momentum."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            *([Wrong()] if wrong else []),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", metrics=["mae"])
    history = model.fit(X, Y, batch_size=8, epochs=epochs, verbose=verbose, callbacks=list(callbacks)).history
    return model, history


def drawn():
    """What every generator that Keras might use would give next."""
    return random.random(), np.random.random(), float(tf.random.uniform([])), float(keras.random.uniform([]))  # noqa: NPY002


def test_training_goes_on_as_if_nothing_had_been_checked():
    plain, expected = trained()
    after = drawn()
    model, history = trained([GradientCheck(X[:2], Y[:2])])
    assert drawn() == after
    for got, due in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(got.numpy(), due.numpy(), err_msg=got.path)
    for got, due in zip(model.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), due.numpy(), err_msg=got.path)
    assert {key: values for key, values in history.items() if key not in KEYS} == expected


def test_every_epoch_has_an_entry_in_the_history():
    check = GradientCheck(X[:2], Y[:2], every=2)
    _, history = trained([check], epochs=5)
    assert list(check.reports) == [2, 4]
    assert history["gradcheck_pass"] == pytest.approx([np.nan, 1, np.nan, 1, np.nan], nan_ok=True)
    assert history["gradcheck_wrong"] == pytest.approx([np.nan, 0, np.nan, 0, np.nan], nan_ok=True)
    assert history["gradcheck_coverage"][1] == 1
    assert history["gradcheck_median_rel_error"][1] < 1e-6  # a smooth network in float64: 1e-9 and better
    assert {len(values) for values in history.values()} == {5}
    # Each check sees the weights of its epoch.
    assert not np.array_equal(check.reports[2].numeric, check.reports[4].numeric)


def test_a_wrong_gradient_warns_and_training_goes_on():
    with pytest.warns(RuntimeWarning, match=r"(?s)epoch 1: the gradient is wrong\nfdfast: FAIL"):
        _, history = trained([GradientCheck(X[:2], Y[:2])], epochs=1, wrong=True)
    assert history["gradcheck_pass"] == [0]
    assert history["gradcheck_wrong"] == [12]


def test_a_wrong_gradient_raises_if_asked_to():
    with pytest.raises(AssertionError, match=r"(?s)epoch 2:\nfdfast: FAIL .* wrong +12 "):
        trained([GradientCheck(X[:2], Y[:2], 2, on_fail="raise")], wrong=True)


def test_an_inconclusive_check_is_printed_and_never_raised(capsys):
    check = GradientCheck(
        np.zeros((1, 6), np.float32), np.zeros((1, 1)), on_fail="raise", loss=lambda y, p: 0 * p[:, 0]
    )
    _, history = trained([check], epochs=1, verbose=2)
    assert check.reports[1].verdict == "inconclusive"
    assert history["gradcheck_pass"] == [0]
    assert "gradcheck after epoch 1: INCONCLUSIVE, coverage" in capsys.readouterr().out


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (2, 1)])
def test_a_check_prints_one_line_unless_fit_is_silent(verbose, lines, capsys):
    trained([GradientCheck(X[:2], Y[:2], every=2)], epochs=2, verbose=verbose)
    assert capsys.readouterr().out.count("gradcheck after epoch 2: PASS, coverage 100 %, 0 wrong of 12 tiles") == lines


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every": 0}, ValueError, "every=0 must be at least 1"),
        ({"every": 1.5}, TypeError, "every must be an int, the number of epochs between checks, got 1.5"),
        ({"on_fail": "stop"}, ValueError, "on_fail must be one of 'warn', 'raise', got 'stop'"),
        ({"tolerance": 1}, TypeError, "gradcheck has no option tolerance; it has .*rtol"),
    ],
)
def test_mistakes_are_named_before_an_epoch_is_trained(options, error, match):
    with pytest.raises(error, match=match):
        GradientCheck(X, Y, **options)


def test_it_is_a_public_name():
    assert fdfast.GradientCheck is GradientCheck
