"""What fdfast holds itself to: ``python -m bench [SECTION ...]``, a table of goals and what was measured."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module

DIFFERENCE = ("w1", "w2", "w3", "accuracy", "kinks", "growth", "w4")
SECTIONS = ("process", "digits", *DIFFERENCE)


def main(arguments: list[str], sections: Sequence[str]) -> None:
    """Print the rows; a goal that is missed is no error: the machine may be slow."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SECTION", help=f"of {', '.join(sections)}; all by default")
    names = parser.parse_args(arguments).names or sections
    if unknown := [name for name in names if name not in sections]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(sections)}")
    from fdfast.engines.difference import cores

    print(f"{platform.machine()}, {os.cpu_count()} cores, {cores()} threads, Python {platform.python_version()}\n")
    print(f"{'what':<80} {'goal':>9}       measured: medians of calls taken in turn, [quartiles], (both times)")
    for name in names:
        module = import_module("bench.difference" if name in DIFFERENCE else f"bench.{name}")
        for row in getattr(module, name if name in DIFFERENCE else "rows")():
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:], SECTIONS)
