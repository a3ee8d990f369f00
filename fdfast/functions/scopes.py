"""The scopes of TensorFlow and Keras, which an interrupt may leave open: a graph, a device, a name, the layer called.

One that is left open turns all that the caller does afterwards into something else.
"""

from __future__ import annotations

import _weakrefset
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from keras.src.backend.common.global_state import GLOBAL_STATE_TRACKER
from tensorflow.python.eager import context

_GIVEN = "object_name_uids"  # the names that layers were given: no scope
_EAGER = ("is_eager", "scope_name", "device_name", "device_spec")
_DOORS = {"__enter__", "__exit__", "__del__"}
_CALLBACKS = {weakref.__file__, _weakrefset.__file__}
_OURS = str(Path(__file__).parents[1]) + os.sep


def at_a_door(frame: FrameType | None) -> bool:
    """Whether a scope (``with``) is being entered or left there: its state and what puts it back may not agree.

    Nor where an object ends or a weak reference to it: Python prints what is raised there, and goes on. Not in a scope
    of this package's own: those see to it themselves, and some run all of f while they are entered.
    """
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        if frame.f_code.co_name in _DOORS or frame.f_code.co_filename in _CALLBACKS:
            return True
        frame = frame.f_back
    return False


def open_scopes() -> Callable[[], None]:
    """What makes the scopes that are open in this thread those of now again.

    Keras enters that of a layer's call without ``with``; a name or a device of TensorFlow's may be entered so, too.
    """
    present = vars(GLOBAL_STATE_TRACKER)
    known = {name: list(value) if isinstance(value, list) else value for name, value in present.items()}
    eager = context.context()._thread_local_data
    state = {name: getattr(eager, name) for name in _EAGER}

    def again() -> None:
        for name in [*present]:
            if name not in known and name != _GIVEN:
                del present[name]
        present.update({name: value for name, value in known.items() if name != _GIVEN})
        for name, value in state.items():
            setattr(eager, name, value)

    return again
