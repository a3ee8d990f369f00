"""The difference engine, measured: ``python -m bench.difference``, all of it, or some sections by name.

w1, w2, w3: the shipped CNN and real digits; w4: large networks with random weights; growth: time and memory against
images and tiles; accuracy: against a reference in extended precision; kinks: against brute force in float64.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from bench.timing import Row

SECTIONS = {
    "w1": ("bench.difference_speed", "w1_rows"),
    "w2": ("bench.difference_speed", "w2_rows"),
    "w3": ("bench.difference_speed", "w3_rows"),
    "accuracy": ("bench.difference_accuracy", "rows"),
    "kinks": ("bench.difference_kinks", "rows"),
    "growth": ("bench.difference_growth", "rows"),
    "w4": ("bench.difference_networks", "rows"),
}


def run(names: Sequence[str] = (), quick: bool = False) -> Iterator[Row | str]:
    """Rows of some sections, of all by default."""
    from bench.difference_rig import FULL, QUICK

    yield threads()
    for name in names or SECTIONS:
        module, function = SECTIONS[name]
        yield from getattr(import_module(module), function)(QUICK if quick else FULL)


def threads() -> str:
    """Who uses how many threads."""
    import tensorflow as tf

    from fdfast.engines.difference import cores

    inside, between = (
        getattr(tf.config.threading, f"get_{kind}_op_parallelism_threads")() for kind in ("intra", "inter")
    )
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"cores that may be used: {free}; threads of the kernels: {cores()}; of TensorFlow: "
        f"{inside or 'default'} within an operation, {between or 'default'} between"
    )


def main(arguments: list[str]) -> int:
    """Print the tables; returns 0 even if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.difference", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    for row in run(options.names, options.quick):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
