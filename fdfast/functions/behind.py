"""What stands behind a function: the models, layers and variables that it reaches, and their state, kept."""

from __future__ import annotations

import contextlib
import functools
import time
import types
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from fdfast.functions.captures import read_by
from fdfast.functions.interrupts import uninterrupted
from fdfast.functions.variables import Snapshot

_LOOKS, _PAUSE = 10, 0.02  # seconds: whether variables change by themselves
_LOOKED_AT = 1000  # things that the search looks at before it gives up


def layers_of(f: Any) -> list[keras.Layer]:
    """Models and layers that f is, or that a function reaches, see `reached_by`."""
    return layers_among(reached_by(f))


def layers_among(reached: Sequence[Any]) -> list[keras.Layer]:
    """Models and layers among what `reached_by` has found."""
    return [one for one in reached if isinstance(one, keras.Layer)]


def reached_by(f: Any) -> list[Any]:
    """Models and layers that f is, or that a function reaches, and variables that belong to none of them.

    It reaches what its closure holds, what it uses of its module's globals, its arguments if it is a partial, its
    owner if it is a method; and what functions, containers and objects among these reach in turn.
    """
    found: list[Any] = []
    seen: dict[int, Any] = {}  # holds what it names, so that no number is used twice
    waiting = [f]
    while waiting and len(seen) < _LOOKED_AT:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, keras.Layer | keras.Variable | tf.Variable):
            found.append(one)
        elif isinstance(one, tf.random.Generator | keras.random.SeedGenerator):
            found.append(one.state)
        elif isinstance(one, list | tuple | set | dict):
            waiting += list(one.values() if isinstance(one, dict) else one)[:_LOOKED_AT]
        elif callable(one) and not isinstance(one, type) and not _of_a_library(one):
            waiting += _reached(one)
        elif isinstance(one, tf.Module | keras.optimizers.Optimizer):
            waiting += [*one.variables, *vars(one).values()]
        elif not callable(one) and not _of_a_library(type(one)):
            waiting += getattr(one, "__dict__", {}).values()
    layers = layers_among(found)
    if len(layers) == len(found):
        return found
    inside = {id(inner) for layer in layers for v in layer.variables for inner in (v, v.value)}
    return list({id(one): one for one in found if id(one) not in inside}.values())


class WeightsMoved(RuntimeError):
    """The variables behind f were written to by somebody else while f was looked at."""


@contextlib.contextmanager
def state_kept(f: Any) -> Iterator[Snapshot]:
    """Put weights, statistics, counters and seed generators behind f back as they were, whatever happens inside.

    Raises
    ------
    WeightsMoved
        Another thread wrote to them. What it wrote is left as it is.
    """
    layers = reached_by(f)
    counters = _counters(layers)
    before = snapshot([*layers, *counters])
    error: BaseException | None = None
    try:
        yield before
    except BaseException as caught:
        error = caught
        raise
    finally:
        with uninterrupted():
            changed = before.changed()
            # What raises an error of its own may have written before.
            known = before.settled and error is None and any(one.trainable for one in changed)
            moved = bool(changed) and (known or _by_others(layers, counters, changed))
            if changed and not moved:
                before.restore()
        if moved and (error is None or isinstance(error, Exception)):
            raise WeightsMoved(
                f"{len(changed)} of the variables behind f changed while f was looked at ({name_of(changed[0])} "
                "first): something else trains the model meanwhile, and what was found is of no model at all. Check "
                "between "
                "two steps (fdfast.GradientCheck does), or check a copy: copy = keras.models.clone_model(model); "
                "copy.set_weights(model.get_weights())"
            ) from error


def _counters(layers: Sequence[Any]) -> list[Any]:
    """Variables that count the steps which the optimizers of some models have made."""
    optimizers = [getattr(layer, "optimizer", None) for layer in layers]
    counts = [getattr(one, "iterations", None) for one in optimizers]
    return [count for count in counts if isinstance(count, keras.Variable | tf.Variable)]


def _by_others(layers: Sequence[Any], counters: Sequence[Any], changed: Sequence[Any]) -> bool:
    """Whether it was not f itself that wrote to variables: an optimizer did, or they go on changing without f."""
    if any(one is counter for counter in counters for one in changed):
        return True
    now = snapshot(layers)
    for _ in range(_LOOKS):
        if now.changed():
            return True
        time.sleep(_PAUSE)
    return False


def snapshot(reached: Sequence[Any]) -> Snapshot:
    """Values of all variables of some layers, and of variables."""
    return Snapshot([v for one in reached for v in (one.variables if isinstance(one, keras.Layer) else [one])])


def name_of(variable: Any) -> str:
    """Name of a variable: its path in Keras, and of TensorFlow's own what it was given."""
    return str(getattr(variable, "path", None) or variable.name.removesuffix(":0"))


def _of_a_library(f: Any) -> bool:
    # A library's method, like a model's call, still leads to its owner.
    module = "" if isinstance(f, types.MethodType) else getattr(f, "__module__", None) or ""
    return module.split(".")[0] in ("keras", "tensorflow", "numpy", "builtins")


def _reached(f: Any) -> list[Any]:
    """What a function or a callable object refers to by itself; libraries are not entered."""
    if isinstance(f, functools.partial):
        return [f.func, *f.args, *f.keywords.values()]
    if isinstance(f, types.MethodType):
        owner = f.__self__
        return [f.__func__, owner, *({} if isinstance(owner, keras.Layer) else getattr(owner, "__dict__", {})).values()]
    if not isinstance(f, types.FunctionType):
        # An object with __call__, or what tf.function and functools.wraps make of a function.
        return [*getattr(f, "__dict__", {}).values(), type(f).__call__, getattr(f, "__wrapped__", None)]
    return [*read_by(f), getattr(f, "__wrapped__", None)]
