"""Row values and gradients: right, traced once, without copies, and forgotten with the model."""

from __future__ import annotations

import gc
import re
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast import _core
from fdfast.functions import row_function
from fdfast.functions.callables import callable_objective
from fdfast.functions.model import model_objective
from fdfast.functions.objective import LoopObjective, TracedObjective

K = keras.layers
RNG = np.random.default_rng(0)
SHAPE = (5, 4, 2)
X = RNG.uniform(size=(7, *SHAPE))
Y = RNG.integers(0, 3, 7)


def small_cnn(last="softmax", **options):
    keras.utils.set_random_seed(4)
    layers = [keras.Input(SHAPE), K.Conv2D(3, 2, activation="tanh"), K.Flatten(), K.Dropout(0.5), K.Dense(3, last)]
    model = keras.Sequential(layers, **options)
    model.compile(loss="sparse_categorical_crossentropy")
    return model


def aligned(rows, dtype):
    out = _core.aligned_empty(rows.shape, dtype)
    out[...] = rows
    return out


def objective_of(model, precision="float64", loss=None, y=Y, x=X):
    return model_objective(model, y, loss, x.shape[1:], len(x), batched=True, precision=precision)


def traces(owner):
    return sum(function.traces for function in row_function._traced[owner].values())


@pytest.mark.parametrize(
    ("precision", "loss", "y", "rtol"),
    [
        # The reference makes one row at a time in float32: a few roundings of its own.
        ("float32", None, Y, 1e-5),
        ("float64", None, Y, 1e-5),
        ("float32", "mse", np.eye(3)[Y], 1e-5),
        ("float64", keras.losses.KLDivergence(), np.eye(3)[Y] / 2 + 0.1, 1e-5),
        ("auto", lambda y, p: tf.reduce_sum(p**2, axis=1) * y, Y / 3.0, 1e-5),
    ],
)
def test_values_are_the_models_loss_row_by_row(precision, loss, y, rtol):
    model = small_cnn()
    found = objective_of(model, precision, loss, y)
    assert found.dtype == ("float32" if precision == "float32" else "float64")
    example = np.array([3, 0, 6, 3, 1], np.int32)
    rows = RNG.uniform(size=(5, *SHAPE))
    call = model.loss if loss is None else loss
    call = keras.losses.get(call)
    wanted = []
    for row, i in zip(rows.astype("float32"), example, strict=True):
        target = tf.constant(np.asarray(y)[i : i + 1], tf.int64 if loss is None else tf.float32)
        wanted.append(float(np.mean(call(target, model(row[None], training=False)))))
    for chunk in (5, 2, 1, 64):
        got = found.values(aligned(rows, found.dtype), example, chunk)
        assert (got.dtype, got.shape) == (np.float64, (5,))
        np.testing.assert_allclose(got, wanted, rtol=rtol)


@pytest.mark.parametrize(
    ("precision", "rtol"), [("float32", 1e-4), ("float64", 1e-12)]
)  # rounding, times a few hundred terms
def test_gradient_is_that_of_the_tape(precision, rtol):
    model = small_cnn()
    found = objective_of(model, precision)
    inside = model if precision == "float32" else found.model
    assert (found.model is model) == (precision == "float32")
    x = tf.constant(X, found.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = keras.losses.sparse_categorical_crossentropy(Y, inside(x, training=False))
    wanted = tape.gradient(value, x).numpy()
    got = found.gradient(X.reshape(7, -1).astype(found.dtype))
    assert (got.dtype, got.shape) == (np.float64, X.shape)
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    some = found.select(np.array([5, 2]))
    np.testing.assert_allclose(
        some.gradient(X[[5, 2]].reshape(2, -1).astype(found.dtype)), got[[5, 2]], rtol=rtol, atol=1e-7
    )
    part = found.select(slice(3, 6))
    np.testing.assert_allclose(part.gradient(X[3:6].reshape(3, -1).astype(found.dtype)), got[3:6], rtol=rtol, atol=1e-7)


def test_deployed_gradient_is_the_models_own():
    model = small_cnn()
    found = objective_of(model)
    got, dtype = found.deployed_gradient(X.reshape(7, -1))
    assert dtype == "float32"
    np.testing.assert_array_equal(got, objective_of(model, "float32").gradient(X.reshape(7, -1).astype("float32")))
    assert objective_of(model, "float32").deployed_gradient(X.reshape(7, -1)) is None


def test_saturated_losses_keep_their_digits():
    model = small_cnn()
    model.layers[-1].bias.assign([40.0, 0.0, 0.0])
    for loss, y in [(None, [0]), ("categorical_crossentropy", np.eye(3)[[0]])]:
        found = objective_of(model, "float64", loss, y, X[:1])
        *body, last = found.model.layers
        z = X[:1]
        for layer in body:
            z = layer(z)
        z = (z @ last.kernel.numpy() + last.bias.numpy())[0]
        got = found.values(aligned(X[:1], "float64"), np.zeros(1, np.int32), 1)[0]
        # Logits near 40 are good to 1e-14, so their exponentials are as well.
        assert got == pytest.approx(np.log1p(np.exp(z[1:] - z[0]).sum()), rel=1e-13)
        assert 0 < got < 1e-15
        assert found.model(X[:1]).numpy()[0, 0] == 1.0  # the control: the probability has no digit of the loss


def test_second_call_traces_nothing():
    model = small_cnn()
    x, y = X.astype("float32"), Y
    fdfast.gradcheck(model, x, y)
    first = traces(model)
    assert first == 1  # values in float64; gradients are taken eagerly
    fdfast.gradcheck(model, x, y)
    for n, tile, rows in [(1, 2, None), (3, (5, 1), 6), (7, 4, 2), (2, 1, 64)]:
        fdfast.gradcheck(model, x[:n], y[:n], tile=tile, max_rows=rows, seed=n)
        fdfast.gradient(model, x[:n], y=y[:n], tile=tile, max_rows=rows, bounds=(0, 1))
    fdfast.gradient(model, x[0], y=y[0])
    assert traces(model) == first
    # Another loss, another shape of target or another precision is another function: the control.
    fdfast.gradient(model, x[0], y=np.eye(3)[0], loss="mse")
    assert traces(model) == first + 1
    fdfast.gradient(model, x[0], y=y[0], precision="float32")  # differences start from the same float64 values
    assert traces(model) == first + 1
    fdfast.gradient(model, x[0], y=y[0], precision="float32", engine="batch")
    assert traces(model) == first + 2


def test_a_fresh_lambda_at_every_call_does_not_pile_up():
    model = small_cnn()
    for _ in range(2 * row_function._KEPT):
        objective_of(model, "float32", lambda y, p: p[:, 0])
    assert len(row_function._traced[model]) == row_function._KEPT


def test_layers_that_are_replaced_are_seen():
    model = keras.Sequential([keras.Input((3,)), K.Dense(2), K.Activation("tanh")])
    x, y = np.full(3, 0.3, "float32"), np.zeros(2)
    before = fdfast.gradient(model, x, y=y, loss="mse")
    model.pop()
    model.add(K.Activation("sigmoid"))
    after = fdfast.gradient(model, x, y=y, loss="mse")
    fresh = keras.Sequential([keras.Input((3,)), *model.layers])
    np.testing.assert_array_equal(after, fdfast.gradient(fresh, x, y=y, loss="mse"))
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_handed_over_without_a_copy(dtype, monkeypatch):
    found = objective_of(small_cnn(), dtype)
    rows = aligned(RNG.uniform(size=(4, *SHAPE)), dtype)
    seen = []

    def keep(self, tensor, example, chunk):
        seen.append(tensor)
        return np.zeros(len(example))

    monkeypatch.setattr(TracedObjective, "tensor_values", keep)
    found.values(rows, np.zeros(4, np.int32), 4)
    (tensor,) = seen
    assert tensor.dtype == dtype
    rows[2, 1, 3, 0] = 123.0
    assert tensor[2, 1, 3, 0].numpy() == 123.0
    # The tensor keeps the memory alive.
    wanted = rows.copy()
    del rows
    gc.collect()
    np.testing.assert_array_equal(tensor.numpy(), wanted)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_memory_dies_with_the_model(precision):
    model = small_cnn()
    found = objective_of(model, precision)
    found.gradient(X.reshape(7, -1).astype(found.dtype))
    found.values(aligned(X, found.dtype), np.arange(7, dtype=np.int32), 7)
    gone = [weakref.ref(model), weakref.ref(found.model), weakref.ref(found.traced)]
    del model, found
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_many_models_raise_no_warning_of_retracing(caplog):
    tf.get_logger().propagate = True
    with caplog.at_level("WARNING", logger="tensorflow"):
        for _ in range(7):
            model = keras.Sequential([keras.Input((2,)), K.Dense(1)])
            fdfast.gradient(model, np.ones(2, "float32"), y=[0.0], loss="mse")
            fdfast.gradient(lambda rows: tf.reduce_sum(rows, 1), np.ones(2), batched=True)
    assert "retracing" not in caplog.text


def test_the_dtype_of_a_model_is_that_of_its_layers():
    layers = [keras.Input((3,), dtype="float64"), K.Dense(2, "tanh", dtype="float64"), K.Dense(2, dtype="float64")]
    model = keras.Sequential(layers)
    assert model.compute_dtype == "float32"  # says its own policy, which no layer follows
    found = objective_of(model, "auto", "mse", np.zeros((1, 2)), np.ones((1, 3)))
    assert found.model is model
    assert found.dtype == "float64"
    assert found.deployed_gradient(np.ones((1, 3))) is None


def test_half_precision_outputs_meet_the_loss_in_float32():
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((3,)), K.Dense(4, "softmax", dtype="float16")])
    x, y = RNG.uniform(size=(6, 3)), np.eye(4)[[0, 1, 2, 3, 0, 1]]
    found = objective_of(model, "float32", keras.losses.KLDivergence(), y, x)
    got = found.values(aligned(x, "float32"), np.arange(6, dtype=np.int32), 6)
    loss = keras.losses.KLDivergence(reduction="none")
    # As Keras does it, which casts to float32 first: equal but for the order of additions.
    np.testing.assert_allclose(got, loss(y, model(x.astype("float32"))), rtol=1e-6)
    assert any("float16" in note for note in found.notes) == (model.compute_dtype == "float16")


@pytest.mark.parametrize(
    ("make", "widest"),
    [
        (small_cnn, 40),  # the input: 5 x 4 x 2; the convolution leaves 4 x 3 x 3
        (lambda: keras.Sequential([keras.Input(SHAPE), K.Conv2D(9, 1), K.GlobalMaxPool2D(), K.Dense(3)]), 180),
        (
            lambda: keras.Sequential([keras.Input((None, None, 2)), K.Conv2D(9, 1), K.GlobalMaxPool2D(), K.Dense(3)]),
            180,
        ),
        (lambda: Wide(), 180),
    ],
)
def test_memory_of_a_row_is_that_of_the_widest_layer(make, widest):
    found = objective_of(make(), "float64", "sparse_categorical_crossentropy")
    assert found.row_bytes == 3 * 8 * widest  # input, output and a temporary


class Wide(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [K.Conv2D(9, 1), K.GlobalMaxPool2D(), K.Dense(3)]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


# Callables --------------------------------------------------------------------------------------------------------

POINT = RNG.uniform(size=(3, 2))
ROWS = RNG.uniform(size=(6, 3, 2))
WEIGHTS = RNG.uniform(size=(3, 2))


def rows_in_tensorflow(rows):
    return tf.reduce_sum(tf.sin(rows) * WEIGHTS, axis=[1, 2])


def rows_in_numpy(rows):
    return (np.sin(rows) * WEIGHTS).sum(axis=(1, 2))


def rows_with_a_last_axis(rows):
    return rows_in_tensorflow(rows)[:, None]


def column_in_numpy(rows):
    return rows_in_numpy(rows)[:, None]


def one_in_tensorflow(x):
    return tf.reduce_sum(tf.sin(x) * WEIGHTS)


def one_in_numpy(x):
    return float((np.sin(x) * WEIGHTS).sum())


def callable_of(f, batched, **kwargs):
    return callable_objective(f, kwargs, POINT.reshape(1, -1).copy(), POINT.shape, batched=batched)


@pytest.mark.parametrize(
    ("f", "batched", "kind", "autodiff"),
    [
        (rows_in_tensorflow, True, TracedObjective, True),
        (rows_with_a_last_axis, True, TracedObjective, True),
        (tf.function(rows_in_tensorflow), True, TracedObjective, True),
        (rows_in_numpy, True, LoopObjective, False),
        (column_in_numpy, True, LoopObjective, False),
        (one_in_tensorflow, False, TracedObjective, True),
        (tf.function(one_in_tensorflow), False, TracedObjective, True),
        (one_in_numpy, False, LoopObjective, False),
    ],
)
def test_callables_of_every_kind(f, batched, kind, autodiff):
    found = callable_of(f, batched)
    assert isinstance(found, kind)
    assert bool(found.notes) == (kind is LoopObjective and not batched)
    got = found.values(aligned(ROWS, "float64"), np.zeros(6, np.int32), 4)
    np.testing.assert_allclose(got, rows_in_numpy(ROWS), rtol=1e-14)  # the order of additions
    gradient = found.gradient(POINT.reshape(1, -1))
    if autodiff:
        np.testing.assert_allclose(gradient, (np.cos(POINT) * WEIGHTS)[None], rtol=1e-14)  # the cosine's last place
    else:
        assert gradient is None
    assert found.select(slice(None)).values(aligned(ROWS, "float64"), np.zeros(6, np.int32), 4).shape == (6,)
    assert found.deployed_gradient(POINT.reshape(1, -1)) is None


SCALE = [2.0]


def draws(x):
    return tf.reduce_sum(x) * float(np.random.default_rng().uniform(1, 2))


def reads_the_value(x):
    return tf.reduce_sum(x) if x.numpy()[0, 0] > 0 else tf.reduce_sum(-x)


def counts(x):
    SCALE[0] += 1
    return tf.reduce_sum(x) * SCALE[0]


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (draws, r"draws takes one .* \(its traced form gives another value at x; it may draw random numbers"),
        (counts, r"counts takes one .* \(its traced form gives another value at x; .* keep state in Python"),
        (reads_the_value, r"reads_the_value takes one .* once per row \(.*\); batched=True evaluates all rows at once"),
    ],
)
def test_functions_that_cannot_be_traced_are_called_in_a_loop_and_a_note_says_why(f, words):
    found = callable_of(f, False)
    assert isinstance(found, LoopObjective)
    assert len(found.notes) == 1
    assert re.search(words, found.notes[0])


def test_an_operation_without_a_batched_form_is_named():
    def resized(x):
        return tf.reduce_sum(tf.image.resize(x[None, :, :, None], (5, 5)) ** 2)

    found = callable_of(resized, False)
    assert isinstance(found, TracedObjective)
    assert "ResizeBilinear cannot be batched by TensorFlow and ran row by row" in found.notes[0]
    got = found.values(aligned(ROWS, "float64"), np.zeros(6, np.int32), 4)
    # The resized picture is float32, so the sum of 25 squares rounds to some 1e-7.
    np.testing.assert_allclose(got, [float(resized(tf.constant(row))) for row in ROWS], rtol=1e-6)


def test_a_function_of_one_example_is_evaluated_in_few_calls():
    calls = []

    def f(x):
        calls.append(1)
        return tf.reduce_sum(tf.sin(x))

    x = RNG.uniform(size=(20, 20))
    # Truncation of h^2 / 6 = 1e-11, rounding of 1e-14 over h = 1e-5.
    np.testing.assert_allclose(fdfast.gradient(f, x), np.cos(x), rtol=1e-7)
    assert len(calls) < 5  # once directly and once or twice to trace; the loop would call it 800 times
    assert fdfast.gradcheck(f, x)


def test_further_arguments_reach_the_function():
    def rows(x, scale, *, power=1):
        return tf.reduce_sum(x**power, axis=[1, 2]) * scale

    got = callable_of(rows, True, scale=np.float64(3), power=2).values(
        aligned(ROWS, "float64"), np.zeros(6, np.int32), 6
    )
    np.testing.assert_allclose(got, 3 * (ROWS**2).sum(axis=(1, 2)), rtol=1e-14)  # the order of additions
    got = callable_of(lambda x, y: (x * y).sum(), False, y=WEIGHTS).values(aligned(ROWS, "float64"), np.zeros(6), 6)
    np.testing.assert_allclose(got, (ROWS * WEIGHTS).sum(axis=(1, 2)), rtol=1e-14)


def test_compiled_functions_are_traced_once_and_plain_ones_follow_what_they_read():
    compiled = tf.function(rows_in_tensorflow)
    for _ in range(3):
        fdfast.gradient(compiled, POINT, batched=True)
    assert traces(compiled) == 1
    scale = 2.0

    def plain(rows):
        return tf.reduce_sum(rows, axis=[1, 2]) * scale

    # A sum of eighths: exact but for the step's rounding.
    np.testing.assert_allclose(fdfast.gradient(plain, POINT, batched=True), 2.0, rtol=1e-9)
    scale = 5.0
    np.testing.assert_allclose(fdfast.gradient(plain, POINT, batched=True), 5.0, rtol=1e-9)


def test_functions_may_change_and_keep_what_they_are_given():
    kept = []

    def greedy(x):
        kept.append(x)
        value = (x**2).sum()
        x[...] = -1e9
        return value

    x = POINT.copy()
    got = fdfast.gradient(greedy, x)
    np.testing.assert_allclose(got, 2 * x, rtol=1e-8)  # rounding of f, 1e-16, over the step of 1e-5
    np.testing.assert_array_equal(x, POINT)
    got = fdfast.gradient(lambda rows: [greedy(row) for row in rows], x, batched=True)
    np.testing.assert_allclose(got, 2 * x, rtol=1e-8)
    assert all((k == -1e9).all() for k in kept if isinstance(k, np.ndarray))


@pytest.mark.parametrize(
    ("f", "batched", "error", "words"),
    [
        (
            lambda rows: tf.reduce_sum(rows),
            True,
            ValueError,
            "one scalar for the whole batch; it must return one value per r",
        ),
        (
            lambda rows: rows,
            True,
            ValueError,
            r"f returns shape \(None, 3, 2\); it must return one value per row, shape \(rows,\)",
        ),
        (
            lambda rows: tf.zeros(5, tf.float64),
            True,
            ValueError,
            "f must return one value per row of its input; the number",
        ),
        (
            lambda rows: tf.argmax(rows[:, 0], axis=1),
            True,
            TypeError,
            "f returns int64; it must return floating-point values",
        ),
        (lambda rows: np.zeros(5), True, ValueError, r"one value per row, shape \(4,\); it returned shape \(5,\)"),
        (lambda rows: 0.0, True, ValueError, r"one value per row, shape \(4,\); it returned shape \(\)"),
        (
            lambda x: x,
            False,
            ValueError,
            r"a scalar for one x of shape \(3, 2\); it returned shape \(3, 2\). For a function of",
        ),
        (lambda x: tf.identity(x), False, ValueError, "must return a scalar for one x"),
    ],
)
def test_wrong_results_are_named(f, batched, error, words):
    with pytest.raises(error, match=words):
        callable_of(f, batched).values(aligned(ROWS, "float64"), np.zeros(6, np.int32), 4)


def test_an_error_inside_a_function_is_that_of_the_kind_it_is():
    def broken(x):
        return x.sum() + {}["missing"]  # tensors have no .sum: that must not hide the missing key

    with pytest.raises(KeyError, match="missing"):
        callable_of(broken, False)
    with pytest.raises(ZeroDivisionError):
        callable_of(lambda x: tf.reduce_sum(x) / (1 // 0), False)


@pytest.mark.parametrize(
    ("make", "x", "error", "words"),
    [
        (
            lambda: two_inputs(),
            np.ones((1, 2)),
            TypeError,
            "has 2 inputs; only models with one input are supported: wrap",
        ),
        (lambda: two_outputs(), np.ones((1, 2)), TypeError, "has several outputs; only models with one output"),
        (lambda: Pair(), np.ones((1, 2)), TypeError, "returns (tuple|list); only models with one output tensor"),
        (
            lambda: keras.Sequential([keras.Input((2,), dtype="int32"), K.Embedding(3, 2), K.Flatten()]),
            np.ones((1, 2)),
            TypeError,
            "takes int32 input, which has no derivative: check from the first floating-point layer on",
        ),
        (
            lambda: keras.Sequential([keras.Input((2,), batch_size=4), K.Dense(3)]),
            np.ones((1, 2)),
            ValueError,
            "batches of 4; bui",
        ),
        (
            lambda: keras.Sequential([keras.Input((5,)), K.Dense(3)]),
            np.ones((1, 2)),
            ValueError,
            r"x has shape \(2,\) per exam",
        ),
    ],
)
def test_models_that_do_not_fit_are_named(make, x, error, words):
    with pytest.raises(error, match=words):
        objective_of(make(), "auto", "mse", np.zeros((len(x), 3)), x)


def two_inputs():
    a, b = keras.Input((2,)), keras.Input((2,))
    return keras.Model([a, b], K.Add()([a, b]))


def two_outputs():
    a = keras.Input((2,))
    return keras.Model(a, [K.Dense(1)(a), K.Dense(2)(a)])


class Pair(keras.Model):
    def call(self, x):
        return x, x


def test_precision_that_cannot_be_had():
    class Numb(K.Layer):
        def __init__(self, table, **kwargs):
            super().__init__(**kwargs)
            self.table = table

        def call(self, x):
            return x * 2

    model = keras.Sequential([keras.Input((2,)), Numb(object())])
    found = objective_of(model, "auto", "mse", np.zeros((1, 2)), np.ones((1, 2)))
    assert (found.model is model, found.dtype) == (True, np.float32)
    assert "evaluated in float32, because Sequential" in found.notes[0]
    with pytest.raises(
        ValueError, match=r"precision='float64' needs a float64 copy of the model: .*precision='float32' uses"
    ):
        objective_of(model, "float64", "mse", np.zeros((1, 2)), np.ones((1, 2)))
