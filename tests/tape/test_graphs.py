"""Graphs of differences where units tie, cross and jump: they tell what eager differences tell."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast.tape.recorded as module
from tests.tape.test_recorded import STEP, recorded

X = np.array([0.0, 0.5, -1.0, 0.0])
V = np.concatenate([np.eye(4), [[1.0, -1.0, 0.5, -0.25]]])


def jump(x):
    """Ten thousand, but where x is zero."""
    return 1e4 * tf.reduce_sum(tf.cast(x != 0, x.dtype)) - 2e4 + x


#: What follows a jump must be right for moves of any size.
TIED = {
    "relu": lambda x: tf.reduce_sum(tf.nn.relu(x) * [1.0, 2.0, 3.0, 4.0]),
    "relu6 behind a jump": lambda x: tf.reduce_sum(tf.nn.relu6(jump(x) / 1e4)),
    "sigmoid behind a jump": lambda x: tf.reduce_sum(tf.sigmoid(jump(x) - 1.0)),
    "tanh behind a jump": lambda x: tf.reduce_sum(tf.tanh(jump(x) * 1e-4)),
    "softplus behind a jump": lambda x: tf.reduce_sum(tf.math.softplus(jump(x))),
    "erf behind a jump": lambda x: tf.reduce_sum(tf.math.erf(jump(x) * 1e-4)),
    "arctangent behind a jump": lambda x: tf.reduce_sum(tf.atan(jump(x))),
    "cube behind a jump": lambda x: tf.reduce_sum((jump(x) * 1e-4) ** 3),
    "power behind a jump": lambda x: tf.reduce_sum((jump(x) + 3e4) ** 0.5),
    "digamma behind a jump": lambda x: tf.reduce_sum(tf.math.digamma(jump(x) + 2.5e4)),
    "softmax behind a jump": lambda x: tf.nn.softmax(tf.stack([jump(x)[0] * 1e-4, x[1], x[2]]))[1],
    "a mask over an axis": lambda x: tf.reduce_sum(
        tf.where(tf.reduce_any(tf.reshape(x, [2, 2]) != 0, 1), tf.reduce_sum(tf.sin(tf.reshape(x, [2, 2])), 1), 3.0)
    ),
    "pool": lambda x: tf.reduce_sum(tf.nn.max_pool1d(tf.reshape(x, [1, 4, 1]), 2, 2, "VALID")),
    "largest of equals": lambda x: tf.reduce_max(-tf.abs(x)),
    "staircase": lambda x: tf.reduce_sum(tf.floor(x) * [1.0, 2.0, 3.0, 4.0] + x),
    "choice": lambda x: tf.gather(x + 3, tf.argmax(-tf.abs(x))) * x[1],
}


@pytest.mark.parametrize("name", TIED)
def test_a_graph_tells_what_eager_differences_tell(name, monkeypatch):
    whole = recorded(lambda x: tf.cast(TIED[name](x), x.dtype), X)
    for steps in ([STEP, -STEP], [1.0, -0.75]):
        monkeypatch.setattr(module, "_MAKING", 1e9)
        eager = whole.point([X]).slopes({0: V}, steps)
        monkeypatch.setattr(module, "_MAKING", 0.0)
        made = whole.point([X]).slopes({0: V}, steps)
        assert len(whole._compiled) > 0
        # One unit in the last place: sums may be taken in another order.
        np.testing.assert_allclose(made.value, eager.value, rtol=1e-15)
        for kind in ("ties", "crossings"):
            assert [n for n, _ in getattr(made, kind)] == [n for n, _ in getattr(eager, kind)]
            for (_, a), (_, b) in zip(getattr(made, kind), getattr(eager, kind), strict=True):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(made.equal, eager.equal)
        np.testing.assert_array_equal(made.kinked, eager.kinked)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_elements_that_an_exact_comparison_tells_apart(mode, monkeypatch):
    """Of arguments and of a variable; neither what is compared, but unequal, nor what is equal, but fixed."""
    w = tf.Variable([0.0, 1.0, 2.0, 2.0])

    def f(x):
        pruned = tf.cast(tf.convert_to_tensor(w) != 2.0, tf.float32)
        return tf.reduce_sum(tf.where(x == 0, 1.0, x) * pruned) * tf.cast(tf.constant(1.0) == 1.0, tf.float32)

    whole = recorded(f, X, dtype=tf.float32, variables=[w])
    monkeypatch.setattr(module, "_MAKING", 0.0 if mode == "compiled" else 1e9)
    assert whole.point([X]).value == 1.5
    for _ in range(2):
        point = whole.point([X])
        if mode == "eager":
            assert len(point.tape.compared) == 2
        found = point.equal([0, 1])
        assert {place: mask.tolist() for place, mask in found.items()} == {
            0: [True, False, False, True],
            1: [False, False, True, True],
        }
        # The first and the last number of x and the last two weights decide otherwise; the weights' moves of x do not.
        decided = point.switched({0: np.eye(4)})
        assert decided.any(1).tolist() == [True, False, False, True]
        assert len(np.unique(decided, axis=0)) == 3
        assert point.switched({1: np.eye(4)}).any(1).tolist() == [False, False, True, True]
    assert whole.point([X + 1]).equal([0]) == {0: pytest.approx([False, False, True, False])}
    assert {("equal", (0, 1)), ("switched", (0,), 4)} <= {*whole._compiled} or mode == "eager"
    assert recorded(lambda x: tf.reduce_sum(x), X).point([X]).equal([0]) == {}


#: Cells of a maximum that are equal: by pools, by an axis, and by hand.
EQUALS = {
    "pool": lambda x: tf.reduce_sum(tf.nn.max_pool2d(tf.reshape(x, [1, 2, 2, 1]), 2, 2, "VALID")),
    "maximum": lambda x: tf.reduce_max(x),
    "minimum": lambda x: -tf.reduce_min(x),
}


@pytest.mark.parametrize("name", EQUALS)
def test_equal_cells_that_move_alike_are_smooth(name, monkeypatch):
    """One graph does: the quick one, of what has no kink; where they part, it is not right, and the other one is."""
    whole, x = recorded(EQUALS[name], np.ones(4)), np.ones(4)
    monkeypatch.setattr(module, "_MAKING", 0.0)
    assert whole.point([x]).value == pytest.approx(abs(EQUALS[name](tf.constant(x)).numpy()) * (-1) ** ("min" in name))
    alike, apart = np.full((1, 4), 0.5), np.array([[0.5, 0.5, 0.5, 0.25]])
    sign = -1 if name == "minimum" else 1
    np.testing.assert_array_equal(whole.point([x]).slopes({0: alike}, [STEP]).value, [[0.5 * sign]])
    assert [key[-1] for key in whole._compiled if len(key) == 4] == [False]
    found = whole.point([x]).slopes({0: apart}, [STEP])
    np.testing.assert_array_equal(found.value, [[-0.25 if name == "minimum" else 0.5]])
    assert len(found.ties) == 1


def test_what_no_quick_graph_is_right_for_gets_the_other_one(monkeypatch):
    """Also where nothing ties: a move longer than the way to a kink, but the other way."""
    whole, x = recorded(lambda x: tf.reduce_sum(tf.nn.relu(x)), np.array([1.0, -2.0])), np.array([1.0, -2.0])
    monkeypatch.setattr(module, "_MAKING", 1e-9)
    v, steps = np.array([[0.5, -3.0]]), [1.0]
    for made in ([], [], [False], [False, True]):
        assert [key[-1] for key in whole._compiled if len(key) == 4] == made
        found = whole.point([x]).slopes({0: v}, steps)
        np.testing.assert_array_equal(found.value, [[0.5]])
        assert (found.ties, found.crossings) == ([], [])
