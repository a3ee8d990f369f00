"""A standing process that makes the call everybody is compared with: ``python -m bench.peers.beside PROBLEM``.

Every peer has a process of its own, minutes apart from the others, and this machine's speed changes within minutes. So
the peer's process asks this one before and after each of its own calls: a ratio then is of neighbouring moments.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: How often each call is made for one answer, which is the median.
TIMES = {"gradient": 7, "gradcheck": 5}
_PIPES = "FDFAST_BENCH_BESIDE"  # in the environment of a peer: descriptors to read from and to write to


class Beside:
    """The standing process, as a peer sees it.

    Parameters
    ----------
    call : str
        Of `TIMES`.
    """

    def __init__(self, call: str) -> None:
        self._call = call
        read, write = (int(number) for number in os.environ[_PIPES].split(","))
        self._read, self._write = os.fdopen(read), os.fdopen(write, "w")

    def seconds(self) -> float:
        """Seconds that one call takes now."""
        print(self._call, file=self._write, flush=True)
        answer = self._read.readline()
        if not answer:
            raise RuntimeError("the standing process that peers are compared with has ended")
        return float(answer)


@contextlib.contextmanager
def standing(source: Path, environment: dict[str, str], root: Path) -> Iterator[dict[str, object]]:
    """Run the process; gives what `subprocess.run` needs so that a peer's process can ask it."""
    to_us, from_process = os.pipe()
    to_process, from_us = os.pipe()
    ours = (to_us, from_us)
    command = [sys.executable, "-m", "bench.peers.beside", str(source), str(to_process), str(from_process)]
    process = subprocess.Popen(
        command, cwd=root, env=environment, pass_fds=(to_process, from_process), stderr=subprocess.DEVNULL
    )
    try:
        for end in (to_process, from_process):
            os.close(end)
        yield {"env": {**environment, _PIPES: f"{to_us},{from_us}"}, "pass_fds": ours}
    finally:
        for end in ours:
            os.close(end)
        process.terminate()
        process.wait()


def serve(source: Path, asked: TextIO, answers: TextIO) -> None:
    """Answer until nobody asks any more."""
    import fdfast
    from bench.peers.problem import Problem
    from bench.peers.tensorflow_peers import keras_model

    problem = Problem.load(source)
    model, x, target = keras_model(problem, "float32"), problem.x, problem.target
    calls = {
        "gradient": lambda: fdfast.gradient(model, x, y=target),
        "gradcheck": lambda: fdfast.gradcheck(model, x, target).metrics,
    }
    for call in calls.values():
        for _ in range(12):
            call()
    for line in asked:
        call, found = calls[line.strip()], []
        for _ in range(TIMES[line.strip()]):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        print(statistics.median(found), file=answers, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), os.fdopen(int(sys.argv[2])), os.fdopen(int(sys.argv[3]), "w"))
