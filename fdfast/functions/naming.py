"""Names of Keras layers from names of operations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import keras

_NUMBER = re.compile(r"_\d+$")


def layer_scope(layers: Sequence[keras.Layer]) -> Callable[[str], tuple[str, str]]:
    """What tells, from an operation's name, the innermost layer that it belongs to, and the call of it.

    Keras enters a layer's scope twice, so that TensorFlow numbers it from the first call on:
    ``"net_1/pool_1_1/MaxPool2d"`` is of ``"pool_1"``, in the call ``"net_1/pool_1_1"``. Both are empty where it is in
    no layer.
    """
    known = {one.name for layer in layers for one in layer._flatten_layers()}

    def scope(operation: str) -> tuple[str, str]:
        parts = operation.split("/")
        for i in range(len(parts) - 2, -1, -1):
            for name in (_NUMBER.sub("", parts[i]), parts[i]):
                if name in known:
                    return name, "/".join(parts[: i + 1])
        return "", ""

    return scope


def namer(layers: Sequence[keras.Layer]) -> Callable[[str], str]:
    """What tells, from an operation's name, its layer; without a layer it is the operation's own name."""
    scope = layer_scope(layers)
    return lambda operation: scope(operation)[0] or _NUMBER.sub("", operation.rsplit("/", 1)[-1])
