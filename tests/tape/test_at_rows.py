"""Operations at many rows: from a recording of what ran eagerly, and from graphs with loops, calls and branches."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.operations import TABLE, Operation, Unmapped
from fdfast.tape import Moving, NoTape, Recording, key_of, replayed

ROWS = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")


def recorded(f, x):
    with Recording() as recording:
        y = f(x)
    return recording, y


def at_rows(f, rows=ROWS):
    x = tf.constant(rows[0])
    recording, y = recorded(f, x)
    moving = Moving(recording.steps, key_of(x), [key_of(y)])
    return moving, moving(rows, recording.tensors)[0]


@tf.function
def loop(x):
    y = x
    for _ in tf.range(3):
        y = tf.tanh(y) + x
    return y


@tf.function
def branch(x):
    return tf.cond(tf.reduce_sum(x) > 1e6, lambda: x * 2, lambda: tf.sin(x))


@tf.function
def switched(x):
    return tf.switch_case(tf.constant(1), [lambda: x, lambda: x**3, lambda: -x])


@tf.function
def collected(x):
    return tf.map_fn(lambda row: tf.sin(row) * 2, x)


@tf.function
def nested(x):
    return loop(x) + branch(x * 2)


def unruled(x):
    return tf.linalg.diag(tf.math.cumulative_logsumexp(x, 1))


FUNCTIONS = {
    "plain": lambda x: tf.sin(x) * tf.constant(2.0) + tf.reduce_sum(x, 0),
    "of its shape": lambda x: tf.reshape(x, [tf.shape(x)[1], -1]),
    "several outputs": lambda x: tf.unstack(x)[1] * tf.split(x, 3)[0],
    "without a rule": unruled,
    "loop": loop,
    "branch": branch,
    "switch": switched,
    "lists in a loop": collected,
    "calls": nested,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_together_are_rows_one_by_one(name):
    f = FUNCTIONS[name]
    _, got = at_rows(f)
    wanted = np.stack([f(tf.constant(row)).numpy() for row in ROWS])
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)  # some ten operations in float32


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_replay_gives_the_same_digits(name):
    f, x = FUNCTIONS[name], tf.constant(ROWS[0])
    recording, y = recorded(f, x)
    again = replayed(recording.steps, {key_of(x): tf.constant(ROWS[1])}, key_of(y), recording.tensors)
    # A traced function is rewritten before it runs: x**3 becomes x * x * x, a unit in the last place away.
    np.testing.assert_allclose(again, f(tf.constant(ROWS[1])), rtol=5e-7, atol=0)


def test_what_does_not_move_is_not_run():
    _, found = at_rows(lambda x: tf.sin(tf.stop_gradient(x * 0.0 + 1.0)[:1] * 0 + tf.ones([3, 2])))
    assert found.shape == (5, 3, 2)
    x = tf.constant(ROWS[0])
    recording, y = recorded(lambda x: tf.ones([2]) * 3, x)
    still = Moving(recording.steps, key_of(x), [key_of(y)])
    assert still.moves == [False]
    assert still(ROWS, recording.tensors) == [None]


def test_rows_that_part_ways_are_refused():
    rows = np.stack([ROWS[0], ROWS[0] + 1e7])
    with pytest.raises(Unmapped, match="rows take different branches"):
        at_rows(branch, rows)


@tf.function
def random_inside(x):
    return x + tf.random.normal([])


@pytest.mark.parametrize(
    "f",
    [lambda x: tf.nn.dropout(x, 0.5), lambda x: tf.py_function(tf.sin, [x], tf.float32), random_inside],
    ids=["random", "Python", "random in a call"],
)
def test_what_keeps_state_is_said(f):
    recording, _ = recorded(f, tf.constant(ROWS[0]))
    with pytest.raises(Unmapped, match="keeps state or draws random numbers"):
        recording.require_pure()


def test_a_function_that_is_compiled_by_xla_is_refused():
    recording, _ = recorded(tf.function(tf.sin, jit_compile=True), tf.constant(ROWS[0]))
    with pytest.raises(Unmapped, match="compiled by XLA"):
        recording.require_pure()


def test_variables_of_calls_are_read():
    variable = tf.Variable(2.0)

    @tf.function
    def f(x):
        return x * variable

    _, got = at_rows(f)
    np.testing.assert_array_equal(got, ROWS * 2)


def test_nothing_is_traced_anew_and_nothing_stays():
    traces = []

    @tf.function
    def f(x):
        traces.append(1)
        return tf.sin(x)

    f(tf.constant(ROWS[0]))
    at_rows(f)
    assert traces == [1]
    with pytest.raises(ZeroDivisionError), Recording() as recording:
        raise ZeroDivisionError
    tf.sin(1.0)
    assert recording.steps == []


def test_a_rule_that_fails_gives_way_to_rows_one_by_one(monkeypatch):
    def refuses(kernel, rows, *inputs):
        raise Unmapped("not here")

    monkeypatch.setitem(TABLE, "Sin", Operation("Sin", rows=refuses))
    np.testing.assert_allclose(at_rows(tf.sin)[1], np.sin(ROWS), rtol=1e-6)


def test_outputs_of_different_shapes_are_refused():
    with pytest.raises((Unmapped, NoTape), match="shapes"):
        at_rows(lambda x: tf.where(x > 0))
