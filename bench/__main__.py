"""All measurements of one run: ``python -m bench``, or some of them by name: ``python -m bench w1 process``."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module

NAMES = ("process", "w1", "difference")


def main(names: list[str]) -> int:
    """Print the tables; returns 0 even if a goal is missed: a slow machine is not an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 3
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"{'what':<72} {'goal':>12} {'measured':>34} {'':>4}")
    for name in names or NAMES:
        for row in import_module(f"bench.{name}").run():
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
