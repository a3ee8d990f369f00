"""Kinks seen by the units themselves, and the bars of derivatives that lose no digits."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import fdfast
from fdfast.estimates.estimate import KINK, SMOOTH

L = keras.layers


def dense(units, weights, bias=None, activation=None):
    return L.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.Constant(np.asarray(weights, "float64")),
        bias_initializer=keras.initializers.Constant(0.0 if bias is None else np.asarray(bias, "float64")),
    )


def model_of(*layers, size=1):
    return keras.Sequential([keras.Input((size,)), *layers], name="hand_made")


def one_relu():
    return model_of(dense(1, [[1.0]], activation="relu"), dense(1, [[1.0]], 1.0))


# Mean squared error against 0: the loss is the square of the output, its slope twice the output times the output's.
ONE = {
    "relu at 0": (one_relu, 0.0, (2.0, 0.0), KINK),
    "relu before 0": (one_relu, -1e-4, (0, 0), SMOOTH),
    "very near 0": (one_relu, 1e-9, (2, 2), SMOOTH),
    "absolute value": (
        lambda: model_of(dense(2, [[1.0, -1.0]], activation="relu"), dense(1, [[1.0], [1.0]], 1.0)),
        0.0,
        (2.0, -2.0),
        KINK,
    ),
    # relu(x) - relu(-x) = x: both units sit on their kink, and f is as smooth as can be.
    "kinks that cancel": (
        lambda: model_of(dense(2, [[1.0, -1.0]], activation="relu"), dense(1, [[1.0], [-1.0]], 1.0)),
        0.0,
        (2.0, 2.0),
        SMOOTH,
    ),
    "a smooth extremum": (lambda: model_of(dense(1, [[1.0]])), 0.0, (0.0, 0.0), SMOOTH),
    "relu6 at 6": (lambda: model_of(dense(1, [[1.0]]), L.ReLU(6.0), dense(1, [[1.0]], 1.0)), 6.0, (0.0, 14.0), KINK),
    "leaky at 0": (lambda: model_of(L.LeakyReLU(0.25), dense(1, [[1.0]], 1.0)), 0.0, (2.0, 0.5), KINK),
    "a dead unit behind": (
        lambda: model_of(
            dense(1, [[1.0]], activation="relu"), dense(1, [[-1.0]], -1.0, "relu"), dense(1, [[1.0]], 1.0)
        ),
        0.0,
        (0.0, 0.0),
        SMOOTH,
    ),
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ONE)
def test_one_unit(name, precision):
    make, x, (right, left), kind = ONE[name]
    found = fdfast.estimate(make(), np.array([x]), y=np.zeros(1), loss="mse", engine="difference", precision=precision)
    assert found.engine == "difference"
    assert found.kind[0, 0] == kind
    # Truncation is h times the curvature of a square, with h = 2^-27 of x; in float32 its rounding.
    loose = 1e-6 if precision == "float64" else 3e-6
    np.testing.assert_allclose([found.right[0, 0], found.left[0, 0]], [right, left], rtol=0, atol=loose * 14)


def test_the_layer_is_named():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            L.Conv2D(2, 3, activation="relu", name="early"),
            L.MaxPooling2D(2, name="late"),
            L.Flatten(),
            L.Dense(3, activation="softmax"),
        ]
    )
    x = np.zeros((4, 4, 1))  # constant: all cells of the pool are equal, and with no bias all units are at 0
    report = fdfast.gradcheck(model, x, np.eye(3)[0], loss="categorical_crossentropy")
    assert report.engine == "difference"
    assert "The first layer to tie is early on 16." in str(report).replace("\n    ", " ")


def test_a_step_over_a_kink_is_made_shorter():
    make = ONE["relu at 0"][0]
    found = fdfast.estimate(make(), np.array([1e-4]), 1e-2, y=np.zeros(1), loss="mse", engine="difference")
    assert found.kind[0, 0] == SMOOTH
    assert found.step[0, 0] < 1e-4
    np.testing.assert_allclose(found.value[0, 0], 2 * (1 + 1e-4), rtol=1e-12)
    assert found.refined > 0


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_bars_cover_what_they_claim(precision):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            L.Conv2D(8, 3, activation="tanh"),
            L.AveragePooling2D(2),
            L.Conv2D(8, 3, activation="gelu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    x, y = np.random.default_rng(0).normal(size=(12, 12, 2)), np.eye(10)[3]
    options = {"y": y, "loss": "categorical_crossentropy", "engine": "difference"}
    found = fdfast.estimate(model, x, channels="apart", precision=precision, **options)
    truth = fdfast.estimate(model, x, channels="apart", **options).value
    report = fdfast.gradcheck(model, x, y, channels="apart", loss="categorical_crossentropy")
    # Autodiff in float64, obtained by reverse mode: rounding of its sums, 1e-14 of the largest.
    largest = np.abs(report.analytic).max()
    assert (np.abs(found.value.ravel() - report.analytic.ravel()) <= found.error.ravel() + 1e-14 * largest).all()
    eps = 1e-15 if precision == "float64" else 1e-6
    assert np.median(found.error / np.abs(truth)) < 100 * eps  # and they are no wider than need be
