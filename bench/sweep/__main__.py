"""What a sweep costs and survives: ``python -m bench.sweep [SECTION ...] [--images N] [--data FOLDER]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.sweep.digits import Case

SECTIONS = {
    "cost": "bench.sweep.costs", "linear": "bench.sweep.costs", "on_ray": "bench.sweep.costs",
    "process": "bench.sweep.deaths", "writes": "bench.sweep.deaths", "workers": "bench.sweep.deaths",
    "nodes": "bench.sweep.deaths",
    "full": "bench.sweep.damage", "parts": "bench.sweep.damage", "data": "bench.sweep.damage",
}  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--images", type=int, default=1_000, metavar="N", help="digits, 1000 by default")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with MNIST's IDX files; else the shipped digits")
    parser.add_argument("--deaths", type=int, metavar="N", help="of each kind; 20 by default, 5 of nodes")
    options = parser.parse_args(arguments)
    names = options.names or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    from importlib import import_module

    from fdfast.quiet import quiet_start

    quiet_start()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            case = Case(options.images, Path(folder), options.data, options.deaths)
            for line in getattr(import_module(SECTIONS[name]), name)(case):
                print(line, flush=True)
                missed += getattr(line, "holds", None) is False
    return int(missed > 0)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Ray gives its own processes, and workers, less time to start than they take on a machine with other work.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "600")
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
    sys.exit(main(sys.argv[1:]))
