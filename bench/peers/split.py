"""Where the time of our own calls goes: ``gradient`` and ``gradcheck`` of one digit, part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from bench.peers.problem import Problem
from bench.peers.registry import Effort
from bench.steal import Mark, calm

#: Parts in the order in which they are drawn; what is in none of them is Python and NumPy between them.
PARTS = ("set-up", "base pass", "kernels", "autodiff", "metrics", "Python and NumPy")


def rows(problem: Problem, effort: Effort) -> Iterator[dict[str, Any]]:
    """Seconds of each part, means over calls taken in turn, warm."""
    import fdfast

    model = fdfast.datasets.mnist_cnn()
    x, y = problem.x, problem.target
    calls: dict[str, Callable[[], Any]] = {
        "gradient, float32": lambda: fdfast.gradient(model, x, y=y, precision="float32"),
        "gradient, float64": lambda: fdfast.gradient(model, x, y=y),
        "gradcheck": lambda: fdfast.gradcheck(model, x, y).metrics,
    }
    for call in calls.values():
        for _ in range(8):
            call()
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    stolen = []
    rounds = 5 if effort.quick else 60
    for _ in range(rounds):
        mark = Mark()
        for name, call in calls.items():
            spent[name].append(_parts(call))
        stolen.append(mark.share())
    some = calm(stolen, least=rounds // 2)
    for name, found in spent.items():
        for part in PARTS:
            yield {"split": name, "part": part, "seconds": float(np.mean([found[i][part] for i in some]))}


def _parts(call: Callable[[], Any]) -> dict[str, float]:
    clock = dict.fromkeys(PARTS, 0.0)
    with _timed(clock):
        start = time.perf_counter()
        call()
        whole = time.perf_counter() - start
    clock["Python and NumPy"] = whole - sum(clock.values())
    return clock


@contextlib.contextmanager
def _timed(clock: dict[str, float]) -> Iterator[None]:
    from fdfast import _core, problem
    from fdfast.differences import base_pass, compiled
    from fdfast.functions import row_function, variables
    from fdfast.report import report

    places = (
        ("set-up", problem, "problem_of"),
        ("set-up", variables.Snapshot, "__init__"),
        ("set-up", variables.Snapshot, "restore"),
        ("base pass", base_pass.BasePass, "__call__"),
        ("kernels", compiled.Compiled, "prepare"),
        ("kernels", _core, "push"),
        ("autodiff", base_pass.BasePass, "foresee"),
        ("autodiff", base_pass.Foreseen, "deployed"),
        ("autodiff", row_function.RowFunction, "gradient"),
        ("metrics", report, "error_summary"),
    )
    depth = [0]

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            depth[0] += 1
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                depth[0] -= 1
                if not depth[0]:  # what is inside of another part is already counted
                    clock[part] += time.perf_counter() - start

        return run

    with contextlib.ExitStack() as stack:
        for part, owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        yield
