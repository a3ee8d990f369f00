"""Recordings of functions, kept as long as what they are of."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from fdfast.functions.flat import Flat
from fdfast.functions.over_rows import agreement, known, remember
from fdfast.functions.unchanged import Present, present
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
    states = [present(one) for one in flat.reads]
    kept, whole = _of_models.setdefault(flat.owner, {}), (states[0], key, *states[1:])
    for former in [one for one in kept if one[0] is not states[0]]:
        del kept[former]
    if whole in kept and not _is_as_it_was(kept[whole], flat, states):
        del kept[whole]
    if whole not in kept:
        kept[whole] = _made(flat)
        while len(kept) > _KEPT:
            del kept[next(iter(kept))]
    return kept[whole]


def _is_as_it_was(kept: Recorded, flat: Flat, states: list[Present]) -> bool:
    """Whether a model is what was recorded: called eagerly, where code of the user's own may read what none can see."""
    if not all(state.complete for state in states):
        return False
    if not any(state.own for state in states):
        return True
    points = flat.points()
    now = flat.own(points)
    return agreement(np.array([kept.point(points).value]), np.array([now]), abs(now), kept.narrow)


def _made(flat: Flat) -> Recorded:
    return Recorded(flat.trace(), flat.moving, flat.variables)
