"""Shares of the gap: over all parts they add up to that of the whole, and only what is wrong has one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import flat_callable, flat_model, gaps, recorded
from fdfast.verdict import culprits

L = keras.layers
RNG = np.random.default_rng(0)


def own(forward: Any, factor: float = 1.0) -> Any:
    """A layer with a hand-written gradient: that of autodiff, times a factor."""

    @tf.custom_gradient
    def by_hand(x):
        def backward(g):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = forward(x)
            return factor * tape.gradient(y, x, g)

        return forward(x), backward

    return L.Lambda(by_hand, name="own")


@tf.custom_gradient
def matmul_by_hand(x, w):
    y = x @ w
    return y, lambda g: (g @ tf.transpose(w), tf.transpose(x) @ g * 1.01)


@keras.saving.register_keras_serializable("shares")
class OwnDense(L.Layer):
    """Its gradient is wrong for the weights only."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x):
        return matmul_by_hand(x, tf.convert_to_tensor(self.w))


def plain(*middle: Any) -> keras.Model:
    return keras.Sequential([
        keras.Input((6, 6, 2)), L.Conv2D(3, 3, name="first", activation="tanh"), *middle, L.Flatten(name="flat"),
        L.Dense(3, name="last"),
    ])  # fmt: skip


def branching() -> keras.Model:
    x = keras.Input((6, 6, 2))
    one = L.Conv2D(2, 3, padding="same", name="first")(x)
    two = own(tf.tanh, 1.1)(one)
    z = L.Add(name="add")([L.Multiply(name="gate")([one, two]), x])
    return keras.Model(x, L.Dense(3, name="last")(L.GlobalAveragePooling2D(name="mean")(z)))


def shared() -> keras.Model:
    x = keras.Input((6, 6, 2))
    layer = own(tf.tanh, 0.9)
    z = layer(L.Conv2D(2, 3, padding="same", name="first")(layer(x)))
    return keras.Model(x, L.Dense(3, name="last")(L.Flatten(name="flat")(z)))


#: A model, and who is to blame
MODELS: dict[str, tuple[Any, list[str]]] = {
    "right": (lambda: plain(L.BatchNormalization(), L.MaxPooling2D()), []),
    "right by hand": (lambda: plain(own(tf.tanh)), []),
    "wrong in the middle": (lambda: plain(own(tf.tanh, 1.01), L.LayerNormalization()), ["own"]),
    "wrong, and passed by": (branching, ["own"]),
    "wrong, and called twice": (shared, ["own"]),
    "wrong for the weights": (lambda: plain(L.Flatten(), OwnDense(name="dense")), ["dense"]),
    "recurrent": (lambda: plain(L.Reshape((4, 12)), L.LSTM(3), L.RepeatVector(2)), []),
    "attention": (lambda: plain(L.Reshape((4, 12)), L.LayerNormalization(), Attends(name="attends")), []),
}


@keras.saving.register_keras_serializable("shares")
class Attends(L.MultiHeadAttention):
    """Attention of a sequence to itself."""

    def __init__(self, **options):
        super().__init__(num_heads=2, key_dim=3, **options)

    def build(self, shape):
        super().build(shape, shape)

    def call(self, x):
        return super().call(x, x)

    def compute_output_shape(self, shape):
        return shape

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def told(model: Any, wrt: str) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Shares; D(v) - g.v of the whole, and the size of what is added up in it."""
    x, y = RNG.normal(size=(2, 6, 6, 2)), RNG.normal(size=(2, 3))
    flat = flat_model(model, x, y, "mse", mean=True)
    first = len(flat.arguments)
    places = [0] if wrt == "input" else [*range(first, first + len(flat.variables))]
    point = recorded(flat).point(flat.points())
    g = point.gradients
    v = {place: RNG.normal(size=(3, *g[place].shape)) for place in places}
    gap = point.slopes(v, [2.0**-100]).value[0] - sum((v[p] * g[p]).reshape(3, -1).sum(1) for p in places)
    size = sum(np.abs(v[p] * g[p]).reshape(3, -1).sum(1) for p in places)
    return gaps(flat, flat.points(), v, [model]), gap, size


@pytest.mark.parametrize("wrt", ["input", "weights"])
@pytest.mark.parametrize("name", MODELS)
def test_shares_add_up_to_the_whole_and_only_what_is_wrong_has_one(name, wrt):
    make, wrong = MODELS[name]
    found, gap, size = told(make(), wrt)
    # Every part rounds, float64: some 1e-16 of what is added up in it.
    rounding = 1e-14 * sum(one.size for one in found)
    assert (np.abs(sum(one.value for one in found) - gap) <= rounding).all()
    if name == "wrong for the weights" and wrt == "input":
        wrong = []
    assert culprits(found).names == wrong
    assert (np.abs(gap) > 1e-4 * size).all() == bool(wrong)
    for one in found:
        if one.unit.name not in wrong:
            assert (np.abs(one.value) <= 1e-13 * one.size).all(), one.unit.name


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, []), (1.5, ["by_hand"])])
def test_functions_without_a_layer(factor, wrong):
    @tf.custom_gradient
    def by_hand(x):
        return tf.exp(x), lambda g: factor * g * tf.exp(x)

    def f(x):
        return tf.reduce_sum(tf.sin(x["a"]) * by_hand(x["b"]))

    x = {"a": RNG.normal(size=4), "b": RNG.normal(size=4)}
    flat = flat_callable(f, x, {})
    found = gaps(flat, flat.points(), {0: RNG.normal(size=(2, 4)), 1: RNG.normal(size=(2, 4))}, [])
    assert culprits(found).names == wrong
    # Moved along what is right alone, nothing is wrong.
    assert culprits(gaps(flat, flat.points(), {0: RNG.normal(size=(2, 4))}, [])).names == []


def test_a_gradient_that_is_not_finite_is_laid_to_the_last_that_was_given_finite_ones():
    model = keras.Sequential([
        keras.Input((3,)), L.Dense(3, name="first", kernel_initializer="zeros"),
        L.Lambda(lambda z: tf.norm(z, axis=-1, keepdims=True), name="norm"), L.Dense(1, name="last"),
    ])  # fmt: skip
    flat = flat_model(model, np.ones((1, 3)), np.ones((1, 1)), "mse", mean=True)
    for moved in ({0: RNG.normal(size=(2, 1, 3))}, {2: RNG.normal(size=(2, 3, 3))}):  # x, and the first kernel
        assert culprits(gaps(flat, flat.points(), moved, [model])).names == ["norm"]


def test_a_part_whose_units_tie_is_no_culprit_beside_one_that_is():
    """A column of zeros: its unit sits on the kink of a ReLU whatever x is, and moves with its own weights."""

    @tf.custom_gradient
    def doubled(x):
        return tf.tanh(x), lambda up: 2 * up * (1 - tf.tanh(x) ** 2)

    class Doubled(keras.layers.Layer):
        def call(self, x):
            return doubled(x)

    def alone(first):
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(3, name="before")
        layers = [first, dense, keras.layers.ReLU(name="tied"), keras.layers.Dense(2, name="after")]
        model = keras.Sequential([keras.Input((4,)), *layers])
        kernel = dense.kernel.numpy()
        kernel[:, 1] = 0
        dense.kernel.assign(kernel)
        return fdfast.gradcheck(model, np.linspace(0.2, 0.9, 4), [0.3, 0.1], loss="mse", wrt="all", check="directions")

    report = alone(Doubled(name="guilty"))
    assert report.verdict == "fail"
    assert report.culprit == "guilty"
    assert alone(keras.layers.Activation("tanh")).counts["wrong"] == 0
