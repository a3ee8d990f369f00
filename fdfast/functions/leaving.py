"""At the end of the process: calls in daemon threads end before the interpreter does.

Python stops a daemon thread where it next asks for the interpreter's lock. Inside of C++ (TensorFlow's or ours) that
unwinds frames which do not allow it, and the process is aborted.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import threading
import time
from collections import Counter
from collections.abc import Iterator

_PATIENCE = 30.0  # seconds that the process waits for a call to end
_inside: Counter[int] = Counter()  # by thread: public calls that are running, one in another counted twice
_lock = threading.Lock()
_left = False


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Take note that this thread is in a call; SystemExit, which ends it, if the process is about to end."""
    own = threading.get_ident()
    with _lock:
        leaving = _left
        _inside[own] += 1
    try:
        if leaving:
            raise SystemExit
        yield
    finally:
        with _lock:
            _inside[own] -= 1
            if not _inside[own]:
                del _inside[own]


@atexit.register
def _leave() -> None:
    """End the calls of all other threads by SystemExit, and wait until they have ended."""
    global _left
    own = threading.get_ident()
    with _lock:
        _left = True
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with _lock:
            others = set(_inside) - {own}
            for one in others:  # again and again: TensorFlow may catch it
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(one), ctypes.py_object(SystemExit))
        if not others:
            return
        time.sleep(0.05)
