"""The table of rules, and operations run eagerly."""

from __future__ import annotations

import pytest
import tensorflow as tf

from fdfast.operations import Kernel, Unmapped, for_rows


def operation(run):
    """The operation that makes a tensor, in a graph of its own."""
    with tf.Graph().as_default():
        return run().op


@pytest.mark.parametrize(
    ("run", "inputs", "wanted"),
    [
        # The axis is called reduction_indices in the graph and axis in Python.
        (lambda: tf.raw_ops.Sum(input=[[1.0, 2.0]], axis=1), ([[3.0, 4.0]], 1), [7.0]),
        (lambda: tf.raw_ops.ConcatV2(values=[[1.0], [2.0]], axis=0), ([5.0], [6.0], 0), [5.0, 6.0]),
        (lambda: tf.raw_ops.Squeeze(input=[[1.0]], axis=[1]), ([[8.0]],), [8.0]),
    ],
)
def test_an_operation_runs_with_other_inputs(run, inputs, wanted):
    (found,) = Kernel.of(operation(run))(*map(tf.constant, inputs))
    assert found.numpy().tolist() == wanted


def test_attributes_may_change():
    kernel = Kernel.of(operation(lambda: tf.raw_ops.Pack(values=[1.0, 2.0], axis=0)))
    (found,) = kernel(tf.constant([1.0]), tf.constant([2.0]), axis=1)
    assert found.numpy().tolist() == [[1.0, 2.0]]
    assert kernel.attributes == {"axis": 0}


def test_a_rule_is_registered_once():
    with pytest.raises(ValueError, match="Conv2D has a rule already"):
        for_rows("Conv2D")(lambda *_: None)


def test_a_second_rule_names_the_first():
    with pytest.raises(ValueError, match=r"has a rule already \(rows, .*products.py:\d+\)"):
        for_rows("Conv2D")(lambda *_: None)


def test_an_operation_of_another_program_is_refused():
    with pytest.raises(Unmapped, match="MyOwnOperation is no operation of TensorFlow's own"):
        Kernel("MyOwnOperation", {})


def test_arguments_with_other_names_in_python_find_their_place():
    op = operation(lambda: tf.raw_ops.Select(condition=[True, False], x=[1.0, 1.0], y=[2.0, 2.0]))
    (found,) = Kernel.of(op)(tf.constant([False, True]), tf.constant([5.0, 6.0]), tf.constant([7.0, 8.0]))
    assert found.numpy().tolist() == [7.0, 6.0]


def test_lifted_is_in_float64():
    op = operation(lambda: tf.raw_ops.Cast(x=[1], DstT=tf.float32))
    assert Kernel.of(op).lifted()(tf.constant([3]))[0].dtype == tf.float64
    assert Kernel.of(op)(tf.constant([3]))[0].dtype == tf.float32
