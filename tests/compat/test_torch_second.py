"""torch's gradgradcheck on TensorFlow functions: what passes, what fails and with which words."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import tensorflow as tf

from fdfast.compat.torch import GradcheckError, gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
X, Y = tf.constant(RNG.normal(size=(2, 3))), tf.constant(RNG.normal(size=(3, 2)))
Z = tf.constant(RNG.normal(size=3) + 1j * RNG.normal(size=3))


def test_the_signature_is_torch_s():
    names = [p.name for p in inspect.signature(gradgradcheck).parameters.values()]
    assert names == [
        *("func", "inputs", "grad_outputs", "eps", "atol", "rtol", "gen_non_contig_grad_outputs", "raise_exception"),
        *("nondet_tol", "check_undefined_grad", "check_grad_dtypes", "check_batched_grad", "check_fwd_over_rev"),
        *("check_rev_over_rev", "fast_mode", "masked"),
    ]
    defaults = {n: p.default for n, p in inspect.signature(gradgradcheck).parameters.items()}
    assert (defaults["eps"], defaults["atol"], defaults["rtol"], defaults["masked"]) == (1e-6, 1e-5, 1e-3, False)


RIGHT = {
    "one input": (lambda x: tf.sin(x) * x, X),
    "two": (lambda x, y: x @ y, (X, Y)),
    "several outputs": (lambda x, y: (tf.sin(x), x @ y, tf.argmax(x)), (X, Y)),
    "linear": (lambda x: 3 * x, X),
    "one that is not connected": (lambda x: (x**2, tf.stop_gradient(x)), X),
    "nothing connected": (lambda x: tf.stop_gradient(tf.round(x)), X),
    "an integer is held": (lambda x, n: tf.gather(x**2, n), (X, tf.constant([0, 0, 1]))),
    "complex": (lambda z: z**2, Z),
    "a variable": (lambda v, x: v * x**2, (tf.Variable(Y[0]), Y)),
}


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_of_gradients_pass(name, forward):
    if forward and name in ("complex", "a variable"):
        pytest.skip("forward mode of TensorFlow takes neither")
    func, inputs = RIGHT[name]
    assert gradgradcheck(func, inputs, check_fwd_over_rev=forward) is True


def of_cube(gradient):
    """x^3, with this as the gradient."""

    @tf.custom_gradient
    def f(x):
        return x**3, lambda dy: gradient(x, dy)

    return f


held = of_cube(lambda x, dy: dy * 3 * tf.stop_gradient(x) ** 2)
upstream_held = of_cube(lambda x, dy: tf.stop_gradient(dy) * 3 * x**2)

WRONG = {
    "x is held": (held, {}, "mismatch for output 0 with respect to input 0"),
    "the gradient upstream is held": (upstream_held, {}, "mismatch for output 0 with respect to input 1"),
    "forward over reverse": (
        held,
        {"check_fwd_over_rev": True, "check_rev_over_rev": False, "check_undefined_grad": False},
        "forward mode mismatch for output 0 with respect to input 0",
    ),
    "fast mode": (held, {"fast_mode": True}, "mismatch for output 0 with respect to input 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_fail_where_the_first_order_passes(name):
    func, options, words = WRONG[name]
    assert gradcheck(func, X)
    with pytest.raises(GradcheckError, match=words):
        gradgradcheck(func, X, **options)
    assert gradgradcheck(func, X, raise_exception=False, **options) is False


def test_gradients_upstream_may_be_given():
    assert gradgradcheck(lambda x: x**3, X, tf.ones_like(X))
    assert gradgradcheck(lambda x: (x**3, x**2), X, (X.numpy(), tf.ones_like(X)))


REFUSED = {
    "no way": ({"check_rev_over_rev": False}, AssertionError, "at least one of check_fwd_over_rev or"),
    "undefined": (
        {"check_rev_over_rev": False, "check_fwd_over_rev": True}, AssertionError,
        "Setting check_undefined_grad=True requires check_rev_over_rev to be True",
    ),
    "batched without": (
        {
            "check_rev_over_rev": False, "check_fwd_over_rev": True, "check_undefined_grad": False,
            "check_batched_grad": True,
        },
        AssertionError, "Setting check_batched_grad=True requires check_rev_over_rev to be True",
    ),
    "batched": ({"check_batched_grad": True}, ValueError, "is not offered"),
    "masked": ({"masked": True}, ValueError, "sparse inputs"),
    "too many": ({"grad_outputs": (X, X)}, ValueError, "grad_outputs has 2 tensors; func has 1 outputs"),
    "another shape": ({"grad_outputs": Y}, ValueError, r"grad_outputs\[0\] has shape \(3, 2\)"),
    "none": ({"grad_outputs": [None]}, ValueError, r"grad_outputs\[0\] has shape None"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_whatever_raise_exception_says(name):
    options, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        gradgradcheck(lambda x: x**2, X, raise_exception=False, **options)


def test_float32_is_warned_of_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradgradcheck(lambda x: x * 2, tf.cast(X, tf.float32), eps=1e-2, atol=1e-2, rtol=1e-2)
    assert len([one for one in caught if "double precision" in str(one.message)]) == 1
