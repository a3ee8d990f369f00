"""Recordings of functions, kept as long as what they are of."""

from __future__ import annotations

import weakref
from typing import Any

from fdfast.functions.flat import Flat
from fdfast.functions.over_rows import known, remember
from fdfast.functions.shadow import structure_of
from fdfast.tape import Recorded

_KEPT = 8  # recordings that one model keeps
_of_models: weakref.WeakKeyDictionary[Any, dict[Any, Recorded]] = weakref.WeakKeyDictionary()


def recorded(flat: Flat) -> Recorded:
    """Trace a function with its gradient, or take what an earlier call has traced of it as it is.

    Raises
    ------
    fdfast.tape.NoTape
    """
    if flat.owner is None:
        return _made(flat)
    specs = tuple((tuple(s.shape), s.dtype.name) for s in flat.specs())
    key = ("recorded", *flat.key, specs, tuple(flat.names))
    if flat.model is None:
        found = known(flat.owner, key)
        if isinstance(found, Recorded):
            return found
        return remember(flat.owner, key, lambda target: _made(flat))
    kept = _of_models.setdefault(flat.owner, {})
    whole = (key, structure_of(flat.model))
    if whole not in kept:
        kept[whole] = _made(flat)
        while len(kept) > _KEPT:
            del kept[next(iter(kept))]
    return kept[whole]


def _made(flat: Flat) -> Recorded:
    return Recorded(flat.trace(), flat.variables)
