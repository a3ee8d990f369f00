"""The table of rules, and operations run eagerly."""

from __future__ import annotations

import pytest
import tensorflow as tf

from fdfast.functions.kernels import Kernel, rule
from fdfast.functions.over_rows import Unmapped


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
    (found,) = Kernel(operation(run))(*map(tf.constant, inputs))
    assert found.numpy().tolist() == wanted


def test_attributes_may_change():
    kernel = Kernel(operation(lambda: tf.raw_ops.Pack(values=[1.0, 2.0], axis=0)))
    (found,) = kernel(tf.constant([1.0]), tf.constant([2.0]), axis=1)
    assert found.numpy().tolist() == [[1.0, 2.0]]
    assert kernel.attributes == {"axis": 0}


def test_a_rule_is_registered_once():
    with pytest.raises(ValueError, match="Conv2D has a rule already"):
        rule("Conv2D")(lambda *_: None)


def test_an_operation_with_other_arguments_is_refused():
    op = operation(lambda: tf.raw_ops.Select(condition=[True], x=[1.0], y=[2.0]))
    with pytest.raises(Unmapped, match="Select takes other arguments in Python"):
        Kernel(op)
