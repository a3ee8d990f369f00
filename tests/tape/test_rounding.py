"""Random rounding: what is rounded moves by a unit in the last place at most, and what is exact not at all."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.operations import Kernel
from fdfast.tape.rounding import Rounding

X = tf.constant([0.1, 1 / 3, -0.7, 1e-300, 12.5], tf.float64)
ONE, ZERO = tf.ones_like(X), tf.zeros_like(X)

#: Operation, its inputs, and whether no digit is lost.
CASES = {
    "negation": ("Neg", [X], True),
    "choice": ("Relu", [X], True),
    "product with one": ("Mul", [X, -ONE], True),
    "product with nothing": ("Mul", [X, ZERO], True),
    "product": ("Mul", [X, X], False),
    "sum with nothing": ("AddV2", [X, ZERO], True),
    "sum with itself": ("AddV2", [X, X], True),
    "what cancels": ("Sub", [X, X], True),
    "sum": ("AddV2", [X, tf.constant(np.pi, tf.float64)], False),
    "difference": ("Sub", [ONE, X], False),
    "exponential": ("Exp", [X], False),
    "product of matrices": ("MatMul", [X[:, None], X[None]], False),
}


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_rounded_moves(case):
    kind, inputs, exact = CASES[case]
    kernel = Kernel(kind, {"transpose_a": False, "transpose_b": False} if kind == "MatMul" else {})
    (value,) = kernel(*inputs)
    moved = [Rounding(seed)(kernel, inputs, value).numpy() for seed in range(20)]
    for one in moved:
        np.testing.assert_allclose(one, value, rtol=1.51 * 2.0**-52, atol=0)  # storing it rounds by half a unit
    changed = np.any([one != value.numpy() for one in moved], axis=0)
    assert changed.any() != exact
    again = Rounding(3)(kernel, inputs, value).numpy()
    np.testing.assert_array_equal(again, moved[3])


def test_every_operation_draws_anew():
    rounding, kernel = Rounding(0), Kernel("Exp", {})
    (value,) = kernel(X)
    first, second = rounding(kernel, [X], value).numpy(), rounding(kernel, [X], value).numpy()
    assert (first != second).any()
