"""Examples of a batch whose gradient is next to nothing beside the others': they are judged all the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import fdfast

#: Of three examples; the sigmoid of the second is e^-60, that of the third e^-100.
X = np.array([[0.3, -0.2, 0.5], [-60.0, 1.0, -2.0], [-100.0, 2.0, 1.0]])
Y = np.array([[1.0], [1.0], [1.0]])


def of_sigmoids():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.layers[-1].set_weights([np.array([[1.0], [0.5], [-0.25]]), np.zeros(1)])
    return model


def exact():
    w = np.array([1.0, 0.5, -0.25])
    s = 1 / (1 + np.exp(-X @ w))[:, None]
    return 2 * (s - 1) * s * (1 - s) * w


@pytest.mark.parametrize("example", [None, 0, 1, 2])
def test_what_is_wrong_in_a_faint_example_is_found(example):
    g = exact()
    assert np.abs(g[1:]).max() < 1e-24 < 1e-2 < np.abs(g[0]).max()
    if example is not None:
        g[example] *= 1.01
    report = fdfast.gradcheck(of_sigmoids(), X, y=Y, loss="mse", analytic=g, check="directions")
    wrong = (report.parts[0].codes.reshape(3, -1) == fdfast.verdict.WRONG).sum(axis=1)
    assert report.verdict == ("pass" if example is None else "fail")
    assert wrong.tolist() == [3 if i == example else 0 for i in range(3)]


def test_autodiff_is_right_in_all_of_them():
    report = fdfast.gradcheck(of_sigmoids(), X, y=Y, loss="mse", check="directions")
    assert report.verdict == "pass"
    assert report.counts["agree"] == 9
