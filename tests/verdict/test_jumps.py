"""f jumps at x: that is said whatever looks at it, and a kink is none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast

X = np.array([0.3, 1.5, 0.7, 2.0])

#: name: (f, elements that it jumps at, size)
JUMPS = {
    "round": (lambda x: tf.reduce_sum(x + tf.round(x)), [1], "1"),
    "floor": (lambda x: tf.reduce_sum(x + tf.floor(x)), [3], "1"),
    "sign": (lambda x: tf.reduce_sum(x + tf.sign(x - 1.5)), [1], "1"),
    "heaviside": (lambda x: tf.reduce_sum(tf.experimental.numpy.heaviside(x - 1.5, 0.5) * x), [1], "0.75"),
    "where": (lambda x: tf.reduce_sum(tf.where(x >= 1.5, x, 0 * x)), [1], "1.5"),
    "comparison": (lambda x: tf.reduce_sum(x * tf.cast(x > 1.5, x.dtype)), [1], "1.5"),
    "two that would cancel": (lambda x: tf.round(x[1]) - tf.round(x[1] + 0 * x[0]) + tf.floor(x[3]) + x[2], [3], "1"),
}
WAYS = {
    "batch": {"check": "every"},
    "tape": {"check": "every", "engine": "tape"},
    "directions": {"check": "directions"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_is_named(name, way):
    f, where, size = JUMPS[name]
    report = fdfast.gradcheck(f, X, **WAYS[way])
    assert np.flatnonzero(report.classes == "singular").tolist() == where, str(report)
    assert report.verdict == "inconclusive"
    assert f"f jumps at x, by {size} at most" in str(report).replace("\n", " ").replace("    ", " ")


@pytest.mark.parametrize("way", WAYS)
def test_a_kink_is_no_jump(way):
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(tf.where(x > 1.5, x - 1.5, 0 * x)), X, **WAYS[way])
    assert report, str(report)
    assert "jumps" not in str(report)


def test_a_steep_kink_is_no_jump():
    report = fdfast.gradcheck(lambda x: 1e6 * tf.reduce_sum(tf.nn.relu(x - 1.5)), X, engine="tape")
    assert report, str(report)


@pytest.mark.parametrize("way", WAYS)
def test_beside_the_jump_all_is_well(way):
    f, _, _ = JUMPS["floor"]
    assert fdfast.gradcheck(f, X + 0.01, **WAYS[way])
