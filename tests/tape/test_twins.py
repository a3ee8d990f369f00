"""Large variables in float64: widened once, and again whenever somebody writes to one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import fdfast.tape.recorded as module
from fdfast.tape import Recorded
from fdfast.tape.twins import Twins, in_memory

SIDE = 300  # squared more than what counts as large
X = np.random.default_rng(0).normal(size=SIDE).astype(np.float32).astype(np.float64)


def large(dtype=tf.float32):
    return tf.Variable(np.random.default_rng(1).normal(size=(SIDE, SIDE)) / SIDE, dtype=dtype)


def recorded(weight):
    def both(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            value = tf.reduce_sum(tf.tanh(tf.linalg.matvec(w, x)))
        return value, tape.gradient(value, [x, w])

    def f(x):
        value, (by_x, by_weight) = both(x, tf.cast(weight, tf.float32))
        return value, [by_x, tf.cast(by_weight, weight.dtype)]

    function = tf.function(f, input_signature=[tf.TensorSpec([SIDE], tf.float32)])
    return Recorded(function.get_concrete_function(), [0], [weight])


def exactly(weight):
    w = np.asarray(weight, np.float64)
    return float(np.tanh(w @ X).sum()), (1 - np.tanh(w @ X) ** 2) @ w


def in_place(weight):
    tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=0.5, delta=tf.ones([SIDE, SIDE]) / SIDE)


WRITERS = {
    "assign": lambda w: w.assign(w * 0.7),
    "add": lambda w: w.assign_add(tf.ones([SIDE, SIDE], w.dtype) / SIDE),
    "in a function": lambda w: tf.function(lambda: w.assign(-w))(),
    "in place": in_place,
    "one row": lambda w: w.scatter_update(tf.IndexedSlices(tf.ones([1, SIDE]), [3])),
    "one number": lambda w: w[3, 4].assign(2.0),
}


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", WRITERS)
def test_whatever_writes_is_seen(name, mode, monkeypatch):
    monkeypatch.setattr(module, "_MAKING", 0.0 if mode == "compiled" else 1e9)
    weight = large()
    whole = recorded(weight)
    v = np.ones((1, SIDE))
    for turn in range(4):
        value, gradient = exactly(weight)
        for _ in range(2):  # the second time nobody has written
            point = whole.point([X])
            slopes = point.slopes({0: v}, (2.0**-100,)).value
            assert point.value == pytest.approx(value, rel=1e-12)
            np.testing.assert_allclose(point.gradients[0], gradient, rtol=0, atol=1e-13 * np.abs(gradient).max())
            np.testing.assert_allclose(slopes, gradient.sum(), rtol=1e-12)
        if turn < 3:
            before = weight.numpy()
            WRITERS[name](weight)
            assert name in ("one row", "one number") or (weight.numpy() != before).any()
    assert bool(whole._compiled) is (mode == "compiled")


def test_only_large_narrow_variables_have_a_twin_and_nothing_of_the_caller_s_is_written():
    narrow, wide, small = large(), large(tf.float64), tf.Variable([1.0, 2.0])
    twins, handles = Twins(), {}
    for one in (narrow, wide, small):
        handles[id(one)] = type("Handle", (), {"tensor": one.handle})()
        found = twins.value(id(one), handles[id(one)])
        assert found.dtype == tf.float64
        np.testing.assert_array_equal(found, one.numpy().astype(np.float64))
    assert set(twins._twins) == {id(narrow)}
    before = narrow.numpy()
    twins._twins[id(narrow)].assign_add(tf.ones([SIDE, SIDE], tf.float64))
    np.testing.assert_array_equal(narrow, before)


@pytest.mark.parametrize(("device", "here"), [("CPU:0", True), ("CPU:1", True), ("GPU:0", False), ("TPU:3", False)])
def test_what_is_on_another_device_has_none(device, here):
    where = SimpleNamespace(device=f"/job:localhost/replica:0/task:0/device:{device}")
    assert in_memory(where) is here


def test_a_twin_is_made_under_a_strategy_too():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        weight = large()
        whole = recorded(weight.values[0])
        assert whole.point([X]).value == pytest.approx(exactly(weight)[0], rel=1e-12)
        weight.assign(weight * 0.5)
        assert whole.point([X]).value == pytest.approx(exactly(weight)[0], rel=1e-12)
