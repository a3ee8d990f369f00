"""Whether a model or a loss is what it was when something was made of it: traced, copied or compiled."""

from __future__ import annotations

import operator
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.functions.captures import (
    PLAIN,
    Reading,
    attributes_of,
    checksum,
    class_members,
    is_operation,
    of_a_library,
    of_tensorflow,
    own_classes,
    read,
    read_by,
    telling,
)
from fdfast.functions.sight import in_sight

#: Things that are no layers, beyond which a model cannot be told.
_LIMIT = 20_000


class Present:
    """Something as it is now; kept as long as it stays so, and compared by identity.

    A look costs some microseconds a layer: attributes are compared by reference. Only where one is another object is
    everything read again; if it then is the same in content, as a number that was set to itself, nothing has changed.

    Attributes
    ----------
    complete : bool
        Whether every change can be seen.
    in_sight : bool
        Whether, besides, code of the user's own reads nothing else: then it need not be run to be known.
    """

    def __init__(self, root: Any) -> None:
        self._take(read(root, _LIMIT))

    def _take(self, reading: Reading) -> None:
        self._tokens, self.complete = reading.tokens, reading.complete
        self.in_sight = self.complete and in_sight(reading.seen)
        self._watched = [watched for one in reading.seen for watched in _watch(one)]

    def still(self, root: Any) -> bool:
        """Whether it is as it was."""
        if all(one.same() for one in self._watched):
            return True
        again = read(root, _LIMIT)
        if again.tokens != self._tokens:
            return False
        self._take(again)
        return True


class _Watched:
    """Things read from one place, by reference; those that take no weak one are held, so that none takes its place."""

    __slots__ = ("_alive", "_held", "_ids", "_place", "_read")

    def __init__(self, one: Any, read: Callable[[Any], tuple[Any, ...]]) -> None:
        # Not the place itself: it may hold what this is kept by.
        self._place, self._read = _weakly(one), read
        values = read(one)
        self._ids = tuple(map(id, values))
        referred = [_weakly(value) for value in values]
        self._alive = [one for one in referred if isinstance(one, weakref.ref)]
        self._held = [one() for one in referred if not isinstance(one, weakref.ref)]

    def same(self) -> bool:
        place = self._place()
        try:
            if place is None or tuple(map(id, self._read(place))) != self._ids:
                return False
        except KeyError:  # an attribute is gone
            return False
        return not [1 for alive in self._alive if alive() is None]


class _Valued:
    """An array or a variable, by value."""

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self._fetch, self._sum = fetch, checksum(fetch())

    def same(self) -> bool:
        return checksum(self._fetch()) == self._sum


def _weakly(one: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(one)
    except TypeError:
        return lambda: one


def _watch(one: Any) -> list[Any]:
    """What has to be looked at again to see that one thing is as it was."""
    if isinstance(one, (*PLAIN, tuple, frozenset, type, types.ModuleType, types.MethodType)) or of_tensorflow(one):
        return []
    if isinstance(one, np.ndarray):
        return [_Valued(lambda: one)]
    if isinstance(one, list | set):
        return [_Watched(one, tuple)]
    if isinstance(one, dict):
        return [_Watched(one, lambda one: (*one.keys(), *one.values()))]
    if isinstance(one, types.FunctionType):
        return [] if of_a_library(one) else [_Watched(one, lambda f: (f.__code__, *read_by(f)))]
    if is_operation(one):
        return _of_layer(one)
    return [_Watched(one, lambda one: tuple(attributes_of(one)))] if hasattr(one, "__dict__") else []


def _of_layer(layer: Any) -> list[Any]:
    names, count = telling(layer), len(vars(layer))
    get: Any = operator.itemgetter(*names) if len(names) > 1 else lambda given: tuple(given[name] for name in names)

    def read_it(layer: Any) -> tuple[Any, ...]:
        attributes = vars(layer)
        found: tuple[Any, ...] = get(attributes)
        # One more may be one that counts.
        return found if len(attributes) == count else (*found, attributes)

    watched: list[Any] = [_Watched(layer, read_it)]
    watched += [_Watched(kind, _members) for kind in own_classes(layer)]
    variables = [vars(layer)[name] for name in names if isinstance(vars(layer)[name], tf.Variable)]
    return watched + [_Valued(one.numpy) for one in variables]


def _members(kind: type) -> tuple[Any, ...]:
    return tuple(class_members(kind))


_known: weakref.WeakKeyDictionary[Any, dict[Any, Present]] = weakref.WeakKeyDictionary()


def forget_state(root: Any) -> None:
    """Drop what a model was: the next look is a new state."""
    _known.pop(root, None)


def present(root: Any) -> Present:
    """State of a model, layer, loss or function: the same object as long as it reads the same.

    What cannot be held by a weak reference is looked at anew each time, and never is what it was.
    """
    owner, part = (root.__self__, root.__func__) if isinstance(root, types.MethodType) else (root, None)
    try:
        kept = _known.setdefault(owner, {})
    except TypeError:
        return Present(root)
    if part not in kept or not kept[part].still(root):
        kept[part] = Present(root)
    return kept[part]
