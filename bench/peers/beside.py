"""A standing process that makes the calls everybody is compared with: ``python -m bench.peers.beside PROBLEM``.

Every peer has a process of its own, minutes apart from the others, and this machine's speed changes within minutes. So
the peer's process asks this one before and after each of its own calls: a ratio then is of neighbouring moments.

Calls are ``gradient`` and ``gradcheck`` of W1; ``digits COUNT TILE PRECISION`` of W2 and W3, and ``network SIDE TILE
PRECISION`` of W4, per image.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench.peers.problem import Problem
from bench.rounds import Pace
from bench.timing import steady

_FIRST = 3  # calls that trace and compile
_PIPES = "FDFAST_BENCH_BESIDE"  # in the environment of a peer: descriptors to read from and to write to


class Beside:
    """The standing process, as a peer sees it."""

    def __init__(self) -> None:
        read, write = (int(number) for number in os.environ[_PIPES].split(","))
        # Open until the end of the process, whoever asks next.
        self._read, self._write = open(read, closefd=False), open(write, "w", closefd=False)  # noqa: SIM115

    def ask(self, call: str) -> Pace:
        """Seconds that the call takes now, and took at the least since the process was begun."""
        print(call, file=self._write, flush=True)
        answer = self._read.readline()
        if not answer:
            raise RuntimeError("the standing process that peers are compared with has ended")
        return Pace(*(float(word) for word in answer.split()))


@contextlib.contextmanager
def standing(source: Path, environment: dict[str, str], root: Path) -> Iterator[dict[str, Any]]:
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
    made = Calls(Problem.load(source))
    least: dict[str, float] = {}
    for line in asked:
        call, images = made(*line.split())
        seconds = steady(call) / images
        least[line] = min(seconds, least.get(line, seconds))
        print(seconds, least[line], file=answers, flush=True)


class Calls:
    """The calls by their words, each made and warmed up when it is first asked for."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._made: dict[tuple[str, ...], tuple[Callable[[], object], int]] = {}

    def __call__(self, *words: str) -> tuple[Callable[[], object], int]:
        """A call, and how many images it is about."""
        if words not in self._made:
            call, images = getattr(self, words[0])(*words[1:])
            for _ in range(_FIRST):
                call()
            self._made[words] = call, images
        return self._made[words]

    @functools.cached_property
    def _model(self) -> Any:
        from bench.peers.tensorflow_peers import keras_model

        return keras_model(self._problem, "float32")

    def gradient(self) -> tuple[Callable[[], object], int]:
        """W1."""
        import fdfast

        x, target = self._problem.x, self._problem.target
        return lambda: fdfast.gradient(self._model, x, y=target), 1

    def gradcheck(self) -> tuple[Callable[[], object], int]:
        """W1, both sides."""
        import fdfast

        x, target = self._problem.x, self._problem.target
        return lambda: fdfast.gradcheck(self._model, x, target).metrics, 1

    def digits(self, count: str, tile: str, precision: str) -> tuple[Callable[[], object], int]:
        """W2 and W3."""
        from bench.peers.small import our_call

        return our_call(self._problem, self._model, int(count), int(tile), precision), int(count)

    def network(self, side: str, tile: str, precision: str) -> tuple[Callable[[], object], int]:
        """W4."""
        from bench.peers.large import our_call

        return our_call(int(side), int(tile), precision), 1


if __name__ == "__main__":
    serve(Path(sys.argv[1]), os.fdopen(int(sys.argv[2])), os.fdopen(int(sys.argv[3]), "w"))
