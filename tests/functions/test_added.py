"""What layers add to a loss: counted by a call, which Keras' own layers do not need."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from fdfast.functions import terms_added

ROW = np.ones((1, 3), np.float32)
CALLS: list[str] = []


class Adds(layers.Layer):
    def call(self, x):
        CALLS.append(self.name)
        self.add_loss(x[0, 0])
        return x


def patched():
    layer, plain = layers.Dense(2), layers.Dense.call
    layer.call = lambda x, training=None: layer.add_loss(x[0, 0]) or plain(layer, x)
    return layer


MODELS = {
    "own layers": (lambda: [layers.Dense(4, "relu"), layers.Reshape((2, 2)), layers.Bidirectional(layers.LSTM(2))], 0),
    "activity regularizer": (lambda: [layers.Dense(4, activity_regularizer="l2")], 1),
    "deep within": (lambda: [keras.Sequential([layers.Dense(4, activity_regularizer="l2")]), layers.Dense(2)], 1),
    "kernel regularizer": (lambda: [layers.Dense(4, kernel_regularizer="l2")], 0),
    "layer for it": (lambda: [layers.ActivityRegularization(0.1)], 1),
    "one's own": (lambda: [Adds(), layers.Dense(2)], 1),
    "a cell's": (lambda: [layers.Reshape((1, 3)), layers.RNN(layers.LSTMCell(2)), Adds()], 1),
    "patched": (lambda: [patched()], 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_terms_are_counted(name, monkeypatch):
    inner, terms = MODELS[name]
    model = keras.Sequential([keras.Input((3,)), *inner()])
    called, call = [], keras.Sequential.call
    monkeypatch.setattr(keras.Sequential, "call", lambda self, *a, **k: called.append(self) or call(self, *a, **k))
    assert terms_added(model, ROW) == terms
    assert (model in called) is (terms > 0 or name not in ("own layers", "kernel regularizer"))
