"""The reference loops, on functions whose derivatives are known."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from fdfast.data import seed_loops as seed
from fdfast.data.seed_loops import seed_gradient, seed_loop

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (5, 7, 2))
W = RNG.uniform(-1, 1, (5, 7, 2))
Y = np.zeros(1)


def identity(row):
    return row


def quadratic(y, row):
    return np.sum(W.astype(row.dtype) * row**2)


def tile_sums(gradient, tile):
    """Each pixel gets the sum over its square and all channels; independent of the loop's slices."""
    out = np.zeros(gradient.shape)
    for i, j in np.ndindex(gradient.shape[:2]):
        a, b = i // tile * tile, j // tile * tile
        out[i, j] = gradient[a : a + tile, b : b + tile].sum()
    return out


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 100])
def test_loop_is_exact_for_a_quadratic_but_for_rounding(tile):
    # f is about 10, so a loss is off by 1e-15 and the quotient by 1e-15 / 1e-3; channels add up
    got = seed_loop(identity, X, Y, 1e-3, tile, loss=quadratic)
    assert (got.shape, got.dtype) == (X.shape, np.float64)
    np.testing.assert_allclose(got, tile_sums(2 * W * X, tile), atol=1e-11)


def test_loop_truncates_by_h_squared_on_a_cubic():
    x = X[..., :1]
    got = seed_loop(identity, x, Y, 0.1, loss=lambda y, row: np.sum(row**3))
    np.testing.assert_allclose(got, 3 * x**2 + 0.1**2, atol=1e-12)  # central, divided by 2h: nothing else gives h^2


def test_loop_agrees_with_autodiff_on_a_smooth_float64_model():
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1), dtype="float64"),
            layers.Conv2D(3, 3, activation="tanh", dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.Dense(4, activation="softmax", dtype="float64"),
        ]
    )
    x = RNG.uniform(0, 1, (1, 6, 6, 1))
    y = np.eye(4)[[2]]
    model.compile(loss="categorical_crossentropy")
    variable = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = keras.losses.categorical_crossentropy(y, model(variable))
    exact = tape.gradient(value, variable).numpy()
    # truncation h^2 f'''/6 is about 1e-9 and rounding 1e-16 / h is 1e-12
    np.testing.assert_allclose(seed_loop(model, x, y, 1e-4), exact, atol=1e-8)
    np.testing.assert_allclose(seed_loop(model, x[0], y[0], 1e-4, loss=model.loss), exact[0], atol=1e-8)
    by_tile = seed_loop(model, x, y, 1e-4, tile=4)
    np.testing.assert_allclose(by_tile[0], tile_sums(exact[0], 4), atol=1e-7)  # 16 pixels move together
    # The control: an autodiff gradient wrong in one pixel does not agree.
    exact[0, 3, 3, 0] += 1e-3
    assert np.abs(seed_loop(model, x, y, 1e-4) - exact).max() > 9e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loop_works_in_the_dtype_of_the_model(dtype):
    import keras

    model = keras.Sequential(
        [
            keras.Input((2, 2), dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Softmax(dtype=dtype),
        ]
    )
    seen = []

    def loss(y, prediction):
        seen.append((keras.backend.standardize_dtype(y.dtype), keras.backend.standardize_dtype(prediction.dtype)))
        return prediction[0, 0] * y[0]

    x = np.ones((1, 2, 2), "float64" if dtype == "float32" else "float32")
    got = seed_loop(model, x, np.ones(1), 1e-9, loss=loss)
    assert set(seen) == {(dtype, dtype)}
    # The honest failure: 1 + 1e-9 == 1 in float32, and the loop says zero without a word.
    assert (np.abs(got).max() == 0) == (dtype == "float32")


def test_loop_calls_the_model_twice_per_square_with_one_row():
    shapes, done = [], []

    def model(row):
        shapes.append(row.shape)
        return row

    seed_loop(model, X, Y, 1e-3, tile=3, loss=quadratic, progress=lambda *seen: done.append(seen))
    assert shapes == [(1, 5, 7, 2)] * 12
    assert done == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("fails", [False, True])
def test_inputs_are_never_written(fails):
    x, y = X.copy(), Y.copy()

    def loss(y, row):
        if fails:
            raise RuntimeError("no loss today")
        return quadratic(y, row)

    if fails:
        with pytest.raises(RuntimeError, match="no loss today"):
            seed_loop(identity, x, y, 1e-3, loss=loss)
        with pytest.raises(RuntimeError, match="no loss today"):
            seed_gradient(lambda x: loss(y, x), x, 1e-3)
    else:
        seed_loop(identity, x, y, 1e-3, loss=loss)
        seed_gradient(lambda x: loss(y, x), x, 1e-3)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"h": 0.0}, ValueError, "h=0.0 must be a positive finite number"),
        ({"h": -1e-3}, ValueError, "h=-0.001 must be a positive"),
        ({"h": float("nan")}, ValueError, "h=nan must be a positive finite"),
        ({"tile": 0}, ValueError, "tile=0 must be at least 1"),
        ({"tile": 2.0}, TypeError, "tile must be an int, got 2.0"),
        ({"loss": None}, ValueError, "compiled with a loss"),
        ({"x": np.zeros((2, 5, 7, 2))}, ValueError, r"x must be one example .*got shape \(2, 5, 7, 2\)"),
        ({"x": np.zeros((5, 7))}, ValueError, r"x must be one example .*got shape \(5, 7\)"),
        ({"x": X[None], "y": np.zeros(3)}, ValueError, r"y must have a leading axis of 1 .*got shape \(3,\)"),
        ({"loss": lambda y, row: row[0, 0, 0]}, ValueError, r"must return one number, got shape \(2,\)"),
    ],
)
def test_loop_refuses(change, error, words):
    call = {"x": X, "y": Y, "h": 1e-3, "loss": quadratic} | change
    with pytest.raises(error, match=words):
        seed_loop(identity, **call)


@pytest.mark.parametrize(
    ("x", "exact"),
    [
        (X[0], 6 * X[0]),
        ([1, 2, 3], [6.0, 12.0, 18.0]),  # integers do not swallow the step
        (2.0, 12.0),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_gradient_of_a_quadratic(x, exact):
    got = seed_gradient(lambda x, scale: scale * np.sum(x**2), x, 1e-3, scale=3.0)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, exact, atol=1e-10)  # f is about 50: 1e-14 / 1e-3


def test_gradient_keeps_float32_and_takes_tensors():
    import tensorflow as tf

    seen = set()

    def f(x):
        seen.add(x.dtype)
        return tf.reduce_sum(tf.constant(x) ** 2, keepdims=True)

    # float32 losses near 1 are off by 6e-8: 6e-8 / 1e-2
    got = seed_gradient(f, np.full(3, 0.5, np.float32), 1e-2)
    np.testing.assert_allclose(got, 1.0, atol=1e-4)
    assert seen == {np.dtype(np.float32)}


def test_gradient_is_the_loop_at_tile_1():
    x = X[..., :1]
    f = np.sin

    def loss(y, row):
        return np.sum(f(row))

    np.testing.assert_array_equal(
        seed_gradient(lambda row: loss(Y, row), x[None], 1e-3),
        seed_loop(identity, x[None], Y, 1e-3, loss=loss),
    )


def test_gradient_refuses():
    with pytest.raises(ValueError, match=r"must return one number, got shape \(3,\)"):
        seed_gradient(np.square, np.ones(3), 1e-3)
    with pytest.raises(ValueError, match="h=inf must be a positive finite"):
        seed_gradient(np.sum, np.ones(3), float("inf"))


def test_examples():
    assert doctest.testmod(seed).failed == 0
