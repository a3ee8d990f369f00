"""Models: an object or a file, on its way to where it is needed."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdfast.model_files import import_modules, load_model


def model_of(model: Any, imports: Iterable[str], *, compiled: bool) -> Any:
    """Return a Keras model; a path is loaded in Keras' safe mode.

    Raises
    ------
    BadFile
        The file cannot be used.
    TypeError
        It is no Keras model.
    """
    import_modules(imports)
    if isinstance(model, str | os.PathLike):
        return load_model(Path(model), compiled=compiled)
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model must be a Keras model or a .keras file, got {type(model).__name__}; for a callable, loop over "
            "fdfast.gradcheck(f, x)"
        )
    return model


def input_shape(model: Any) -> tuple[int | None, ...] | None:
    """Shape of one example, as far as the model knows it.

    Raises
    ------
    ValueError
        It has several inputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    if len(inputs) > 1:
        raise ValueError(
            f"the model has {len(inputs)} inputs; a sweep takes models with one. fdfast.gradcheck(model, [x1, x2], y) "
            "checks several"
        )
    return tuple(inputs[0].shape[1:])


def threads_of() -> int:
    """Number of threads that TensorFlow's operations use: autodiff adds in an order that depends on it."""
    import tensorflow as tf

    asked = int(tf.config.threading.get_intra_op_parallelism_threads())
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or count


@dataclass(frozen=True)
class Packed:
    """A model as bytes, with the classes that Keras does not know.

    Attributes
    ----------
    content : bytes
        Of a ``.keras`` file.
    custom : bytes
        Pickled: classes and functions by name.
    """

    content: bytes
    custom: bytes


def packed(model: Any, pickle: Any) -> Packed:
    """Pack a model for another process; `pickle` is a module that can take classes of the main script along."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        with warnings.catch_warnings():
            # Keras, on NumPy 2, where it saves weights.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            model.save(path)
        return Packed(path.read_bytes(), pickle.dumps(_own_of(model)))


def unpacked(found: Packed) -> Any:
    """Load a packed model. It comes from a process of the user's own, so its code may run."""
    import pickle

    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(found.content)
        return keras.saving.load_model(path, custom_objects=pickle.loads(found.custom), safe_mode=False)


def _own_of(model: Any) -> dict[str, Any]:
    """Classes of layers, and the loss, that are not from Keras, by the names that a file has for them."""
    import keras

    pieces = [model, *model._flatten_layers(include_self=False, recursive=True), getattr(model, "loss", None)]
    found = {}
    for one in pieces:
        kind = one if hasattr(one, "__qualname__") else type(one)
        if kind.__module__.split(".")[0] not in ("keras", "builtins"):
            found[kind.__name__] = kind
            found[keras.saving.get_registered_name(kind)] = kind
    return found
