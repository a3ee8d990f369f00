"""JAX's check_grads on TensorFlow functions: what passes, what fails and with which words, and what is refused."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf

from fdfast.compat.jax import check_grads

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 2))
HALF = tf.constant(X, tf.bfloat16)


def test_the_signature_is_jax_s():
    parameters = inspect.signature(check_grads).parameters.values()
    assert [(p.name, p.default) for p in parameters] == [
        ("f", inspect.Parameter.empty),
        ("args", inspect.Parameter.empty),
        ("order", inspect.Parameter.empty),
        ("modes", ("fwd", "rev")),
        ("atol", None),
        ("rtol", None),
        ("eps", None),
    ]


RIGHT = {
    "one argument": (lambda x: tf.sin(x) * x, (X,)),
    "several": (lambda x, y: x @ y, (X, Y)),
    "several outputs": (lambda x: [tf.sin(x), x @ tf.constant(Y, x.dtype)], (X,)),
    "a dict": (lambda p: {"z": tf.tanh(p["a"] @ p["b"])}, ({"a": X, "b": Y},)),
    "a number": (lambda x: x**3, (2.0,)),
    "float32": (lambda x: tf.exp(tf.reduce_sum(x)), (X.astype("float32"),)),
    "half": (lambda x: x * 2, (HALF,)),
    "the same twice": (lambda x, y: x * y, (tf.constant(X),) * 2),
    "linear": (lambda x: 3 * x, (X,)),
    "not traceable": (lambda x: x * float(tf.reduce_sum(x * 0)) + x**2, (X,)),
    "complex": (lambda z: z * z, (X + 1j * X[::-1],)),
    "a tf.function": (tf.function(lambda x: tf.tanh(x)), (X,)),
}


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev"), "rev"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives_pass(name, modes):
    f, args = RIGHT[name]
    check_grads(f, args, 2 if name != "complex" else 1, modes)


def test_of_third_order():
    check_grads(lambda x: tf.sin(x) * x, (X[0],), 3)


@tf.custom_gradient
def doubled(x):
    return x**3, lambda dy: 2 * dy * 3 * x**2


@tf.custom_gradient
def held(x):
    """Right in first order, wrong in second."""
    return x**3, lambda dy: dy * 3 * tf.stop_gradient(x) ** 2


@tf.custom_gradient
def cube_back(x, dy):
    """Right in second order, wrong in third."""

    def grad(d):
        return d * dy * 6 * tf.stop_gradient(x), d * 3 * x**2

    return dy * 3 * x**2, grad


@tf.custom_gradient
def held_twice(x):
    return x**3, lambda dy: cube_back(x, dy)


def part_held(x):
    """Wrong both ways."""
    return tf.stop_gradient(x) * x**2


WRONG = [
    (doubled, 1, ("rev",), "VJP cotangent projection"),
    (doubled, 1, ("fwd", "rev"), "VJP cotangent projection"),
    (part_held, 1, ("fwd",), "JVP tangent"),
    (held, 2, ("rev",), "VJP of VJP cotangent projection"),
    (held, 2, ("fwd", "rev"), "JVP of VJP tangent"),
    (held_twice, 3, ("rev",), "VJP of VJP of VJP cotangent projection"),
]


@pytest.mark.parametrize(("f", "order", "modes", "words"), WRONG)
def test_wrong_derivatives_fail_in_jax_s_words(f, order, modes, words):
    if order > 1:  # the orders below are right
        check_grads(f, (X,), order - 1, modes)
    with pytest.raises(AssertionError, match=words):
        check_grads(f, (X,), order, modes)


def test_one_wrong_element_of_many_is_seen():
    weights = np.ones(10_000)
    weights[1234] = 1.001

    @tf.custom_gradient
    def square(x):
        return x**2, lambda dy: dy * 2 * x * tf.constant(weights)

    x = RNG.normal(size=10_000)
    with pytest.raises(AssertionError, match="VJP cotangent projection"):
        check_grads(square, (x,), 1, atol=1e-8, rtol=1e-8)


def test_tolerances_are_what_is_asked_for():
    check_grads(doubled, (X,), 1, ("rev",), atol=1e3, rtol=1.0)
    check_grads(doubled, (X,), 1, ("rev",), atol={"float64": 1e3}, rtol={np.float64: 1.0})
    with pytest.raises(AssertionError):
        check_grads(doubled, (X,), 1, ("rev",), atol={"float32": 1e3})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check_grads(tf.sin, (X,), 1, ("lin",)), ValueError, "modes must be some of 'fwd' and 'rev'"),
        (lambda: check_grads(tf.sin, (X,), 1, ()), ValueError, "modes must be"),
        (lambda: check_grads(tf.sin, (X,), 0), ValueError, "order must be at least 1, got 0"),
        (lambda: check_grads(tf.gather, (X, np.array([0])), 1), TypeError, "int64, which has no derivative"),
    ],
)
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_remedy_for_integers_works():
    check_grads(lambda x: tf.gather(x, np.array([0])), (X,), 2)
