"""Gradients written by hand: all that they read is seen, so that a recording of them is kept, and never an old one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions.unchanged import present

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
FACTOR = [1.0]


@tf.custom_gradient
def scaled(x):
    return 2.0 * x, lambda g: 2.0 * FACTOR[0] * g


class Scaled(keras.layers.Layer):
    def call(self, x):
        return scaled(x)


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Scaled(), keras.layers.Dense(1)])


def test_a_gradient_written_by_hand_is_no_reason_to_record_anew():
    assert present(model()).complete


@pytest.mark.parametrize("check", ["every", "directions"])
@pytest.mark.parametrize("wrap", ["model", "function"])
def test_a_backward_pass_that_reads_something_else_by_now_is_seen(wrap, check):
    made = model()
    f = made if wrap == "model" else lambda x: tf.reduce_sum(scaled(x) ** 2)
    options = {"y": np.ones((3, 1)), "loss": "mse"} if wrap == "model" else {}
    try:
        assert fdfast.gradcheck(f, X, check=check, **options).verdict == "pass"
        FACTOR[0] = 0.5
        assert fdfast.gradcheck(f, X, check=check, **options).verdict == "fail"
    finally:
        FACTOR[0] = 1.0
    assert fdfast.gradcheck(f, X, check=check, **options).verdict == "pass"
