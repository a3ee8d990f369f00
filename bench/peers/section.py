"""One section by one engine in a process of its own: ``python -m bench.peers.section NAME ENGINE FOLDER [--quick]``.

With ``--cells`` and, in JSON, [section, case, precision, rows of one forward pass] of some, only these are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench.peers import goals, growth, large, small, split
from bench.peers.problem import Problem
from bench.peers.registry import FULL, QUICK, Effort

#: Section and engine, in the order in which they run.
PLAN = (
    *(("small", engine) for engine in ("fdfast", "tensorflow", "jax")),
    *(("large", engine) for engine in ("fdfast", "tensorflow", "jax")),
    *(("growth", engine) for engine in ("fdfast", "tensorflow")),
    ("split", "fdfast"),
    ("goals", "fdfast"),
)


def rows(name: str, engine: str, folder: Path, effort: Effort) -> Iterable[dict[str, Any]]:
    """What the section finds, as dicts."""
    if name == "goals":
        return goals.rows(effort)
    if name == "split":
        return split.rows(Problem.load(folder / "problem.npz"), effort)
    if name == "small":
        found = small.rows(engine, Problem.load(folder / "problem.npz"), effort)
    elif name == "large":
        found = large.rows(engine, folder, effort)
    else:
        found = growth.rows(engine, effort)
    return (cell.as_dict() for cell in found)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.section")
    parser.add_argument("name")
    parser.add_argument("engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", type=json.loads)
    told = parser.parse_args(arguments)
    cells = None if told.cells is None else {tuple(cell): chunk for *cell, chunk in told.cells}
    effort = replace(QUICK if told.quick else FULL, cells=cells)
    found = list(rows(told.name, told.engine, told.folder, effort))
    (told.folder / f"section-{told.name}-{told.engine}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
