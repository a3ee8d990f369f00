"""Recordings of functions, kept as long as what they are of."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from fdfast.functions.fitness import preflight_whole
from fdfast.functions.flat import Flat
from fdfast.functions.over_rows import agreement, forget, known, remember
from fdfast.functions.unchanged import Present, present
from fdfast.tape import NoTape, Recorded

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


def trusted(flat: Flat, reached: Sequence[Any]) -> Recorded:
    """A recording that has been held against f itself, called eagerly, before its first use.

    Parameters
    ----------
    flat : Flat
    reached : sequence of keras.Layer, keras.Variable or tf.Variable
        What stands behind f, see `fdfast.functions.behind.reached_by`.

    Raises
    ------
    fdfast.tape.NoTape
        f cannot be recorded, or what was recorded is not f.
    fdfast.functions.fitness.PreflightError
        f is not deterministic, or changes its state.
    """
    found = recorded(flat)
    if flat.model is None and found.trusted and not (present(flat.owner).in_sight or _agrees(found, flat)):
        forget(flat.owner)  # f reads something that nobody sees
        found = recorded(flat)
    if not found.trusted:
        value, draws = found.point(flat.points()).value, found.latest is None or found.latest.draws
        parts = preflight_whole(flat, value, reached, found.narrow, draws=draws)
        if parts:
            raise NoTape(parts)
        found.trusted = True
    flat.notes += [note for note in found.notes if note not in flat.notes]  # f may not have been called this time
    return found


def _is_as_it_was(kept: Recorded, flat: Flat, states: list[Present]) -> bool:
    """Whether a model is what was recorded: called eagerly, where code of the user's own may read what none can see."""
    if not all(state.complete for state in states):
        return False
    return all(state.in_sight for state in states) or _agrees(kept, flat)


def _agrees(kept: Recorded, flat: Flat) -> bool:
    points = flat.points()
    now = flat.own(points)
    scale = max(abs(now), flat.scale)
    return agreement(np.array([kept.point(points).value]), np.array([now]), scale, kept.narrow)


def _made(flat: Flat) -> Recorded:
    made = Recorded(flat.trace(), flat.moving, flat.variables)
    made.numpy_calls, made.notes = flat.numpy_calls, list(flat.notes)
    return made
