"""A trace at many rows: what is refused, and that its numbers are those of f, or are found not to be."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions import rowwise
from fdfast.functions.over_rows import Mapped, as_array
from fdfast.functions.rowwise import RowValues
from fdfast.functions.single import Cost, Single, cheapest
from fdfast.functions.stacked import Stacked
from fdfast.operations import TABLE, Operation, Unmapped


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


# What is refused --------------------------------------------------------------------------------------------------

COUNTER = tf.Variable(0.0)


def counts(x):
    COUNTER.assign_add(1.0)
    return x + COUNTER


def mapped(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x))[1]


@pytest.mark.parametrize(
    ("f", "shape", "words"),
    [
        (lambda x: x + tf.random.normal([]), (3,), "RandomStandardNormal keeps state"),
        (counts, (3,), "AssignAddVariableOp keeps state"),
        (lambda x: tf.debugging.check_numerics(x, ""), (3,), "CheckNumerics keeps state"),
        (lambda x: tf.numpy_function(np.sin, [x], tf.float32), (3,), "PyFunc keeps state"),
        (lambda x: x * tf.random.stateless_uniform([], [tf.cast(x[0], tf.int32), 1]), (3,), "has no rule"),
        (mapped, (3,), "StatelessWhile calls functions in a way of its own"),
        (lambda x: tf.function(counts)(x), (3,), "AssignAddVariableOp keeps state"),
        (tf.function(tf.sin, jit_compile=True), (3,), "compiled by XLA"),
        (lambda x: tf.gather([1.0, 2.0, 3.0], tf.argmax(x)), (3,), "GatherV2 has no rule for an input that moves here"),
        (lambda x: tf.nn.conv2d(x, x[0, :3, :3, :, None], 1, "SAME"), (1, 5, 5, 3), "both inputs moving"),
        (lambda w: tf.nn.bias_add(tf.ones([1, 3, 5, 5]), w[0, :3], data_format="NCHW"), (1, 4), "come first"),
        (lambda x: tf.raw_ops.Select(condition=x[:, 0] > 0, x=x, y=-x), (2, 4), "rank"),
        (lambda w: tf.nn.conv2d(tf.ones([1, 5, 5, 6]), w, 1, "SAME"), (3, 3, 3, 4), "in groups"),
        (lambda w: tf.nn.conv2d(tf.ones([1, 3, 5, 5]), w, 1, "SAME", data_format="NCHW"), (3, 3, 3, 4), "come first"),
    ],
)
def test_what_cannot_be_done_is_refused(f, shape, words):
    x = tf.constant(normal(*shape))
    traced = Single(f, [tf.TensorSpec(x.shape, x.dtype)]).traced
    with pytest.raises(Unmapped, match=words):
        Stacked(traced, 0).bind([x])(x[None])


def test_a_function_of_an_unknown_shape_is_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def f(x):
        return tf.reshape(x, [tf.shape(x)[1], -1])

    traced = Single(lambda x: f(x), [tf.TensorSpec((2, 3), tf.float32)]).traced
    with pytest.raises(Unmapped, match="Shape of a tensor whose shape is not known"):
        Stacked(traced, 0)


def test_an_operation_that_fails_is_unmapped():
    form = Stacked(Single(tf.linalg.inv, [tf.TensorSpec((2, 2), tf.float64)]).traced, 0)
    with pytest.raises(Unmapped, match="cannot run it for many rows"):
        form.bind([tf.eye(2, dtype=tf.float64)])(tf.zeros((3, 2, 2), tf.float64))


# How it is used ---------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))


def build(start, stop):
    return X * (1 + np.arange(start, stop))[:, None, None]


@pytest.fixture
def made(monkeypatch):
    """Take rows at once where that is not refused, else batched; list of the forms that were traced."""
    forms = []
    monkeypatch.setattr(
        rowwise, "cheapest", lambda rows, call, single, batched, form, stacked: "stacked" if stacked else "batched"
    )
    for form in (Mapped, Single, Stacked):

        def init(self, *arguments, form=form, original=form.__init__):
            forms.append(form.__name__)
            original(self, *arguments)

        monkeypatch.setattr(form, "__init__", init)
    return forms


def evaluate(f, count=60):
    values = RowValues(f, [tf.constant(X)], 0, as_array(f(tf.constant(X))))
    blocks = list(values.blocks(build, count))
    assert [start for start, _ in blocks] == list(np.cumsum([0, *(len(b) for _, b in blocks)])[:-1])
    return np.concatenate([block for _, block in blocks]), values.notes


def exactly(f, count=60):
    return np.stack([as_array(f(tf.constant(row))) for row in build(0, count)])


def mixed(x):
    """Nothing of a row stays where it was; all of it depends on all of the row."""
    centred = (x - tf.reduce_mean(x, 0)) / tf.math.reduce_std(x)
    return tf.nn.softmax(tf.transpose(centred) @ x[:, ::-1])


def test_rows_are_those_of_f(made):
    def f(x):
        return mixed(x)

    for _ in range(2):
        got, notes = evaluate(f)
        np.testing.assert_allclose(got, exactly(f), rtol=1e-12)  # some ten operations
        assert notes == []
    assert made == ["Single", "Stacked"]


@pytest.mark.parametrize("count", [1, 8, 9, 10, 61, 300])
def test_any_number_of_rows(count, made):
    got, _ = evaluate(lambda x: mixed(x), count)
    np.testing.assert_allclose(got, exactly(mixed, count), rtol=1e-12)


def next_row(kernel, rows, *inputs):
    """A rule that is wrong: half of each row is taken from the next one."""
    (found,) = kernel(*inputs)
    return (found + tf.roll(found, -1, 0)) / 2


def test_a_rule_that_mixes_rows_is_found_out(made, monkeypatch):
    monkeypatch.setitem(TABLE, "Tanh", Operation("Tanh", rows=next_row))

    def f(x):
        return tf.tanh(x / 60)

    np.testing.assert_allclose(evaluate(f)[0], exactly(f), rtol=1e-14)
    assert made == ["Single", "Stacked", "Mapped"]


def test_functions_that_are_called_are_followed(made):
    variable = tf.Variable(2.0, dtype=tf.float64)

    @tf.function
    def inner(x, y):
        return tf.sin(x) * variable, y - tf.reduce_sum(x, 0)

    @tf.function
    def outer(x):
        a, b = inner(x, 2 * x)
        c, d = inner(b, tf.ones_like(x))  # the same graph once more
        return a * c + d

    def f(x):
        return outer(x) + inner(x, x)[0]

    np.testing.assert_allclose(evaluate(f)[0], exactly(f), rtol=1e-12)
    assert made == ["Single", "Stacked"]


def test_what_was_refused_is_not_tried_again(made):
    def f(x):
        return tf.cond(x[0, 0] > 0, lambda: tf.sin(x), lambda: x)

    for _ in range(3):
        np.testing.assert_allclose(evaluate(f)[0], exactly(f), rtol=1e-14)
    assert sorted(made) == ["Mapped", "Single", "Stacked"]


def test_a_remembered_form_that_fails_gives_way(made, monkeypatch):
    def f(x):
        return tf.sin(x)

    evaluate(f)
    monkeypatch.setattr(Stacked, "bind", _fails)
    np.testing.assert_allclose(evaluate(f)[0], exactly(f), rtol=1e-14)
    assert made == ["Single", "Stacked", "Mapped"]


def _fails(*_):
    raise Unmapped("no memory")


def random_number(x):
    return x * float(np.random.default_rng().uniform(1, 2))


def test_what_is_another_function_when_traced_is_called_in_a_loop(made):
    _, notes = evaluate(random_number)
    assert len(notes) == 1
    assert "was called in a loop, once per row: its traced form gives another value at x" in notes[0]


def test_variables_and_held_arguments_are_read_anew(made):
    variable = tf.Variable(2.0, dtype=tf.float64)

    def f(x, y):
        return tf.sin(x) * variable + y

    for factor in (1.0, 5.0):
        variable.assign(factor)
        tensors = [tf.constant(X), tf.constant(X * factor)]
        values = RowValues(f, tensors, 0, as_array(f(*tensors)))
        got = np.concatenate([block for _, block in values.blocks(build, 30)])
        np.testing.assert_allclose(got, exactly(lambda x, y=tensors[1]: f(x, y), 30), rtol=1e-14)
    assert made == ["Single", "Stacked"]


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of rows that went through a form together."""
    found = []
    original = Stacked._run
    monkeypatch.setattr(Stacked, "_run", lambda self, rows, held: found.append(len(rows)) or original(self, rows, held))
    return found


@pytest.mark.parametrize("most", [2, 7, 1000])
def test_at_most_so_many_rows_at_a_time(most, made, sizes):
    values = RowValues(mixed, [tf.constant(X)], 0, mixed(tf.constant(X)).numpy())
    got = np.concatenate([block for _, block in values.blocks(build, 50, most)])
    np.testing.assert_allclose(got, exactly(mixed, 50), rtol=1e-12)
    assert max(sizes) <= most


def test_rows_that_take_too_much_memory_are_fewer_at_once(made, sizes, monkeypatch):
    def wide(x):
        return tf.reduce_sum(tf.ones((200, 1, 1), x.dtype) * x, axis=0)

    monkeypatch.setattr(rowwise, "BUDGET", 12 * 3 * 200 * 12 * 8)  # twelve rows, three times the widest tensor
    got, _ = evaluate(lambda x: wide(x))
    np.testing.assert_allclose(got, exactly(wide), rtol=1e-13)  # 200 terms
    assert max(sizes) == 12


def test_the_way_follows_from_rows_and_the_time_of_a_call():
    single, batched, stacked = Cost((0.01, 10), (1e-5, 0.2)), Cost((0.1, 10), (0, 0)), Cost((0.02, 10), (1e-5, 0))
    assert cheapest(10, 1e-4, single, batched, None, stacked) == "loop"
    assert cheapest(30, 1e-3, single, batched, None, stacked) == "single"
    assert cheapest(500, 1e-3, single, batched, None, stacked) == "stacked"
    assert cheapest(500, 1e-3, single, batched, None, None) == "batched"
    assert cheapest(100000, 1e-3, single, batched, None, stacked) == "batched"
