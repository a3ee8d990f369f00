"""gradient, estimate and gradcheck on good input: right numbers, and the right verdict on right and wrong gradients."""

from __future__ import annotations

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.data.seed_loops import seed_loop
from fdfast.functions.shadow import shadow_of
from fdfast.problem import groups_of

K = keras.layers
RNG = np.random.default_rng(0)
SHAPE = (8, 8, 1)
X = RNG.uniform(size=(3, *SHAPE)).astype("float32")
Y = np.array([2, 0, 1])


@tf.custom_gradient
def one_percent(x):
    return tf.identity(x), lambda upstream: 1.01 * upstream


@tf.custom_gradient
def one_pixel(x):
    def gradient(upstream):
        fault = tf.tensor_scatter_nd_update(tf.ones(SHAPE, x.dtype), [[5, 2, 0]], tf.constant([1.02], x.dtype))
        return fault * upstream

    return tf.identity(x), gradient


class Faulty(K.Layer):
    """The identity, with the gradient of one of the functions above."""

    def __init__(self, kind="", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, x):
        return {"": tf.identity, "scale": one_percent, "pixel": one_pixel, "stop": tf.stop_gradient}[self.kind](x)


@functools.cache
def small(kind="", shape=SHAPE):
    """ReLU and max pooling on eight by eight pixels."""
    keras.utils.set_random_seed(6)
    layers = [
        keras.Input(shape),
        Faulty(kind),
        K.Conv2D(4, 3, activation="relu", bias_initializer="random_normal"),
        K.MaxPooling2D(2),
        K.Flatten(),
        K.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(layers, name=kind or "small")
    model.compile(loss="sparse_categorical_crossentropy")
    return model


@functools.cache
def digits():
    x, labels = fdfast.datasets.mnist_sample(10)
    return fdfast.datasets.mnist_cnn(), x, np.eye(10)[labels]


def autodiff(model, x, y, loss):
    """Gradient in float64, without fdfast's own tape."""
    variable = tf.constant(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = keras.losses.get(loss)(np.asarray(y), model(variable, training=False))
    return tape.gradient(value, variable).numpy()


def sums(gradient, tile):
    """Sum over each tile of (height, width, ...), channels together; (rows, columns) of the tile grid."""
    a, b = (tile, tile) if isinstance(tile, int) else tile
    by_row = np.add.reduceat(gradient, np.arange(0, gradient.shape[0], a), axis=0)
    by_tile = np.add.reduceat(by_row, np.arange(0, gradient.shape[1], b), axis=1)
    return by_tile.reshape(*by_tile.shape[:2], -1).sum(axis=2)


# The numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tile", "h"), [(1, 2.0**-17), (1, 1e-4), (3, 1e-5), (8, 1e-5)])
def test_gradient_is_the_seed_loop_on_the_same_float64_model(tile, h):
    twin = shadow_of(small(), SHAPE).model
    x = X[0].astype(float)
    wanted = seed_loop(twin, x, 2, h, tile, loss="sparse_categorical_crossentropy")
    for model in (small(), twin):
        # Both round the loss, near 1, by 1e-16; over twice the step that is 1e-11. Kinks bend both alike.
        got = fdfast.gradient(model, x, h, y=2, tile=tile, loss="sparse_categorical_crossentropy", reduction="sum")
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)
    assert np.abs(wanted).max() > 1e-2


TILES = [1, 2, 4, 5, 7, 14, 28, (2, 3)]


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tile_derivatives_of_a_real_digit_are_tile_sums_of_autodiff(tile):
    model, x, y = digits()
    x = x[0] + np.random.default_rng(1).uniform(0, 1 / 255, (28, 28, 1))  # off the ties of the black background
    wanted = sums(jittered_autodiff(), tile)
    a, b = (tile, tile) if isinstance(tile, int) else tile
    got = fdfast.gradient(model, x, y=y[0], tile=tile, reduction="sum")[::a, ::b, 0]
    seen = wanted != 0
    assert seen.sum() > 0.8 * wanted.size
    # Truncation is 1e-10 and rounding 1e-11 relative to the largest; a few tiles cross a kink.
    assert np.median(np.abs(got - wanted)[seen] / np.abs(wanted)[seen]) < 1e-5


@functools.cache
def jittered_autodiff():
    model, x, y = digits()
    x = x[0] + np.random.default_rng(1).uniform(0, 1 / 255, (28, 28, 1))
    return autodiff(shadow_of(model, (28, 28, 1)).model, x[None], y[:1], "categorical_crossentropy")[0]


def test_a_batch_in_one_call_is_one_call_each():
    together = fdfast.gradient(small(), X, y=Y, tile=3)
    assert together.shape == X.shape
    for i in range(3):
        alone = fdfast.gradient(small(), X[i], y=Y[i], tile=3)
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-10)  # 1e-16 over the step of 1e-5
    report = fdfast.gradcheck(small(), X, Y, tile=3)
    for i in range(3):
        alone = fdfast.gradcheck(small(), X[i], Y[i], tile=3)
        np.testing.assert_allclose(report[i].numeric, alone.numeric, rtol=0, atol=1e-10)
        np.testing.assert_allclose(report[i].analytic, alone.analytic, rtol=1e-12, atol=1e-15)  # order of additions
        assert report[i].counts == alone.counts
        assert (report[i].shape, report[i].batched) == (alone.shape, False)


def test_many_examples_are_taken_in_groups(monkeypatch):
    wanted = fdfast.gradient(small(), X, y=Y, tile=2)
    report = fdfast.gradcheck(small(), X, Y, tile=2)
    monkeypatch.setattr("fdfast.problem._GROUP", 20)
    np.testing.assert_allclose(fdfast.gradient(small(), X, y=Y, tile=2), wanted, rtol=0, atol=1e-10)
    grouped = fdfast.gradcheck(small(), X, Y, tile=2)
    assert grouped.counts == report.counts
    np.testing.assert_allclose(grouped.numeric, report.numeric, rtol=0, atol=1e-10)  # 1e-16 over the step of 1e-5
    array = fdfast.gradcheck(small(), X, Y).analytic
    assert fdfast.gradcheck(small(), X, Y, tile=2, analytic=array, coverage=0.5).counts["wrong"] == 0
    found = fdfast.estimate(small(), X, y=Y, tile=2)
    np.testing.assert_allclose(found.value.reshape(report.numeric.shape), report.numeric, rtol=0, atol=1e-10)


@pytest.mark.parametrize("tile", [1, 3, (4, 8)])
def test_reductions(tile):
    shared, whole = (fdfast.gradient(small(), X[0], y=2, tile=tile, reduction=r) for r in ("mean", "sum"))
    a, b = (tile, tile) if isinstance(tile, int) else tile
    rows = np.minimum(np.arange(8) // a * a + a, 8) - np.arange(8) // a * a
    columns = np.minimum(np.arange(8) // b * b + b, 8) - np.arange(8) // b * b
    np.testing.assert_allclose(shared * np.outer(rows, columns)[..., None], whole, rtol=1e-14)  # one division


def test_channels_together_are_the_sum_of_channels_apart():
    shape = (6, 6, 3)
    model, x = small("", shape), RNG.uniform(size=(6, 6, 3)).astype("float32")
    together = fdfast.gradient(model, x, y=0, tile=2, channels="together", reduction="sum")
    apart = fdfast.gradient(model, x, y=0, tile=2, reduction="sum")
    exact = autodiff(shadow_of(model, shape).model, x[None], [0], "sparse_categorical_crossentropy")[0]
    # Truncation of 1e-10, rounding of 1e-11.
    np.testing.assert_allclose(together[::2, ::2], sums(exact, 2)[..., None] * np.ones(3), rtol=0, atol=1e-8)
    for c in range(3):
        np.testing.assert_allclose(apart[::2, ::2, c], sums(exact[..., c], 2), rtol=0, atol=1e-8)
    assert fdfast.gradcheck(model, x, 0, tile=2, channels="together").grid == (3, 3, 1)
    assert fdfast.gradcheck(model, x, 0, tile=2).grid == (3, 3, 3)
    np.testing.assert_allclose(fdfast.gradient(model, x, y=0), exact, rtol=0, atol=1e-8)  # the gradient, not its mean


def test_bounds_keep_every_row_inside():
    _, x, _ = digits()
    seen = []

    def f(rows):
        seen.append((rows.min(), rows.max()))
        return np.sin(rows * WAVES).sum(axis=(1, 2, 3))

    x = x[3].astype(float)
    x[4:20, 4:20] = np.where(x[4:20, 4:20] > 0.5, 1.0, x[4:20, 4:20])
    for tile in (1, 5):
        got = fdfast.gradient(f, x, tile=tile, bounds=(0, 1), batched=True, reduction="sum")[::tile, ::tile, 0]
        wanted = sums(WAVES * np.cos(x * WAVES), tile)
        whites, blacks = sums(x == 1, tile), sums(x == 0, tile)
        # Truncation of the one-sided scheme: h^2 times the third derivative, over 25 pixels; rounding 1e-13 / 1e-5.
        # Tiles that touch both bounds are differenced one step away from x: h times the second, over 25 pixels.
        atol = np.where((whites > 0) & (blacks > 0), 2e-3, 1e-7)
        assert (tile == 1) == (atol == 1e-7).all()
        assert (np.abs(got - wanted) < atol).all()
    assert min(low for low, _ in seen) == 0
    assert max(high for _, high in seen) == 1
    seen.clear()
    fdfast.gradcheck(f, x, analytic=lambda x: WAVES * np.cos(x * WAVES), bounds=(0, 1), batched=True, tile=5)
    assert (min(low for low, _ in seen), max(high for _, high in seen)) == (0, 1)
    # The control: without bounds rows go outside.
    seen.clear()
    fdfast.gradient(f, x, tile=5, batched=True)
    assert min(low for low, _ in seen) < 0
    assert max(high for _, high in seen) > 1


WAVES = np.linspace(0.5, 3, 28)[:, None, None]


def test_bounds_on_a_model():
    model, x, y = digits()
    inside = x[4] * 0.9 + np.random.default_rng(1).uniform(0.01, 0.02, (28, 28, 1))
    free, bounded = (fdfast.gradient(model, inside, y=y[4], tile=7, bounds=b) for b in (None, (0, 1)))
    np.testing.assert_array_equal(free, bounded)  # room on both sides: nothing changes


def test_bounds_on_a_real_digit():
    model, x, y = digits()
    report = fdfast.gradcheck(model, x[4], y[4], tile=7, bounds=(0, 1))
    assert report, str(report)


@pytest.mark.parametrize("by", ["array", "function"])
def test_tiles_that_touch_both_bounds_are_not_accused(by):
    x = np.array([[0.0, 1.0, 0.3, 0.6], [1.0, 0.0, 0.0, 0.2]])

    def exact(x):
        return 300 * np.cos(300 * x + 1)

    given = exact if by == "function" else exact(x)
    report = fdfast.gradcheck(
        lambda rows: np.sin(300 * rows + 1).sum(axis=(1, 2)), x, analytic=given, batched=True, tile=2, bounds=(0, 1)
    )
    assert report.counts["wrong"] == 0
    assert report.counts["kink"] == 0  # a sine has none


def test_float32_and_float64():
    exact = autodiff(shadow_of(small(), SHAPE).model, X, Y, "sparse_categorical_crossentropy")
    rough, fine = (fdfast.gradient(small(), X, y=Y, precision=p) for p in ("float32", "float64"))
    assert rough.dtype == fine.dtype == np.float64
    np.testing.assert_allclose(fine, exact, rtol=0, atol=1e-8)  # h^2 and 1e-16 / h at h = 2^-17
    # Rounding: 1e-7 over a step of 4e-3; a pixel may cross a kink of its maximum there.
    assert np.median(np.abs(rough - exact)) < 1e-4
    assert np.median(np.abs(rough - exact)) > 1e-7  # it is another computation: the control
    report = fdfast.gradcheck(small(), X, Y, precision="float32", rtol=0.05, coverage=0.8)
    assert report.counts["wrong"] == 0
    assert (report.verdict, report.dtype, report.deployed) == ("pass", "float32", None)


# Functions --------------------------------------------------------------------------------------------------------

POINT = RNG.uniform(0.2, 0.9, (4, 5))
EXACT = np.exp(POINT) * np.arange(20).reshape(4, 5)


def scalar_in_numpy(x, y=1.0):
    return float((np.exp(x) * np.arange(20).reshape(x.shape)).sum() * y)


def rows_in_numpy(rows, y=1.0):
    return (np.exp(rows) * np.arange(20).reshape(4, 5)).sum(axis=(1, 2)) * y


def scalar_in_tensorflow(x, y=1.0):
    return tf.reduce_sum(tf.exp(x) * np.arange(20.0).reshape(4, 5)) * y


def rows_in_tensorflow(rows, y=1.0):
    return tf.reduce_sum(tf.exp(rows) * np.arange(20.0).reshape(4, 5), axis=[1, 2]) * y


FUNCTIONS = [(scalar_in_numpy, False), (rows_in_numpy, True), (scalar_in_tensorflow, False), (rows_in_tensorflow, True)]


@pytest.mark.parametrize(("f", "batched"), FUNCTIONS)
def test_functions(f, batched):
    # f is near 300: rounding of 5e-14 over a step of 1e-5, and truncation of 1e-10 times 20.
    np.testing.assert_allclose(fdfast.gradient(f, POINT, batched=batched), EXACT, rtol=0, atol=5e-8)
    np.testing.assert_allclose(fdfast.gradient(f, POINT, batched=batched, y=-0.5), -EXACT / 2, rtol=0, atol=5e-8)
    np.testing.assert_allclose(fdfast.gradient(f, POINT, 1e-3, batched=batched), EXACT, rtol=1e-6, atol=1e-9)  # h^2/6
    given = None if "tensorflow" in f.__name__ else (lambda x: np.exp(x) * np.arange(20).reshape(4, 5) * 3)
    report = fdfast.gradcheck(f, POINT, 3.0, batched=batched, analytic=given)
    assert report, str(report)
    assert report.label == f.__name__
    found = fdfast.estimate(f, POINT, batched=batched)
    assert found.value.shape == (1, 20)
    assert (np.abs(found.value - EXACT.ravel()) <= found.error).all()
    for slope in (found.right, found.left):
        np.testing.assert_allclose(slope, EXACT.reshape(1, 20), rtol=1e-4, atol=1e-7)  # curvature times the step


def test_vectors_scalars_and_float32_points():
    np.testing.assert_allclose(fdfast.gradient(lambda x: (x**3).sum(), [1.0, 2.0]), [3, 12], rtol=1e-8)  # h^2
    got = fdfast.gradient(lambda x: x**2, np.float32(3))
    assert got.shape == ()
    assert got == pytest.approx(6, rel=1e-3)  # rounding: 1e-6 over a step of 1e-2
    got = fdfast.gradient(lambda x: (x**2).sum(), np.ones(3, "float32"), precision="float64")
    np.testing.assert_allclose(got, 2, rtol=1e-9)  # rounding: 1e-15 over 1e-5


# Verdicts ---------------------------------------------------------------------------------------------------------


def test_a_right_model_passes():
    report = fdfast.gradcheck(small(), X, Y)
    assert report, str(report)
    assert (report.verdict, report.coverage) == ("pass", 1.0)
    assert fdfast.assert_gradcheck(small(), X[0], 2).verdict == "pass"
    exact = autodiff(shadow_of(small(), SHAPE).model, X, Y, "sparse_categorical_crossentropy")
    np.testing.assert_allclose(report.analytic, exact, rtol=1e-10, atol=1e-12)  # order of additions
    smooth = ~report.near
    assert (np.abs(report.numeric - exact) <= report.error_bar + 1e-12)[smooth].all()


@pytest.mark.parametrize("index", [0, 2])  # the second is saturated: p = 0.99999, the loss 1e-5
def test_the_shipped_cnn_passes_on_real_digits(index):
    model, x, y = digits()
    before, weights = x.copy(), model.get_weights()
    report = fdfast.gradcheck(model, x[index], y[index])
    assert report, str(report)
    assert report.coverage >= 0.99
    assert report.near.any()  # black background: checked where nothing ties
    assert report.deployed["digits"] < 5  # what float32 itself keeps, in its own figure
    np.testing.assert_array_equal(x, before)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    honest = fdfast.gradcheck(model, x[index], y[index], jitter=None)
    assert honest.verdict == "inconclusive"
    assert honest.counts["wrong"] == 0
    assert honest.counts["kink"] > 300
    assert honest.coverage == pytest.approx(1 - (honest.counts["kink"] + honest.counts["unresolved"]) / 784)
    assert not honest.near.any()
    assert any("tiles could be checked, 99 % were asked for" in reason for reason in honest.reasons)


@pytest.mark.parametrize("tile", [5, 14, 28])
def test_large_tiles_of_a_saturated_digit_pass(tile):
    model, x, y = digits()
    report = fdfast.gradcheck(model, x[2], y[2], tile=tile)
    assert report, str(report)


@pytest.mark.parametrize("tile", [1, 3])
def test_a_gradient_off_by_one_percent_fails_everywhere(tile):
    report = fdfast.gradcheck(small("scale"), X[0], 2, tile=tile)
    assert (report.verdict, bool(report)) == ("fail", False)
    live = report.analytic != 0
    assert live.mean() > 0.8
    assert (report.classes[live] == "wrong").all()
    np.testing.assert_allclose(report.rel_error[live & ~report.near], 0.01 / 1.01, rtol=1e-3)  # bars of 1e-6
    assert any("so the formula (or an operation's gradient) is wrong there" in reason for reason in report.reasons)


@pytest.mark.parametrize(("tile", "where"), [(1, (5, 2, 0)), (2, (4, 2, 0)), (4, (4, 0, 0))])
def test_one_wrong_pixel_is_located(tile, where):
    report = fdfast.gradcheck(small("pixel"), X[0], 2, tile=tile)
    assert report.verdict == "fail"
    assert report.counts["wrong"] == 1
    worst = report.worst(1)[0]
    assert (worst["index"], worst["class"]) == (where, "wrong")
    with pytest.raises(AssertionError, match=rf"fdfast: FAIL  pixel, 8x8x1[\s\S]*\({where[0]}, {where[1]}, 0\) +wrong"):
        fdfast.assert_gradcheck(small("pixel"), X[0], 2, tile=tile)
    batch = fdfast.gradcheck(small("pixel"), X, Y, tile=tile)
    assert sorted(row["index"] for row in batch.worst(3)) == [(i, *where) for i in range(3)]


def test_a_gradient_that_is_cut_off_fails_with_the_reason():
    report = fdfast.gradcheck(small("stop"), X[0], 2)
    assert report.verdict == "fail"
    assert not report.analytic.any()
    assert "The gradient is zero everywhere" in " ".join(report.reasons)
    assert "stop_gradient" in " ".join([*report.reasons, *report.hints])
    with pytest.raises(AssertionError, match="stop_gradient"):
        fdfast.assert_gradcheck(lambda rows: tf.reduce_sum(tf.stop_gradient(rows) ** 2, 1), np.ones(3), batched=True)


@pytest.mark.parametrize(
    ("f", "options"),
    [
        (lambda rows: tf.reduce_sum(rows, 1) * 0 + 1, {"batched": True}),
        (lambda rows: np.ones(len(rows)), {"batched": True, "analytic": np.zeros(4)}),
        (lambda x: tf.reduce_sum(x) * 0.0, {}),
        (lambda rows: tf.reduce_sum(tf.nn.relu(rows - 10), 1), {"batched": True}),
    ],
)
def test_a_constant_is_never_a_pass(f, options):
    report = fdfast.gradcheck(f, np.linspace(0.1, 0.9, 4), **options)
    assert (report.verdict, bool(report)) == ("inconclusive", False)
    assert any("exactly zero on both sides, so nothing was checked" in reason for reason in report.reasons)
    with pytest.raises(AssertionError, match="INCONCLUSIVE"):
        fdfast.assert_gradcheck(f, np.linspace(0.1, 0.9, 4), **options)


def test_one_live_pixel_among_dead_ones_is_a_pass():
    report = fdfast.gradcheck(lambda rows: rows[:, 2] ** 2, np.linspace(0.1, 0.9, 4), batched=True)
    assert report, str(report)


def test_a_gradient_under_test_may_be_an_array_or_a_function():
    exact = autodiff(shadow_of(small(), SHAPE).model, X, Y, "sparse_categorical_crossentropy")

    def by_hand(x):
        return autodiff(shadow_of(small(), SHAPE).model, x[None], [2], "sparse_categorical_crossentropy")[0]

    assert fdfast.gradcheck(small(), X[0], 2, analytic=by_hand), "function"
    report = fdfast.gradcheck(small(), X[0], 2, analytic=exact[0], coverage=0.9)
    assert report, str(report)
    assert fdfast.gradcheck(small(), X, Y, analytic=exact, coverage=0.9)
    assert fdfast.gradcheck(small(), X, Y, analytic=exact.astype("float32"), coverage=0.9, rtol=1e-3)
    # The controls: one pixel off, and a sign.
    wrong = exact.copy()
    wrong[1, 3, 4, 0] *= 1.001
    report = fdfast.gradcheck(small(), X, Y, analytic=wrong)
    assert report.verdict == "fail"
    assert [row["index"] for row in report.worst(1)] == [(1, 3, 4, 0)]
    assert report.counts["wrong"] == 1
    report = fdfast.gradcheck(small(), X[0], 2, analytic=lambda x: -by_hand(x))
    assert report.verdict == "fail"
    assert report.counts["wrong"] == np.count_nonzero(report.analytic)


def test_a_function_under_test_is_given_the_whole_batch():
    # It may hold a target for each example: rows must not be taken out of its sight.
    model = small()
    x = X.copy()
    x[1, :4, :4] = 0.5  # ties in the second example only

    def by_hand(points):
        assert points.shape == x.shape
        return autodiff(shadow_of(model, SHAPE).model, points, Y, "sparse_categorical_crossentropy")

    report = fdfast.gradcheck(model, x, Y, analytic=by_hand)
    assert report, str(report)
    assert report.near[1].any()


def test_selftest_finds_what_it_planted():
    report = fdfast.gradcheck(small(), X, Y, selftest=True)
    assert report
    assert "found in 3 of 3." in " ".join(str(report).split())
    assert "found in" not in str(fdfast.gradcheck(small(), X, Y))
    # The control: a tolerance of 5 % cannot see an error of 1 %, so there is no pass.
    blind = fdfast.gradcheck(small(), X, Y, selftest=True, rtol=0.05)
    assert (blind.verdict, blind.counts["wrong"]) == ("inconclusive", 0)
    assert "found in only 0 of 3: this run could not have seen such a fault" in " ".join(str(blind).split())


def test_same_seed_same_report():
    first, again, other = (fdfast.gradcheck(small(), X[0] * 0 + 0.5, 2, seed=s, max_rows=64) for s in (3, 3, 4))
    for name in ("numeric", "error_bar", "checked_numeric", "checked_analytic", "codes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.near.any()
    assert not np.array_equal(first.checked_numeric[first.near], other.checked_numeric[first.near])


@pytest.mark.parametrize("examples", [1, 60])
def test_progress_never_says_that_all_is_done_before_it_is(examples):
    # Kinks: more rows than one would expect refine them and look near x.
    def f(rows):
        return np.abs(rows).sum(axis=1) + np.sin(9 * rows).sum(axis=1)

    x = np.where(np.arange(600) % 2, 0.0, np.linspace(-1, 1, 600))
    told = []
    if examples == 1:
        fdfast.gradcheck(f, x, analytic=np.ones(600), batched=True, progress=lambda *now: told.append(now))
    else:
        many = np.repeat(X, examples // 3, axis=0), np.repeat(Y, examples // 3)
        fdfast.gradcheck(small(), *many, tile=4, check="every", progress=lambda *now: told.append(now))
    shares = [done / expected for done, expected in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert sum(share > 0.99 for share in shares) <= 1 + 0.05 * len(shares)  # the bar does not wait at its end
    with pytest.raises(TypeError, match="progress must be True, for a bar, or be called as"):
        fdfast.gradient(f, x, batched=True, progress="yes")


def test_true_shows_a_bar_and_false_none(capfd):
    expected = fdfast.gradient(small(), X, y=Y, tile=4, progress=False)
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(fdfast.gradient(small(), X, y=Y, tile=4, progress=True), expected)
    assert re.search(r"differences .*100%", capfd.readouterr().err)


def test_progress_ends_at_the_end():
    seen = []
    fdfast.gradient(small(), X, y=Y, tile=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 2 * 4 * 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_estimate_bounds_its_error():
    found = fdfast.estimate(small(), X, y=Y)
    exact = autodiff(shadow_of(small(), SHAPE).model, X, Y, "sparse_categorical_crossentropy").reshape(3, -1)
    smooth = found.kind == 0
    assert smooth.mean() > 0.9
    # The reference rounds as well: 1e-15 of its largest.
    assert (np.abs(found.value - exact) <= found.error + 1e-15)[smooth].all()
    assert np.median(found.error[smooth]) < 1e-6
    np.testing.assert_allclose(found.base, small().evaluate(X, Y, batch_size=1, verbose=0) * 0 + found.base)
    assert found.noise.max() < 1e-14  # losses near 1 in float64


@pytest.mark.parametrize(
    ("examples", "tiles", "sizes"),
    [(1, 1, [1]), (25, 784, [25]), (27, 784, [14, 13]), (100, 4, [25] * 4), (3, 50176, [1, 1, 1]), (2, 10**6, [1, 1])],
)
def test_groups_are_of_equal_size_and_bounded(examples, tiles, sizes):
    groups = list(groups_of(examples, tiles))
    assert [g.stop - g.start for g in groups] == sizes
    assert np.array_equal(np.concatenate([np.arange(examples)[g] for g in groups]), np.arange(examples))
