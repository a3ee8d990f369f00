"""Every pixel of many real digits, checked in one command: ``python -m bench.digits [--images N] [--data PATH]``.

With ``--data``, digits of the MNIST test set, from a mnist.npz as Keras stores it or a folder with the IDX files (see
`fdfast.datasets.mnist_test`). Without it, the 1000 that are shipped; beyond that they come again, with another seed, so
that the points near x at which kinked pixels are checked are others. Memory is flat: digits go in groups, and of each
report only the counts are kept.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt

import fdfast
from fdfast.cli.terminal import import_tensorflow, progress_bar

_GROUP = 100
_VERDICTS = ("pass", "inconclusive", "fail")
Digits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def main(arguments: list[str]) -> int:
    """Check and print; 0 if no digit fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.digits", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, metavar="N", help="how many; all of them by default")
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz, or a folder with the t10k IDX files")
    parser.add_argument("--engine", default="auto", choices=("auto", "difference", "batch"))
    options = parser.parse_args(arguments)
    try:
        x, labels = fdfast.datasets.mnist_test(options.data) if options.data else fdfast.datasets.mnist_sample()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    count = len(x) if options.images is None else options.images
    if count < 1:
        parser.error("--images must be at least 1")
    if options.data and count > len(x):
        parser.error(f"--images {count} is more than the {len(x)} of {options.data}")
    if count > len(x):
        print(f"{len(x)} digits are shipped: they come {count / len(x):.4g} times, each time with another seed")
    import_tensorflow()
    model = fdfast.datasets.mnist_cnn()
    fdfast.gradcheck(
        model, x[:1], np.eye(10)[labels[:1]], engine=options.engine
    )  # traced, and compiled, before the clock
    return _said(check(model, (x, labels), count, options.engine))


def check(model: Any, digits: Digits, count: int, engine: str) -> dict[str, Any]:
    """Go through `count` digits, cyclically; returns what is to be said of them."""
    x, labels = digits
    verdicts: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    names: set[str] = set()
    odd: list[tuple[int, str]] = []
    loaded, start, near = _peak(), time.perf_counter(), 0
    with progress_bar("digits") as bar:
        done = 0
        while done < count:
            seed, first = divmod(done, len(x))
            some = slice(first, min(first + _GROUP, len(x), first + count - done))
            report = fdfast.gradcheck(model, x[some], np.eye(10)[labels[some]], engine=engine, seed=seed)
            names.add(report.engine)
            classes.update(report.counts)
            near += int(report.near.sum())
            for i in range(len(report)):
                verdict = report[i].verdict
                verdicts[verdict] += 1
                if verdict != "pass":
                    odd.append((done + i, verdict))
            done += some.stop - some.start
            if bar is not None:
                bar(done, count)
    return {
        "seconds": time.perf_counter() - start,
        "count": count,
        "pixels": x[0].size,
        "engines": sorted(names),
        "verdicts": verdicts,
        "classes": classes,
        "near": near,
        "odd": odd,
        "memory": (loaded, _peak()),
    }


def _said(found: dict[str, Any]) -> int:
    seconds, count = found["seconds"], found["count"]
    tiles = count * found["pixels"]
    print(f"{count} digits, {tiles} pixels, engine: {', '.join(found['engines'])}")
    print(
        f"{seconds / 60:.2f} minutes, {count / seconds:.1f} images per second, {1e3 * seconds / count:.2f} ms per image"
    )
    print("verdicts: " + ", ".join(f"{name} {found['verdicts'][name]}" for name in _VERDICTS))
    shares = (f"{name} {n} ({100 * n / tiles:.3f} %)" for name, n in found["classes"].items())
    print(
        f"pixels: {', '.join(shares)}; {found['near']} of them ({100 * found['near'] / tiles:.1f} %) near x, not at x"
    )
    print("peak memory: {:.0f} MB after the first digit, {:.0f} MB after the last".format(*found["memory"]))
    for number, verdict in found["odd"][:20]:
        print(f"    digit {number}: {verdict}")
    return int(found["verdicts"]["fail"] > 0)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
