"""The verdict by directions at points where f or its gradient is special: what is wrong fails, what is right does not.

The points are those of the check of every element, and both must call every element the same.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from special_points import ADVICE, AT_X_ALONE, NOT_FINITE, TIES, WEIGHTS, at, letters, total

import fdfast

L = keras.layers
RNG = np.random.default_rng(0)


def check(f: Any, x: Any, *args: Any, **options: Any) -> Any:
    return fdfast.gradcheck(f, x, *args, check="directions", **options)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", NOT_FINITE)
def test_not_finite(case, seed):
    f, x, codes, words = NOT_FINITE[case]
    report = check(f, x, seed=seed)
    assert letters(report) == codes
    assert report.verdict == ("fail" if "w" in codes else "inconclusive" if "s" in codes else "pass")
    assert words in "\n".join([*report.reasons, *report.hints])


@pytest.mark.parametrize("case", AT_X_ALONE)
def test_wrong_at_x_alone(case):
    f, x, codes, words = AT_X_ALONE[case]
    report = check(f, x)
    assert letters(report) == codes
    assert report.verdict == ("fail" if "w" in codes else "pass")
    assert words in "\n".join(report.reasons)


@pytest.mark.parametrize("case", TIES)
def test_right_gradients_at_special_points_pass(case):
    f, x = TIES[case]
    report = check(f, x)
    assert report.verdict == "pass"
    # The control: half of it.
    wrong = report.checked_analytic * 0.5
    if not report.near.any():  # an array has no value near x
        assert check(f, x, analytic=wrong).verdict == "fail"


def staircase(x: Any) -> Any:
    return tf.reduce_sum(tf.floor(x) * [1.0, 2.0, 3.0] + x**2)


def cell(i: int, j: int) -> int:
    return 4 * i + j


IMAGE = np.linspace(0, 1, 16).reshape(4, 4, 1)
EQUAL = IMAGE.copy()
EQUAL[0, 0] = EQUAL[0, 1] = EQUAL[1, 0] = EQUAL[1, 1]  # all of a window


def pooled() -> Any:
    return keras.Sequential(
        [keras.Input((4, 4, 1)), L.MaxPooling2D(2, name="pool"), L.Flatten(), L.Dense(1, name="out")]
    )


def masked() -> Any:
    return keras.Sequential(
        [keras.Input((5, 2)), L.Masking(name="mask"), L.LSTM(3, name="lstm"), L.Dense(1, name="out")]
    )


def rectified() -> Any:
    return keras.Sequential([keras.Input((4,)), L.Dense(6), L.ReLU(name="relu"), L.Dense(1)])


def test_a_relu_at_zero_is_judged_near_and_named():
    """All pixels zero and no bias: every unit ties."""
    report = check(rectified(), np.zeros(4), [0.3], loss="mse")
    assert report.verdict == "pass"
    assert report.near.all()
    assert "units tie in relu" in "\n".join(report.reasons)
    # Near x is another point, where the gradient under test must be right, too.
    assert check(rectified(), np.zeros(4), [0.3], loss="mse", jitter=None).verdict == "inconclusive"


def test_equal_cells_of_a_pool_are_told_from_the_others():
    report = check(pooled(), EQUAL, [0.3], loss="mse")
    assert report.verdict == "pass"
    assert np.flatnonzero(report.near).tolist() == [cell(0, 0), cell(0, 1), cell(1, 0), cell(1, 1)]
    assert "4 elements of x sit exactly on a kink" in "\n".join(report.reasons)
    assert "units tie in pool" in "\n".join(report.reasons)
    assert not check(pooled(), IMAGE, [0.3], loss="mse").near.any()


def test_what_is_wrong_beside_a_kink_fails():
    """Some units tie; the gradient is wrong of others."""
    x = at(0, 0.5, -1)
    report = check(total(lambda x: tf.nn.relu(x) * [1.0, 2.0, 3.0]), x, analytic=at(0, 2, 0.5))
    assert letters(report) == "kaw"
    assert report.verdict == "fail"
    # A function has a value near x: there it is wrong, too.
    report = check(total(tf.nn.relu), x, analytic=lambda x: np.where(x < 0.4, 0.0, 1.0))
    assert letters(report) == "waa"


def test_steps_of_a_staircase_have_no_slope():
    report = check(staircase, at(1, 0.5, 2))
    assert letters(report) == "sas"
    assert report.verdict == "inconclusive"
    assert "f jumps at x" in "\n".join(report.reasons)
    # Between two steps the slope of floor is zero, and so is its gradient.
    assert check(staircase, at(1.2, 0.5, 2.7)).verdict == "pass"


def test_what_masking_compares_with_zero_is_no_fault():
    x = RNG.normal(size=(5, 2))
    x[3:] = 0
    model = masked()
    report = check(model, x, [0.3], loss="mse")
    assert report.verdict == "pass"
    # A step that is masked comes in as soon as it moves: there f has a slope right beside x only.
    assert (report.classes == "agree").all()
    assert report.near[3:].all()
    assert not report.near[:3].any()
    assert "compares with ==" in " ".join(report.reasons)
    assert check(model, x + 1, [0.3], loss="mse").verdict == "pass"
    # An array has no value beside x, and what it says at x itself is neither right nor wrong.
    given = report.analytic.copy()
    assert check(model, x, [0.3], loss="mse", analytic=given).verdict == "pass"
    given[3:] = 1.0
    held = check(model, x, [0.3], loss="mse", analytic=given)
    assert (held.classes[3:] == "singular").all()
    assert held.verdict == "inconclusive"
    given[0] *= 1.01
    assert (check(model, x, [0.3], loss="mse", analytic=given).classes[0] == "wrong").all()


def test_many_masked_values_are_each_told_from_the_others():
    """More than a bisection follows; and one value that is equal, but moves nothing else, is judged at x."""
    x = RNG.normal(size=(60, 2))
    x[11:] = 0
    model = keras.Sequential([keras.Input((60, 2)), L.Masking(), L.SimpleRNN(3), L.Dense(1)])
    report = check(model, x, [0.3], loss="mse")
    assert report.verdict == "pass"
    assert report.near[11:].all()
    assert not report.near[:11].any()

    def f(x):
        return tf.reduce_sum(tf.where(x == 0, tf.exp(x) - 1, x**3 + x)) + 5 * tf.reduce_sum(
            tf.cast(x[:1] == 0, x.dtype)
        )

    report = check(f, at(0, 0, 2), analytic=lambda x: np.where(x == 0, 2.0, 3 * x**2 + 1))
    assert report.near.tolist() == [True, False, False]
    assert letters(report)[1:] == "wa"


def nothing(x):
    return tf.fill(x.shape, tf.constant(np.nan, x.dtype))


#: f is not finite on one side of x[1] = 0.5, or goes another way there; what the report says of it.
EDGES = {
    "an element": (lambda x: tf.reduce_sum(tf.where(x > 0.5, nothing(x), x**2)), "not finite at x[1] + h"),
    "all of f": (lambda x: tf.reduce_sum(x**2) + tf.where(x[1] < 0.5, nothing(x), 0 * x)[1], "not finite at x[1] - h"),
    "control flow": (
        lambda x: tf.cond(x[1] > 0.5, lambda: tf.reduce_sum(x), lambda: tf.reduce_sum(x**2)),
        "control flow of f turns (Greater)",
    ),
}


@pytest.mark.parametrize("case", EDGES)
def test_an_edge_of_f_at_x_is_named(case):
    f, said = EDGES[case]
    for _ in range(2):
        report = check(f, at(0.25, 0.5, 0.4))
        assert said in " ".join(report.reasons)
        assert report.verdict == ("pass" if case == "control flow" else "inconclusive")
        assert said not in " ".join(check(f, at(0.25, 0.45 if "+" in said or "turns" in said else 0.55, 0.4)).reasons)


def test_what_is_wrong_beside_an_exact_comparison_is_found():
    @tf.custom_gradient
    def third(x):
        return x**3, lambda dy: dy * 2 * x

    def f(x):
        return tf.reduce_sum(tf.where(x == 0, tf.ones_like(x), third(x)))

    assert letters(check(f, at(0, 1, 2))) == "www"


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case):
    kind, values, codes, words = WEIGHTS[case]
    model = keras.Sequential([keras.Input((3,)), kind(name="layer")])
    model.layers[0].w.assign(values)
    y = [0.3] * int(model.output_shape[-1])
    report = check(model, at(1, 2, 0.5), y, loss="mse", wrt="weights")
    assert letters(report["w"]) == codes
    assert report.verdict == ("fail" if "w" in codes else "inconclusive" if "s" in codes else "pass")
    assert words in "\n".join([*report.reasons, *report.hints])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["array", "function"])
def test_a_gradient_of_one_s_own_that_is_no_number(form, value):
    x = at(0.5, 0, 2)
    wrong = np.cos(x)
    wrong[1] = value
    report = check(total(tf.sin), x, analytic=wrong if form == "array" else lambda x: wrong)
    assert letters(report) == "awa"
    assert report.verdict == "fail"
    assert "NaN or infinite on 1 element" in "\n".join([*report.reasons, *report.hints])


@pytest.mark.parametrize("case", ADVICE)
def test_following_the_advice(case):
    f, x, words, options, other = ADVICE[case]
    report = check(f, x)
    assert not report
    assert words in "\n".join([*report.reasons, *report.hints])
    # Bounds are for the check of every element, and the message says so.
    assert ('check="every" with bounds' in "\n".join(report.reasons)) == (case in ("bounds", "a point inside"))
    options = {"check": "directions"} | ({"check": "every"} if options else {}) | options
    assert fdfast.gradcheck(f, x if other is None else other, **options).verdict == "pass"


def test_a_function_that_does_not_move_was_not_checked():
    report = check(total(lambda x: tf.nn.relu(x - 5)), at(1, 2))
    assert report.verdict == "inconclusive"
    assert "Every derivative is exactly zero" in "\n".join(report.reasons)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="the loss must be finite at x itself"):
        check(total(lambda x: x * value), at(1, 2))


def test_what_is_less_than_the_tolerance_is_said_and_tolerated():
    x = RNG.normal(size=200)
    g = np.cos(x)
    g[7] *= 1 + 1e-6
    report = check(total(tf.sin), x, analytic=g)
    assert report.verdict == "pass"
    assert "1.0e-06, relatively, on 1 elements" in "\n".join(report.reasons)
    assert check(total(tf.sin), x, analytic=g, rtol=1e-7).verdict == "fail"


@pytest.mark.parametrize("error", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize("form", ["array", "function"])
def test_curvature_is_not_taken_for_rounding(form, error):
    """An array is the gradient of one point: beside it, it says nothing."""
    x = RNG.normal(size=200)
    share = np.where(np.arange(200) == 7, 1 + error, 1.0)
    report = check(total(tf.sin), x, analytic=share * np.cos(x) if form == "array" else lambda x: share * np.cos(x))
    assert report.verdict == "fail"
    assert [one["index"] for one in report.worst(1)] == [(7,)]
    assert report.counts["wrong"] == 1


@pytest.mark.parametrize("error", [1e-3, 1.0])
@pytest.mark.parametrize("apart", [1e-4, 1e-5, 1e-7])
def test_beside_a_minimum_a_fault_is_not_taken_for_rounding(apart, error):
    """There the gradient, and what is wrong in it, is many times another right beside x."""
    x = 1 + apart * RNG.uniform(0.5, 1, 20)

    def f(x):
        return tf.reduce_sum(tf.cosh(x - 1.0))

    assert check(f, x, analytic=lambda x: np.sinh(x - 1)).verdict == "pass"
    report = check(f, x, analytic=lambda x: (1 + error) * np.sinh(x - 1))
    assert report.verdict == "fail"
    assert report.counts["wrong"] >= 1


def test_operations_without_a_rule_are_named():
    report = check(total(lambda x: tf.math.igamma(x**2 + 1, x**2 + 2)), at(0.3, 0.7, 1.4))
    assert report.verdict == "pass"
    assert "Igamma has no difference rule" in "\n".join(report.reasons)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("half", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("way", ["directions", "every"])
def test_a_gradient_that_is_rounded_to_half_precision_fails(dtype, half, way):
    """It is off by some 1e-3; a value that is computed in half precision, as under a mixed policy, is another thing."""

    @tf.custom_gradient
    def rounded(x):
        return tf.identity(x), lambda dy: tf.cast(tf.cast(dy, half), dy.dtype)

    x = np.random.default_rng(0).uniform(0.5, 1.5, 20).astype(dtype)
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(tf.sin(rounded(x))), x, check=way)
    assert report.verdict == "fail"
    assert report.counts["wrong"] > 10
    if way == "directions":
        assert report.culprit
    inside = tf.function(lambda x: tf.cast(tf.cast(x, half) ** 2, x.dtype))
    right = fdfast.gradcheck(lambda x: tf.reduce_sum(inside(x)) + tf.reduce_sum(tf.sin(x)), x, check="directions")
    assert right.verdict == "pass"


@pytest.mark.parametrize("some", [1, 3])
def test_what_cancels_next_to_a_minimum_is_left_open(some):
    """1 - p is 2e-15, and p has no more than 16 digits: autodiff is off by some percent from what is true."""

    def f(x):
        return tf.reduce_sum((tf.sigmoid(40 * x) - 1) ** 2)

    x = at(0.85, 0.84, 0.845)[:some]
    tail = 1 / (1 + np.exp(40 * x))
    true = -2 * tail * 40 * tail * (1 - tail)
    report = check(f, x, analytic=true)
    assert report.verdict == "inconclusive"
    assert "no more than what rounding" in " ".join(report.reasons)
    assert fdfast.gradcheck(f, x, analytic=true).verdict == "inconclusive"  # every element by itself, at first
    assert check(f, x, analytic=3 * true).verdict == "fail"
    assert fdfast.gradcheck(f, x, analytic=3 * true).verdict == "fail"
    assert check(f, x - 0.5, analytic=lambda x: 1.01 * 40 * -2 / (1 + np.exp(40 * x)) ** 2).verdict == "fail"


@pytest.mark.parametrize("scale", [1e-18, 1e-30])
def test_a_gradient_that_is_next_to_nothing_is_no_noise(scale):
    """In units of its own elements the differences round by more than an element, and part from it by far more."""
    x = np.linspace(0.5, 1.5, 40)
    assert check(total(lambda x: tf.sin(x)), x, analytic=lambda x: scale * np.cos(x)).verdict == "fail"


class BorderLeftOutOfBrightOnes(keras.layers.Layer):
    def call(self, x):
        @tf.custom_gradient
        def same(x):
            def back(upstream):
                inside = tf.pad(tf.ones_like(x[:, 1:-1, 1:-1]), [[0, 0], [1, 1], [1, 1], [0, 0]])
                return tf.where(x[:, :1, :1, :1] > 0.5, inside * upstream, upstream)

            return tf.identity(x), back

        return same(x)


@pytest.mark.parametrize("bright", [(0, 3, 4), (0, 1, 2, 3, 4, 5), ()])
def test_of_a_dense_error_each_example_is_told_wrong_or_right(bright):
    """By directions over a batch: most of an example is left open, and whether something in it is wrong is not."""
    x = np.random.default_rng(0).uniform(0.1, 0.4, (6, 8, 8, 3))
    x[list(bright), 0, 0, 0] = 0.9
    layers = [BorderLeftOutOfBrightOnes(), keras.layers.Conv2D(4, 3, activation="tanh"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3), dtype="float64"), *layers, keras.layers.Dense(2)])
    found = fdfast.gradcheck(model, x, np.ones((6, 2)), loss="mse", check="directions")
    assert [one.verdict for one in found] == ["fail" if i in bright else "pass" for i in range(6)]


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_saturated_cells_that_are_equal_are_no_kink(factor):
    """tanh of 20 is 1 exactly: cells of a pool tie at every point near x, and move f by next to nothing."""

    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda up: factor * up

    def f(x):
        cells = tf.tanh(tf.constant([[16.0], [18.0]], tf.float64) * same(x))
        return tf.reduce_sum(tf.reduce_max(cells, axis=0)) + 1e-9 * tf.reduce_sum(same(x) ** 2)

    report = fdfast.gradcheck(f, np.array([1.25, 1.3, 1.2]), check="directions")
    assert report.verdict == ("pass" if factor == 1 else "fail")
