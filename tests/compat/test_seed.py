"""The names of the seed's loops, side by side with the loops."""

from __future__ import annotations

import doctest

import keras
import numpy as np
import pytest

from fdfast.compat import seed as ours
from fdfast.data import seed_loops as loops

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 1, (5, 7, 2))


@pytest.mark.parametrize("x", [X, X[0, 0], 2.0, [1, 2, 3]], ids=["image", "vector", "number", "integers"])
def test_gradient_is_the_answer_s(x):
    def f(at, tile, loss):  # names that fdfast.gradient has options of
        return tile * np.sum(at**4) + loss

    got = ours.gradient(f, x, 1e-3, tile=2.0, loss=1.0)
    assert (got.shape, got.dtype) == (np.shape(x), np.float64)
    # f is about 100 and rounds to 1e-14, over 2e-3; both take the same step, apart by the rounding of x + h.
    np.testing.assert_allclose(got, loops.seed_gradient(f, x, 1e-3, tile=2.0, loss=1.0), atol=1e-10)
    assert ours.seed_gradient is ours.gradient


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    layers = keras.layers
    stack = [
        keras.Input((6, 5, 1), dtype="float64"),
        layers.Conv2D(3, 3, activation="tanh", dtype="float64"),
        layers.Flatten(dtype="float64"),
        layers.Dense(4, activation="softmax", dtype="float64"),
    ]
    built = keras.Sequential(stack)
    built.compile(loss="categorical_crossentropy")
    return built


@pytest.mark.parametrize("tile", [1, 2, 4])
@pytest.mark.parametrize("batched", [False, True])
def test_the_loop_is_the_question_s(model, tile, batched):
    x, y = RNG.uniform(size=(1, 6, 5, 1)), np.eye(4)[[2]]
    if not batched:
        x, y = x[0], y[0]
    kept, seen = x.copy(), []
    got = ours.seed_loop(model, x, y, 1e-4, tile, progress=lambda done, total: seen.append((done, total)))
    # The same quotients: 1e-16 of rounding over 2e-4, and cross-entropy from probabilities, clipped at 1e-7, or logits.
    np.testing.assert_allclose(got, loops.seed_loop(model, x, y, 1e-4, tile), atol=1e-9)
    squares = -(-6 // tile) * -(-5 // tile)
    assert seen[-1] == (squares, squares)
    np.testing.assert_array_equal(x, kept)
    # The control: a step a hundred times as long gives another quotient.
    assert np.abs(ours.seed_loop(model, x, y, 1e-2, tile) - got).max() > 1e-8


def test_the_example_runs():
    result = doctest.testmod(ours)
    assert (result.attempted, result.failed) == (1, 0)
