"""A process that kills itself in the middle of a write."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fdfast.sweeps import folder

#: How far the write is: half of the bytes, all of them, on the disk, under its name but with the folder not synced.
STAGES = ("half written", "not synced", "not renamed", "renamed")


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside(stage: str, before: int | None, die: Callable[..., Any] = kill) -> None:
    """Let this process die while a sweep replaces a file, and say which on stdout.

    Parameters
    ----------
    stage : {"half written", "not synced", "not renamed", "renamed"}
    before : int or None
        Files that are written before. None: the manifest that closes a sweep.
    die : callable
        How it ends.
    """
    written, replace, rename = 0, folder.Folder._replace, os.replace

    @contextlib.contextmanager
    def half(*how: Any) -> Iterator[Any]:
        with open(*how) as file:

            def write(content: bytes) -> None:
                file.write(content[: len(content) // 2])
                file.flush()
                die()

            yield SimpleNamespace(write=write)

    def renamed(*paths: Any) -> None:
        rename(*paths)
        os.fsync = die

    def replaced(self: folder.Folder, path: Path, content: bytes) -> None:
        nonlocal written
        if (b'"finished": true' in content) if before is None else before == written:
            print(path.name, flush=True)
            if stage == "half written":
                folder.open = half  # type: ignore[attr-defined]
            elif stage == "not synced":
                os.fsync = die
            else:
                os.replace = die if stage == "not renamed" else renamed  # type: ignore[assignment]
        written += 1
        replace(self, path, content)

    folder.Folder._replace = replaced  # type: ignore[method-assign]
