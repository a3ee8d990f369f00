"""A recording at another point: the same operations again, without a look at the graph, or one anew where f differs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast.tape.recorded as module
from fdfast.tape import Recorded

WEIGHT = tf.Variable([1.0, -2.0, 0.5])
X, OTHER = np.array([0.3, 0.7, -1.2]), np.array([1.1, -0.4, 0.9])


def recorded(f, dtype=tf.float32):
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = f(x)
        return value, [tape.gradient(value, x)]

    return Recorded(tf.function(both, input_signature=[tf.TensorSpec([3], dtype)]).get_concrete_function(), [0])


@pytest.fixture
def never_compiled(monkeypatch):
    monkeypatch.setattr(module, "_MAKING", 1e9)


def recordings(whole, monkeypatch):
    """Points at which the graph is followed."""
    made, plain = [], whole.recorder
    monkeypatch.setattr(whole, "recorder", lambda arguments: made.append(arguments) or plain(arguments))
    return made


SAME = {
    "smooth": lambda x: tf.reduce_sum(tf.tanh(x) * WEIGHT),
    "kinked": lambda x: tf.reduce_max(tf.nn.relu(x) * WEIGHT),
    "loop": lambda x: tf.reduce_sum(tf.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, tf.sin(s) * x), (0, x))[1]),
    "branch": lambda x: tf.cond(tf.reduce_sum(WEIGHT) > -9, lambda: tf.reduce_sum(x**2), lambda: tf.reduce_sum(x)),
    "softmax loss": lambda x: tf.nn.softmax_cross_entropy_with_logits(tf.constant([0.0, 1.0, 0.0]), x * WEIGHT),
}


@pytest.mark.parametrize("name", SAME)
def test_operations_run_again_and_give_what_a_recording_gives(name, never_compiled, monkeypatch):
    whole, anew = recorded(SAME[name]), recorded(SAME[name])
    whole.point([X]).tape  # noqa: B018
    made = recordings(whole, monkeypatch)
    found, wanted = whole.point([OTHER]), anew.point([OTHER])
    assert found.value == wanted.value
    np.testing.assert_array_equal(found.gradients[0], wanted.gradients[0])
    assert made == []
    for one, other in zip(found.tape.values, wanted.tape.values, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.tape.entries is whole.point([X]).tape.entries


def test_variables_are_read_as_they_are_then(never_compiled, monkeypatch):
    weight = tf.Variable([1.0, 2.0, 3.0])
    whole = recorded(lambda x: tf.reduce_sum(weight * tf.nn.softmax(x)))
    before = whole.point([X])
    first = before.value
    weight.assign([3.0, 2.0, 1.0])
    made = recordings(whole, monkeypatch)
    assert whole.point([X]).value == pytest.approx(4.0 - first, rel=1e-15)  # of softmax the sum is one
    assert before.value == first
    assert made == []


ANEW = {
    "another branch": lambda x: tf.cond(x[0] > 1, lambda: tf.reduce_sum(x**2), lambda: tf.reduce_sum(tf.exp(x))),
    "another number of turns": lambda x: tf.reduce_sum(
        tf.while_loop(lambda s: s[0] < 5, lambda s: (s + tf.abs(x) + 0.1,), (x,))[0]
    ),
    "another shape": lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0.5) ** 2),
}


@pytest.mark.parametrize("name", ANEW)
def test_where_f_goes_another_way_it_is_recorded(name, never_compiled, monkeypatch):
    whole, anew = recorded(ANEW[name]), recorded(ANEW[name])
    whole.point([X]).tape  # noqa: B018
    made = recordings(whole, monkeypatch)
    assert whole.point([OTHER]).value == anew.point([OTHER]).value
    assert len(made) == 1


def test_random_numbers_are_drawn_as_a_recording_draws_them(never_compiled, monkeypatch):
    whole = recorded(lambda x: tf.reduce_sum(x * tf.random.uniform([3], seed=1)))
    whole.point([X]).tape  # noqa: B018
    made = recordings(whole, monkeypatch)
    whole.point([OTHER]).tape  # noqa: B018
    assert len(made) == 1
