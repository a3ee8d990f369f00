"""Which of several ways to one result is taken: the quickest by what went before, or always the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_steady: ContextVar[bool] = ContextVar("steady", default=False)


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Take the same way at every call.

    Else a graph is made once it pays, and rows go through f in the number that was quickest: the ways differ in the
    last digits, and which is taken depends on what the process has done before, and on time.
    """
    token = _steady.set(True)
    try:
        yield
    finally:
        _steady.reset(token)


def is_steady() -> bool:
    """Whether `steady` holds."""
    return _steady.get()
