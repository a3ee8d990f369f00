"""What a function reads: equal as long as it reads the same."""

from __future__ import annotations

import functools
import gc
import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions.captures import read
from fdfast.functions.sight import in_sight
from fdfast.functions.unchanged import present

SETTING = 1.0


def reads_a_global(x):
    return x * SETTING


def reads_a_module(x):
    return x * MODULE.scale


MODULE = types.ModuleType("settings_of_a_test")
MODULE.scale = 1.0


def reads_a_generator(x, generator=np.random.default_rng(0)):  # noqa: B008
    return x * generator.uniform()


NAMED = {"a": np.ones(2)}


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale

    def method(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    ("f", "change"),
    [
        (reads_a_global, lambda: globals().__setitem__("SETTING", 2.0)),
        (lambda x: reads_a_global(x), lambda: globals().__setitem__("SETTING", 3.0)),
        (reads_a_module, lambda: setattr(MODULE, "scale", 2.0)),
        (scaled := Scaled(1.0), lambda: setattr(scaled, "scale", 2.0)),
        (scaled.method, lambda: setattr(scaled, "scale", 3.0)),
        (functools.partial(lambda x, a: x * a[0], a=(listed := [1, 2])), lambda: listed.append(3)),
        (lambda x, a=NAMED: x * a["a"], lambda: NAMED["a"].__setitem__(1, 5.0)),
    ],
)
def test_a_state_is_another_one_after_a_change_and_only_then(f, change):
    before = present(f)
    assert before.complete
    assert present(f) is before
    change()
    assert present(f) is not before


def test_what_reads_a_generator_cannot_be_told():
    assert not present(reads_a_generator).complete


def test_recursive_functions_losses_and_models_can_be_told():
    def f(x, n=2):
        return x if n == 0 else f(x, n - 1)

    loss = keras.losses.CategoricalCrossentropy()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    for one in (f, lambda x: loss(x, model(x)), model, tf.function(f)):
        before = present(one)
        assert before.complete
        assert present(one) is before


def test_a_replaced_model_is_seen_and_not_kept_alive():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def f(x):
        return model(x)

    before, gone = present(f), weakref.ref(model)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert present(f) is not before
    gc.collect()
    assert gone() is None


class Doubled(keras.layers.Layer):
    """Code of one's own that reads what is looked at."""

    FACTOR = 2.0

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def call(self, x):
        return x * self.FACTOR * self.scale + helper(x)


class Trained(keras.layers.Layer):
    def call(self, x):
        return x * 2.0 if self.trainable else x


class Counting(keras.layers.Layer):
    def call(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return x


def helper(x):
    return tf.reduce_sum(x, keepdims=True)


def late(x):
    import settings_of_a_test

    return x * settings_of_a_test.scale


def reads_a_file(x):
    with open("scale.txt") as file:
        return x * float(file.read())


def alone(layer):
    return keras.Sequential([keras.Input((4,)), layer])


def around(model):
    return lambda x: keras.losses.mse(np.zeros((1, 4)), model(x[None]))


def noisy(x, draw=np.random.default_rng):
    return x * draw(0).random()


def by_a_made_up_name(layer):
    return lambda x: x * getattr(layer, "sc" + "ale")


def with_its_terms(model):
    return lambda x: model(x) + sum(model.losses)


IN_SIGHT = {
    "a layer of one's own": (lambda: alone(Doubled()), True),
    "a loss around a model": (lambda: around(alone(Doubled())), True),
    "a custom gradient": (lambda: tf.custom_gradient(lambda x: (x, lambda up: up)), True),
    "a layer of Keras": (lambda: alone(keras.layers.Dense(3)), True),
    "a partial": (lambda: functools.partial(helper), True),
    "whether it is trained": (lambda: alone(Trained()), False),
    "what it counts": (lambda: alone(Counting()), False),
    "a module": (lambda: reads_a_module, False),
    "a module, late": (lambda: late, False),
    "a file": (lambda: reads_a_file, False),
    "random numbers": (lambda: noisy, False),
    "a class": (lambda: lambda x: x * Scaled.scale, False),
    "an object": (lambda: Scaled(1.0), False),
    "an attribute by a made-up name": (lambda: by_a_made_up_name(Doubled()), False),
    "terms of a model": (lambda: with_its_terms(alone(Doubled())), False),
}


@pytest.mark.parametrize("name", IN_SIGHT)
def test_code_of_ones_own_is_run_again_where_it_may_read_what_nobody_sees(name):
    make, expected = IN_SIGHT[name]
    found = make()
    assert in_sight(read(found, 20_000).seen) == expected
    assert present(found).in_sight == expected
