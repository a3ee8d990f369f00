"""Where the time of our own calls goes: ``gradient`` and ``gradcheck`` of one digit, part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

import fdfast
from bench.peers.registry import keras_model, problem
from bench.timing import clocked
from fdfast import _core
from fdfast import problem as asked
from fdfast.differences import base_pass, compiled
from fdfast.functions import variables
from fdfast.functions.row_function import RowFunction
from fdfast.report import report

#: What is inside of two of them counts for the outer one; what is in none of them is Python and NumPy between them.
PLACES = {
    "set-up": ((asked, "problem_of"), (variables.Snapshot, "__init__"), (variables.Snapshot, "restore")),
    "base pass": ((base_pass.BasePass, "__call__"),),
    "kernels": ((compiled.Compiled, "prepare"), (_core, "push")),
    "autodiff": ((base_pass.BasePass, "foresee"), (base_pass.Foreseen, "deployed"), (RowFunction, "gradient")),
    "metrics": ((report, "error_summary"),),
}  # fmt: skip
PARTS = (*PLACES, "Python and NumPy")


def rows() -> Iterator[dict[str, Any]]:
    model, x, y = keras_model("float32"), problem().x, problem().target
    calls: dict[str, Callable[[], Any]] = {
        "gradient, float32": partial(fdfast.gradient, model, x, y=y, precision="float32"),
        "gradient, float64": partial(fdfast.gradient, model, x, y=y),
        "gradcheck": lambda: fdfast.gradcheck(model, x, y).metrics,
    }
    for name, call in calls.items():
        found = [list(_parts(call).values()) for _ in range(68)][8:]  # warm
        for part, seconds in zip(PARTS, np.median(found, axis=0), strict=True):
            yield {"split": name, "part": part, "seconds": float(seconds)}


def _parts(call: Callable[[], Any]) -> dict[str, float]:
    clock, depth = dict.fromkeys(PARTS, 0.0), 0

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal depth
            depth, start = depth + 1, time.perf_counter()
            found = function(*arguments, **named)
            depth -= 1
            clock[part] += 0.0 if depth else time.perf_counter() - start
            return found

        return run

    with contextlib.ExitStack() as stack:
        for part, owner, name in ((part, *place) for part, places in PLACES.items() for place in places):
            stack.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        whole = clocked(call)
    return clock | {PARTS[-1]: whole - sum(clock.values())}
