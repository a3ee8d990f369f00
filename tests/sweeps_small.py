"""A small model and data, for the tests of sweeps; importable by processes of their own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

SHAPE, CLASSES = (4, 4, 1), 3


def small_model(seed: int = 1, *layers: Any) -> Any:
    """A network of 3 classes whose gradients are smooth."""
    keras.utils.set_random_seed(seed)
    front = [keras.layers.Conv2D(2, 3, activation="tanh"), *layers, keras.layers.Flatten()]
    model = keras.Sequential([keras.Input(SHAPE), *front, keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(loss="categorical_crossentropy")
    return model


def examples(count: int = 10) -> tuple[Any, Any]:
    """Images and targets."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(count, *SHAPE)).astype(np.float32)
    return x, np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, count)]


def rows(sweep: Any) -> Any:
    """What must be the same wherever it was computed: all but the time."""
    return sweep.table.drop(["seconds"])
