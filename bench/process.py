"""Whole processes: import time, first check, and peak memory for 10 and 100 digits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from bench.timing import Row, format_seconds

_IMPORT = "import time; t = time.perf_counter(); import fdfast; print(time.perf_counter() - t)"

_FIRST = """
import time; t = time.perf_counter()
import fdfast, numpy as np
model = fdfast.datasets.mnist_cnn()
x, labels = fdfast.datasets.mnist_sample(1)
assert fdfast.gradcheck(model, x[0], np.eye(10)[labels[0]])
print(time.perf_counter() - t)
"""

_MEMORY = """
import resource, sys
import fdfast, numpy as np
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model = fdfast.datasets.mnist_cnn()
x, labels = fdfast.datasets.mnist_sample(int(sys.argv[1]))
y = np.eye(10)[labels]
loaded = peak()
report = fdfast.gradcheck(model, x, y)
print(loaded, peak(), len(report))
"""


def _run(code: str, *args: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def run() -> Iterator[Row]:
    """Rows of whole processes."""
    seconds = float(np.median([_run(_IMPORT)[0] for _ in range(5)]))
    yield Row("import fdfast", "< 0.3 s", format_seconds(seconds), seconds < 0.3)
    _run(_FIRST)  # fills the caches
    seconds = float(np.median([_run(_FIRST)[0] for _ in range(3)]))
    yield Row(
        "first check in a new process, TensorFlow's import included", "< 6 s", format_seconds(seconds), seconds < 6
    )
    (loaded, ten, _), (_, hundred, _) = _run(_MEMORY, "10"), _run(_MEMORY, "100")
    yield Row(
        "peak memory, 100 digits in one call against 10",
        "<= 1.05",
        f"{hundred / ten:.3f}  ({hundred:.0f} MB / {ten:.0f} MB)",
        hundred / ten <= 1.05,
    )
    yield Row(
        "peak memory over the process after model load",
        "<= 512 MB",
        f"{hundred - loaded:.0f} MB",
        hundred - loaded <= 512,
    )
