"""Every pixel of many real digits, checked in one command: ``python -m bench.digits [--images N] [--data PATH]``.

PATH is a mnist.npz or a folder with the IDX files. Without it: the 1000 that are shipped, then again by other seeds.
With ``--directions`` each digit is checked by random directions, too, and what both say is compared.
"""

from __future__ import annotations

import argparse
import re
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


def compared(x: Any, labels: Any) -> Iterator[str]:
    """Whether a check by directions says of each digit what a look at every pixel says."""
    model, same, ratios = fdfast.datasets.mnist_cnn(), Counter[str](), []
    with progress_bar("digits") as bar:
        for i, (digit, label) in enumerate(zip(x, labels, strict=True)):
            both, seconds = [], []
            for check in ("every", "directions"):
                start = time.perf_counter()
                both.append(fdfast.gradcheck(model, digit, np.eye(10)[label], check=check))
                seconds.append(time.perf_counter() - start)
            every, directions = both
            equal = {
                "verdict": every.verdict == directions.verdict,
                "coverage": every.coverage == directions.coverage,
                "class of every pixel": np.array_equal(every.codes.ravel(), directions.codes.ravel()),
                "pixels that tie": np.array_equal(every.near.ravel(), directions.near.ravel()),
                "layers that tie": _tied(every) == _tied(directions),
            }
            same.update(name for name, yes in equal.items() if yes)
            ratios.append(seconds[1] / seconds[0])
            if bar is not None:
                bar(i + 1, len(x))
    yield f"of {len(x)} digits both ways of checking agree in: " + ", ".join(f"{k} {n}" for k, n in same.items())
    yield f"directions take {np.median(ratios):.0f} times as long as every pixel by windows"


def _tied(report: Any) -> set[str]:
    """Layers that a report names as tied at x."""
    return set(re.findall(r"(?:first layer to tie is|units tie in) (\w+)", "\n".join(report.reasons)))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.digits", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, metavar="N", help="how many; all of them by default")
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz, or a folder with the t10k IDX files")
    parser.add_argument("--directions", action="store_true", help="compare with a check by directions")
    options = parser.parse_args(arguments)
    try:
        x, labels = fdfast.datasets.mnist_test(options.data) if options.data else fdfast.datasets.mnist_sample()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    count = len(x) if options.images is None else options.images
    if not 1 <= count <= (len(x) if options.data else count):
        parser.error(f"--images {count} must be at least 1, and no more than the {len(x)} of --data")
    if options.directions:
        print("\n".join(compared(x[:count], labels[:count])))
        return 0
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
