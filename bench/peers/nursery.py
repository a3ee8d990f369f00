"""Processes forked from one that has imported what they need: ``python -m bench.peers.nursery MODULE ...``.

To import TensorFlow takes longer than most peers do. Importing starts no threads, which a fork would lose; what does
start some, the first operation, is done in the fork.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What is imported ahead, by what a peer needs; all others run on TensorFlow.
AHEAD = {"jax": ("jax", "jax.numpy"), "torch": ("torch",)}
USUAL = ("tensorflow", "keras", "fdfast", "fdfast.functions.model", "fdfast.engines.difference")
#: What their processes get besides. PyTorch asks malloc for every result: where that gives memory back to the system,
#: and gets it anew page by page, the same call takes twice as long in some processes, and three times as long in chunks
#: of all rows. TensorFlow and JAX are the same with it and without.
BESIDES = {AHEAD["torch"]: {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}}


class Nursery:
    """Forks on demand, as a caller in another process sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, module: str, arguments: Sequence[str], limit: float) -> str | None:
        """Run a module's `main` in a fork; None if all went well, else why not, in one line."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        print(json.dumps([module, list(arguments), limit]), file=asked, flush=True)
        answer = answers.readline()
        if not answer:
            raise RuntimeError("the process that peers are forked from has ended")
        why: str | None = json.loads(answer)
        return why


@contextlib.contextmanager
def nursery(modules: Sequence[str], root: Path, options: dict[str, Any]) -> Iterator[Nursery]:
    """Import the modules in a process of its own and keep it; `options` are of `subprocess.Popen`."""
    command = [sys.executable, "-m", "bench.peers.nursery", *modules]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=root, text=True, **pipes, **options) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def serve() -> None:
    """Answer until nobody asks any more."""
    for line in sys.stdin:
        module, arguments, limit = json.loads(line)
        with tempfile.TemporaryFile("w+") as errors:
            print(json.dumps(_forked(module, arguments, limit, errors)), flush=True)


def _forked(module: str, arguments: list[str], limit: float, errors: Any) -> str | None:
    pid = os.fork()
    if pid == 0:
        os._exit(_child(module, arguments, errors.fileno()))
    code = _wait(pid, limit)
    if code is None:
        return f"stopped after {limit:.0f} s"
    if code == 0:
        return None
    errors.seek(0)
    return last_line(errors.read(), code)


def last_line(errors: str, code: int) -> str:
    """What a process that failed said last."""
    lines = [one for one in errors.splitlines() if one.strip()]
    return lines[-1].strip()[:200] if lines else f"exit code {code}"


def _child(module: str, arguments: list[str], errors: int) -> int:
    """All that the fork does; nothing of it may get past here, or it would go on as the nursery."""
    try:
        os.setpgid(0, 0)  # with what it starts itself it can be stopped
        with open(os.devnull, "r+") as nothing:
            for stream in (0, 1):
                os.dup2(nothing.fileno(), stream)
        os.dup2(errors, 2)
        importlib.import_module(module).main(arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def _wait(pid: int, limit: float) -> int | None:
    """Exit code, or None if it took too long and was killed."""
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.01)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        with contextlib.suppress(ImportError):  # the peer that needs it says so
            importlib.import_module(module)
    serve()
