"""Gradients of which rounding has taken the digits: never called wrong, and what is wrong beside them still is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

W = np.random.default_rng(5).normal(size=(10, 30))


def far(digits: float, seed: int) -> Any:
    """An x at which the softmax of W x is within 10^-digits of its target."""
    x = np.random.default_rng(seed).normal(size=30)
    z = W @ x
    return x + W[0] * (z.max() - z[0] + digits * np.log(10)) / (W[0] @ W[0])


LOSSES: dict[str, Callable[[Any], Any]] = {
    "of logits": lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(0, z),
    "log": lambda z: -tf.math.log(tf.nn.softmax(z)[0]),
    "square": lambda z: (1 - tf.nn.softmax(z)[0]) ** 2,
}


def loss(name: str, factor: float = 1.0) -> Callable[[Any], Any]:
    @tf.custom_gradient
    def same(z: Any) -> Any:
        return tf.identity(z), lambda up: factor * up

    return lambda x: LOSSES[name](same(tf.linalg.matvec(tf.constant(W, x.dtype), x)))


@pytest.mark.parametrize("check", ["directions", "every"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("digits", "seed"), [(4, 0), (9, 1), (12, 2), (12, 3), (14, 4), (16, 5), (18, 6)])
def test_a_saturated_softmax_is_no_fault(check: str, name: str, digits: float, seed: int) -> None:
    report = fdfast.gradcheck(loss(name), far(digits, seed), check=check)
    assert report.verdict == "pass" if digits < 9 else report.verdict != "fail"
    # By 12 digits of 16 the gradient has four left, of which a tolerance of 1e-4 asks for all.
    # By 16 no digit is left, and nothing is to be seen at all.
    assert report.verdict == "pass" or digits > 14 or "rounding alone" in " ".join(report.reasons)


@pytest.mark.parametrize("check", ["directions", "every"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("digits", [0, 6, 10])
def test_a_fault_before_it_is_found(check: str, name: str, digits: float) -> None:
    # By 10 digits rounding is up to some 1e-6 of the gradient, far below the fault.
    report = fdfast.gradcheck(loss(name, 1.01), far(digits, 7), check=check)
    assert report.verdict == "fail"
    assert report.culprit == "same"


def test_where_directions_add_rounding_up_every_element_is_looked_at_by_itself() -> None:
    model = fdfast.datasets.mnist_cnn()
    x, labels = fdfast.datasets.mnist_sample(156)
    one_hot = np.eye(10)[labels]
    # A digit that the network is sure of to eleven digits.
    report = fdfast.gradcheck(model, x[155], one_hot[155], check="directions")
    assert report.verdict == "pass"
    assert report.directed.each
    assert "each by itself" in " ".join(str(report).split())
    # The control, one element off by 1 %, as an array and by a function.
    wrong = report.analytic.copy()
    at = np.unravel_index(np.argmax(np.abs(wrong) * ~report.near), wrong.shape)
    wrong[at] *= 1.01
    found = fdfast.gradcheck(model, x[155], one_hot[155], check="directions", analytic=wrong)
    assert found.verdict == "fail"
    assert found.classes[at] == "wrong"


def by_hand(x: Any, target: int, dtype: Any = np.float64) -> Any:
    """W^T (p - onehot), without TensorFlow: another rounding than that of autodiff."""
    z = (W @ x).astype(dtype)
    p = np.exp(z - z.max())
    p /= p.sum()
    p[target] -= 1
    return W.T @ p.astype(np.float64)


def by_sums(x: Any, target: int) -> Any:
    """The same without cancellation: p of the target minus one is minus the sum of all others."""
    z = W @ x
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    p[target] = -np.delete(p, target).sum()
    return W.T @ p


@pytest.mark.parametrize("check", ["directions", "every"])
@pytest.mark.parametrize("digits", [10, 11, 12, 13, 16, 17, 21])
@pytest.mark.parametrize("own", [by_hand, by_sums])
def test_an_array_is_accused_of_what_rounding_cannot_have_made(own: Any, digits: float, check: str) -> None:
    model = keras.Sequential([keras.Input((30,), dtype="float64"), keras.layers.Dense(10, dtype="float64")])
    model.set_weights([W.T, np.zeros(10)])
    x = np.stack([far(0, 0), far(digits, 7), far(digits, 8)])
    right = np.stack([own(one, target) for one, target in zip(x, [0, 0, 0], strict=True)])
    wrong = right.copy()
    wrong[1, np.argmax(np.abs(right[1]))] *= 1.1
    how = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "check": check}
    for given, bad in ((right, False), (wrong, True))[: 2 if digits < 14 else 1]:  # beyond, no digit is left
        reports = [fdfast.gradcheck(model, x[i], 0, analytic=given[i], **how) for i in range(3)]
        if check == "every":
            reports += list(fdfast.gradcheck(model, x, [0, 0, 0], analytic=given, **how))
        assert [one.verdict == "fail" for one in reports] == [False, bad, False] * (len(reports) // 3)


@pytest.mark.parametrize("wrt", ["input", "weights"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_graph_keeps_the_digits_that_f_has(from_logits: bool, wrt: str) -> None:
    """TensorFlow reorders sums and products of a graph: 1 - sigmoid(30) has three digits, sigmoid(-30) all."""
    loss = keras.losses.BinaryCrossentropy(from_logits=from_logits)
    head = keras.layers.Dense(2, activation=None if from_logits else "sigmoid", use_bias=False)
    model = keras.Sequential([keras.Input((3,)), head])
    model.set_weights([np.full((3, 2), 100.0)])
    for scale in (0.1, 0.1, 0.1, 0.1, 1.33, 1.33):  # a graph is made of the first ones; then products may underflow
        report = fdfast.gradcheck(model, scale * np.ones(3), [1, 1], loss=loss, wrt=wrt, check="directions")
        assert report.verdict == "pass"
    assert 0 < np.abs(report.parts[0].analytic).max() < 1e-100


@pytest.mark.parametrize("check", ["directions", "every"])
@pytest.mark.parametrize("digits", [2, 6, 9, 11, 13, 14, 16, 17, 20])
def test_what_right_parts_add_up_to_is_no_fault(check: str, digits: int) -> None:
    """TensorFlow's own loss of logits: its gradient is 1 - 1 + 10^-digits, of which each part is right."""

    def f(x: Any, factor: float = 1.0) -> Any:
        @tf.custom_gradient
        def same(z: Any) -> Any:
            return tf.identity(z), lambda up: factor * up

        return tf.nn.sigmoid_cross_entropy_with_logits(tf.ones((), x.dtype), same(tf.reduce_sum(x)))

    x = np.array([0.5, 0.3, 0.2]) * digits * np.log(10)
    report = fdfast.gradcheck(f, x, check=check)
    assert report.verdict == ("pass" if digits < 11 else report.verdict) != "fail"
    if digits < 11:
        assert fdfast.gradcheck(f, x, check=check, factor=1.01).verdict == "fail"


OF_LOGITS: dict[str, Callable[[Any, Any], Any]] = {
    "Keras' own": lambda y, z: keras.losses.binary_crossentropy(tf.cast(y, z.dtype), z, from_logits=True),
    "TensorFlow's": lambda y, z: tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(y, z.dtype), z), -1),
    "1 - p": lambda y, z: tf.reduce_sum(1 - tf.sigmoid(z), -1),
}


@pytest.mark.parametrize(("check", "wrt"), [("every", "input"), ("every", "weights"), ("directions", "input")])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_loss_of_one_s_own_of_a_confident_model_is_no_fault(name: str, check: str, wrt: str) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.full((3, 2), 100.0)])
    for scale in (*[0.06] * 6, 0.1, 0.13):  # logits of 18 to 39; graphs are made of the first ones
        report = fdfast.gradcheck(model, scale * np.ones(3), [1, 1], loss=OF_LOGITS[name], check=check, wrt=wrt)
        assert report.verdict == "pass" if name != "1 - p" or scale < 0.1 else report.verdict != "fail"
