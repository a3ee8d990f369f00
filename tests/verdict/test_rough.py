"""Noise that is a function of x: a right gradient is not accused, and a wrong one is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

X = np.random.default_rng(0).uniform(0.2, 1.8, size=5)
TABLE = tf.constant(np.random.default_rng(3).uniform(-1, 1, size=4099))
WAYS = {
    "by itself": {},
    "batch": {"check": "every", "engine": "batch"},
    "tape": {"check": "every", "engine": "tape"},
    "directions": {"check": "directions"},
}


def smooth(x):
    return tf.reduce_sum(tf.sin(x) * tf.range(1, 6, dtype=x.dtype))


def hashed(x):
    residue = tf.sin(x * 12989.8) * 43758.5453
    return tf.reduce_sum(residue - tf.floor(residue) - 0.5)


def drawn(x):
    """A number from a generator that x is the seed of."""
    seed = tf.bitcast(tf.reduce_sum(x * tf.range(1, 6, dtype=x.dtype)), tf.int32)
    return tf.random.stateless_uniform([], seed, -1, 1, dtype=tf.float64)


def looked_up(x):
    place = tf.math.floormod(tf.cast(tf.floor(x * 2.0**30), tf.int64), 4099)
    return tf.reduce_sum(tf.gather(TABLE, place))


def added(noise):
    return lambda size: lambda x: smooth(x) + tf.stop_gradient(size * noise(x))


def steps_of_x(size):
    return lambda x: smooth(x + tf.stop_gradient(tf.round(x / size) * size - x))


def steps_of_f(size):
    def f(x):
        value = smooth(x)
        return value + tf.stop_gradient(tf.round(value / size) * size - value)

    return f


#: Functions that are smooth but for noise of a given size; their gradient is that of the smooth part.
NOISY = {
    "hash": added(hashed),
    "random numbers": added(drawn),
    "table": added(looked_up),
    "quantized x": steps_of_x,
    "quantized f": steps_of_f,
}


#: What is quantized in steps of 1e-3 is a staircase: see `test_a_staircase_with_wide_steps_is_a_fault`.
SIZES = [(name, size) for name in NOISY for size in (1e-13, 1e-9, 1e-6, 1e-4 if "quantized" in name else 1e-3)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_a_right_gradient_is_not_accused(name, size, way):
    report = fdfast.gradcheck(NOISY[name](size), X, **WAYS[way])
    assert report.verdict in ("pass", "inconclusive"), str(report)
    assert not np.any(report.classes == "wrong")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1e-13, 1e-9, 1e-6])
@pytest.mark.parametrize("name", NOISY)
def test_a_wrong_gradient_is_not_excused(name, size, way):
    """Off by 0.3 x: what the noise leaves over the widest step is 8 1e-6 / 2**-8 / 3 = 7e-4 at most."""
    noisy = NOISY[name](size)
    report = fdfast.gradcheck(lambda x: noisy(x) + 0.3 * detached(tf.reduce_sum(x**2)), X, **WAYS[way])
    if size < 1e-6:  # larger noise may hide it from exact differences, and leaves it open
        assert report.verdict == "fail", str(report)
    assert not report, str(report)


def detached(value):
    """Nothing, with the gradient of a value."""
    return value - tf.stop_gradient(value)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("hash", "by itself"),
        ("hash", "tape"),
        ("quantized x", "by itself"),
        ("quantized x", "tape"),
        ("quantized x", "directions"),
    ],
)
def test_it_is_said(name, way):
    said = " ".join(str(fdfast.gradcheck(NOISY[name](1e-7), X, **WAYS[way])).split())
    assert "right at x the slope of f is noise" in said


@pytest.mark.parametrize("way", WAYS)
def test_what_is_wider_than_the_steps_is_a_slope(way):
    """A ripple of period 0.06 that the gradient leaves out is a fault, not noise."""
    f = lambda x: smooth(x) + tf.stop_gradient(1e-3 * tf.reduce_sum(tf.sin(100 * x)))  # noqa: E731
    assert fdfast.gradcheck(f, X, **WAYS[way]).verdict == "fail"


@pytest.mark.parametrize("way", WAYS)
def test_a_staircase_with_wide_steps_is_a_fault(way):
    """Of 8-bit pixels: over a step of x that goes straight through, f does not move at all."""
    assert fdfast.gradcheck(steps_of_x(1 / 255), X, **WAYS[way]).verdict == "fail"


@pytest.mark.parametrize(
    "options", [{"wrt": "weights", "check": "every"}, {"wrt": "weights"}, {"wrt": "all"}], ids=["every", "auto", "all"]
)
def test_noise_of_weights(options):
    class Noisy(keras.layers.Dense):
        def call(self, x):
            kernel = tf.convert_to_tensor(self.kernel)
            return x @ (kernel + tf.stop_gradient(tf.round(kernel / 1e-7) * 1e-7 - kernel))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), Noisy(3, use_bias=False, dtype="float64")])
    model.compile(loss="mse")
    x, y = np.random.default_rng(1).normal(size=(2, 4)), np.ones((2, 3))
    report = fdfast.gradcheck(model, x, y, **options)
    assert report.verdict in ("pass", "inconclusive"), str(report)


# By directions, x[1, 2] sits on a kink, and is judged near it, where f is finite.
@pytest.mark.parametrize("side", ["+", "-"])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "directions"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_f_is_not_finite_is_named(value, way, side):
    """On one side of x[1, 2] f is no number: which element and which side is said."""
    x = np.arange(1.0, 7.0).reshape(2, 3) / 8
    beyond = (lambda e: e > x[1, 2]) if side == "+" else (lambda e: e < x[1, 2])

    def f(x):
        return tf.reduce_sum(tf.sin(x)) + tf.where(beyond(x[1, 2]), tf.constant(value, x.dtype), tf.zeros([], x.dtype))

    report = fdfast.gradcheck(f, x, **WAYS[way])
    assert np.argwhere(report.classes == "singular").tolist() == [[1, 2]], str(report)
    assert f"f is not finite at x[1, 2] {side} h, however small h is" in " ".join(str(report).split())
    with pytest.raises(ValueError, match=rf"at \(1, 2\): .*{value} at \{side}[0-9]"):
        fdfast.gradient(f, x, engine="batch")
