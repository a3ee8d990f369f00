"""What f computes in decides, not the dtype of x: float32 inside is run in float64, operation by operation."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

L = keras.layers
#: Rows, not the tape's directions, which are in float64 by themselves.
gradcheck = functools.partial(fdfast.gradcheck, check="every")
RNG = np.random.default_rng(0)
X = RNG.uniform(0.05, 0.95, (4, 4, 2))
WEIGHTS = RNG.normal(size=(8, 8, 2))
TARGET = np.array([[0.3, 0.2]])
BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])


def network(*middle: Any, policy: str = "float32") -> Any:
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        stack = [*(one() for one in middle), L.Conv2D(3, 2, activation="tanh"), L.GlobalAveragePooling2D(), L.Dense(2)]
        return keras.Sequential([keras.Input(X.shape), *stack])
    finally:
        keras.config.set_dtype_policy(before)


MODEL = network()
CUSTOM = keras.losses.MeanSquaredError()


def in_float32(x: Any) -> Any:
    """Comes back in what came in."""
    return tf.cast(tf.reduce_sum(tf.tanh(tf.cast(x, tf.float32)) ** 2), x.dtype)


def resized(method: str) -> Any:
    return lambda x: tf.reduce_sum(tf.sin(tf.cast(tf.image.resize(x[None], (8, 8), method), tf.float64)[0] * WEIGHTS))


class Halved:
    """Holds a model, as a callable object."""

    def __init__(self) -> None:
        self.model = MODEL

    def __call__(self, x: Any) -> Any:
        return 0.5 * tf.reduce_sum(self.model(x[None]) ** 2)


FUNCTIONS = {
    "a model and a loss object": lambda x: CUSTOM(TARGET, MODEL(x[None])),
    "a model, an array and NumPy": lambda x: tf.reduce_mean((MODEL(np.expand_dims(x, 0)) - TARGET.astype("f")) ** 2),
    "a callable object": Halved(),
    "a tf.function": tf.function(lambda x: tf.reduce_sum(MODEL(x[None]) ** 2)),
    "a cast inside": in_float32,
    "resize, bilinear": resized("bilinear"),
    "resize, bicubic": resized("bicubic"),
    "resize, nearest": resized("nearest"),
}


def eager(f: Any, x: np.ndarray) -> np.ndarray:
    t = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = f(t)
    return tape.gradient(value, t).numpy().astype(float)


@BOTH
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_callable_passes_and_its_fault_is_found(name: str, dtype: str) -> None:
    f, x = FUNCTIONS[name], X.astype(dtype)
    report = gradcheck(f, x)
    assert (report.verdict, report.coverage, report.counts["kink"], report.dtype) == ("pass", 1.0, 0, "float64")
    np.testing.assert_allclose(
        fdfast.gradient(f, x), report.analytic, rtol=0, atol=1e-7 * np.abs(report.analytic).max()
    )
    if "NumPy" not in name:
        own = eager(f, x)
        # TensorFlow's own gradient, in the precision of f.
        np.testing.assert_allclose(report.analytic, own, rtol=0, atol=1e-5 * np.abs(own).max())
    assert fdfast.gradcheck(f, x).verdict == "pass"  # by whatever costs less
    wrong = report.analytic.copy()
    wrong[1, 2, 0] += 1e-3 * np.abs(wrong).max()
    found = gradcheck(f, x, analytic=wrong)
    assert found.verdict == "fail"
    assert np.argwhere(found.classes == "wrong").tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("digit", range(0, 10, 3))
@BOTH
def test_the_shipped_network_in_a_callable(digit: int, dtype: str) -> None:
    """Ten of ten were accused in float64, and none passed in float32."""
    x, labels = fdfast.datasets.mnist_sample(10)
    model, y = fdfast.datasets.mnist_cnn(), np.eye(10)[labels]
    loss = keras.losses.CategoricalCrossentropy(from_logits=False)
    some = x[digit].astype(dtype)
    report = gradcheck(lambda x: loss(y[digit : digit + 1], model(x[None])), some, tile=2, channels="together")
    assert (report.verdict, report.counts["wrong"]) == ("pass", 0)
    truth = fdfast.gradient(model, x[digit], y=y[digit], loss="categorical_crossentropy", tile=2)
    found = fdfast.gradient(lambda x: loss(y[digit : digit + 1], model(x[None])), some, tile=2)
    cosine = np.sum(found * truth) / np.sqrt(np.sum(found**2) * np.sum(truth**2))
    assert cosine > 1 - 1e-6  # 0.989, 0.662 and 0.000 on digits 3, 5 and 0 where f was left in float32


class Odd(keras.layers.Layer):
    """A layer of which no copy can be made: its configuration does not tell what it computes."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def call(self, x: Any) -> Any:
        return tf.sin(self.by * x)

    def get_config(self) -> Any:
        raise NotImplementedError


MODELS = {
    "no copy": [lambda: Odd(2.0)],
    "Resizing": [lambda: L.Resizing(8, 8)],
    "Resizing, bicubic": [lambda: L.Resizing(8, 8, interpolation="bicubic")],
    "UpSampling2D, bilinear": [lambda: L.UpSampling2D(2, interpolation="bilinear")],
    "a cast in a Lambda": [lambda: L.Lambda(lambda t: tf.cast(tf.sin(tf.cast(t, tf.float32)), t.dtype))],
}


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_float32_in_it_passes(name: str, dtype: str) -> None:
    model = network(*MODELS[name], policy=dtype)
    for _ in range(2):  # the second from what was kept
        report = gradcheck(model, X, TARGET[0], loss="mse")
        assert (report.verdict, report.coverage, report.dtype) == ("pass", 1.0, "float64")
    assert not any("evaluated in float32" in one.lower() for one in report.reasons)
    wrong = report.analytic * np.where(np.arange(X.size).reshape(X.shape) == 5, 1.001, 1.0)
    assert gradcheck(model, X, TARGET[0], loss="mse", analytic=wrong).verdict == "fail"


def test_simulated_quantization_fails_because_f_is_a_staircase() -> None:
    def f(x: Any) -> Any:
        return tf.reduce_sum(tf.quantization.fake_quant_with_min_max_args(tf.cast(x, tf.float32), 0, 1, 4) ** 2)

    report = gradcheck(f, X)
    assert (report.verdict, report.counts["wrong"]) == ("fail", X.size)
    assert not report.numeric.any()


def outside(x: Any) -> Any:
    """Python code, which no float64 form can be made of, and its gradient."""

    @tf.custom_gradient
    def tanh(x: Any) -> Any:
        value = tf.numpy_function(lambda a: np.tanh(a.astype(np.float32)), [x], tf.float32)
        value = tf.ensure_shape(value, x.shape)
        return value, lambda d: tf.cast(d * (1 - value**2), x.dtype)

    return tf.reduce_sum(tanh(x) ** 2)


@BOTH
def test_where_float32_is_all_there_is_nothing_is_accused(dtype: str) -> None:
    report = gradcheck(outside, X.astype(dtype))
    assert report.counts["wrong"] == 0
    assert report.dtype == "float32"
    assert any("computes in float32, and cannot be run in float64" in one for one in report.reasons)
    with pytest.raises(ValueError, match="precision='float64' is out of reach: f computes in float32"):
        gradcheck(outside, X.astype(dtype), precision="float64")
    wrong = 1.2 * (2 * np.tanh(X) * (1 - np.tanh(X) ** 2))
    assert gradcheck(outside, X.astype(dtype), analytic=wrong, rtol=1e-2).verdict == "fail"


@BOTH
def test_precision_says_what_rows_are_computed_in(dtype: str) -> None:
    f = FUNCTIONS["a model and a loss object"]
    for precision, wanted in (("auto", "float64"), ("float64", "float64"), ("float32", "float32")):
        assert gradcheck(f, X.astype(dtype), precision=precision).dtype == wanted


def test_a_weight_that_changed_is_seen() -> None:
    """What is kept of a function reads variables as they are."""
    f = FUNCTIONS["a tf.function"]
    before = fdfast.gradient(f, X)
    kernel = MODEL.layers[-1].kernel
    kept = kernel.numpy()
    try:
        kernel.assign(2 * kept)
        # The bias is zero: outputs are twice as large.
        np.testing.assert_allclose(fdfast.gradient(f, X), 4 * before, rtol=1e-6)
    finally:
        kernel.assign(kept)


def test_control_flow_that_goes_another_way_is_followed() -> None:
    def f(x: Any) -> Any:
        total = tf.reduce_sum(x)
        if total > 16.0:
            return tf.cast(total**2, tf.float32)
        return tf.cast(3 * total, tf.float32)

    x = np.full(X.shape, 0.5 + 1e-9).astype(np.float64)  # 16: half of the rows go the other way
    slopes = fdfast.gradient(f, x, h=0.25)
    total = x.sum()
    wanted = ((total + 0.25) ** 2 - 3 * (total - 0.25)) / 0.5
    np.testing.assert_allclose(slopes, wanted, rtol=1e-12)
