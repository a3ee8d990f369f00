"""W1, a family of peers in one precision, in its own process: ``python -m bench.peers.w1 FILE FAMILY PRECISION``."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import fdfast
from bench.peers.registry import FAMILIES, PEERS, SIZE, Ready, keras_model, problem
from bench.rig import relative
from bench.timing import side_by_side
from bench.verdict.subject import CS231N_LIMIT, cs231n_error


def measure(make: Any, kind: str, precision: str, problem: Any, budget: float = 3.0) -> dict[str, Any]:
    """All that is said of a peer, or why there is nothing: one that does not work must not keep the others out."""
    try:
        ready = make(problem, precision)
        return _timed(ready, kind, problem, budget) | {"accuses": _accuses(ready, kind, problem)}
    except Exception as error:
        return {"missing": f"{type(error).__name__}: {error}".splitlines()[0][:200]}


def _timed(ready: Ready, kind: str, problem: Any, budget: float) -> dict[str, Any]:
    model, x, y, found = keras_model("float32"), problem.x, problem.target, []

    def ours() -> object:
        return fdfast.gradcheck(model, x, y).metrics if kind == "checker" else fdfast.gradient(model, x, y=y)

    took = side_by_side({"peer": lambda: found.append(ready.run(x)), "ours": ours}, 15, budget, pause=0.03)
    at = np.arange(SIZE) if ready.pixels is None else ready.pixels
    seconds, some, errors = took["peer"].times(SIZE / len(at)), problem.smooth[at], []
    if found[-1] is not None:
        errors = np.quantile(relative(found[-1][some], problem.truth[at][some]), (0.5, 0.99)).tolist()
    both = {"seconds": seconds.values.tolist(), "ratios": seconds.over(took["ours"]).values.tolist()}
    return both | {"setting": ready.setting, "pixels": len(at), "errors": errors}


def _accuses(ready: Ready, kind: str, problem: Any) -> list[bool]:
    """Whether it calls the correct gradient wrong, at the digit and beside it; a sample of the pixels says little."""
    points = [(problem.x, problem.truth), (problem.near, problem.near_truth)]
    if kind == "autodiff" or ready.pixels is not None:
        return []
    if ready.accuses is not None:
        return [bool(ready.accuses(x)) for x, _ in points]
    return [bool(cs231n_error(ready.run(x), truth) > CS231N_LIMIT) for x, truth in points]


if __name__ == "__main__":
    _file, _family, _precision = sys.argv[1:]
    import_module(f"bench.peers.{FAMILIES[_family][0]}")
    _found = []
    for (_whose, _name), (_kind, _precisions, _make) in list(PEERS.items()):
        if _whose == _family and _precision in _precisions:
            head = {"name": _name, "family": _family, "precision": _precision, "kind": _kind}
            _found.append(head | measure(_make, _kind, _precision, problem()))
            Path(_file).write_text(json.dumps(_found))  # for the case that the next one takes too long
