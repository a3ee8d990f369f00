"""Which rule belongs to which layer: looked up by exact class, because a subclass may compute something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

#: (layer, z, d) -> d of the output. z is the input at the point, shape (1, ...), d its difference, shape (rows, ...);
#: lists of these for layers with several inputs. A rule never divides by d and never returns f(z + d) - f(z) where
#: that cancels.
Rule = Callable[[Any, Any, Any], Any]
#: (z, d, keyword arguments of the activation) -> d of the output.
ActivationRule = Callable[..., Any]

_R = TypeVar("_R", bound=Callable[..., Any])
_rules: dict[type, Rule] = {}
_activations: dict[Any, ActivationRule] = {}


def difference_rule(*layer_classes: type) -> Callable[[_R], _R]:
    """Register the difference rule of layer classes.

    The rule's contract in one sentence: given the layer, its input z and the input's difference d, return the output's
    difference, layer(z + d) - layer(z), without subtracting nearly equal numbers.

    Parameters
    ----------
    *layer_classes : type
        Keras layer classes; subclasses are not meant, they need a rule of their own.

    Raises
    ------
    TypeError
        What is registered is not a class.
    ValueError
        A class has a rule already; the message says where.

    Examples
    --------
    >>> import keras, fdfast.rules
    >>> class Twice(keras.layers.Layer):
    ...     def call(self, x):
    ...         return 2 * x
    >>> @fdfast.rules.difference_rule(Twice)
    ... def twice(layer, z, d):
    ...     return 2 * d
    """

    def register(rule: _R) -> _R:
        for one in layer_classes:
            if not inspect.isclass(one):
                raise TypeError(f"a difference rule belongs to a layer class, got {one!r}")
            _put(_rules, one, rule, one.__name__)
        return rule

    return register


def activation_rule(*functions: Any) -> Callable[[_R], _R]:
    """Register the difference rule of activation functions: (z, d) -> activation(z + d) - activation(z)."""

    def register(rule: _R) -> _R:
        for one in functions:
            _put(_activations, one, rule, getattr(one, "__name__", repr(one)))
        return rule

    return register


def find_rule(layer: Any) -> Rule | None:
    """Rule of a layer's exact class, or None."""
    return _rules.get(type(layer))


def is_own_rule(layer: Any) -> bool:
    """Whether the rule of a layer, or of its activation, is one of the caller's own."""
    found = (find_rule(layer), _activations.get(getattr(layer, "activation", None)))
    return any(rule is not None and rule.__module__.partition(".")[0] != "fdfast" for rule in found)


def find_activation(function: Any) -> ActivationRule | None:
    """Rule of exactly this activation function, or None."""
    return _activations.get(function)


def _put(table: dict[Any, Any], key: Any, rule: Any, name: str) -> None:
    known = table.get(key)
    if known is not None and known is not rule:
        where = f"{inspect.getsourcefile(known)}:{inspect.getsourcelines(known)[1]}"
        raise ValueError(f"{name} has a difference rule already, {known.__name__} at {where}")
    table[key] = rule
