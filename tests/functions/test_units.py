"""Functions cut into parts: every layer a part by its name, hand-written gradients apart, no way out and in again."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions import flat_callable, flat_model, namer
from fdfast.functions.naming import layer_scope
from fdfast.functions.units import cut

L = keras.layers
RNG = np.random.default_rng(0)


@tf.custom_gradient
def swish(x):
    return x * tf.sigmoid(x), lambda g: g * (tf.sigmoid(x) + x * tf.sigmoid(x) * (1 - tf.sigmoid(x)))


@tf.custom_gradient
def twice(x):
    return swish(swish(x)), lambda g: g


class Maths:
    @staticmethod
    @tf.custom_gradient
    def cube(x):
        def backward(g):
            return 3 * g * x**2

        return x**3, backward


def stack(*layers: Any, shape: tuple[int, ...] = (4,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers, L.Flatten(name="flat"), L.Dense(1, name="last")])


def residual() -> keras.Model:
    x = keras.Input((4,))
    y = L.Dense(4, name="one")(x)
    return keras.Model(x, L.Dense(1, name="two")(L.Add(name="add")([x, y])))


def shared() -> keras.Model:
    x = keras.Input((4,))
    dense = L.Dense(4, name="dense", activation="tanh")
    return keras.Model(x, L.Dense(1, name="last")(dense(L.Activation("tanh", name="between")(dense(x)))))


def beside() -> keras.Model:
    x = keras.Input((4,))
    one = L.Dense(4, name="one")(x)
    two = L.Lambda(swish, name="two")(one)  # before `own`, and no part of it
    return keras.Model(x, L.Dense(1, name="last")(L.Add(name="add")([two, L.Lambda(swish, name="own")(one)])))


def units_of(model: Any) -> list[Any]:
    x = RNG.normal(size=(2, *model.input_shape[1:]))
    return cut(flat_model(model, x, np.ones((2, 1)), "mse", mean=True), [model]).units


#: model, and (name, kind, function) of the parts that are layers or have a gradient of their own, in order
MODELS: dict[str, tuple[Any, list[tuple[str, str, str]]]] = {
    "layers": (
        lambda: stack(L.Dense(3, name="a", activation="relu"), L.LayerNormalization(name="b")),
        [("a", "layer", ""), ("b", "layer", ""), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "names with numbers": (
        lambda: stack(L.Dense(3, name="dense_1"), L.Dense(3, name="dense_2"), L.Dense(3, name="dense_1_1")),
        [(name, "layer", "") for name in ("dense_1", "dense_2", "dense_1_1", "flat", "last")],
    ),
    "a model inside": (
        lambda: stack(keras.Sequential([keras.Input((4,)), L.Dense(3, name="inner")], name="inside")),
        [("inner", "layer", ""), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "a gradient by hand in a layer": (
        lambda: stack(L.Lambda(swish, name="own")),
        [("own", "gradient", "swish"), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "the outermost of gradients by hand": (
        lambda: stack(L.Lambda(twice, name="own")),
        [("own", "gradient", "twice"), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "a method": (
        lambda: stack(L.Lambda(Maths.cube, name="own")),
        [("own", "gradient", "cube"), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "what has a layer around it": (
        lambda: stack(L.Lambda(lambda x: tf.exp(swish(x)) * 2, name="own")),
        [("own", "gradient", "swish"), ("own", "layer", ""), ("flat", "layer", ""), ("last", "layer", "")],
    ),
    "what is made between a gradient by hand and its argument": (
        beside,
        [("one", "layer", ""), ("two", "gradient", "swish"), ("own", "gradient", "swish"), ("add", "layer", ""),
         ("last", "layer", "")],
    ),
    "a residual": (residual, [("one", "layer", ""), ("add", "layer", ""), ("two", "layer", "")]),
    "a layer that is called twice": (
        shared, [("dense", "layer", ""), ("between", "layer", ""), ("dense", "layer", ""), ("last", "layer", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_layers_and_gradients_by_hand(name):
    make, expected = MODELS[name]
    found = [(u.name, u.kind, u.function) for u in units_of(make()) if u.kind != "operation"]
    assert found == expected


def test_operations_outside_of_layers_stand_for_themselves():
    def f(x):
        return tf.reduce_sum(tf.sin(x, name="wave") * swish(x))

    units = cut(flat_callable(f, RNG.normal(size=3), {}), []).units
    kinds = {u.name: u.kind for u in units}
    assert kinds["swish"] == "gradient"
    assert kinds["wave"] == "operation"
    assert set(kinds.values()) == {"gradient", "operation"}


@pytest.mark.parametrize("name", MODELS)
def test_parts_can_be_put_in_order(name):
    """No way leads out of a part and in again: each needs only what those before it give, or what nothing gives."""
    units = units_of(MODELS[name][0]())
    made = {t.name for unit in units for t in unit.outputs}
    known: set[str] = set()
    for unit in units:
        needs = {t.op.inputs[0].name for t in unit.inputs if t.op.type == "Identity"}
        assert needs & made <= known
        known |= {t.name for t in unit.outputs}


@pytest.mark.parametrize(
    ("operation", "layer", "call"),
    [
        ("net_1/pool_1_1/MaxPool2d", "pool_1", "net_1/pool_1_1"),
        ("net_1/pool_1/MaxPool2d", "pool_1", "net_1/pool_1"),
        ("net_1/inner_1/deep_1/MatMul", "deep", "net_1/inner_1/deep_1"),
        ("net_1/MatMul", "net", "net_1"),
        ("elsewhere/MatMul_3", "", ""),
        ("deep", "", ""),  # an operation of that name is no layer
    ],
)
def test_the_innermost_layer_gives_the_name(operation, layer, call):
    deep = keras.Sequential([keras.Input((2, 2, 1)), L.Flatten(name="deep")], name="inner")
    net = keras.Sequential([keras.Input((4, 4, 1)), L.MaxPooling2D(name="pool_1"), deep], name="net")
    assert layer_scope([net])(operation) == (layer, call)
    assert namer([net])(operation) == (layer or operation.split("/")[-1].removesuffix("_3"))
