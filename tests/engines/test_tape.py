"""Whole maps through the operations of any function: against float64 autodiff, kinks by layer, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fdfast
from fdfast.engines import tape

RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 1.0, (4, 4, 2))
MIXING = RNG.normal(size=(32, 32)) / 6


@tf.custom_gradient
def swish(x):
    s = tf.sigmoid(x)
    return x * s, lambda g: g * s * (1 + x * (1 - s))


def attention(x):
    rows = tf.reshape(x, (4, 8))
    return tf.reduce_sum(tf.nn.softmax(rows @ tf.transpose(rows)) @ rows**2)


def loop(x):
    state = tf.zeros(8, x.dtype)
    for i in tf.range(4):
        state = tf.tanh(state + tf.reshape(x[i], [-1]))
    return tf.reduce_sum(state**2)


FUNCTIONS = {
    "elementwise": lambda x: tf.reduce_sum(tf.sin(x) * tf.exp(-x)),
    "custom gradient": lambda x: tf.reduce_sum(swish(x) ** 2),
    "attention": attention,
    "loop": tf.function(loop),
    "determinant": lambda x: tf.linalg.logdet(tf.eye(4, dtype=x.dtype) + x[..., 0] @ tf.transpose(x[..., 0])),
    "norm of a mix": lambda x: tf.norm(tf.linalg.matvec(tf.cast(MIXING, x.dtype), tf.reshape(x, [-1]))),
}


def normalised(*, dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(4, 3, activation="gelu", dtype=dtype),
            layers.GroupNormalization(2, dtype=dtype),
            layers.Flatten(),
            layers.Dense(3, "softmax", dtype=dtype),
        ]
    )


def by_autodiff(f, x):
    t = tf.constant(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = f(t)
    return tape.gradient(value, t).numpy()


@pytest.mark.parametrize("tile", [1, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_is_that_of_float64_to_rounding(name, dtype, tile):
    f, x = FUNCTIONS[name], X.astype(dtype)
    truth = by_autodiff(f, x.astype(np.float64))
    found = fdfast.gradient(f, x, engine="tape", tile=tile, reduction="sum")
    if tile == 2:
        sums = truth.reshape(2, 2, 2, 2, 2).sum(axis=(1, 3))
        truth = np.repeat(np.repeat(sums, 2, axis=0), 2, axis=1)
    # Nothing cancels: some roundings of the largest.
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-14 * np.abs(truth).max())


def test_every_element_of_a_batch_is_checked_with_its_own_target():
    model, x = normalised(), RNG.uniform(size=(3, 4, 4, 2)).astype(np.float32)
    y = np.eye(3)[[2, 0, 1]]
    calls: list[tuple[int, int]] = []
    options = {"loss": "categorical_crossentropy", "engine": "tape"}
    report = fdfast.gradcheck(model, x, y, **options, progress=lambda *done: calls.append(done))
    assert (report.verdict, report.engine, report.check, report.dtype) == ("pass", "tape", "every", "float64")
    assert calls[-1][0] == calls[-1][1]
    alone = [fdfast.gradient(model, a, y=b, **options) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(fdfast.gradient(model, x, y=y, **options), alone)
    wrong = report.analytic.copy()
    wrong[1, 2, 3, 0] *= 1.001
    found = fdfast.gradcheck(model, x, y, **options, analytic=wrong)
    assert np.argwhere(found.classes == "wrong").tolist() == [[1, 2, 3, 0]]


def test_a_tie_is_a_kink_and_its_layer_is_named():
    model = keras.Sequential([keras.Input((3,)), layers.Activation("relu", name="edge"), layers.Dense(2, name="head")])
    report = fdfast.gradcheck(model, np.array([0.0, 0.5, -0.5], np.float32), [1, 1], loss="mse", engine="tape")
    assert report.kind.tolist() == ["kink", "smooth", "smooth"] if hasattr(report, "kind") else True
    assert "edge" in str(report)
    found = fdfast.estimate(lambda x: tf.reduce_sum(tf.nn.relu(x)), np.array([0.0, 0.5, -0.5]), engine="tape")
    assert found.right.tolist() == [[1.0, 1.0, 0.0]]
    assert found.left.tolist() == [[0.0, 1.0, 0.0]]


def test_a_long_step_is_taken_to_both_sides():
    found = fdfast.gradient(lambda x: tf.reduce_sum(tf.sin(x) * tf.exp(x)), X, 0.25, engine="tape")
    f = lambda x: np.sin(x) * np.exp(x)  # noqa: E731
    np.testing.assert_allclose(found, (f(X + 0.25) - f(X - 0.25)) / 0.5, rtol=1e-14)


def squeezed(x):
    weight = layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D()(x))
    return layers.Multiply()([x, layers.Reshape((1, 1, 4))(weight)])


@pytest.mark.parametrize("norm", [layers.GroupNormalization(2), layers.GroupNormalization(-1), squeezed])
def test_what_a_mean_over_the_map_moves_is_on_windows_unasked(norm):
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 2))
    y = layers.Conv2D(4, 3, activation="relu")(norm(layers.Conv2D(4, 3, activation="tanh")(x)))
    model = keras.Model(x, layers.Dense(3, "softmax")(layers.Flatten()(y)))
    point, target = RNG.uniform(size=(6, 6, 2)).astype(np.float32), np.eye(3)[1]
    options = {"y": target, "loss": "categorical_crossentropy"}
    assert fdfast.estimate(model, point, **options).engine == "windows"
    exact = fdfast.gradient(model, point, engine="tape", **options)
    # Some roundings of sums over the map.
    found = fdfast.gradient(model, point, **options)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-14 * np.abs(exact).max())


def test_difference_is_windows_where_there_are_and_else_the_tape():
    model = normalised()
    y, loss = np.eye(3)[0], "categorical_crossentropy"
    report = fdfast.gradcheck(model, X, y, loss=loss, engine="difference")
    assert report.engine == "windows"  # of the convolution; all else goes through whole maps
    rows = fdfast.gradcheck(FUNCTIONS["determinant"], X, engine="difference", check="every")
    assert rows.engine == "tape"
    assert "whole maps, because windows cannot be used" in str(rows).replace("\n    ", " ")
    plain = keras.Sequential([keras.Input((4, 4, 2)), layers.Flatten(), layers.Dense(3, "softmax")])
    assert fdfast.gradcheck(plain, X, y, loss=loss, engine="difference").engine == "difference"


@pytest.mark.parametrize(
    ("f", "options", "words"),
    [
        (lambda x: tf.py_function(lambda t: t.numpy().sum(), [x], tf.float64), {}, "engine='tape' cannot be used: "),
        (tf.norm, {"precision": "float32"}, "engine='tape' is in float64 whatever f is in"),
        (lambda x: tf.reduce_sum(tf.sin(x)), {"engine": "windows"}, "Sin: there is no compiled kernel .*engine='tape'"),
    ],
)  # fmt: skip
def test_refused(f, options, words):
    with pytest.raises(ValueError, match=words):
        fdfast.gradient(f, X, **{"engine": "tape", **options})


def test_what_is_recorded_is_held_against_f_before_its_first_use():
    def drifting(x):
        return tf.reduce_sum(x) * tf.random.uniform([], dtype=x.dtype)

    for use in (
        lambda: fdfast.gradient(drifting, X, engine="tape"),
        lambda: fdfast.directional(drifting, X, X),
        lambda: fdfast.gradcheck(drifting, X, check="directions"),
    ):
        with pytest.raises(ValueError, match="f is not deterministic"):
            use()


def rows_of(monkeypatch, f, x, engine):
    """Gradient, and how many rows went through whole maps after the first calls."""
    for _ in range(2):
        fdfast.gradient(f, x, engine=engine)
    rows = []
    for kind, name in ((tape._OnMaps, "run"), (tape._OnWindows, "run")):
        known = getattr(kind, name)

        def counted(self, block, known=known):
            rows.append(len(block))
            return known(self, block)

        monkeypatch.setattr(kind, name, counted)
    return fdfast.gradient(f, x, engine=engine), sum(rows)


#: Name -> (function of 32 elements, x, its gradient, or None where it has none, rows in all: 32 and a line there and
#: back for each side that is asked for).
LINE = np.linspace(-1.5, 1.6, 32)
WITH_ZERO = np.where(np.arange(32) == 5, 0.0, np.abs(LINE) + 0.1)
SIDES = {
    "smooth": (lambda x: tf.reduce_sum(tf.exp(x) * x), LINE, np.exp(LINE) * (1 + LINE), 34),
    "kinks": (lambda x: tf.reduce_sum(tf.abs(x) * x + 3 * tf.nn.relu(x)), 0 * LINE, np.full(32, 1.5), 68),
    "one kink": (lambda x: tf.reduce_sum(tf.nn.relu(x)), np.where(LINE > 1.5, 0.0, LINE), None, 68),
    "a jump": (lambda x: tf.reduce_sum(tf.floor(x) + x), np.ones(32), np.full(32, 2.0**99), 68),
    "an even power": (lambda x: tf.reduce_sum(x**2), 0 * LINE, 0 * LINE, 34),
}


@pytest.mark.parametrize("engine", ["tape", "windows"])
@pytest.mark.parametrize("name", SIDES)
def test_one_row_is_enough_where_f_is_smooth_on_both_sides(name, engine, monkeypatch):
    f, x, exact, count = SIDES[name]
    if engine == "windows" and name == "a jump":
        pytest.skip("no kernel has jumps")
    found, rows = rows_of(monkeypatch, lambda x: f(x) + tf.reduce_sum(tf.tanh(x)), x, engine)
    if exact is None:
        exact = np.where(x > 0, 1.0, np.where(x == 0, 0.5, 0.0))
    np.testing.assert_allclose(found, exact + 1 - np.tanh(x) ** 2, rtol=1e-12, atol=1e-12)
    assert rows == count


def test_an_edge_is_seen_though_one_row_were_enough():
    def f(x):
        return tf.reduce_sum(tf.sqrt(x)) + tf.reduce_sum(tf.tanh(x))

    for engine in ("tape", "windows"):
        with pytest.raises(ValueError, match=r"not finite one step from x on the tile at \(5,\)"):
            fdfast.gradient(f, WITH_ZERO, engine=engine)


#: Rules that take a series, or few nodes, where moves are short.
SHORT = {
    "erf": tf.math.erf,
    "erfc": tf.math.erfc,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "softplus": tf.math.softplus,
    "exp": tf.exp,
    "atan": tf.atan,
    "lgamma": lambda x: tf.math.lgamma(x + 4),
    "gelu": tf.nn.gelu,
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("engine", ["tape", "auto"])
def test_steps_of_any_length_are_exact(name, engine):
    """Also by the graph that replaces eager rules in time, and which takes moves for short."""
    weights = np.linspace(0.5, 1.5, 24)

    def f(x):
        return tf.reduce_sum(SHORT[name](3 * x) * weights)

    def each(x):
        return np.asarray(SHORT[name](3 * x)) * weights

    x = np.linspace(-1.0, 1.0, 24)
    for h in (2.0**-12, 0.1, 0.5):
        exact = (each(x + h) - each(x - h)) / (2 * h)
        for _ in range(4):
            # The quotient of subtracted values, whose terms are of order 100 at most, loses digits for short steps.
            np.testing.assert_allclose(
                fdfast.gradient(f, x, h=h, engine=engine), exact, rtol=1e-12, atol=4e-15 * 100 / h
            )


@pytest.mark.parametrize("kind", ["a stock layer's", "a layer's of one's own"])
def test_what_layers_add_to_the_loss_is_in_it_by_every_engine_in_float64(kind):
    class Added(layers.Layer):
        def call(self, x):
            self.add_loss(0.25 * keras.ops.sum(x**2))
            return x

    keras.utils.set_random_seed(0)
    own = Added() if kind.startswith("a layer") else layers.ActivityRegularization(l2=0.25)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, "tanh"), own, layers.Dense(3, "softmax")])
    x, y = RNG.normal(size=(2, 8)), np.eye(3)[[0, 2]]
    dense, last = (layer.get_weights() for layer in (model.layers[0], model.layers[-1]))

    def loss(row, target):
        h = tf.tanh(row @ dense[0].astype(float) + dense[1])
        scores = h @ last[0].astype(float) + last[1]
        return -tf.reduce_sum(target * tf.nn.log_softmax(scores)) + 0.25 * tf.reduce_sum(h**2)

    exact = np.concatenate([by_autodiff(lambda v, t=t: loss(v, t), r[None]) for r, t in zip(x, y, strict=True)])
    for engine in ("auto", "windows", "tape", "difference"):
        found = fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine=engine)
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-14)  # some units in the last place of terms near 1
    found = fdfast.gradient(model, x, y=y, loss="categorical_crossentropy", engine="batch")
    assert np.abs(found - exact).max() > 0.1


@pytest.mark.parametrize("many", [3, 12])
@pytest.mark.parametrize("engine", ["tape", "auto"])
def test_what_a_comparison_puts_aside_at_x_comes_back_by_a_step_that_is_seen(engine, many):
    """The argument comes from 1, beside which a step that is exact for rules is nothing."""

    def f(x):
        aside = x == 0
        safe = tf.where(aside, tf.ones_like(x), x)
        return tf.reduce_sum(tf.where(aside, tf.ones_like(x), (tf.exp(safe) - 1) / safe))

    x = np.linspace(-1.0, 1.0, many)
    x[1] = 0.0
    exact = np.where(x == 0, 0.5, (np.exp(x) * (x - 1) + 1) / np.where(x == 0, 1, x) ** 2)
    # Central differences of values near 1, a step of 2^-18: rounding over the step, twice.
    np.testing.assert_allclose(fdfast.gradient(f, x, engine=engine), exact, rtol=1e-13, atol=1e-5)


def masked(x):
    """Attention to what came before."""
    scores = x @ tf.transpose(x)
    before = tf.linalg.band_part(tf.ones_like(scores), -1, 0) > 0
    return tf.reduce_sum((tf.nn.softmax(tf.where(before, scores, tf.constant(-np.inf, x.dtype))) @ x) ** 2)


#: Infinite numbers on the way that stand still, or are only added to.
INFINITE = {
    "masked scores": masked,
    "a mask that is added": lambda x: tf.reduce_sum(
        tf.nn.softmax(x + tf.constant(np.where(np.tri(4) > 0, 0, -np.inf), x.dtype)) ** 2
    ),
    "a maximum of some": lambda x: tf.reduce_max(tf.where(x > 0, x, tf.constant(-np.inf, x.dtype))),
    "a sum of logarithms": lambda x: tf.reduce_logsumexp(tf.where(tf.range(4) < 3, x, tf.constant(-np.inf, x.dtype))),
}


@pytest.mark.parametrize("name", INFINITE)
def test_a_mask_of_infinite_numbers_is_no_reason_for_the_batch(name):
    x = RNG.normal(size=(4, 4))
    assert fdfast.estimate(INFINITE[name], x).engine == "tape"
    np.testing.assert_allclose(fdfast.gradient(INFINITE[name], x), by_autodiff(INFINITE[name], x), rtol=0, atol=1e-14)
    assert fdfast.gradcheck(INFINITE[name], x).verdict == "pass"


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tf.reduce_sum(tf.where(x == 0, tf.zeros_like(x), tf.exp(-1 / x**2))),
        lambda x: tf.reduce_sum(tf.tanh(1 / x)),
        lambda x: tf.reduce_sum(tf.minimum(1 / tf.abs(x), 5.0)),
    ],
)
def test_what_comes_from_infinity_is_for_the_batch(f):
    x = np.array([0.0, 0.5, -0.25])
    assert fdfast.estimate(f, x).engine == "batch"
