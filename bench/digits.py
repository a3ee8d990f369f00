"""Every pixel of many real digits, checked in one command: ``python -m bench.digits [--images N] [--data PATH]``.

PATH is a mnist.npz or a folder with the IDX files. Without it: the 1000 that are shipped, then again by other seeds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fdfast
from bench.timing import Row, row
from fdfast.cli.terminal import progress_bar

_GROUP = 100


def check(x: Any, labels: Any, count: int, model: Any = None) -> tuple[Counter[str], Counter[str], list[str]]:
    """Go through `count` digits, cyclically: verdicts, classes of the pixels, and which digits do not pass."""
    model, verdicts, classes, odd, done = model or fdfast.datasets.mnist_cnn(), Counter[str](), Counter[str](), [], 0
    with progress_bar("digits") as bar:
        while done < count:
            seed, first = divmod(done, len(x))
            some = slice(first, min(first + _GROUP, len(x), first + count - done))
            report = fdfast.gradcheck(model, x[some], np.eye(10)[labels[some]], seed=seed)
            classes.update(report.counts, near=int(report.near.sum()))
            said = [report[i].verdict for i in range(len(report))]
            verdicts.update(said)
            odd += [f"    digit {done + i}: {verdict}" for i, verdict in enumerate(said) if verdict != "pass"]
            done += len(report)
            if bar is not None:
                bar(done, count)
    return verdicts, classes, odd


def rows() -> Iterator[Row]:
    x, labels = fdfast.datasets.mnist_sample()
    verdicts, classes, _ = check(x, labels, len(x))
    yield row(f"digits: coverage in %, {len(x)} real digits", 100 * classes["agree"] / x.size, ">= 99 %")
    yield row("digits: their correct gradients called `fail`", verdicts["fail"], "= 0")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.digits", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, metavar="N", help="how many; all of them by default")
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz, or a folder with the t10k IDX files")
    options = parser.parse_args(arguments)
    try:
        x, labels = fdfast.datasets.mnist_test(options.data) if options.data else fdfast.datasets.mnist_sample()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    count = len(x) if options.images is None else options.images
    if not 1 <= count <= (len(x) if options.data else count):
        parser.error(f"--images {count} must be at least 1, and no more than the {len(x)} of --data")
    check(x, labels, 1)  # kernels are loaded before the clock
    loaded, start = _peak(), time.perf_counter()
    verdicts, classes, odd = check(x, labels, count)
    seconds, pixels = time.perf_counter() - start, count * x[0].size
    each = f"{count / seconds:.1f} images per second, {1e3 * seconds / count:.2f} ms per image"
    print(f"{count} digits, of {len(x)}; {pixels} pixels; {seconds / 60:.2f} minutes, {each}")
    print("verdicts: " + ", ".join(f"{name} {verdicts[name]}" for name in ("pass", "inconclusive", "fail")))
    print("pixels: " + ", ".join(f"{name} {n} ({100 * n / pixels:.3f} %)" for name, n in classes.items()))
    print(f"peak memory: {loaded:.0f} MB after the first digit, {_peak():.0f} MB after the last")
    print("\n".join(odd[:20]))
    return int(verdicts["fail"] > 0)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
