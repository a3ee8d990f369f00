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

from fdfast.functions.captures import captures

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
def test_captures_differ_after_a_change_and_only_then(f, change):
    before = captures(f)
    assert before is not None
    assert captures(f) == before
    change()
    assert captures(f) != before


def test_what_reads_a_generator_cannot_be_told():
    assert captures(reads_a_generator) is None


def test_recursive_functions_losses_and_models_can_be_told():
    def f(x, n=2):
        return x if n == 0 else f(x, n - 1)

    loss = keras.losses.CategoricalCrossentropy()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    for one in (f, lambda x: loss(x, model(x)), model, tf.function(f)):
        before = captures(one)
        assert before is not None
        assert captures(one) == before


def test_a_replaced_model_is_seen_and_not_kept_alive():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def f(x):
        return model(x)

    before, gone = captures(f), weakref.ref(model)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert captures(f) != before
    gc.collect()
    assert gone() is None
