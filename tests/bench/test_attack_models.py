"""The defended models of the bench on attacks: each tells digits apart, and has the defect it is named for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from bench.attack.held_out import HELD_OUT, UNSEEN
from bench.attack.models import TRUTH, build
from fdfast.data import mnist_sample


@pytest.mark.parametrize("name", TRUTH)
def test_a_defence_leaves_the_network_its_accuracy_and_hides_its_gradient(name: str) -> None:
    x, labels = mnist_sample(10)
    model, rows = build(name), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        said = model(rows, training=False)
        loss = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy(labels, said))
    # Of ten digits a random defence may cost one or two.
    assert np.mean(said.numpy().argmax(axis=1) == labels) >= 0.8
    gradient, random = tape.gradient(loss, rows), bool((model(rows, training=False).numpy() != said.numpy()).any())
    assert random == (TRUTH[name] == "random")
    assert (gradient is None) == (TRUTH[name] == "staircase")


@pytest.mark.parametrize(
    "name", ["cut off, 16 values", "8-bit numbers", "ripples", "pixels left out", "a fifteenth wins"]
)
def test_models_held_out_are_what_they_are_named_for(name: str) -> None:
    x, labels = mnist_sample(10)
    held = (HELD_OUT | UNSEEN)[name]
    model, rows = held.make(), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        said = model(rows, training=False)
    assert np.mean(said.numpy().argmax(axis=1) == labels) >= 0.7
    gradient, random = tape.gradient(said, rows), bool((model(rows, training=False).numpy() != said.numpy()).any())
    assert random == (held.truth == "random")
    assert (gradient is None or not np.any(gradient)) == (held.truth == "staircase")
