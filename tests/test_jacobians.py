"""`jacobian`: right for every kind of function, number and selection, and clear where it cannot be."""

from __future__ import annotations

import logging

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import rowwise
from fdfast.moves.displaced import displace
from fdfast.moves.selection import select

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 1.0, (4, 3))
W = RNG.normal(size=(5, 4))


def exact(f, x, dtype=tf.float64):
    """Jacobian by TensorFlow, which shares nothing with differences."""
    x = tf.constant(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.jacobian(y, x).numpy()


@pytest.fixture(params=["cheapest", "traced"])
def route(request, monkeypatch):
    if request.param == "traced":
        monkeypatch.setattr(rowwise, "TRACING", 0.0)
        monkeypatch.setattr(rowwise, "TRACING_CALLS", 0.0)


@pytest.mark.parametrize(
    "f",
    [
        tf.sin,
        tf.reduce_sum,
        lambda x: tf.linalg.matmul(W, x),
        lambda x: tf.reduce_prod(x, axis=0),
        lambda x: tf.nn.softmax(x)[None, :, :, None],
        tf.function(lambda x: tf.tanh(x) @ tf.transpose(x)),
        lambda x: x[:0],
    ],
)
def test_shape_outputs_and_x_and_tensorflows_numbers(f, route):
    found = fdfast.jacobian(f, X)
    assert (found.dtype, found.shape) == (np.float64, (*f(tf.constant(X)).shape, *X.shape))
    np.testing.assert_allclose(found, exact(f, X), rtol=0, atol=1e-9)  # h^2 = 6e-11; rounding 1e-16 over h = 8e-6


def test_an_argument_of_any_rank():
    np.testing.assert_allclose(fdfast.jacobian(lambda x: tf.stack([x, x**2]), 3.0), [1, 6], rtol=1e-9)
    deep = RNG.uniform(size=(2, 1, 3, 2, 2))
    np.testing.assert_allclose(fdfast.jacobian(tf.exp, deep), exact(tf.exp, deep), rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_arguments_give_empty_jacobians(shape):
    x = np.zeros(shape)
    assert fdfast.jacobian(lambda x: tf.reduce_sum(x) + tf.ones(2, tf.float64), x).shape == (2, *shape)


def test_functions_of_arrays_are_called_in_a_loop_and_that_is_said(caplog):
    def f(x):
        assert isinstance(x, np.ndarray)
        value = np.array([x.sum(), (x**2).sum()])
        x[...] = -1  # its own copy
        return value

    kept = X.copy()
    with caplog.at_level(logging.INFO, logger="fdfast"):
        found = fdfast.jacobian(f, X)
    assert "f takes arrays, one example at a time, and was called in a loop" in caplog.text
    np.testing.assert_allclose(found, [np.ones_like(X), 2 * X], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(X, kept)


@pytest.mark.parametrize("f", [lambda rows: tf.cumsum(rows**2, axis=1), lambda rows: np.cumsum(rows**2, axis=1)])
@pytest.mark.parametrize("max_rows", [None, 2, 5])
def test_functions_of_rows(f, max_rows):
    found = fdfast.jacobian(f, X, batched=True, max_rows=max_rows)
    np.testing.assert_allclose(found, exact(lambda x: tf.cumsum(x**2, axis=0), X), rtol=0, atol=1e-9)


def test_held_arguments_of_a_function_of_rows_are_repeated():
    found = fdfast.jacobian(lambda a, b: tf.reduce_sum(a, 1) * b, [X, W[0, :3]], wrt=1, batched=True, max_rows=4)
    np.testing.assert_allclose(found, np.diag(X.sum(axis=0)), rtol=0, atol=1e-9)


# Several arguments ------------------------------------------------------------------------------------------------


def product(a, b):
    return a @ b


def by_name(*, left, right):
    return tf.matmul(left, right)


A, B = X[:2], W[:3]


def wanted(of):
    if of == 0:
        return exact(lambda a: tf.matmul(a, B), A)
    return exact(lambda b: tf.matmul(A, b), B)


@pytest.mark.parametrize(
    ("f", "x", "wrt", "form"),
    [
        (product, [A, B], None, [0, 1]),
        (product, (A, B), None, (0, 1)),
        (product, (tf.constant(A), tf.constant(B)), [1, 0], (1, 0)),
        (product, [A, B], 0, 0),
        (product, [A, B], -1, 1),
        (product, [A.tolist(), B.tolist()], [1], [1]),
        (by_name, {"left": A, "right": B}, None, {"left": 0, "right": 1}),
        (by_name, {"left": A, "right": B}, "right", 1),
        (by_name, {"left": A, "right": B}, ["right"], {"right": 1}),
    ],
)
def test_several_arguments_and_wrt(f, x, wrt, form, route):
    found = fdfast.jacobian(f, x, wrt=wrt)
    assert type(found) is (type(form) if not isinstance(form, int) else np.ndarray)
    pairs = [(found, form)] if isinstance(form, int) else zip(found, form, strict=True)
    if isinstance(form, dict):
        assert list(found) == list(form)
        pairs = [(found[key], form[key]) for key in form]
    for value, of in pairs:
        np.testing.assert_allclose(value, wanted(of), rtol=0, atol=1e-9)


def test_held_arguments_may_be_of_any_dtype():
    found = fdfast.jacobian(lambda x, i: tf.gather(x, i), [X, np.array([2, 0, 2])], wrt=0)
    np.testing.assert_allclose(found, exact(lambda x: tf.gather(x, [2, 0, 2]), X), rtol=0, atol=1e-9)


def test_further_arguments_reach_the_function(route):
    found = fdfast.jacobian(lambda x, power: x**power, np.array([1.0, 2.0]), power=3)
    np.testing.assert_allclose(found, np.diag([3.0, 12.0]), rtol=0, atol=1e-8)
    found = fdfast.jacobian(lambda x, power: x**power, np.array([1.0, 2.0]), power=2)
    np.testing.assert_allclose(found, np.diag([2.0, 4.0]), rtol=0, atol=1e-8)


def test_sparse_results_are_made_dense():
    def f(x):
        return tf.IndexedSlices(x, tf.constant([2, 0, 2]), (4, 2))

    found = fdfast.jacobian(f, np.ones((3, 2)))
    selected = np.zeros((4, 2, 3, 2))
    for row, target in enumerate([2, 0, 2]):
        selected[target, 0, row, 0] = selected[target, 1, row, 1] = 1
    np.testing.assert_allclose(found, selected, rtol=0, atol=1e-9)


# Kinds of numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "h", "atol"),
    [
        # Truncation h^2 / 6 of the sine and rounding eps / h, with the step that the dtype gets.
        ("float64", 2.0**-17, 1e-9),
        ("float32", 2.0**-8, 5e-5),
        ("float16", 2.0**-3, 2e-2),
        (ml_dtypes.bfloat16, 2.0**-2, 1e-1),
    ],
)
def test_every_dtype_is_computed_and_stepped_by_its_own_rounding(dtype, h, atol, route):
    seen = []

    def f(x):
        seen.append(x.dtype.name)
        return tf.sin(x)

    x = RNG.uniform(0.5, 1.0, 6).astype(dtype)
    x[0] = 1  # the scale
    found = fdfast.jacobian(f, x)
    assert found.dtype == np.float64
    assert set(seen) == {np.dtype(dtype).name}
    np.testing.assert_allclose(found, np.diag(np.cos(x.astype(float))), rtol=0, atol=atol)
    plan = displace(x, 1, "together", "auto", None)
    np.testing.assert_allclose(np.abs(plan.moved), h, rtol=0.2)  # the distance really moved, rounded


def test_the_divisor_is_the_distance_really_moved():
    # In bfloat16 1 + 0.1 is 1.1015625; a linear function has no other error than its own rounding, none here.
    x = np.ones(3).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(fdfast.jacobian(lambda x: x * 2, x, 0.1), 2 * np.eye(3))


@pytest.mark.parametrize("f", [lambda z: z * z, tf.math.conj, tf.abs, tf.math.real, lambda z: tf.exp(z)[:2]])
def test_complex_arguments_are_two_reals(f, route):
    z = (X[0] + 1j * X[1]).astype(np.complex128)
    found = fdfast.jacobian(f, z)
    outputs = f(tf.constant(z))
    assert found.shape == (*outputs.shape, 3, 2)
    assert np.iscomplexobj(found) == outputs.dtype.is_complex
    pair = np.stack([z.real, z.imag], axis=-1)

    def of_pair(part):
        return lambda p: part(tf.cast(f(tf.complex(p[:, 0], p[:, 1])), tf.complex128))

    wanted = exact(of_pair(tf.math.real), pair) + 1j * exact(of_pair(tf.math.imag), pair)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


# Tiles, bounds, progress ------------------------------------------------------------------------------------------


def test_tiles():
    x = RNG.uniform(size=(5, 7))
    full = exact(tf.sin, x)
    total = fdfast.jacobian(tf.sin, x, tile=(2, 3), reduction="sum")
    share = fdfast.jacobian(tf.sin, x, tile=(2, 3))
    for i, j in np.ndindex(3, 3):
        some = (slice(2 * i, 2 * i + 2), slice(3 * j, 3 * j + 3))
        summed = full[(..., *some)].sum(axis=(2, 3))[..., None, None]
        np.testing.assert_allclose(total[(..., *some)], np.broadcast_to(summed, total[(..., *some)].shape), atol=1e-9)
        size = x[some].size
        np.testing.assert_allclose(share[(..., *some)] * size, total[(..., *some)], rtol=1e-12)


def test_bounds_keep_every_row_inside():
    seen = []

    def f(x):
        seen.append((x.min(), x.max()))
        return x**2

    x = np.array([0.0, 1.0, 0.5])
    found = fdfast.jacobian(f, x, 1e-3, bounds=(0, 1))
    assert (min(low for low, _ in seen), max(high for _, high in seen)) == (0, 1)
    np.testing.assert_allclose(found, np.diag(2 * x), rtol=0, atol=1e-12)  # three points are exact for a parabola


def test_progress_is_told_and_ends():
    steps = []
    fdfast.jacobian(tf.sin, X, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (24, 24)
    assert sorted(steps) == steps


# Models -----------------------------------------------------------------------------------------------------------


def small():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.5)])


def test_a_model_for_one_example_and_for_a_batch():
    model, x = small(), X.astype("float32")
    one, batch = fdfast.jacobian(model, x[0]), fdfast.jacobian(model, x)
    wanted = exact(lambda x: model(x[None])[0], x[0], tf.float32)
    np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-6)  # float32 on TensorFlow's side
    assert batch.shape == (4, 4, 3)
    np.testing.assert_allclose(batch[0], one, rtol=0, atol=1e-9)
    single = fdfast.jacobian(model, x[0], precision="float32")
    np.testing.assert_allclose(single, wanted, rtol=0, atol=2e-4)  # 1e-7 over h = 4e-3


def test_a_model_with_several_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    found = fdfast.jacobian(model, {"a": X[0].astype("float32"), "b": X[1, :2].astype("float32")})
    kernel = model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(found["a"], kernel[:3].T, rtol=0, atol=2e-4)  # float32
    np.testing.assert_allclose(found["b"], kernel[3:].T, rtol=0, atol=2e-4)


def test_state_of_layers_is_put_back():
    norm = keras.layers.BatchNormalization()
    norm.build((None, 3))
    before = [v.numpy() for v in norm.variables]

    def f(x):
        return norm(x, training=True)

    fdfast.jacobian(f, X.astype("float32"))

    def fails(x):
        norm(x, training=True)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fdfast.jacobian(fails, X.astype("float32"))
    for variable, value in zip(norm.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


# Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "options", "error", "words"),
    [
        (3, X, {}, TypeError, "f must be a Keras model or a callable, got int"),
        (tf.sin, X, {"h": -1}, ValueError, "h must be positive"),
        (tf.sin, X, {"h": 1e-30}, ValueError, r"h=1e-30 vanishes in float64 at x\[0, 0\]="),
        (tf.sin, X, {"wrt": 0}, TypeError, "wrt=0 selects from a list, tuple or dict of arguments; x is ndarray"),
        (product, [A, B], {"wrt": 2}, ValueError, "wrt=2 is not an argument; x has 0, 1"),
        (by_name, {"left": A}, {"wrt": "rihgt"}, ValueError, "wrt='rihgt' is not an argument; x has 'left'"),
        (product, [A, B], {"wrt": [0, 0]}, ValueError, "wrt must name each argument once"),
        (product, [A, B], {"wrt": []}, ValueError, "wrt must name each argument once, and at least one"),
        (tf.sin, np.arange(3), {}, TypeError, "x has dtype int64, which cannot move by a small step; pass floats, or"),
        (product, [A, np.arange(3)], {}, TypeError, r"x\[1\] has dtype int64"),
        (tf.sin, np.array([1.0, np.nan]), {}, ValueError, r"x\[1\] is nan; what moves must be finite"),
        (tf.sin, X, {"max_rows": 1}, ValueError, "max_rows must be an int of at least 2"),
        (tf.sin, X, {"reduction": "max"}, ValueError, "reduction must be one of"),
        (tf.sin, X + 0j, {"bounds": (0, 1)}, ValueError, "bounds are for real inputs; x is complex"),
        (tf.sin, X.astype("float16"), {"bounds": (0, 1)}, ValueError, "x of dtype float16 give h"),
        (lambda x: tf.cast(x, tf.int32), X, {}, TypeError, "f returns int32; it must return floating-point or complex"),
        (tf.sin, (X, X), {"wrt": tf.ones(1)}, ValueError, "is not an argument; x has 0, 1"),
        (lambda a: a, (X, X), {}, TypeError, r"f is called with 2 arguments, but its parameters are \(a\)"),
        (
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="one")], name="alone"),
            {"a": np.ones(2)},
            {},
            TypeError,
            "x is a dict, but the model 'alone' has one input without a name: pass an array",
        ),
        (lambda x: {"a": x}, X, {}, TypeError, "f must return a tensor, an array or a number, got dict"),
        (lambda x: x[:2], X, {"batched": True, "max_rows": 24}, ValueError, r"one output per row, shape \(24, ...\)"),
        (small(), X[0], {"power": 2}, TypeError, "unexpected arguments for a model: power"),
        (small(), 1.0, {}, ValueError, "takes a batch, with a leading axis of examples"),
    ],
)
def test_errors_name_argument_rule_value_and_remedy(f, x, options, error, words):
    with pytest.raises(error, match=words):
        fdfast.jacobian(f, x, **options)


@pytest.mark.parametrize(
    ("x", "wrt", "keys", "form"),
    [
        ([1.0, 2.0], None, (0,), None),
        ([np.float64(1.0), np.float64(2.0)], None, (0,), None),
        ([1.0, 2.0], 0, (0, 1), list),
        ((np.ones(2), 3.0), None, (0, 1), tuple),
        ({"a": 1.0}, None, ("a",), dict),
    ],
)
def test_what_counts_as_several_arguments(x, wrt, keys, form):
    found = select(x, wrt)
    assert (found.keys, found.form) == (keys, form)


def test_no_argument_at_all_is_an_error():
    with pytest.raises(ValueError, match="x holds no argument"):
        select({}, None)


# Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
@pytest.mark.parametrize("tile", [1, 2])
def test_rows_in_any_portions_are_the_same_rows(dtype, tile):
    x = RNG.uniform(0.5, 1, (3, 5)).astype(dtype)
    plan = displace(x, tile, "together", "auto", None)
    whole = plan.rows(0, 2 * plan.tiling.tiles)
    assert whole.dtype == dtype
    parts = [plan.rows(start, min(start + 3, len(whole))) for start in range(0, len(whole), 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    changed = (whole != x).reshape(len(whole), -1).sum(axis=1)
    per_tile = plan.tiling.counts.repeat(2)
    np.testing.assert_array_equal(changed, per_tile)
    assert (plan.moved[:, 0] > 0).all()
    assert (plan.moved[:, 1] < 0).all()
