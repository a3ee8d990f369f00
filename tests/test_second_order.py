"""The check of second order: faults that the first does not show, kinks, what TensorFlow cannot do, the report."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 4))
A, B = (RNG.normal(size=(4, 4)) for _ in range(2))


def check(f, x, *args, **options):
    return fdfast.gradcheck(f, x, *args, order=2, check="directions", **options)


def said(report):
    return " ".join(str(report).split())


#: Functions of a square, whose gradient is right.
FORWARD = {
    "swish": lambda x: x * tf.sigmoid(x),
    "softplus": tf.nn.softplus,
    "bell": lambda x: tf.exp(-tf.square(x)),
    "linear": lambda x: x @ tf.constant(A, x.dtype),
    "rows": lambda x: x / tf.norm(x, axis=-1, keepdims=True),
    "attention": lambda x: tf.nn.softmax(x @ tf.linalg.matrix_transpose(x)) @ x,
}
#: What becomes of the gradient of that gradient.
FAULTS = {
    "none": lambda g: g,
    "stopped": tf.zeros_like,
    "scaled": lambda g: 1.001 * g,
    "turned": lambda g: -g,
    "transposed": tf.linalg.matrix_transpose,
    "shifted": lambda g: tf.roll(g, 1, -1),
}


def planted(forward, wrong):
    """A function with a gradient written by hand, itself with one written by hand, which is wrong."""

    def pull(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = forward(x)
        return tape.gradient(y, x, dy)

    @tf.custom_gradient
    def backward(x, dy):
        def grad(d):
            with tf.GradientTape() as tape:
                tape.watch([x, dy])
                found = pull(x, dy)
            gradients = tape.gradient(found, [x, dy], d, unconnected_gradients="zero")
            return [wrong(g) for g in gradients]

        return pull(x, dy), grad

    @tf.custom_gradient
    def function(x):
        return forward(x), lambda dy: backward(x, dy)

    return function


def scalar(function):
    def f(x):
        y = function(tf.tanh(x @ tf.constant(B, x.dtype)))
        return tf.reduce_sum(tf.sin(y) * tf.constant(A, x.dtype))

    return f


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FORWARD)
def test_planted_faults_are_found_and_named(name, fault):
    report = check(scalar(planted(FORWARD[name], FAULTS[fault])), X)
    assert report.verdicts[0] == "pass"
    if fault == "none":
        assert report.verdict == "pass"
        assert report.culprit is None
        assert "first and second order right" in said(report)
        return
    assert report.verdicts == ["pass", "fail"]
    assert report.culprit == "backward"
    assert "first order right, second order wrong in backward" in said(report)


class Swish(L.Layer):
    """x sigmoid(x), with a gradient written by hand, in which part is a constant."""

    def __init__(self, hold=tf.identity, **options):
        super().__init__(**options)

        @tf.custom_gradient
        def my_swish(x):
            s = tf.sigmoid(x)
            return x * s, lambda dy: dy * (s + x * s * (1 - hold(s)))

        self.function = my_swish

    def call(self, x):
        return self.function(x)


def model(hold=tf.identity):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            L.Conv2D(3, 3, name="conv"),
            Swish(hold, name="swish"),
            L.Flatten(),
            L.Dense(2, "softmax", name="out"),
        ],
        name="net",
    )


IMAGE, TARGET, LOSS = RNG.normal(size=(6, 6, 2)), np.array([0.0, 1.0]), "categorical_crossentropy"


@pytest.mark.parametrize("wrt", ["input", "weights", "all", "conv/kernel"])
def test_a_layer_is_named(wrt):
    assert check(model(), IMAGE, TARGET, loss=LOSS, wrt=wrt).verdicts == ["pass", "pass"]
    report = check(model(tf.stop_gradient), IMAGE, TARGET, loss=LOSS, wrt=wrt)
    assert report.verdicts == ["pass", "fail"]
    assert report.culprit == "swish"
    assert "Wrong in swish (the gradient of the gradient written by hand in my_swish)" in said(report)


def test_what_the_report_says_in_all_its_forms(tmp_path):
    report = fdfast.gradcheck(model(tf.stop_gradient), IMAGE, TARGET, loss=LOSS, order=2)
    data = json.loads(report.to_json())
    assert (data["verdict"], data["verdicts"], data["culprit"]) == ("fail", ["pass", "fail"], "swish")
    assert data["second"]["counts"]["wrong"] == 72
    page = report.to_html()
    assert "First order right, second order wrong in swish" in page
    assert "the second derivative differs from the finite difference" in page
    assert "second order wrong in swish" in report._repr_html_()
    report.plot(tmp_path / "second.png")
    assert not report
    with pytest.raises(AssertionError, match="second order wrong in swish"):
        fdfast.assert_gradcheck(model(tf.stop_gradient), IMAGE, TARGET, loss=LOSS, order=2, check="directions")


def test_a_batch_has_a_report_for_every_example():
    x, y = RNG.normal(size=(3, 6, 6, 2)), np.eye(2)[[0, 1, 0]]
    report = check(model(tf.stop_gradient), x, y, loss=LOSS)
    assert report[1].verdicts == ["pass", "fail"]
    assert report[1].second.total == 72


@pytest.mark.parametrize("first", [1.0, 1.1])
def test_a_wrong_first_order_does_not_hide_that_the_second_is_its_derivative(first):
    @tf.custom_gradient
    def cube(x):
        return x**3, lambda dy: dy * first * 3 * x**2

    report = fdfast.gradcheck(lambda x: tf.reduce_sum(cube(x)), np.array([0.5, -1.0, 2.0]), order=2)
    assert report.verdicts == ["pass" if first == 1 else "fail", "pass"]


KINKS = {
    "a ramp at zero": (lambda x: tf.reduce_sum(tf.nn.relu(x) * tf.sin(x + 1)), np.array([0.0, 1.0, -1.0, 0.5])),
    "a ramp squared": (lambda x: tf.reduce_sum(tf.nn.relu(x) ** 2), np.array([0.0, 1.0, -1.0, 0.5])),
    "a size": (lambda x: tf.reduce_sum(tf.abs(x) * x**2), np.array([0.0, 1.0, -1.0, 0.5])),
    "equal cells of a pool": (
        lambda x: tf.reduce_sum(tf.nn.max_pool2d(tf.reshape(x, [1, 4, 4, 1]), 2, 2, "SAME") ** 3),
        np.repeat([1.0, 2.0], 8) + np.arange(16) % 3,
    ),
    "the larger one": (lambda x: tf.reduce_sum(tf.maximum(x, x[::-1]) ** 2), np.array([1.0, 2.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_of_the_gradient_are_no_faults(name):
    f, x = KINKS[name]
    report = check(f, x)
    assert report.second.verdict == "pass"
    if name not in ("a ramp squared", "a size"):
        assert report.second.near.any()
        assert "the gradient itself jumps or bends" in said(report.second)


def test_beside_kinks_a_fault_is_found_all_the_same():
    f = planted(FORWARD["swish"], FAULTS["scaled"])
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(tf.sin(f(tf.nn.relu(x)))), np.maximum(X, 0), order=2)
    assert report.verdicts[1] == "fail"
    assert report.culprit == "backward"


def test_a_linear_function_has_none_and_that_is_right():
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(x * tf.constant(A, x.dtype)), X, order=2)
    assert report.verdicts == ["pass", "pass"]
    # Of what f does not depend on at all nothing is learnt.
    nothing = fdfast.gradcheck(lambda x: 0 * tf.reduce_sum(x), X, order=2)
    assert nothing.verdicts == ["inconclusive", "inconclusive"]


NOT_TWICE = {
    "ResizeNearestNeighborGrad": lambda x: tf.reduce_sum(tf.image.resize(x, [5, 5], "nearest") ** 2),
    "ResizeBicubicGrad": lambda x: tf.reduce_sum(tf.image.resize(x, [5, 5], "bicubic") ** 2),
    "LRNGrad": lambda x: tf.reduce_sum(tf.nn.lrn(x[None], 1) ** 2),
}


@pytest.mark.parametrize("kind", NOT_TWICE)
def test_what_tensorflow_cannot_differentiate_twice_is_named(kind):
    x = RNG.normal(size=(3, 3, 2)).astype("float32")
    report = check(NOT_TWICE[kind], x)
    assert report.verdict == "inconclusive"
    assert f"The second order was not checked: TensorFlow cannot differentiate {kind}" in said(report)
    # The remedy that is named.
    product = fdfast.hvp(NOT_TWICE[kind], x, np.ones(x.shape))
    assert np.isfinite(product.value).all()
    assert product.value.any()


def normalised(x):
    mean, variance = tf.nn.moments(x, [1], keepdims=True)
    return (x - mean) / tf.sqrt(variance)


def written_out(x):
    mean = tf.reduce_mean(x, 1, keepdims=True)
    return (x - mean) / tf.sqrt(tf.reduce_mean(tf.square(x - mean), 1, keepdims=True))


def test_moments_of_tensorflow_are_wrong_in_second_order_and_the_remedy_is_right():
    report = check(lambda x: tf.reduce_sum(tf.sin(normalised(x)) * tf.constant(A, x.dtype)), X)
    assert report.verdicts == ["pass", "fail"]
    assert report.culprit == "moments/StopGradient"
    assert check(lambda x: tf.reduce_sum(tf.sin(written_out(x)) * tf.constant(A, x.dtype)), X).verdict == "pass"
    # TensorFlow itself: of the variance of two numbers, whose Hessian is [[1, -1], [-1, 1]] / 2.
    x = tf.constant([1.0, 3.0], tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            variance = tf.nn.moments(x, [0])[1]
        slope = inner.gradient(variance, x)
    np.testing.assert_allclose(outer.jacobian(slope, x, experimental_use_pfor=False), np.eye(2))
    np.testing.assert_allclose(
        fdfast.hessian(lambda x: tf.nn.moments(x, [0])[1], x.numpy()).value, [[0.5, -0.5], [-0.5, 0.5]]
    )


def test_what_tensorflow_drops_without_a_word_is_named():
    def f(x):
        return tf.reduce_sum(tf.image.resize(x, [3, 3]) ** 2)

    x = RNG.normal(size=(1, 4, 4, 1)).astype("float32")
    report = check(f, x)
    assert report.verdicts == ["pass", "fail"]
    assert "TensorFlow has declared ResizeBilinearGrad as not differentiable" in said(report)
    # The remedy: f is a square, so its Hessian times x is its gradient.
    slope = fdfast.gradient(f, x, engine="tape")
    np.testing.assert_allclose(fdfast.hvp(f, x, x).value, slope, rtol=1e-12)


def test_a_layer_that_detaches_is_told_so():
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((4, 6)), L.LayerNormalization(name="norm"), L.Flatten(), L.Dense(2)])
    report = check(net, RNG.normal(size=(4, 6)), np.zeros(2), loss="mse")
    assert report.verdicts == ["pass", "fail"]
    assert report.culprit == "norm"
    assert "norm: part of it is detached (tf.stop_gradient)" in said(report)


def test_python_code_has_no_second_order_to_follow():
    def f(x):
        return tf.ensure_shape(tf.py_function(lambda t: tf.reduce_sum(t**2), [x], tf.float64), [])

    report = fdfast.gradcheck(f, X, order=2)
    assert report.verdicts == ["pass", "inconclusive"]
    assert "runs Python code" in said(report)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"order": 3}, ValueError, "order must be 1 or 2, got 3"),
        ({"order": 2, "analytic": 2 * X}, TypeError, "leave analytic= out"),
    ],
)
def test_refused(options, error, words):
    with pytest.raises(error, match=words):
        fdfast.gradcheck(lambda x: tf.reduce_sum(x**2), X, **options)


#: With plateaus, on which what a ramp gives is exactly its limit.
PLATEAUS = {
    **{name: getattr(tf.nn, name) for name in ("relu6", "elu", "selu", "softplus", "crelu")},
    **{name: getattr(keras.activations, name) for name in ("hard_sigmoid", "hard_swish", "hard_tanh", "soft_shrink")},
    "relu with a limit": lambda x: keras.activations.relu(x, max_value=5.0, threshold=1.0, negative_slope=0.1),
    "clipped": lambda x: tf.clip_by_value(x, -1, 3),
    "clipped norm": lambda x: tf.clip_by_norm(x, 3.0),
    "huber": lambda x: keras.losses.huber(tf.zeros_like(x), x),
    "hinge": lambda x: keras.losses.squared_hinge(tf.ones_like(x), x),
}


@pytest.mark.parametrize("name", PLATEAUS)
def test_units_on_a_plateau_are_right_in_both_orders(name):
    f, x = PLATEAUS[name], np.array([[-20.0, -8.0, -2.3, -0.4], [0.4, 2.5, 6.5, 20.0]])
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(tf.sin(f(x)) + f(x) ** 2), x, order=2)
    assert report.verdicts == ["pass", "pass"]
