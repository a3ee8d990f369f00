"""One section by one engine in a process of its own: ``python -m bench.peers.section NAME ENGINE FOLDER [--quick]``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
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
    name, engine, folder = arguments[:3]
    effort = QUICK if "--quick" in arguments else FULL
    found = list(rows(name, engine, Path(folder), effort))
    (Path(folder) / f"section-{name}-{engine}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
