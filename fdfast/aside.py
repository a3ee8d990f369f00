"""A call made in a thread of its own, while the caller does something else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def aside(call: Callable[[], Any] | None) -> Iterator[Callable[[], Any]]:
    """Start a call, which is over when the block is; gives a function that returns what came of it, or raises it.

    Parameters
    ----------
    call : callable or None
        One that spends its time outside Python. None makes no call and gives None.
    """
    found: dict[str, Any] = {}

    def run() -> None:
        assert call is not None
        try:
            found["value"] = call()
        except BaseException as error:  # whatever it is, it is raised where the result is asked for
            found["error"] = error

    def result() -> Any:
        if thread is not None:
            thread.join()
        if "error" in found:
            raise found["error"]
        return found.get("value")

    thread = None if call is None else threading.Thread(target=run, name="fdfast-aside")
    if thread is not None:
        thread.start()
    try:
        yield result
    finally:
        if thread is not None:
            thread.join()
