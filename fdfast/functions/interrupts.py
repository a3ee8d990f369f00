"""Ctrl-C ends a call as KeyboardInterrupt, wherever it strikes, and never while something is put back.

TensorFlow and Keras catch what is raised while they trace or convert: an interrupt comes out of them as a TypeError, a
SystemError or not at all.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fdfast.functions.leaving import counted
from fdfast.functions.scopes import at_a_door, open_scopes

_AGAIN = 0.2  # seconds after which an interrupt that came to nothing is raised once more
_SOON = 0.005  # the same where it was put off, because a scope was being entered or left
_PUT_OFF = 60  # how often at most


class _Watch:
    """What the main thread is interrupted by while a call runs: Python's own handler, until the call has ended.

    An interrupt that is lost (in a weak reference's callback, in a conversion that goes on without) comes again. While
    a scope is entered or left it waits, and the scopes that it leaves open are closed.
    """

    def __init__(self) -> None:
        self.close = open_scopes()
        self.came = False
        self.late = False  # came while held, and was not told of
        self.raised = -_AGAIN  # when, at last
        self.calls = 0
        self.inside = False
        self.held = 0
        self.put_off = 0
        self.wait = _AGAIN
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.calls += 1
        if self.inside:  # one that strikes while this runs comes again; here it would be taken for one of ours
            return
        self.inside = True
        try:
            strikes = self._strikes(frame)
        finally:
            self.inside = False
        if strikes:
            self.raised = time.monotonic()
            signal.default_int_handler(number, frame)

    def _strikes(self, frame: FrameType | None) -> bool:
        """Whether an interrupt at that place is raised there."""
        put_off = self.put_off < _PUT_OFF and at_a_door(frame)
        self.put_off += put_off
        # One that is on its way out must not be overtaken by another: what it passes through could not be put back.
        leaving = time.monotonic() - self.raised < 0.9 * _AGAIN
        self.wait = _SOON if put_off and not leaving else _AGAIN
        if not self.came:
            self.came = True
            threading.Thread(target=self._insist, daemon=True).start()
        self.late = bool(self.held)
        return not self.held and not put_off

    def _insist(self) -> None:
        while not self._over.wait(self.wait):
            calls = self.calls
            with self._lock:
                if not self._over.is_set():
                    _thread.interrupt_main()
            while self.calls == calls and not self._over.wait(_SOON):  # how long to wait is known once it has come
                pass

    def over(self) -> None:
        """Let nothing come again from here on."""
        self.held += 1
        with self._lock:
            self._over.set()
        for _ in range(2):  # what is on its way strikes between two lines of Python: here, where it does no harm
            pass

    def tell(self) -> None:
        """Raise KeyboardInterrupt where one came and was lost."""
        if self.came and not self.held:
            self.late = False
            raise KeyboardInterrupt


_watch: _Watch | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt of what runs inside come out as KeyboardInterrupt.

    A handler of the caller's own for SIGINT stays in its place.
    """
    around = sys.exc_info()[1]  # what the caller is handling is no business of ours
    with counted(), _watched() as watch:
        try:
            yield
        except Exception as error:
            if (watch is not None and watch.came) or _of_an_interrupt(error, around):
                raise KeyboardInterrupt from error
            raise
        if watch is not None:
            watch.tell()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish what is inside before an interrupt is told of: the putting back of what was changed."""
    watch = _watch if threading.current_thread() is threading.main_thread() else None
    if watch is None:
        yield
        return
    watch.held += 1
    try:
        yield
    finally:
        watch.held -= 1
        watch.tell()


def tell_interrupt() -> None:
    """Raise KeyboardInterrupt if one came and was lost: called now and then by what takes long."""
    if _watch is not None and threading.current_thread() is threading.main_thread():
        _watch.tell()


@contextlib.contextmanager
def _watched() -> Iterator[_Watch | None]:
    """Stand in for Python's own handler of SIGINT; None where that is not in force, or this is another thread."""
    global _watch
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not mine:
        yield None
        return
    watch = _Watch()
    signal.signal(signal.SIGINT, watch)
    _watch = watch
    try:
        yield watch
    finally:
        watch.over()
        if watch.came:
            watch.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _watch = None
        if watch.late:
            raise KeyboardInterrupt


def _of_an_interrupt(error: BaseException, around: BaseException | None) -> bool:
    """Whether an error was raised while an interrupt was handled, or because of one; not what it was `around`."""
    waiting: list[Any] = [error]
    seen = {id(around)}
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
    return False
