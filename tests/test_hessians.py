"""Second derivatives: against closed forms and float64 autodiff, where a gradient jumps, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast import hessians

L = keras.layers
X, V = np.array([0.5, -1.25, 2.0]), np.array([1.0, 0.5, -0.25])
RNG = np.random.default_rng(0)

CLOSED = {
    "cubes": (lambda x: tf.reduce_sum(x**3), lambda x: np.diag(6 * x)),
    "product": (lambda x: tf.reduce_prod(x), lambda x: np.prod(x) * (1 - np.eye(3)) / np.outer(x, x)),
    "exponential": (lambda x: tf.exp(tf.reduce_sum(x)), lambda x: np.exp(x.sum()) * np.ones((3, 3))),
    "linear": (lambda x: tf.reduce_sum(x), lambda x: np.zeros((3, 3))),
    "norm": (
        tf.norm,
        lambda x: (np.eye(3) - np.outer(x, x) / np.dot(x, x)) / np.linalg.norm(x),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name, dtype):
    f, truth = CLOSED[name]
    g = f if dtype == "float64" else lambda x: f(tf.cast(x, tf.float64))
    x, wanted = X.astype(dtype), truth(X)
    found = fdfast.hessian(g, x)
    # Some roundings of the largest element.
    np.testing.assert_allclose(found.value, wanted, rtol=0, atol=4e-15 * np.abs(wanted).max())
    assert found.gap <= 4e-15 * np.abs(wanted).max()
    assert found.error <= 1e-13
    product = fdfast.hvp(g, x, V)
    np.testing.assert_allclose(product.value, wanted @ V, rtol=0, atol=4e-15 * np.abs(wanted).max())
    assert (np.abs(product.value - wanted @ V) <= product.error + 1e-14).all()
    assert (x == X).all()


def softly(dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2), dtype=dtype),
            L.Conv2D(3, 3, activation="tanh", name="conv", dtype=dtype),
            L.AveragePooling2D(2, dtype=dtype),
            L.Flatten(dtype=dtype),
            L.Dense(4, "softmax", name="out", dtype=dtype),
        ]
    )


def by_autodiff(x, y):
    """Hessian of the loss by x, in float64, of one example."""
    wide = softly("float64")
    wide.set_weights(softly().get_weights())
    t = tf.constant(x[None], tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(t)
        with tf.GradientTape() as inner:
            inner.watch(t)
            loss = -tf.reduce_sum(y * tf.math.log(wide(t)))
        gradient = tf.reshape(inner.gradient(loss, t), [-1])
    return outer.jacobian(gradient, t, experimental_use_pfor=False).numpy().reshape(x.size, x.size)


def test_of_a_model_it_is_that_of_autodiff_in_float64():
    model, x, y = softly(), RNG.normal(size=(8, 8, 2)).astype("float32"), np.eye(4)[1]
    wanted = by_autodiff(x.astype(float), y)
    found = fdfast.hessian(model, x, y=y, loss="categorical_crossentropy")
    assert found.value.shape == (128, 128)
    # Both sides in float64.
    np.testing.assert_allclose(found.value, wanted, rtol=0, atol=1e-14 * np.abs(wanted).max())
    assert found.gap <= 1e-15
    # A tile is the sum over its elements, along both axes.
    tiles = fdfast.hessian(model, x, y=y, loss="categorical_crossentropy", tile=(8, 4)).value
    by = wanted.reshape(8, 2, 4, 2, 8, 2, 4, 2).sum(axis=(0, 2, 4, 6)).reshape(4, 4)
    np.testing.assert_allclose(tiles, by, rtol=0, atol=1e-13 * np.abs(by).max())


def test_every_example_of_a_batch_has_its_own():
    model, x, y = softly(), RNG.normal(size=(3, 8, 8, 2)).astype("float32"), np.eye(4)[[1, 0, 2]]
    both = fdfast.hessian(model, x, y=y, loss="categorical_crossentropy", tile=(8, 4)).value
    each = [
        fdfast.hessian(model, a, y=b, loss="categorical_crossentropy", tile=(8, 4)).value
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(both, each, rtol=0, atol=1e-15)


def test_of_weights():
    model, x, y = softly(), RNG.normal(size=(2, 8, 8, 2)).astype("float32"), np.eye(4)[[1, 0]]
    v = RNG.normal(size=(4,))
    row = fdfast.hvp(model, x, v, y=y, loss="categorical_crossentropy", wrt="out/bias")
    whole = fdfast.hessian(model, x, y=y, loss="categorical_crossentropy", wrt="out/bias")
    np.testing.assert_allclose(whole.value @ v, row.value, rtol=0, atol=1e-15)
    # The Hessian by the logits: the mean over examples of diag p - p p'.
    p = model(x).numpy().astype(float)
    wanted = np.mean([np.diag(a) - np.outer(a, a) for a in p], axis=0)
    np.testing.assert_allclose(whole.value, wanted, atol=1e-6)  # p in float32
    many = fdfast.hvp(
        model, x, [RNG.normal(size=w.shape) for w in model.trainable_variables],
        y=y, loss="categorical_crossentropy", wrt="weights",
    )  # fmt: skip
    assert [one.shape for one in many.value] == [tuple(w.shape) for w in model.trainable_variables]


def test_of_several_inputs():
    x = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    found = fdfast.hvp(lambda x: tf.reduce_sum(x["a"] ** 2) * x["b"][0], x, {"a": [1.0, 0.0], "b": [2.0]})
    np.testing.assert_allclose(found.value[0], [6 + 4, 8], rtol=1e-14)  # 2 b v_a + 2 a v_b
    np.testing.assert_allclose(found.value[1], [2], rtol=1e-14)  # 2 a . v_a
    whole = fdfast.hessian(lambda x: tf.reduce_sum(x["a"] ** 2) * x["b"][0], x)
    np.testing.assert_allclose(whole.value, [[6, 0, 2], [0, 6, 4], [2, 4, 0]], rtol=1e-14)


JUMPS = {
    "a ramp": lambda x: tf.reduce_sum(tf.nn.relu(x)),
    "a size": lambda x: tf.reduce_sum(tf.abs(x)),
    "small": lambda x: 1e-12 * tf.reduce_sum(tf.nn.relu(x)),
    "a pool": lambda x: tf.reduce_sum(tf.nn.max_pool1d(tf.reshape(x, [1, 2, 1]), 2, 2, "VALID") ** 2),
}


@pytest.mark.parametrize("name", JUMPS)
def test_where_the_gradient_jumps_there_is_none(name):
    x = np.array([1.0, 1.0]) if name == "a pool" else np.array([0.0, 2.0])
    found = fdfast.hvp(JUMPS[name], x, np.array([1.0, 0.5]))
    assert np.isnan(found.value[0])
    assert np.isinf(found.error[0])
    if name != "a pool":
        assert found.value[1] == 0


def test_on_a_kink_of_the_gradient_the_error_says_how_far_both_sides_are():
    found = fdfast.hvp(lambda x: tf.reduce_sum(tf.nn.relu(x) ** 2), np.array([0.0, 2.0]), np.array([1.0, 0.5]))
    np.testing.assert_allclose(found.value, [1.0, 1.0])  # 2 and 0 along the first; 2 times 0.5 along the other
    np.testing.assert_allclose(found.error, [16.0, 0.0], atol=1e-13)


def test_rows_on_no_kink_go_by_one_step_and_those_on_one_by_both(monkeypatch):
    pushed = []
    rows = hessians.products
    monkeypatch.setattr(hessians, "products", lambda p, m, steps, w: pushed.append(len(steps)) or rows(p, m, steps, w))
    x = np.linspace(0.5, 2.0, 100)
    smooth = fdfast.hessian(lambda x: tf.reduce_sum(x**3) + x[0] * x[99], x)
    exact = np.diag(6 * x)
    exact[0, 99] = exact[99, 0] = 1.0
    assert pushed == [2, 1, 1]  # 32 rows evenly spread, then 64 at a time
    assert np.abs(smooth.value - exact).max() <= smooth.error <= 1e-12
    pushed.clear()
    x[50] = 0.0  # no row of those that are spread
    bent = fdfast.hessian(lambda x: tf.reduce_sum(tf.nn.relu(x) ** 3 + tf.nn.relu(x)), x)
    assert np.isnan(bent.value[50]).any()
    assert pushed[0] == 2
    assert pushed.count(2) > 1
    np.testing.assert_allclose(np.delete(bent.value, 50, 0), np.delete(np.diag(6 * x), 50, 0), rtol=1e-14)


IN_A_GRAPH = {
    "places that x decides on": (lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0) ** 3), np.array([1.0, -2.0, 0.5])),
    "means over cubes": (
        lambda x: tf.reduce_sum(keras.ops.average_pool(tf.reshape(x, [1, 2, 2, 2, 1]), 2) ** 3),
        np.linspace(0.1, 1.0, 8, dtype=np.float32),  # TensorFlow has no such means in float64
    ),
    "channels first": (
        lambda x: tf.reduce_sum(
            tf.nn.conv2d(tf.reshape(x, [1, 1, 3, 3]), tf.fill([2, 2, 1, 1], 0.5), 1, "VALID", data_format="NCHW") ** 3
        ),
        np.linspace(0.1, 1.0, 9, dtype=np.float32),
    ),
}


@pytest.mark.parametrize("name", IN_A_GRAPH)
def test_what_is_made_a_graph_of_says_the_same(name, monkeypatch):
    f, x = IN_A_GRAPH[name]
    first = fdfast.hessian(f, x).value
    monkeypatch.setattr("fdfast.tape.recorded._MAKING", 0.0)
    for _ in range(3):
        np.testing.assert_allclose(fdfast.hessian(f, x).value, first, rtol=1e-14)
    assert np.abs(first).max() > 0.01


def test_a_gradient_that_is_none_shows_in_the_gap():
    @tf.custom_gradient
    def product(x):
        return x[0] * x[1] ** 2, lambda dy: dy * tf.stack([x[1] ** 2, x[0] * x[1]])  # of the second, half

    assert fdfast.hessian(product, np.array([1.5, 2.0])).gap == pytest.approx(2.0)
    assert fdfast.hessian(lambda x: x[0] * x[1] ** 2, np.array([1.5, 2.0])).gap == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fdfast.hvp(tf.norm, X, np.ones(2)), ValueError, r"v has shape \(2,\) for x; it must be \(3,\)"),
        (lambda: fdfast.hvp(tf.norm, X, V, wrt="weights"), TypeError, "pass them as x"),
        (lambda: fdfast.hvp(lambda x: x[0] @ x[1], [X, X], [V]), ValueError, "v has 1 arrays"),
        (lambda: fdfast.hessian(tf.norm, np.ones(9000)), ValueError, "9000 x 9000 elements is too large"),
        (lambda: fdfast.hessian(lambda x: x[0] @ x[1], [X, X], tile=2), ValueError, "tile=2 goes with one array"),
        (lambda: fdfast.hessian(3, X), TypeError, "f must be a Keras model or a callable"),
        (
            lambda: fdfast.hvp(lambda x: tf.py_function(lambda t: t.numpy().sum(), [x], tf.float64), X, V),
            ValueError, "no exact second derivatives: .*fdfast.gradient",
        ),
    ],
)  # fmt: skip
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_what_is_too_large_can_be_had_in_tiles():
    assert fdfast.hessian(lambda x: tf.reduce_sum(x**2), np.ones(9000), tile=3000).value.shape == (3, 3)
