"""Which way a check goes if it is left open, and what is said where only one way is left."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fdfast
from fdfast.differences import windows_cost

RNG = np.random.default_rng(0)
LONG = RNG.normal(size=200)


def sequential(*inside: keras.Layer, shape: tuple[int, ...] = (12, 12, 1)) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *inside, layers.Flatten(), layers.Dense(2)])


def stock() -> keras.Model:
    return sequential(layers.Conv2D(3, 3, activation="tanh"))


def normalised() -> keras.Model:
    return sequential(layers.Conv2D(4, 3), layers.GroupNormalization(2))


def recurrent() -> keras.Model:
    return sequential(layers.GRU(3), shape=(5, 2))


IMAGE = RNG.uniform(size=(12, 12, 1)).astype(np.float32)
CASES = {
    "windows": (stock, IMAGE, {}, "every"),
    "no windows": (normalised, IMAGE, {}, "directions"),
    "few numbers, but a loop": (recurrent, RNG.uniform(size=(5, 2)).astype(np.float32), {}, "directions"),
    "no windows, but tiles are asked for": (normalised, IMAGE, {"tile": 6}, "every"),
    "no windows, but an engine is asked for": (normalised, IMAGE, {"engine": "batch", "tile": 4}, "every"),
    "forced": (normalised, IMAGE, {"check": "every", "tile": 6}, "every"),
    "weights": (stock, IMAGE, {"wrt": "weights"}, "directions"),
    "weights with a budget": (stock, IMAGE, {"wrt": "weights", "budget": 64}, "every"),
    "x and weights": (stock, IMAGE, {"wrt": "all"}, "directions"),
    "one variable": (stock, IMAGE, {"wrt": "dense_1/bias"}, "directions"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_way_of_a_model(name):
    make, x, options, way = CASES[name]
    model = make()
    if options.get("wrt", "").endswith("bias"):
        options = {"wrt": f"{model.layers[-1].name}/bias"}
    report = fdfast.gradcheck(model, x, np.zeros(2), loss="mse", **options)
    assert (report.check, report.verdict) == (way, "pass" if "budget" not in options else report.verdict)


@pytest.mark.parametrize(
    ("f", "x", "way"),
    [
        (lambda x: tf.reduce_sum(tf.sin(x)), LONG[:5], "every"),
        (lambda x: tf.reduce_sum(tf.sin(x)), LONG, "directions"),
        (lambda x: tf.sin(x), LONG[:5], "directions"),  # of no scalar a projection
        (lambda x: tf.reduce_sum(x[0] * x[1]), [LONG[:5], LONG[5:10]], "directions"),
        (lambda x: tf.py_function(lambda t: t.numpy().sum(), [x], tf.float64) + tf.reduce_sum(x), LONG, "every"),
    ],
)  # fmt: skip
def test_the_way_of_a_function(f, x, way):
    analytic = None
    if way == "every" and np.size(x) > 100:
        analytic = np.full(np.shape(x), 2.0)  # Python code has no gradient of its own
    report = fdfast.gradcheck(f, x, analytic=analytic)
    assert (report.check, report.verdict) == (way, "pass")
    assert any("directions cannot be taken" in reason for reason in report.reasons) == (analytic is not None)


def test_a_layer_is_checked_with_its_weights():
    report = fdfast.gradcheck(layers.Dense(3), RNG.normal(size=(2, 4)).astype(np.float32))
    assert (report.check, report.wrt, report.verdict, len(report.parts)) == ("directions", "all", "pass", 3)
    assert any("random weight of its own" in reason for reason in report.reasons)


def test_where_directions_are_asked_for_and_cannot_be_taken_it_says_why():
    def f(x):
        return tf.py_function(lambda t: t.numpy().sum(), [x], tf.float64)

    with pytest.raises(ValueError, match=r"a check by directions cannot be made: .*check='every' looks at"):
        fdfast.gradcheck(f, LONG, check="directions")


def test_cost_of_windows_is_counted_in_multiplications():
    cost = windows_cost(stock(), "mse", (12, 12, 1))
    # 3x3 places of 9 taps to 3 channels; Flatten and tanh cost their places; then 300 numbers to 2.
    assert cost is not None
    assert cost.window == pytest.approx(9 * 9 * 3 + 600, rel=0.6)
    assert cost.whole == pytest.approx(100 * 9 * 3 + 600, rel=0.6)
    assert windows_cost(normalised(), "mse", (12, 12, 1)) is None


def test_several_numbers_that_cannot_be_recorded_are_told_what_else_there_is():
    def f(x):
        return tf.reshape(tf.py_function(lambda t: 2 * t.numpy(), [x], tf.float64), (5,)) + x

    with pytest.raises(ValueError, match=r"f must return a scalar for one x .* use fdfast\.jacobian"):
        fdfast.gradcheck(f, LONG[:5], analytic=np.ones(5))


def test_a_dict_of_inputs_goes_by_directions():
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(x["a"] ** 2), {"a": LONG[:5]})
    assert (report.check, report.verdict) == ("directions", "pass")


class OfPython(layers.Layer):
    """tanh by NumPy, with its gradient."""

    def call(self, x):
        @tf.custom_gradient
        def tanh(x):
            value = tf.ensure_shape(tf.numpy_function(np.tanh, [x], x.dtype), x.shape)
            return value, lambda dy: dy * (1 - value**2)

        return tanh(x)


def test_what_is_advised_for_a_layer_of_python_code_works():
    x = np.random.default_rng(0).normal(size=(2, 3))
    with pytest.raises(ValueError, match=r"put it into a keras.Sequential.* with a loss and check='every'"):
        fdfast.gradcheck(OfPython(), x)
    model = keras.Sequential([keras.Input((3,)), OfPython()])
    assert fdfast.gradcheck(model, x, np.zeros((2, 3)), loss="mse", check="every").verdict == "pass"


def dense(shape=(4,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), layers.Dense(3, activation="sigmoid")])


OF_A_BATCH = {
    "Keras' own": keras.losses.Dice(),
    "a mean": lambda y, p: tf.reduce_mean((tf.cast(y, p.dtype) - p) ** 2),
}


@pytest.mark.parametrize("wrt", ["input", "weights"])
@pytest.mark.parametrize("loss", OF_A_BATCH)
def test_a_loss_of_the_whole_batch_goes_by_directions_however_few_there_are(loss, wrt):
    x, y = np.full((2, 4), 0.3), np.eye(3)[:2]
    report = fdfast.gradcheck(dense(), x, y, loss=OF_A_BATCH[loss], wrt=wrt)
    assert (report.check, report.verdict) == ("directions", "pass")
    with pytest.raises(ValueError, match="one scalar for the whole batch"):
        fdfast.gradcheck(dense(), x, y, loss=OF_A_BATCH[loss], wrt=wrt, check="every")


def ctc(x):
    """TensorFlow maps it over no rows; its log-probabilities of what cannot be are -inf."""
    logits = tf.cast(tf.reshape(x, (5, 1, 4)), tf.float32)
    return tf.nn.ctc_loss(tf.constant([[1, 2]]), logits, tf.constant([2]), tf.constant([5]), blank_index=0)[0]


def test_what_would_run_in_a_loop_and_can_be_recorded_is_exact_element_by_element():
    report = fdfast.gradcheck(ctc, np.linspace(-1, 1, 20).astype(np.float32))
    assert (report.check, report.engine, report.verdict) == ("every", "tape", "pass")


def test_what_would_run_in_a_loop_goes_by_directions():
    calls = []

    def f(x):
        calls.append(1)
        return ctc(x) + tf.math.xlogy(x[0] + 3, 2.0)  # of which a step, however small, may not show how steep it is

    x = np.linspace(-1, 1, 20).astype(np.float32)
    report = fdfast.gradcheck(f, x)
    assert (report.check, report.verdict) == ("directions", "pass")
    assert len(calls) < 20
    with pytest.warns(RuntimeWarning, match="one row after the other"):
        assert fdfast.gradcheck(f, x, check="every").check == "every"
