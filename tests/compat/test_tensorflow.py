"""`compute_gradient` side by side with TensorFlow's own: results, dtypes, orders, errors; and `patch`."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import types
import weakref

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import gradient_checker_v2

from fdfast.compat import eager
from fdfast.compat import tensorflow as compat
from fdfast.compat.tensorflow import compute_gradient, max_error, patch

ORIGINAL = gradient_checker_v2.compute_gradient


def normal(*shape, dtype="float32"):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def turning(*shape):
    return (normal(*shape) + 1j * normal(*shape)[::-1]).astype("complex64")


def second_order(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.sin(x) * x)
    return tape.gradient(y, x)


@tf.function
def compiled(x):
    y = tf.zeros_like(x)
    for i in tf.range(3):
        y += tf.sin(x * tf.cast(i, x.dtype))
    return y


@tf.custom_gradient
def twice_too_large(x):
    return x * 3, lambda upstream: 6 * upstream


def through_numpy(x):
    return tf.py_function(lambda v: v.numpy() ** 2, [x], x.dtype)


def through_python(x):
    return tf.py_function(lambda v: v**2, [x], x.dtype)


def asks(x):
    return x * 2 if float(tf.reduce_sum(x)) > 0 else x * 3


def dropped(x):
    return tf.nn.relu(x)[:0]


# name: (f, arguments, delta)
CASES = {
    "identity": (lambda x: x, [normal(3)], None),
    "scalar": (lambda x: x**3, [2.0], None),
    "scalar of a matrix": (tf.reduce_sum, [normal(3, 4)], None),
    "two arguments": (tf.matmul, [normal(3, 4), normal(4, 2)], None),
    "tuple": (lambda a: a * 2, (normal(3),), None),
    "python numbers": (tf.sin, [[0.5, 1.5]], None),
    "delta": (tf.sin, [normal(4)], 1e-2),
    "delta as a NumPy scalar": (tf.sin, [normal(4)], np.float64(1e-2)),
    "float64": (tf.tanh, [normal(3, 4, dtype="float64")], 1e-6),
    "float16": (tf.tanh, [normal(3, 4, dtype="float16")], None),
    "bfloat16": (tf.tanh, [normal(3, 4).astype(ml_dtypes.bfloat16)], 2.0**-4),
    "bfloat16 with a delta that it rounds": (lambda x: x * 3, [normal(3).astype(ml_dtypes.bfloat16)], 0.1),
    "float16 to float32": (lambda x: tf.cast(x, tf.float32) ** 2, [normal(3, dtype="float16")], None),
    "float32 and float64": (lambda a, b: tf.cast(a, tf.float64) * b, [normal(3), normal(3, dtype="float64")], None),
    "complex": (lambda z: z * z * tf.math.conj(z), [turning(3)], None),
    "complex128": (tf.exp, [turning(2, 2).astype("complex128")], None),
    "complex to real": (tf.abs, [turning(2, 2)], None),
    "real to complex": (lambda x: tf.complex(x, 2 * x), [normal(3)], None),
    "fft": (tf.signal.fft, [turning(6)], None),
    "no dependence": (lambda a, b: tf.identity(a), [normal(2), normal(3)], None),
    "stopped": (tf.stop_gradient, [normal(3)], None),
    "an array, not a tensor": (lambda a: np.ones(3, "float32"), [normal(2)], None),
    "a variable": (lambda a: tf.Variable([1.0, 2.0]) * a, [normal(2)], None),
    "empty output": (lambda x: x[:0], [normal(3)], None),
    "empty output, no gradient in between": (dropped, [normal(3, 2)], None),
    "empty input": (lambda x: tf.reduce_sum(x) + tf.ones(2), [normal(0, 3)], None),
    "both empty": (lambda x: x * 2, [normal(0, 3)], None),
    "sparse gradient": (lambda x: tf.gather(x, [0, 2, 0]), [normal(4, 2)], None),
    "sparse gradient, scaled": (lambda x: tf.gather(x, [1, 1]) ** 2, [normal(3, 2, dtype="float64")], None),
    "embedding": (lambda x: tf.nn.embedding_lookup(x, [[0, 1], [1, 1]]), [normal(3, 2)], None),
    "second order": (second_order, [normal(3)], None),
    "compiled, with a loop": (compiled, [normal(4)], None),
    "wrong custom gradient": (twice_too_large, [normal(3)], None),
    "Python inside, gradient once": (through_python, [normal(3)], None),
    "a branch on a value": (asks, [normal(3)], None),
    "NaN": (tf.sqrt, [np.float32([-1.0, 0.0, 1.0])], None),
    "infinite": (lambda x: x * 2, [np.float32([1.0, np.inf])], None),
    "no convolution over batches of kernels": (
        lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
        [normal(1, 5, 5, 2), normal(3, 3, 2, 2)],
        None,
    ),
    "no batched form": (lambda x: tf.image.resize(x, (5, 5)), [normal(1, 3, 3, 2)], None),
    "many rows": (lambda x: tf.cumsum(x * x), [normal(200)], None),
}


def outcome(function, f, x, delta):
    """What a function returns; or its exception."""
    with np.errstate(all="ignore"):
        try:
            return function(f, x, delta)
        except Exception as error:
            return error


def assert_alike(mine, theirs, f, x, delta):
    """Same structure, shapes and dtypes; same numbers to rounding."""
    if isinstance(theirs, Exception):
        assert type(mine) is type(theirs), mine
        return
    assert not isinstance(mine, Exception), mine
    assert type(mine) is type(theirs) is tuple
    value = np.asarray(f(*map(tf.convert_to_tensor, x)))
    for side, (ours, other) in enumerate(zip(mine, theirs, strict=True)):
        assert type(ours) is type(other) is tuple
        for a, b in zip(ours, other, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            wide, exact = a.astype(np.float64), b.astype(np.float64)
            unit = max(float(ml_dtypes.finfo(d).eps) for d in (a.dtype, value.real.dtype))
            finite = np.abs(exact[np.isfinite(exact)]).max(initial=1.0)
            # Autodiff: order of additions. Numerical: some units in the last place of f, divided by 2 delta.
            size = np.abs(value[np.isfinite(value)].astype(np.complex128)).max(initial=1.0)
            limit = 20 * unit * (finite if side == 0 else size / (delta or 2.0**-10))
            np.testing.assert_allclose(wide, exact, rtol=0, atol=limit)


@pytest.fixture(params=["chosen", "together", "one by one"])
def route(request, monkeypatch):
    """Every way to evaluate, whatever is estimated to be faster."""
    if request.param != "chosen":
        for name in ("FEW_CALLS", "FEW_PASSES"):
            monkeypatch.setattr(eager, name, 0 if request.param == "together" else 10**9)
    return request.param


@pytest.mark.parametrize("name", CASES)
def test_side_by_side(name, route):
    f, x, delta = CASES[name]
    theirs = outcome(ORIGINAL, f, x, delta)
    kept = [np.array(v) for v in x]
    assert_alike(outcome(compute_gradient, f, x, delta), theirs, f, x, delta)
    assert_alike(outcome(compute_gradient, f, x, delta), theirs, f, x, delta)  # as it is remembered
    assert all(np.array_equal(v, k, equal_nan=True) for v, k in zip(map(np.asarray, x), kept, strict=True))


# In a graph a session returns what it was fed without a copy, so TensorFlow's own differences of the identity are 0.
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("identity", "an array, not a tensor", "a variable")])
def test_side_by_side_in_a_graph(name):
    f, x, delta = CASES[name]
    x = [np.asarray(v, None if hasattr(v, "dtype") else "float32") for v in x]
    found = []
    for function in (ORIGINAL, compute_gradient):
        with tf.Graph().as_default(), tf.compat.v1.Session().as_default():
            found.append(outcome(function, f, x, delta))
    theirs, mine = found
    # Where TensorFlow stumbles over its own IndexedSlices and None, ours gives what both give eagerly.
    if isinstance(theirs, Exception) and not isinstance(mine, Exception):
        theirs = outcome(ORIGINAL, f, x, delta)
    assert_alike(mine, theirs, f, x, delta)


def test_the_same_tensor_as_two_arguments_is_two_arguments():
    # TensorFlow's own theoretical side counts both as one, and disagrees with its numerical side.
    x = tf.constant([1.0, 2.0])
    theoretical, numerical = compute_gradient(lambda a, b: a * b, [x, x])
    for exact, approximate in zip(theoretical, numerical, strict=True):
        np.testing.assert_array_equal(exact, [[1, 0], [0, 2]])
        np.testing.assert_array_equal(approximate, exact)  # products with powers of two are exact


def test_variables_of_a_graph_are_those_of_its_session():
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default() as session:
        w = tf.compat.v1.get_variable("w", initializer=np.float32([2.0, 3.0]), use_resource=True)
        session.run(tf.compat.v1.global_variables_initializer())
        (theoretical,), (numerical,) = compute_gradient(lambda x: x * w, [np.float32([1.0, 1.0])])
    np.testing.assert_array_equal(theoretical, [[2, 0], [0, 3]])
    np.testing.assert_array_equal(numerical, [[2, 0], [0, 3]])  # products with powers of two are exact


# Errors -----------------------------------------------------------------------------------------------------------


@tf.custom_gradient
def empty_with_slope(x):
    return x[:0], lambda upstream: tf.ones_like(x)


@tf.custom_gradient
def empty_with_another_shape(x):
    return x[:0], lambda upstream: tf.ones(7)


def broken(x):
    raise RuntimeError("mine")


@pytest.mark.parametrize(
    ("f", "x", "words"),
    [
        (tf.sin, 1.0, "x must be a list or tuple with one entry for each argument of f, got <class 'float'>"),
        (tf.sin, np.ones(2), "x must be a list or tuple"),
        (lambda x: x, [np.int32([1])], "argument 0 has dtype int32, which has no gradient; allowed: float16, bfloat16"),
        (lambda a, b: a, [1.0, np.int64([1])], "argument 1 has dtype int64"),
        (lambda x: tf.cast(x, tf.int32), [1.0], "f returns int32, which has no gradient"),
        (lambda x: tf.as_string(x), [1.0], "f returns string"),
        (empty_with_slope, [normal(3)], "Empty tensor with nonzero gradients"),
        (empty_with_another_shape, [normal(3)], "Empty gradient has wrong shape: expected (3,), got (7,)"),
        (lambda x: None, [1.0], ""),
        (lambda x: [x, x], [1.0], ""),
        (lambda x, y: x, [1.0], ""),
        (broken, [1.0], "mine"),
        (lambda x: x @ x, [normal(2, 3)], ""),
    ],
)
def test_errors_are_of_tensorflows_kind(f, x, words):
    theirs, mine = outcome(ORIGINAL, f, x, None), outcome(compute_gradient, f, x, None)
    assert isinstance(theirs, Exception)
    assert type(mine) is type(theirs), mine
    assert words in str(mine)


# Speed ------------------------------------------------------------------------------------------------------------


def test_a_function_of_many_inputs_is_called_twice(monkeypatch):
    calls = []
    monkeypatch.setattr(tf, "tanh", lambda x, tanh=tf.tanh: calls.append(1) or tanh(x))
    compute_gradient(lambda x: tf.tanh(x) * x, [normal(8, 60)])
    assert len(calls) == 2  # recorded, and tried at another point; TensorFlow calls f 1441 times


def test_what_ran_in_a_loop_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="fdfast"):
        compute_gradient(through_numpy, [normal(8)])
    assert "f was called and differentiated as TensorFlow does it: EagerPyFunc keeps state" in caplog.text


def leaks(x):
    return x * x[2].numpy()


@tf.custom_gradient
def leaks_back(x):
    return x * 2, lambda dy: tf.ones_like(dy) * dy[2].numpy()


@pytest.mark.parametrize("f", [leaks, leaks_back])
def test_values_that_go_through_python_are_found_out(f, caplog):
    with caplog.at_level(logging.INFO, logger="fdfast"):
        assert_alike(compute_gradient(f, [normal(8)]), ORIGINAL(f, [normal(8)]), f, [normal(8)], None)
    assert "in a loop" in caplog.text


def test_state_changes_as_often_as_by_tensorflow():
    counter = tf.Variable(0.0)

    def f(x):
        counter.assign_add(1.0)
        return x * counter

    counts = []
    for function in (ORIGINAL, compute_gradient):
        counter.assign(0.0)
        found = function(f, [normal(6)])
        counts.append((float(counter), *map(np.ndarray.tolist, (found[0][0], found[1][0]))))
    assert counts[0] == counts[1]


def test_random_numbers_are_drawn_in_the_same_sequence():
    found = []
    for function in (ORIGINAL, compute_gradient):
        tf.random.set_seed(3)
        found.append(function(lambda x: tf.nn.dropout(x, 0.5) * 2, [normal(10)]))
    np.testing.assert_array_equal(found[0], found[1])


def test_nothing_is_kept_alive():
    def make():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])
        return lambda x: model(x)

    f = make()
    compute_gradient(f, [normal(2, 4)])
    gone = weakref.ref(f), weakref.ref(f.__closure__[0].cell_contents)
    del f
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


# max_error --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([np.ones((2, 2))], [np.ones((2, 2))]),
        ([np.ones((2, 2)), np.zeros(3)], [np.zeros((2, 2)), np.float64([0, -5, 1])]),
        ([np.ones((0, 2))], [np.ones((0, 2))]),
        ([], []),
        ([np.float32([1, np.nan])], [np.float32([1, 1])]),
    ],
)
def test_max_error_is_tensorflows(one, two):
    mine, theirs = max_error(one, two), gradient_checker_v2.max_error(one, two)
    np.testing.assert_array_equal(mine, theirs)
    assert type(mine) is type(theirs)


# patch ------------------------------------------------------------------------------------------------------------


def test_patch_replaces_the_name_wherever_it_is_held_and_puts_it_back(monkeypatch):
    module = types.ModuleType("a_users_test")
    module.compute_gradient = ORIGINAL
    monkeypatch.setitem(sys.modules, "a_users_test", module)
    before = tf.test.compute_gradient
    with patch():
        assert tf.test.compute_gradient is compute_gradient
        assert gradient_checker_v2.compute_gradient is compute_gradient
        assert module.compute_gradient is compute_gradient
        with patch():
            assert tf.test.compute_gradient is compute_gradient
        assert tf.test.compute_gradient is compute_gradient
        late = types.ModuleType("loaded_meanwhile")
        late.compute_gradient = gradient_checker_v2.compute_gradient
        monkeypatch.setitem(sys.modules, "loaded_meanwhile", late)
    assert tf.test.compute_gradient is before is gradient_checker_v2.compute_gradient is module.compute_gradient
    assert late.compute_gradient is before
    assert compat.compute_gradient is compute_gradient is globals()["compute_gradient"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_patch_puts_back_after_an_exception(error):
    with pytest.raises(error), patch():
        raise error
    assert tf.test.compute_gradient is ORIGINAL is gradient_checker_v2.compute_gradient


SUITE = """
import tensorflow as tf
from fdfast.compat import tensorflow as ours

class Suite(tf.test.TestCase):
    def test_one(self):
        assert tf.test.compute_gradient is ours.compute_gradient
        self.assertAllClose(*tf.test.compute_gradient(tf.sin, [[0.5]]), atol=1e-3)

def test_two():
    assert tf.test.compute_gradient is ours.compute_gradient
"""


def test_the_fixture_serves_a_suite_as_it_stands(tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE)
    options = ["-p", "fdfast.compat.pytest_fixture", "-o", "usefixtures=fast_compute_gradient", "-k", "one or two"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_suite.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in run.stdout, run.stdout + run.stderr
