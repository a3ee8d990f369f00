"""Rows one by one through a trace: when that is chosen, when it is given up, and that its numbers are f's own."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions import rowwise
from fdfast.functions.over_rows import Mapped, as_array
from fdfast.functions.rowwise import RowValues
from fdfast.functions.single import Cost, Single, cheapest, pays
from fdfast.operations import Unmapped

X = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))
WEIGHTS = tf.constant(np.random.default_rng(1).normal(size=(4, 5)))
SINGLE, BATCHED = Cost((0.01, 10), (1e-5, 0.2)), Cost((0.1, 10), (0, 0))


def rows(start, stop):
    """Rows of which each is X times a number of its own."""
    return X * (1 + np.arange(start, stop))[:, None, None]


def product(x):
    return tf.tanh(x @ WEIGHTS)


@pytest.fixture
def made(monkeypatch):
    """Always start one by one; list of the forms that were traced."""
    forms = []
    monkeypatch.setattr(rowwise, "cheapest", lambda rows, *_: "single" if rows else "loop")
    for form in (Mapped, Single):

        def init(self, *arguments, form=form, original=form.__init__):
            forms.append(form.__name__)
            original(self, *arguments)

        monkeypatch.setattr(form, "__init__", init)
    return forms


def evaluate(f, count=60):
    values = RowValues(f, [tf.constant(X)], 0, as_array(f(tf.constant(X))))
    return np.concatenate([block for _, block in values.blocks(rows, count)]), values.notes


def exactly(f, count=60):
    return np.stack([as_array(f(tf.constant(row))) for row in rows(0, count)])


@pytest.mark.parametrize(
    ("count", "call", "way"),
    [(10, 1e-4, "loop"), (500, 1e-5, "loop"), (200, 1e-3, "single"), (2000, 1e-3, "batched"), (0, 1.0, "loop")],
)
def test_the_way_follows_from_rows_and_the_time_of_a_call(count, call, way):
    assert cheapest(count, call, SINGLE, BATCHED, None) == way


def test_a_trace_that_is_there_counts_by_its_own_time():
    form = Single(product, [tf.TensorSpec(X.shape, tf.float64)])
    assert cheapest(20, 1e-3, SINGLE, BATCHED, None) == "loop"
    form.seconds = 1e-4
    assert cheapest(20, 1e-3, SINGLE, BATCHED, form) == "single"
    assert pays(1000, form, 1e-3, BATCHED)
    form.seconds = 1e-2
    assert cheapest(20, 1e-3, SINGLE, BATCHED, form) == "loop"
    assert not pays(1000, form, 1e-3, BATCHED)


def test_values_are_those_of_plain_calls_by_one_trace(made):
    def f(x):
        return product(x)

    for _ in range(2):
        got, notes = evaluate(f)
        np.testing.assert_allclose(got, exactly(f), rtol=1e-15, atol=0)  # the same kernels, not batched
        assert notes == []
        assert made == ["Single"]


@pytest.mark.parametrize("count", [9, 17, 60])
def test_what_takes_too_long_alone_goes_on_batched(count, made, monkeypatch):
    monkeypatch.setattr(rowwise, "pays", lambda *_: False)
    got, notes = evaluate(lambda x: product(x), count)
    np.testing.assert_allclose(got, exactly(product, count), rtol=1e-13)  # another order of four terms
    assert notes == []
    assert made[0] == "Single"


def random_number(x):
    return x * float(np.random.default_rng().uniform(1, 2))


def asks(x):
    return x * 2 if bool(tf.reduce_sum(x) > 0) else x


def test_what_is_another_function_when_traced_is_refused(made):
    _, notes = evaluate(random_number)
    assert len(notes) == 1
    assert "gives another value at x" in notes[0]


def test_what_cannot_be_traced_is_called_in_a_loop_and_that_is_said(made):
    for _ in range(2):
        got, notes = evaluate(asks)
        np.testing.assert_array_equal(got, exactly(asks))
        assert "asks was called in a loop, once per row: TensorFlow cannot trace it" in notes[0]
    assert made.count("Single") == 1  # that it cannot be is remembered


def test_what_f_reads_may_change(made):
    factor = [2.0]

    def f(x):
        return x * factor[0]

    for factor[0] in (2.0, 3.0):
        np.testing.assert_array_equal(evaluate(f)[0], exactly(f))
    assert made == ["Single", "Single"]


def test_an_operation_that_fails_is_unmapped():
    form = Single(lambda i: tf.linalg.inv(i), [tf.TensorSpec((2, 2), tf.float64)])
    with pytest.raises(Unmapped, match="cannot run its traced form"):
        form(tf.zeros((2, 2), tf.float64))


def test_functions_are_not_kept_alive(made):
    f = lambda x: product(x)  # noqa: E731
    evaluate(f)
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert gone() is None
