"""A gradient given as an array: right ones pass, wrong ones are found, and few digits are said to be few."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.verdict import may_be_rounding

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (2, 12, 12, 1)).astype("float32")
Y = np.eye(5, dtype="float32")[[1, 3]]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, activation="tanh"), L.MaxPooling2D(), L.Flatten(), L.Dense(5, activation="softmax")]
    return keras.Sequential([keras.Input((12, 12, 1)), *layers])


def gradients(model, what):
    """Autodiff in float32, as a training loop has it."""
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        rows = keras.losses.categorical_crossentropy(Y, model(x, training=False))
        value = tf.reduce_sum(rows) if what == "input" else tf.reduce_mean(rows)
    found = tape.gradient(value, [x] if what == "input" else [v.value for v in model.trainable_variables])
    return [g.numpy() for g in found]


def checked(model, what, given, **options):
    given = given[0] if what == "input" else given
    return fdfast.gradcheck(
        model,
        X,
        Y,
        loss="categorical_crossentropy",
        wrt=what,
        analytic=given,
        check="directions",
        **options,
    )


@pytest.mark.parametrize("what", ["input", "weights"])
def test_the_right_one_passes_and_the_report_says_how(model, what):
    report = checked(model, what, gradients(model, what))
    assert report.verdict == "pass"
    assert report.coverage == 1
    assert "The gradient under test is an array, with the digits of float32." in " ".join(str(report).split())
    # Four times what float32 is off by, and 64 of its units: a thousandth of the largest is well above that.
    part = report.parts[-1]
    big = np.abs(part.analytic) > 0.1 * np.abs(part.analytic).max()
    assert np.all(part.detectable[big] < 1e-3)


def largest(array):
    return np.unravel_index(np.abs(array).argmax(), array.shape)


def scaled(g):
    g[0][largest(g[0])] *= 1.001


def not_a_number(g):
    g[0][largest(g[0])] = np.nan


def nothing(g):
    g[0][:] = 0


def mirrored(g):
    g[0][:] = g[0][::-1].copy()


@pytest.mark.parametrize("what", ["input", "weights"])
@pytest.mark.parametrize(("fault", "lone"), [(scaled, True), (not_a_number, True), (nothing, False), (mirrored, False)])
def test_wrong_ones_are_found(model, what, fault, lone):
    given = gradients(model, what)
    before = given[0].copy()
    fault(given)
    report = checked(model, what, given)
    assert report.verdict == "fail"
    wrong = report.parts[0].codes == 1
    assert report.counts["wrong"] == wrong.sum()
    parts = ~(np.abs(given[0] - before) <= 1e-2 * np.abs(before).max())  # far beyond the tolerance
    assert np.all(wrong[parts])
    if lone:
        assert np.argwhere(wrong).tolist() == [list(largest(before))]


X_TIED = np.array([0.0, 0.5, -1.0])


@pytest.mark.parametrize(("at_zero", "code"), [(0.0, 0), (1.0, 2), (0.3, 2), (1.2, 1), (-0.1, 1)])
def test_on_a_kink_anything_between_both_slopes_is_right(at_zero, code):
    """As autodiff has it (0), what ties agrees as it does near x; other choices are a kink; beyond, it is wrong."""

    def f(x):
        return tf.reduce_sum(tf.nn.relu(x))

    report = fdfast.gradcheck(f, X_TIED, analytic=np.array([at_zero, 1.0, 0.0]), check="directions")
    assert report.codes.ravel().tolist() == [code, 0, 0]
    assert report.verdict == {0: "pass", 1: "fail", 2: "inconclusive"}[code]


def test_slopes_to_both_sides_that_do_not_bound_autodiff_accuse_nobody():
    """Two maxima tie, of opposite signs: 1 - 1.2 to the right and 0 to the left; autodiff shares out: 1/2 - 1.2/3."""

    def f(x):
        first, second = tf.stack([x[0], 0.0 * x[1]]), tf.stack([x[0], 0.0 * x[1], 0.0 * x[2]])
        return tf.reduce_sum(x) + tf.reduce_max(first) - 1.2 * tf.reduce_max(second)

    # The first takes x, the second does not.
    report = fdfast.gradcheck(f, X_TIED, analytic=np.array([2.0, 1.0, 1.0]), check="directions")
    assert report.codes.ravel().tolist() == [2, 0, 0]
    assert report.verdict == "inconclusive"


def test_a_wider_tolerance_of_the_callers_own_counts(model):
    given = gradients(model, "input")
    given[0] += 1e-3 * np.abs(given[0]).max()
    assert checked(model, "input", given).verdict == "fail"
    assert checked(model, "input", given, atol=float(np.abs(given[0]).max())).verdict == "pass"


def test_where_autodiff_itself_is_wrong_the_array_is_judged_by_differences():
    @tf.custom_gradient
    def doubled(x):
        return tf.square(x), lambda up: 4.0 * x * up  # twice what it is

    def f(x):
        return tf.reduce_sum(doubled(x))

    x = np.linspace(0.3, 1.1, 7, dtype="float32")
    right = fdfast.gradcheck(f, x, analytic=2 * x, check="directions")
    wrong = fdfast.gradcheck(f, x, analytic=4 * x, check="directions")
    assert (right.counts["wrong"], wrong.verdict) == (0, "fail")


#: What is given where the difference is 1, the next element is large, and a few draws of rounding say 1e-2: autodiff's
#: own slope there, and whether what is given may be rounding.
ROUNDED = {
    "within what was drawn": (1.009, 1.0, True),
    "beyond it": (1.011, 1.0, False),
    "beyond it, and autodiff's own": (1.03, 1.03, True),
    "autodiff's own, and far beyond it": (1.05, 1.05, False),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_what_autodiff_has_itself_may_be_off_by_some_times_what_a_few_draws_show(name):
    given, own, open_ = ROUNDED[name]
    numeric, rounding = np.array([[1.0, 1e3]]), np.array([[1e-2, 1e-2]])
    found = may_be_rounding(numeric, np.array([[given, 1e3]]), np.array([[own, 1e3]]), rounding)
    assert found[0].tolist() == [open_, True]
