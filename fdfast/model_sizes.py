"""What a model from a file would take, seen before any of it is made: a line of its configuration can ask for all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fdfast.files import BadFile, refuse_claim

_UNROLLED = 4096  # steps of a loop that is written out, each with operations of its own


def check_sizes(config: dict[str, Any], limit: int, what: str, *, old: bool = False) -> None:
    """Make a Keras model without its numbers, and raise `BadFile` where these would be more than `limit` bytes.

    Weights, and the outputs of every layer for one example, are counted by their shapes. In a scope without state Keras
    keeps the initializers of weights for later, and layers are called on shapes alone.

    Parameters
    ----------
    config : dict
        As Keras writes it into a file.
    limit : int
    what : str
        Name of the file in messages.
    old : bool
        Whether it is that of an HDF5 file, which Keras reads in another way.

    Raises
    ------
    BadFile
        It asks for more, or cannot be made.
    Exception
        Whatever Keras raises for a configuration that it cannot read.
    """
    for one in dicts(config):
        if one.get("unroll") is True and _longest(config) > _UNROLLED:
            raise BadFile(f"{what} has a layer that writes out a loop (unroll) of {_longest(config):,} steps, too many")
    # Keras remembers weights without a value, by thread, and gives them one at the next chance: they end with this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_made, config, limit, what, old=old).result()


def _made(config: dict[str, Any], limit: int, what: str, *, old: bool) -> None:
    import keras

    plain = {name: value for name, value in config.items() if name != "compile_config"}  # an optimizer has weights, too
    with keras.StatelessScope(initialize_variables=False):
        model = _old(plain) if old else keras.saving.deserialize_keras_object(plain, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise BadFile(f"{what} holds a {type(model).__name__}, not a Keras model")
        refuse_claim(sum(_bytes(v.shape, v.dtype) for v in model.variables), limit, f"{what}, with its weights,")
        for layer in model._flatten_layers():
            for shape in _outputs(layer):
                refuse_claim(_bytes(shape, "float32"), limit, f"{what}, with the output of {layer.name!r},")


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts in a configuration."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from dicts(one)


def _old(config: dict[str, Any]) -> Any:
    from keras.src.legacy.saving.saving_utils import model_from_config  # what loads HDF5 files; it has no public name

    return model_from_config(config)


def _longest(config: dict[str, Any]) -> int:
    shapes = [v for one in dicts(config) for name, v in one.items() if "shape" in str(name) and isinstance(v, list)]
    return max((n for shape in shapes for n in shape if isinstance(n, int)), default=0)


def _bytes(shape: Any, dtype: str) -> int:
    import keras

    width = 8 if dtype in ("float64", "int64", "uint64", "complex64") else 4
    return width * math.prod(max(1, n) for n in keras.tree.flatten(tuple(shape)) if isinstance(n, int))


def _outputs(layer: Any) -> list[tuple[int | None, ...]]:
    import keras

    nodes = getattr(layer, "_inbound_nodes", [])
    return [tuple(tensor.shape) for node in nodes for tensor in keras.tree.flatten(node.outputs)]
