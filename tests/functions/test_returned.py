"""What f, a loss or a hand-written gradient returns: each kind has its own words, and the remedy named works."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

import fdfast

X = np.linspace(0.1, 0.9, 3)
CALLS = {
    "gradient": fdfast.gradient,
    "estimate": fdfast.estimate,
    "gradcheck": fdfast.gradcheck,
    "directions": lambda f, x: fdfast.gradcheck(f, x, check="directions"),
    "directional": lambda f, x: fdfast.directional(f, x, np.ones(3)),
    "batched": lambda f, x: fdfast.gradient(f, x, batched=True),
    "tape": lambda f, x: fdfast.gradient(f, x, engine="tape"),
}


class Scaled:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return tf.reduce_sum(x * self.by)


def narrow(x):
    return tf.reduce_sum(x * tf.constant([1.0, 2.0, 3.0]))


#: name: (f, words)
RETURNED = {
    "nothing": (lambda x: None, "f returns None; it must return its value: is there a `return`?"),
    "print": (print, "f returns None; it must return its value"),
    "a word": (lambda x: "high", "f returns 'high'; it must return floating-point values, got str"),
    "an object": (lambda x: np.array([None]), "f returns array([None], dtype=object); it must return floating-point"),
    "a data set": (tf.data.Dataset.from_tensors, "it must return floating-point values, got _TensorDataset"),
    "whole numbers": (lambda x: tf.cast(tf.reduce_sum(x), tf.int32), "f returns int32; it must return floating-point"),
    "a question": (lambda x: tf.reduce_sum(x) > 0, "f returns bool; it must return floating-point values"),
    "complex": (lambda x: tf.reduce_sum(tf.cast(x, tf.complex128)), "f returns complex128; it must return real values"),
    "complex array": (lambda x: np.sum(np.asarray(x) + 0j), "f returns complex128; it must return real values"),
    "sparse": (
        tf.sparse.from_dense,
        "f returns a SparseTensor; it must return dense values: return tf.sparse.to_dense",
    ),
    "a class": (Scaled, "f is the class Scaled, which makes objects: pass an object of it, or a function of x"),
    "float32": (narrow, "f takes float32, and x is float64"),
}


# NumPy warns where the tape takes a complex value for a number; the error comes after that.
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", RETURNED)
def test_what_has_no_derivative_is_named(name, call):
    f, words = RETURNED[name]
    with pytest.raises(TypeError, match=re.escape(words)):
        CALLS[call](f, X)


def test_ragged_values_are_named():
    with pytest.raises(TypeError, match=r"f returns a RaggedTensor; it must return dense values: return value.to_ten"):
        fdfast.gradient(lambda x: tf.RaggedTensor.from_row_lengths(x, [1, 2]), X)


@pytest.mark.parametrize("call", ["gradient", "estimate", "batched", "tape"])
@pytest.mark.parametrize("make", [lambda x: {"a": x, "b": x}, lambda x: [x, x]])
def test_several_values_are_named_and_are_checked_together(make, call):
    def f(x):
        return make(tf.reduce_sum(x**2))

    with pytest.raises(ValueError, match=r"f must return a scalar; it returned a (dict of 2|list of 2)\. Return one"):
        CALLS[call](f, X)
    assert fdfast.gradcheck(f, X, check="directions")
    assert fdfast.gradcheck(f, X)


REMEDIES = {
    "real part": lambda: fdfast.gradcheck(lambda x: tf.math.real(tf.reduce_sum(tf.cast(x, tf.complex128))), X),
    "dense": lambda: fdfast.gradcheck(lambda x: tf.reduce_sum(tf.sparse.to_dense(tf.sparse.from_dense(x))), X),
    "an object": lambda: fdfast.gradcheck(Scaled(2.0), X),
    "x in float32": lambda: fdfast.gradcheck(narrow, X.astype("float32")),
    "x in float32, directions": lambda: fdfast.gradcheck(narrow, X.astype("float32"), check="directions"),
    "cast": lambda: fdfast.gradcheck(lambda x: narrow(tf.cast(x, tf.float32)), X),
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_remedies_work(remedy):
    report = REMEDIES[remedy]()
    assert report, str(report)


def test_a_constant_of_python_is_a_value():
    np.testing.assert_array_equal(fdfast.gradient(lambda x: 1, X), np.zeros(3))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "got NoneType"),
        ("a", "got str"),
        (np.array([None] * 3), "got dtype object"),
        (X * 1j, "got dtype complex128"),
        (X > 0, "got dtype bool"),
    ],
)
@pytest.mark.parametrize("check", ["every", "directions"])
def test_a_gradient_of_the_callers_own_must_be_of_real_numbers(returned, words, check):
    with pytest.raises(TypeError, match=f"analytic must return an array of real numbers, {words}"):
        fdfast.gradcheck(lambda x: tf.reduce_sum(x**2), X, analytic=lambda x: returned, check=check)


@pytest.mark.parametrize("call", ["gradient", "gradcheck", "directions", "batched", "tape"])
def test_an_error_of_the_callers_own_comes_through_with_its_place(call):
    def f(x):
        return [][3]

    with pytest.raises(IndexError, match="list index out of range") as caught:
        CALLS[call](f, X)
    assert caught.traceback[-1].name == "f"
