"""NumPy functions on the tensors of a trace: TensorFlow's own of the same name, as long as the trace lasts."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.tape.dispatch import _NAMES, _symbolic, numpy_calls

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, 2))


def traced(f, x):
    """What f returns in a trace, and the NumPy functions that it called there."""
    function = tf.function(f, input_signature=[tf.TensorSpec(x.shape, x.dtype)], autograph=False)
    with numpy_calls() as called:
        concrete = function.get_concrete_function()
    return concrete(tf.constant(x)).numpy(), list(called)


#: Functions of x (3, 4), positive; the names that are noted, and how many rounding units of the largest value they may
#: differ by from NumPy's: none where nothing is computed, 8 where 12 numbers are added up in another order.
CASES = {
    "expand_dims": (lambda x: np.expand_dims(x, axis=0), ["expand_dims"], 0),
    "reshape": (lambda x: np.reshape(x, (2, -1)), ["reshape"], 0),
    "transpose": (np.transpose, ["transpose"], 0),
    "concatenate": (lambda x: np.concatenate([x, x], axis=1), ["concatenate"], 0),
    "where": (lambda x: np.where(x > 0.5, x, 0.0), ["where"], 0),
    "clip": (lambda x: np.clip(x, 0.25, 0.5), ["clip"], 0),
    "maximum": (lambda x: np.maximum(x, 0.5), ["maximum"], 0),
    "take": (lambda x: np.take(x, [2, 0], axis=0), ["take"], 0),
    "newaxis": (lambda x: x[np.newaxis], [], 0),
    "shape": (lambda x: x * np.shape(x)[1] * np.ndim(x), [], 0),
    "a number on the left": (lambda x: np.float32(2.0) * x, [], 0),
    "an array on the left": (lambda x: np.arange(12, dtype=x.dtype.name).reshape(3, 4) - x, [], 0),
    "an array in a product": (lambda x: WEIGHTS.astype(x.dtype.name).T @ tf.transpose(x), [], 8),
    "exp": (lambda x: np.exp(x), ["exp"], 8),
    "square and sum": (lambda x: np.sum(np.square(x)), ["square", "sum"], 8),
    "mean": (lambda x: np.mean(x, axis=1), ["mean"], 8),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, x), ["einsum"], 8),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_dtypes_are_numpy_s(name, dtype):
    f, names, units = CASES[name]
    x = RNG.uniform(0.1, 1, (3, 4)).astype(dtype)
    got, called = traced(f, x)
    wanted = np.asarray(f(tf.constant(x)))
    assert (called, got.dtype, got.shape) == (names, np.dtype(dtype), wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=units * np.finfo(dtype).eps * np.abs(wanted).max())


@pytest.mark.parametrize("f", [np.median, np.add.reduce, np.asarray, np.linalg.det], ids=lambda f: f.__name__)
def test_what_tensorflow_has_not_is_refused_as_before(f):
    with pytest.raises((TypeError, NotImplementedError)):
        traced(f, np.eye(3))


def untouched():
    return not any(name in vars(_symbolic()) for name in _NAMES)


def test_the_class_of_tensors_is_as_it_was_whatever_happens():
    def interrupted():
        with numpy_calls() as outer:
            with numpy_calls() as inner, tf.Graph().as_default():
                assert not untouched()
                np.ravel(tf.ones([2, 2]))
            assert (inner, outer) == (["ravel"], [])
            assert not untouched()  # the outer trace goes on
            raise ZeroDivisionError

    assert untouched()
    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert untouched()


def test_other_threads_and_eager_tensors_see_nothing_of_it():
    found = []

    def elsewhere():
        with tf.Graph().as_default():
            one = tf.ones([2])
            for call in (lambda: np.ravel(one), lambda: np.exp(one)):
                with pytest.raises(NotImplementedError, match="symbolic"):
                    call()
            found.append((np.ones(2, np.float32) + one).shape)
        found.append(type(np.ravel(tf.ones([2]))))

    with numpy_calls() as called:
        worker = threading.Thread(target=elsewhere)
        worker.start()
        worker.join()
        assert type(np.ravel(tf.ones([2]))) is np.ndarray
    assert (found, called) == ([(2,), np.ndarray], [])


@pytest.mark.parametrize("batched", [False, True])
def test_the_gradient_is_that_of_the_trace_and_a_note_says_so(batched):
    """Called eagerly the function returns right values, and its gradient is cut off: zeros, if one took it."""
    x = RNG.normal(size=(2, 5) if batched else (5,))

    def f(x):
        return tf.reduce_sum(tf.sin(np.expand_dims(x, axis=-1)) ** 2, axis=[1, 2] if batched else None)

    report = fdfast.gradcheck(f, x, batched=batched)
    assert (report.verdict, report.coverage) == ("pass", 1.0)
    np.testing.assert_allclose(report.analytic, np.sin(2 * x), rtol=1e-12)
    assert any("expand_dims became TensorFlow's own" in note for note in report.reasons)
    # The control: half of the gradient.
    assert fdfast.gradcheck(f, x, batched=batched, analytic=np.sin(2 * x) / 2).verdict == "fail"


def test_a_jacobian_takes_them_too():
    x = RNG.normal(size=4)
    found = fdfast.jacobian(lambda x: tf.sin(np.reshape(x, (2, 2))), x)
    np.testing.assert_allclose(found.reshape(4, 4), np.diag(np.cos(x)), atol=1e-8)  # h^2 / 6 of central differences
