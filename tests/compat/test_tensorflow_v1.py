"""TensorFlow 1's `compute_gradient` and `compute_gradient_error` side by side with ours, in a graph and a session."""

from __future__ import annotations

import contextlib
import inspect

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import gradient_checker, gradient_checker_v2

from fdfast.compat import tensorflow as compat
from fdfast.compat import tensorflow_v1
from fdfast.compat.tensorflow import patch

THEIRS = inspect.unwrap(gradient_checker.compute_gradient)  # without the remark that it is deprecated
ONES = np.ones((2, 3), "float32")


def normal(*shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@contextlib.contextmanager
def session():
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default() as found:
        yield found


def outcome(function, make, **options):
    """What a checker gives for tensors made in a graph of its own, or its exception; and what is drawn next."""
    np.random.seed(7)  # noqa: NPY002 - what TensorFlow draws from
    with session() as own:
        arguments, more = make(own)
        try:
            found = function(*arguments, **more, **options)
        except Exception as error:
            found = error
        return found, float(np.random.random())  # noqa: NPY002


def unary(f, x, **options):
    def make(own):
        tensor = tf.constant(x)
        y = f(tensor)
        return (tensor, x.shape, y, y.shape.as_list()), {"x_init_value": x, **options}

    return make


def drawn(f, shape, dtype=tf.float32):
    def make(own):
        tensor = tf.zeros(shape, dtype)
        y = f(tensor)
        return (tensor, shape, y, y.shape.as_list()), {}

    return make


def two(own):
    a, b = tf.constant(normal(2, 3)), tf.constant(normal(3, 2))
    return ([a, b], [(2, 3), (3, 2)], tf.matmul(a, b), (2, 2)), {"x_init_value": [normal(2, 3), normal(3, 2) * 2]}


def fed(own):
    x, scale = tf.compat.v1.placeholder(tf.float32, [3]), tf.compat.v1.placeholder(tf.float32, [])
    return (x, (3,), x**2 * scale, (3,)), {"x_init_value": normal(3), "extra_feed_dict": {scale: np.float32(3)}}


def initialised(own):
    w = tf.compat.v1.get_variable("w", initializer=normal(3), use_resource=True)
    x = tf.constant(normal(3))
    return (x, (3,), x * w, (3,)), {"x_init_value": normal(3), "init_targets": [w.initializer]}


def of_no_known_shape(own):
    x = tf.compat.v1.placeholder(tf.float32)
    return (x, (2, 3), tf.sin(x), (2, 3)), {"x_init_value": ONES}


def unconnected(own):
    x = tf.constant(normal(3))
    return (x, (3,), tf.stop_gradient(x), (3,)), {"x_init_value": normal(3)}


def another_shape(own):
    x = tf.constant(ONES)
    return (x, (3, 2), tf.sin(x), (2, 3)), {"x_init_value": ONES}


def random_numbers(own):
    x = tf.constant(normal(4))
    return (x, (4,), x * tf.random.normal([], seed=1) * 0.0 + x, (4,)), {"x_init_value": normal(4)}


def assigned(own):
    w = tf.compat.v1.get_variable("w", initializer=0.0, use_resource=True)
    own.run(w.initializer)
    x = tf.constant(normal(3))
    with tf.control_dependencies([w.assign_add(1.0)]):
        y = x * tf.identity(w)
    return (x, (3,), y, (3,)), {"x_init_value": normal(3)}


CASES = {
    "sin": unary(tf.sin, normal(2, 3)),
    "delta": unary(tf.exp, normal(4, dtype="float64"), delta=1e-5),
    "drawn point": drawn(tf.sin, (2, 3)),
    "drawn complex point": drawn(lambda z: z * z, (3,), tf.complex64),
    "complex": unary(lambda z: z * tf.math.conj(z) * z, normal(3) + 1j * normal(3)[::-1]),
    "sparse gradient": unary(lambda x: tf.gather(x, [0, 2, 0]) ** 2, normal(4, 2)),
    "while": unary(lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x))[1], normal(4)),
    "float16": unary(tf.tanh, normal(4, dtype="float16"), delta=2.0**-6),
    "bfloat16": drawn(lambda x: x * 2, (3,), tf.bfloat16),
    "empty": drawn(lambda x: x * 2, (0, 3)),
    "two arguments, each fed alone": two,
    "more feeds": fed,
    "initialised": initialised,
    "no known shape": of_no_known_shape,
    "no dependence": unconnected,
    "another shape": another_shape,
    "integers": unary(lambda x: x * 2, np.int32([1, 2])),
    "random numbers": random_numbers,
}


@pytest.mark.parametrize("name", CASES)
def test_side_by_side(name):
    (theirs, after), (mine, mine_after) = (outcome(f, CASES[name]) for f in (THEIRS, tensorflow_v1.compute_gradient))
    assert mine_after == after  # as many numbers of NumPy's global state were drawn
    if isinstance(theirs, Exception):
        assert type(mine) is type(theirs), mine
        return
    assert type(mine) is type(theirs)
    pairs = zip(*(found if isinstance(found, list) else [found] for found in (mine, theirs)), strict=True)
    for ours, other in pairs:
        for side, (a, b) in enumerate(zip(ours, other, strict=True)):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            unit = np.finfo(a.dtype).eps if a.dtype.name != "bfloat16" else 2.0**-7
            # Some units of values of size 10; differences divide them by 2 delta, 2e-3 at least but in float64.
            limit = 200 * unit * (1 if side == 0 else 5e4 if a.dtype == np.float64 else 500)
            np.testing.assert_allclose(a.astype("float64"), b.astype("float64"), rtol=0, atol=limit)


def test_a_state_is_written_as_often_as_by_tensorflow():
    found = [outcome(f, assigned)[0] for f in (THEIRS, tensorflow_v1.compute_gradient)]
    assert all(np.isfinite(found[1][0]).all() for _ in found)
    assert np.ptp(found[1][1]) > 1  # the control: the variable grew between the rows


def test_a_wrong_gradient_is_seen():
    @tf.custom_gradient
    def f(x):
        return x * 3, lambda dy: 6 * dy

    error, _ = outcome(tensorflow_v1.compute_gradient_error, unary(f, normal(4)))
    assert error == pytest.approx(3, abs=1e-2)
    error, _ = outcome(tensorflow_v1.compute_gradient_error, unary(tf.sin, normal(4)))
    assert error < 1e-3


def test_the_graph_is_left_with_no_more_than_by_tensorflow():
    added = []
    for function in (THEIRS, tensorflow_v1.compute_gradient):
        with session():
            x = tf.constant(normal(3))
            y = tf.sin(x) * x
            before = len(tf.compat.v1.get_default_graph().get_operations())
            function(x, (3,), y, (3,), normal(3))
            added.append(len(tf.compat.v1.get_default_graph().get_operations()) - before)
    assert 0 < added[1] <= added[0]


def test_variables_and_the_graph_of_a_session_are_left_as_they_were():
    sizes = []
    for function in (gradient_checker_v2.compute_gradient, compat.compute_gradient):
        with session() as own:
            w = tf.compat.v1.get_variable("w", initializer=normal(3), use_resource=True)
            own.run(w.initializer)
            (theoretical,), (numerical,) = function(lambda x, w=w: tf.sin(x) * w, [normal(3)])
            np.testing.assert_allclose(theoretical, numerical, atol=1e-3)
            np.testing.assert_array_equal(own.run(w), normal(3))
            sizes.append(len(tf.compat.v1.get_default_graph().get_operations()))
    assert sizes[1] < sizes[0]


def test_patch_covers_every_spelling():
    before = tf.compat.v1.test.compute_gradient, tf.compat.v1.test.compute_gradient_error
    with patch():
        assert gradient_checker_v2.compute_gradient is compat.compute_gradient
        for module in (gradient_checker, tf.compat.v1.test):
            assert module.compute_gradient is tensorflow_v1.compute_gradient
            assert module.compute_gradient_error is tensorflow_v1.compute_gradient_error
    assert (tf.compat.v1.test.compute_gradient, tf.compat.v1.test.compute_gradient_error) == before
    assert (gradient_checker.compute_gradient, gradient_checker.compute_gradient_error) == before


# What TensorFlow's own tests of its checkers ask for, in both modes ------------------------------------------------


@tf.custom_gradient
def turned_back(x):
    return tf.identity(x), tf.transpose


@tf.custom_gradient
def not_a_number(x):
    return tf.identity(x), lambda dy: np.nan * dy


def second(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.square(tf.square(x))
    return tape.gradient(y, x)


def reshaped(values):
    return tf.sparse.reshape(tf.SparseTensor([[0, 0], [1, 2]], values, [3, 4]), [12]).values


# f, arguments, delta, largest error; or the words of an exception
BEHAVIOURS = {
    "sparse reshape": (reshaped, [normal(2)], None, 1e-3),
    "bfloat16": (lambda x: x + tf.constant(3.0, tf.bfloat16), [tf.bfloat16.as_numpy_dtype(2.0)], 0.1, 0.07),
    "large delta": (lambda x: x + 2, [normal(2, 3, dtype="float64")], 1e-2, 1e-10),
    "gather of a gather": (lambda x: tf.gather(tf.gather(x, [1, 3, 5, 6]), [0, 2]), [normal(8, 2)], None, 1e-3),
    "complex product": (lambda x: (5 + 7j) * x, [np.complex64(0.3 + 0.2j)], None, 1e-2),
    "conjugate": (tf.math.conj, [np.complex64(0.3 + 0.2j)], None, 1e-3),
    "empty": (tf.identity, [np.zeros((0, 3), "float32")], None, 0),
    "empty product": (tf.matmul, [np.zeros((0, 3), "float32"), normal(3, 4)], None, 0),
    "second order": (second, [np.float32([2.0])], None, 0.05),
    "gradient of the wrong shape": (
        turned_back,
        [np.zeros((0, 3), "float32")],
        None,
        r"Empty gradient has wrong shape: expected \(0, 3\), got \(3, 0\)",
    ),
    "not a number": (not_a_number, [normal(1, 1)], None, np.nan),
}


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviours_of_the_original(name, mode):
    f, x, delta, wanted = BEHAVIOURS[name]
    with session() if mode == "graph" else contextlib.nullcontext(), patch():
        if isinstance(wanted, str):
            with pytest.raises(ValueError, match=wanted):
                gradient_checker_v2.compute_gradient(f, x, delta)
            return
        error = gradient_checker_v2.max_error(*gradient_checker_v2.compute_gradient(f, x, delta))
    assert np.isnan(error) if np.isnan(wanted) else error <= wanted
