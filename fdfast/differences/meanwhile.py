"""One thread beside the caller's, for a call of TensorFlow whose result is not needed at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_threads: list[ThreadPoolExecutor] = []


def meanwhile(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Call the function in the other thread; what it raises comes with its result.

    The function must not be traced there: Keras and TensorFlow keep what they need for that by thread.
    """
    if not _threads:
        _threads.append(ThreadPoolExecutor(1, "fdfast-meanwhile"))
    return _threads[0].submit(function, *arguments)


# A child made by fork has no thread but the one that forked.
os.register_at_fork(after_in_child=_threads.clear)
