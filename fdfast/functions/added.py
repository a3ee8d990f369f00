"""What a model adds to its loss: terms of layers, and penalties of weights."""

from __future__ import annotations

import math
import weakref
from typing import Any

import keras
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.captures import own_classes
from fdfast.functions.unchanged import Present, present

_known: weakref.WeakKeyDictionary[Present, int] = weakref.WeakKeyDictionary()


def terms_added(model: keras.Model, row: npt.NDArray[Any]) -> int:
    """Number of terms that layers add in inference mode (`add_loss`, activity regularizers).

    A model of which that cannot be told from its layers is called once, with one example in front of which stands an
    axis of one, and again when it has changed.
    """
    state = present(model)
    if state not in _known and _adds_none(model):
        _known[state] = 0
    if state not in _known:
        dtype = model.inputs[0].dtype if getattr(model, "inputs", None) else row.dtype
        training = {"training": False} if getattr(model, "_call_has_training_arg", True) else {}
        with keras.StatelessScope(collect_losses=True) as scope:
            model(tf.cast(tf.constant(row), dtype), **training)
        state = present(model)  # a model that is called for the first time is built by that
        _known[state] = len(scope.losses)
    return _known[state]


def _adds_none(model: keras.Model) -> bool:
    """Whether all layers are Keras' own, of which none adds anything unless an activity regularizer is set."""
    return not any(
        isinstance(layer, keras.layers.Lambda)  # which runs code of the user's own
        or "call" in vars(layer)
        or getattr(layer, "activity_regularizer", None) is not None
        or any(own_classes(layer))
        for layer in (model, *model._flatten_layers())
    )


def penalised(model: keras.Model) -> list[str]:
    """Paths of trainable variables whose size is added to the loss."""
    return [v.path for v in model.trainable_variables if getattr(v, "regularizer", None) is not None]


def weights_of(model: keras.Model) -> int:
    """How many numbers there are in the trainable variables."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)
