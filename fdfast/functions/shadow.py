"""A float64 copy of a Keras model: the same formula, with the rounding out of the way."""

from __future__ import annotations

import contextlib
import random
import re
import textwrap
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fdfast.functions.captures import telling
from fdfast.functions.unchanged import Present, present
from fdfast.functions.variables import Snapshot

_FLOATS = {"float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16"}


@dataclass(eq=False)
class Shadow:
    """A float64 twin of a model and the traced copy of the weights into it.

    Attributes
    ----------
    model : keras.Model
    version : int
        Counts up whenever the weights were found to have changed.
    """

    model: keras.Model
    _pull: Any
    _copied: Snapshot
    version: int = 0

    def refresh(self, original: keras.Model, now: Snapshot | None = None) -> None:
        """Copy the original's weights as they are now; training may have gone on since the last call."""
        if self._copied.touched(now):
            self._copied = Snapshot(original.weights)
            self.version += bool(self._pull())


class NoShadow(Exception):
    """No float64 copy can be made; the message says why."""


_shadows: weakref.WeakKeyDictionary[Any, tuple[Present, Shadow | str]] = weakref.WeakKeyDictionary()


def forget_copy(model: keras.Model) -> None:
    """Drop the float64 copy of a model."""
    _shadows.pop(model, None)


def shadow_of(
    model: keras.Model, shape: tuple[int, ...], now: Snapshot | None = None, state: Present | None = None
) -> Shadow:
    """Return the float64 copy of a model, made once while it reads the same, with its present weights.

    `shape` is that of one example; subclassed models do not know it themselves. `now` holds what was read of the
    model's variables a moment ago, `state` what the model was then.

    The copy is rebuilt from the model's configuration with every floating dtype policy set to float64. It is
    accepted only if its variables match one to one and its output for a random input equals the original's
    to the original's own precision. A layer that casts to float32 and back inside keeps that rounding.

    Raises
    ------
    NoShadow
        The model cannot be rebuilt, or the copy does not compute the same function.
    """
    of_state, known = _shadows.get(model, (None, None))
    if known is None or of_state is not (state or present(model)):
        try:
            known = _make(model, shape)
        except NoShadow as error:
            known = str(error)
        _shadows[model] = present(model), known
    if isinstance(known, str):
        raise NoShadow(known)
    known.refresh(model, now)
    return known


def _make(model: keras.Model, shape: tuple[int, ...]) -> Shadow:
    try:
        sample = tf.constant(np.random.default_rng(0).uniform(size=(2, *shape)), _input_dtype(model))
        original = model(sample, training=False)  # also builds a model that is not built yet, in its own dtype
        known: dict[str, Any] = dict(_custom_classes(model))
        with _rebuilding():
            config = _in_float64(model.get_config(), model, known)
            with keras.saving.custom_object_scope(known):
                twin = type(model).from_config(config)
            output = twin(tf.cast(sample, tf.float64), training=False)
    except Exception as error:  # any layer may refuse, in any way it likes
        raise NoShadow(
            f"{type(model).__name__} {model.name!r} cannot be rebuilt in float64: {_first_words(error)}"
        ) from error
    pairs = _match(model, twin)

    def pull() -> tf.Tensor:
        changed = tf.constant(False)
        for ours, theirs in pairs:
            now = tf.cast(theirs, ours.dtype)
            changed |= tf.reduce_any(now != ours)
            ours.assign(now)
        return changed

    # Traced ahead of the first call, or TensorFlow warns of retracing after a few models.
    refresh = tf.function(pull, autograph=False).get_concrete_function()
    copied = Snapshot(model.weights)
    refresh()
    if pairs:
        output = twin(tf.cast(sample, tf.float64), training=False)
    _compare(model, original, output)
    _compare_attributes(model, twin)
    return Shadow(twin, refresh, copied)


def _first_words(error: Exception) -> str:
    # Keras wraps errors in pages of configuration.
    text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Exception encountered:")[-1]
    text = text.split("Arguments received by")[0].split("Full object config")[0]
    return textwrap.shorten(text, 240, placeholder=" ...") or type(error).__name__


def _match(model: keras.Model, twin: keras.Model) -> list[tuple[tf.Variable, tf.Variable]]:
    ours, theirs = twin.weights, model.weights
    if [tuple(w.shape) for w in ours] != [tuple(w.shape) for w in theirs]:
        raise NoShadow(f"the float64 copy of {model.name!r} has other weights than the model")
    narrow = [w.path for w in ours if str(w.dtype) in _FLOATS]
    if narrow:
        named = ", ".join(narrow[:3])
        raise NoShadow(f"layers of {model.name!r} insist on their own dtype: {named} stay below float64")
    return [(a.value, b.value) for a, b in zip(ours, theirs, strict=True)]


def _compare(model: keras.Model, original: Any, twin_output: Any) -> None:
    for a, b in zip(tf.nest.flatten(original), tf.nest.flatten(twin_output), strict=True):
        if b.dtype != tf.float64:
            raise NoShadow(f"the float64 copy of {model.name!r} returns {b.dtype.name}: a layer casts inside")
        a64 = tf.cast(a, tf.float64).numpy()
        # Rounding of a deep float32 or float16 forward pass; another function differs by far more.
        limit = min(0.5, 1e4 * (2.0**-7 if a.dtype == tf.bfloat16 else float(np.finfo(a.dtype.as_numpy_dtype).eps)))
        scale = np.abs(a64[np.isfinite(a64)]).max(initial=1.0)
        if not np.allclose(a64, b.numpy(), rtol=limit, atol=limit * scale, equal_nan=True):
            raise NoShadow(
                f"the float64 copy of {model.name!r} computes another function than the model: a layer keeps state "
                "outside its weights or its configuration"
            )


def _compare_attributes(model: keras.Model, twin: keras.Model) -> None:
    """Refuse a copy of a layer that was changed since it was made, where its configuration does not say so."""
    both = (one._flatten_layers(include_self=True) for one in (model, twin))
    for ours, theirs in zip(*both, strict=False):
        kept = vars(theirs)
        for name in telling(ours):
            value = vars(ours)[name]
            if name in kept and _says_something(value) and _says_something(kept[name]) and value != kept[name]:
                raise NoShadow(
                    f"the configuration of {ours.name!r} does not say that {name} is {value!r} by now: its copy has "
                    f"{kept[name]!r}"
                )


def _says_something(value: Any) -> bool:
    """Whether it is a number, a truth value or a word, or a sequence of these; what may be a dtype is not."""
    if isinstance(value, list | tuple):
        return all(_says_something(one) for one in value)
    if isinstance(value, str):
        return "float" not in value
    return value is None or isinstance(value, bool | int | float)


def _in_float64(config: Any, owner: Any, known: dict[str, Any]) -> Any:
    """Rewrite the configuration of `owner`, a model or layer, or of layers in it; functions go by way of `known`.

    Python functions (of a Lambda layer, or as an activation) do not survive a configuration: Keras will not
    deserialise them. The copy takes those of the original's layers instead.
    """
    if isinstance(config, list | tuple):
        return type(config)(_in_float64(c, owner, known) for c in config)
    if not isinstance(config, dict):
        return config
    inner = config.get("config")
    if "class_name" in config and isinstance(inner, dict):
        parts = {la.name: la for la in owner._flatten_layers(include_self=False, recursive=False)} if owner else {}
        owner = parts.get(inner.get("name"))
        inner = {key: _by_name(value, getattr(owner, key, None), known) for key, value in inner.items()}
        config = {**config, "config": inner}
    out = {key: _in_float64(value, owner, known) for key, value in config.items()}
    dtype = config.get("dtype")
    if str(dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype) in _FLOATS:
        out["dtype"] = "float64"
    return out


def _by_name(value: Any, original: Any, known: dict[str, Any]) -> Any:
    if not callable(original) or hasattr(original, "get_config") or not isinstance(value, dict | str):
        return value
    if str(getattr(original, "__module__", "")).startswith("keras."):
        return value
    name = f"fdfast_function_{len(known)}"
    known[name] = original
    return {"module": None, "class_name": "function", "config": name, "registered_name": name}


def _custom_classes(model: keras.Model) -> dict[str, type]:
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else model.layers
    return {type(la).__name__: type(la) for la in layers if not type(la).__module__.startswith("keras.")}


@contextlib.contextmanager
def _rebuilding() -> Iterator[None]:
    """Float64 as the global policy, for layers that make layers; what is global is put back whatever happens."""
    policy, draws = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy("float64")
    try:
        with warnings.catch_warnings():
            # "The object being serialized includes a lambda": nothing is saved here.
            warnings.filterwarnings("ignore", message=".*lambda.*", category=UserWarning)
            yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(draws)  # Keras seeds the copy's initialisers from it


def _input_dtype(model: keras.Model) -> tf.DType:
    return tf.as_dtype(model.inputs[0].dtype) if getattr(model, "inputs", None) else tf.float32
