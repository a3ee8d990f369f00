"""Values at rows: by a traced form that is right, remembered while the function reads the same, and else refused."""

from __future__ import annotations

import gc
import logging
import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions import over_rows as functions
from fdfast.functions import rowwise
from fdfast.functions.over_rows import Mapped, as_array
from fdfast.functions.rowwise import RowValues

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.5, (3, 4))
KERNEL = tf.constant(RNG.normal(size=(2, 2, 1, 2)))


def sine(x):
    return tf.sin(x) * 2


def rows_of(x, count):
    """Rows of which each has one element of x changed."""

    def build(start, stop):
        rows = np.repeat(np.asarray(x)[None], stop - start, axis=0)
        for i in range(start, stop):
            rows[i - start].reshape(-1)[i % rows[0].size] *= 0.75
        return rows

    return build


def evaluate(f, x=X, count=50, place=0, others=(), **options):
    tensors = [*map(tf.constant, others[:place]), tf.constant(x), *map(tf.constant, others[place:])]
    values = RowValues(f, tensors, place, as_array(f(*tensors)), **options)
    blocks = list(values.blocks(rows_of(x, count), count))
    starts = np.cumsum([0, *(len(block) for _, block in blocks)])
    assert [start for start, _ in blocks] == list(starts[:-1])
    assert starts[-1] == count
    return np.concatenate([block for _, block in blocks]), values.notes


def one_by_one(f, x=X, count=50, place=0, others=()):
    rows = rows_of(x, count)(0, count)
    return np.stack([as_array(f(*others[:place], tf.constant(row), *others[place:])) for row in rows])


def conv(x):
    return tf.nn.conv2d(x[None, :, :, None], tf.cast(KERNEL, x.dtype), 1, "SAME")


def looped(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x))[1]


def second_order(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.sin(x) ** 2)
    return tape.gradient(y, x)


FUNCTIONS = [sine, conv, looped, second_order, tf.reduce_sum, tf.function(sine)]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: getattr(f, "__name__", "compiled"))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_by_one_traced_function_are_the_rows_one_by_one(f, dtype):
    x = X.astype(dtype)
    got, notes = evaluate(f, x, always=True)
    assert (got.dtype, notes) == (dtype, [])
    # Sums of up to 12 numbers of order one, in another order.
    np.testing.assert_allclose(got, one_by_one(f, x), rtol=0, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.complex64])
def test_other_kinds_of_numbers_are_computed_as_tensorflow_does(dtype):
    x = tf.cast(X, dtype).numpy()
    got, _ = evaluate(sine, x, always=True)
    assert got.dtype == dtype.as_numpy_dtype
    np.testing.assert_array_equal(got, one_by_one(sine, x))


def test_held_arguments_and_the_place_of_what_moves():
    a, b = X, RNG.normal(size=(4, 2))
    got, _ = evaluate(tf.matmul, b, place=1, others=(a,), always=True)
    np.testing.assert_allclose(got, one_by_one(tf.matmul, b, place=1, others=(a,)), rtol=1e-13)  # four terms


@pytest.mark.parametrize("most", [2, 7, 1000])
def test_at_most_so_many_rows_at_a_time(most):
    values = RowValues(sine, [tf.constant(X)], 0, sine(X).numpy(), always=True)
    blocks = [block for _, block in values.blocks(rows_of(X, 50), 50, most)]
    assert all(len(block) <= max(most, 8) for block in blocks)  # up to 8 rows are timed one by one, as one block
    np.testing.assert_array_equal(np.concatenate(blocks), one_by_one(sine))


def test_rows_that_take_too_much_memory_are_traced_again_for_fewer(monkeypatch):
    def wide(x):
        return tf.reduce_sum(tf.ones((200, 1, 1), x.dtype) * x, axis=0)

    monkeypatch.setattr(rowwise, "BUDGET", 200_000)
    counts = []
    original = Mapped.__call__
    monkeypatch.setattr(Mapped, "__call__", lambda self, *a: counts.append(self.count) or original(self, *a))
    got, _ = evaluate(wide, always=True)
    assert set(counts) == {200_000 // (3 * 200 * 12 * 8)}  # three times the widest tensor, in bytes
    np.testing.assert_allclose(got, one_by_one(wide), rtol=1e-13)  # 200 terms


# Which way is taken ----------------------------------------------------------------------------------------------


def test_cheap_functions_are_called_directly_and_dear_ones_traced(monkeypatch):
    traced = []
    original = Mapped.__init__
    monkeypatch.setattr(Mapped, "__init__", lambda self, *a: traced.append(1) or original(self, *a))
    monkeypatch.setattr(rowwise, "TRACING", 1e9)
    evaluate(lambda x: sine(x))
    assert traced == []
    monkeypatch.setattr(rowwise, "TRACING", 0.0)
    monkeypatch.setattr(rowwise, "TRACING_CALLS", 0.0)
    evaluate(lambda x: sine(x))
    assert traced == [1]


def random_number(x):
    return x * float(np.random.default_rng().uniform(1, 2))


def reads_the_value(x):
    return x * 2 if x.numpy()[0, 0] > 0 else x


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (random_number, "random_number was called in a loop, once per row: its traced form gives another value at x"),
        (
            Counter(),
            "Counter was called in a loop, once per row: its traced form gives another value at x; it may draw",
        ),
        (reads_the_value, "reads_the_value was called in a loop, once per row: TensorFlow cannot trace it"),
    ],
)
def test_what_cannot_be_traced_is_called_in_order_and_that_is_said(f, words, caplog):
    with caplog.at_level(logging.INFO, logger="fdfast"):
        got, notes = evaluate(f, always=True)
    assert notes[0].startswith(words)
    assert words in caplog.text
    if f is reads_the_value:
        np.testing.assert_array_equal(got, one_by_one(f))


def test_an_operation_without_a_batched_form_is_named_and_not_logged_by_tensorflow(caplog):
    tf.get_logger().propagate = True

    def resized(x):
        return tf.image.resize(x[None, :, :, None], (5, 5))

    with caplog.at_level("INFO", logger="tensorflow"):
        got, notes = evaluate(resized, always=True)
    assert notes == [
        "ResizeBilinear in resized cannot be batched by TensorFlow and ran row by row, inside the traced function"
    ]
    assert "pfor" not in caplog.text
    np.testing.assert_allclose(got, one_by_one(resized), rtol=1e-6)  # float32 inside


def test_an_error_of_the_function_is_its_own():
    def picky(x):
        tf.debugging.assert_greater(x, tf.constant(0.5, x.dtype))
        return x

    with pytest.raises(tf.errors.InvalidArgumentError):
        evaluate(picky, X * 0 + 0.6, always=True)  # 0.6 * 0.75 is below


def test_settings_of_tensorflow_stay_as_they_were():
    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    filters = list(tf.get_logger().filters)
    evaluate(sine, always=True)
    evaluate(reads_the_value, always=True)
    assert tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False) == before
    assert tf.get_logger().filters == filters


# What is remembered ----------------------------------------------------------------------------------------------


def traces(monkeypatch):
    made = []
    original = Mapped.__init__
    monkeypatch.setattr(Mapped, "__init__", lambda self, *a: made.append(1) or original(self, *a))
    return made


def test_a_function_is_traced_once(monkeypatch):
    made = traces(monkeypatch)

    def f(x, y):
        return tf.sin(x) * y

    for scale in (1.0, 2.0, 3.0):
        got, _ = evaluate(f, X * scale, others=(X - scale,), always=True)
        np.testing.assert_array_equal(got, one_by_one(f, X * scale, others=(X - scale,)))
    assert len(made) == 1
    evaluate(f, X[:2], others=(X[:2],), always=True)  # another shape
    assert len(made) == 2


def test_what_cannot_be_traced_is_not_tried_again(monkeypatch):
    made = traces(monkeypatch)

    def f(x):
        return tf.constant(x.numpy())

    for _ in range(3):
        assert "was called in a loop" in evaluate(f, always=True)[1][0]
    assert len(made) == 1


def test_a_changed_closure_global_array_or_attribute_is_seen(monkeypatch):
    made = traces(monkeypatch)
    table = np.ones((3, 4))
    scale = 1.0
    box = types.SimpleNamespace(power=1)

    def f(x):
        return x**box.power * scale * table

    def check(times):
        np.testing.assert_allclose(evaluate(f, always=True)[0], one_by_one(f), rtol=1e-15)
        assert len(made) == times

    check(1)
    check(1)
    scale = 2.0
    check(2)
    table[1, 1] = 1 + 1e-9  # far below what the comparison at x could see
    check(3)
    box.power = 2
    check(4)
    check(4)


def test_variables_are_read_anew_and_do_not_count_as_changed(monkeypatch):
    made = traces(monkeypatch)
    variable = tf.Variable(2.0, dtype=tf.float64)

    def f(x):
        return x * variable

    np.testing.assert_array_equal(evaluate(f, always=True)[0], one_by_one(f))
    variable.assign(5.0)
    np.testing.assert_array_equal(evaluate(f, always=True)[0], one_by_one(f))
    assert len(made) == 1


def test_a_stale_form_that_captures_could_not_see_is_traced_again(monkeypatch):
    made = traces(monkeypatch)
    layer = keras.layers.Activation("tanh")

    def f(x):
        return layer(x)

    evaluate(f, always=True)
    layer.activation = keras.activations.sigmoid
    np.testing.assert_allclose(evaluate(f, always=True)[0], one_by_one(f), rtol=1e-6)  # float32
    assert len(made) == 2


def test_forms_die_with_their_function():
    def make():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        return lambda x: model(x)

    f = make()
    evaluate(f, X.astype("float32"), always=True)
    assert f in functions._known
    gone = weakref.ref(f), weakref.ref(f.__closure__[0].cell_contents)
    del f
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
