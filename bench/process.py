"""Whole processes, by pyperf: import time, first check, and peak memory for 10 and 100 digits."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyperf

from bench.timing import Row, Spread, row

# One line: pyperf keeps the command as a line of its own.
_LOAD = "import fdfast, numpy as np; model = fdfast.datasets.mnist_cnn(); x, labels = fdfast.datasets.mnist_sample({})"
_CHECK = f"{_LOAD}; fdfast.gradcheck(model, x, np.eye(10)[labels])"


def rows() -> Iterator[Row | str]:
    first = ("process: first check, TensorFlow's import included", _CHECK.format(1), "< 6 s")
    for what, code, goal in (("process: import fdfast, Python's start included", "import fdfast", "< 0.3 s"), first):
        found, said = command(code, 7)
        seconds = Spread(found.get_values())
        yield row(what, seconds.median, goal, str(seconds))
        yield from (f"    pyperf: {line}" for line in said)
    codes = (_LOAD.format(100), _CHECK.format(10), _CHECK.format(100))
    loaded, ten, hundred = (command(code, 1)[0].get_metadata()["command_max_rss"] / 2**20 for code in codes)
    text = f"{hundred / ten:.3f}  ({hundred:.0f} MB / {ten:.0f} MB)"
    yield row("process: peak memory, 100 digits in one call against 10", hundred / ten, "<= 1.05", text)
    more = hundred - loaded
    yield row("process: peak memory over the process after model load", more, "<= 512 MB", f"{more:.0f} MB")


def command(code: str, values: int) -> tuple[pyperf.Benchmark, list[str]]:
    """Run Python code in processes of its own, one after the other; what pyperf found and what it warns of."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        how = ["--processes", "1", "--warmups", "1", "--loops", "1", "--values", str(values), "--output", str(file)]
        asked = [sys.executable, "-m", "pyperf", "command", *how, "--", sys.executable, "-c", code]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        said = [line for line in done.stdout.splitlines() if line.startswith(("WARNING", "*"))]
        return pyperf.Benchmark.load(str(file)), said
