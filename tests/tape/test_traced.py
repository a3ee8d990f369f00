"""Traced functions called by the operation that runs them."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast import _core
from fdfast.tape.traced import Traced, shared

ROWS = tf.TensorSpec([None, 2], tf.float64)
NUMBER = tf.TensorSpec([], tf.float64)


def traced(f: Any, *specs: Any, **options: Any) -> Traced:
    return Traced(tf.function(f, input_signature=specs or [ROWS, NUMBER], autograph=False), **options)


@pytest.mark.parametrize("branches", [False, True])
def test_python_code_is_rewritten_only_where_it_cannot_be_traced(branches: bool) -> None:
    ran = []

    def f(x: Any, y: Any) -> Any:
        ran.append(inspect.currentframe().f_code.co_filename)  # type: ignore[union-attr]
        if branches and tf.reduce_sum(x) > 0:
            y = -y
        return x * y

    run = traced(f)
    three = tf.constant(3.0, tf.float64)
    for sign in (1.0, -1.0):
        x = sign * tf.ones([1, 2], tf.float64)
        np.testing.assert_array_equal(run(x, three), x * (-3 if branches and sign > 0 else 3))
    assert ran[0] == __file__
    assert (ran[-1] == __file__) is not branches


def test_nothing_is_rewritten_in_a_first_check() -> None:
    files = set()

    def loss(y: Any, p: Any) -> Any:
        files.update(frame.filename for frame in inspect.stack(0))
        return tf.reduce_sum(tf.square(y - p), -1)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    x, y = np.ones(3, np.float32), np.ones(2, np.float32)
    for wrt in ("input", "weights"):
        assert fdfast.gradcheck(model, x, y, loss=loss, check="every", wrt=wrt).verdict == "pass"
    assert not [name for name in files if "autograph_generated" in name]


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_nested_arguments_and_results(rows: int, optimised: bool) -> None:
    held = tf.Variable([3.0, 4.0], dtype=tf.float64)

    def f(points: Any, context: dict[str, Any]) -> dict[str, Any]:
        return {"b": [points * held, tf.shape(points)], "a": points + context["y"]}

    run = traced(f, ROWS, {"y": NUMBER}, optimised=optimised)
    x = np.arange(2.0 * rows).reshape(rows, 2)
    found = run(tf.constant(x), {"y": tf.constant(0.5, tf.float64)})
    np.testing.assert_array_equal(found["b"][0], x * [3, 4])
    np.testing.assert_array_equal(found["b"][1], [rows, 2])
    np.testing.assert_array_equal(found["a"], x + 0.5)
    held.assign([1.0, 1.0])
    np.testing.assert_array_equal(run(tf.constant(x), {"y": tf.constant(0.0, tf.float64)})["b"][0], x)


def test_without_fusing_where_a_fused_kernel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = tf.raw_ops.StatefulPartitionedCall, []

    def call(*, config_proto: bytes, **arguments: Any) -> Any:
        options = tf.compat.v1.ConfigProto.FromString(config_proto).graph_options.rewrite_options
        seen.append(options.remapping == options.OFF)
        if not seen[-1]:
            raise tf.errors.InvalidArgumentError(None, None, "No OpKernel for _FusedConv2D")
        return original(config_proto=config_proto, **arguments)

    monkeypatch.setattr(tf.raw_ops, "StatefulPartitionedCall", call)
    run = traced(lambda x, y: x * y)
    x, two = tf.ones([1, 2], tf.float64), tf.constant(2.0, tf.float64)
    before = tf.config.optimizer.get_experimental_options()
    for _ in range(2):
        np.testing.assert_array_equal(run(x, two), [[2, 2]])
    assert seen == [False, True, True]
    assert tf.config.optimizer.get_experimental_options() == before


@pytest.mark.parametrize("message", ["shape mismatch", "No OpKernel for _FusedConv2D"])
def test_other_errors_and_lasting_ones_are_raised(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def call(**arguments: Any) -> Any:
        raise tf.errors.InvalidArgumentError(None, None, message)

    monkeypatch.setattr(tf.raw_ops, "StatefulPartitionedCall", call)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        traced(lambda x, y: x * y)(tf.ones([1, 2], tf.float64), tf.constant(2.0, tf.float64))


def test_errors_of_the_function_itself() -> None:
    def f(x: Any, y: Any) -> Any:
        tf.debugging.assert_positive(y, "y must be positive")
        return x * y

    with pytest.raises(tf.errors.InvalidArgumentError, match="y must be positive"):
        traced(f)(tf.ones([1, 2], tf.float64), tf.constant(-1.0, tf.float64))


@pytest.mark.parametrize("form", ["aligned", "off by a number", "read-only", "transposed", "empty", "of no axes"])
def test_memory_is_shared_only_where_operations_may_read_it(form):
    """Vector instructions on memory that is not aligned end the process."""
    rows = _core.aligned_empty((65, 64), np.float64)
    rows[...] = np.arange(rows.size).reshape(rows.shape)
    array = {
        "off by a number": rows.reshape(-1)[1:],
        "transposed": rows.T,
        "empty": rows[:0],
        "of no axes": rows[0, 0].reshape(()),
    }.get(form, rows)
    if form == "read-only":
        array.flags.writeable = False
    found = tf.exp(shared(array) * 1e-3)
    np.testing.assert_allclose(found, np.exp(array * 1e-3), rtol=1e-15)  # of both libraries' exponentials
    assert np.shares_memory(np.asarray(memoryview(shared(array))), array) == (form == "aligned")
