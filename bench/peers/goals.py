"""The table of what fdfast holds itself to: every row with a goal, from the benchmarks that `make bench` runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.peers.registry import Effort

#: Command that prints the row, and the module and function that make it.
SOURCES = (
    ("python -m bench w1", "bench.w1", "engine_rows"),
    ("python -m bench.difference w1", "bench.difference_speed", "w1_rows"),
    ("python -m bench.difference w2", "bench.difference_speed", "w2_rows"),
    ("python -m bench.difference accuracy", "bench.difference_accuracy", "rows"),
)


def rows(effort: Effort) -> Iterator[dict[str, Any]]:
    """Rows with a goal as dicts: what, goal, measured, holds, command."""
    from importlib import import_module

    from bench.difference_rig import FULL, QUICK, digits
    from bench.timing import Row

    for command, module, function in SOURCES:
        call = getattr(import_module(module), function)
        if function == "engine_rows":
            model, x, y = digits(1)
            found = call(model, x[0], y[0])
        else:
            found = call(QUICK if effort.quick else replace(FULL, rounds=5, digits=10))
        for row in found:
            if isinstance(row, Row) and row.holds is not None:
                yield {**vars(row), "command": command}
    yield from _check_rows(effort)
    yield _memory_row(effort)
    yield _verdict_row(effort)


def _check_rows(effort: Effort) -> Iterator[dict[str, Any]]:
    """Coverage and verdicts on real digits."""
    import numpy as np

    import fdfast

    count = 10 if effort.quick else 1000
    x, labels = fdfast.datasets.mnist_sample(count)
    report = fdfast.gradcheck(fdfast.datasets.mnist_cnn(), x, np.eye(10)[labels])
    each = [report[i] for i in range(count)]
    failed = sum(one.verdict == "fail" for one in each)
    command = "python -m bench.peers"
    yield {
        "what": f"coverage with jitter, {count} real digits",
        "goal": ">= 99 %",
        "measured": f"{100 * report.coverage:.2f} %",
        "holds": bool(report.coverage >= 0.99),
        "command": command,
    }
    yield {
        "what": f"correct gradients of {count} real digits called `fail`",
        "goal": "0",
        "measured": str(failed),
        "holds": failed == 0,
        "command": command,
    }


def _verdict_row(effort: Effort) -> dict[str, Any]:
    """A part of the verdict benchmark, which takes a quarter of an hour for its thousand models and inputs."""
    from bench.verdict.__main__ import run
    from bench.verdict.schedule import schedule
    from bench.verdict.table import Outcome

    pairs = 2 if effort.quick else 30
    found = Outcome([record for plan, runs in schedule(pairs, 0) for record in run(plan, runs)])
    pixels = [record for record in found.due if record.located is not None]
    return {
        "what": f"{len(found.correct)} correct gradients of random models called `fail`; wrong ones found; "
        "faults of one pixel located",
        "goal": "0; 100 %; 100 %",
        "measured": f"{len(found.alarms)}; {len(found.due) - len(found.misses)} of {len(found.due)}; "
        f"{sum(bool(record.located) for record in pixels)} of {len(pixels)}",
        "holds": found.holds,
        "command": "make bench-verdict",
    }


def _memory_row(effort: Effort) -> dict[str, Any]:
    """Peak resident memory of the process after checks of a few tiles, and after checks of many more."""
    import numpy as np

    import fdfast
    from bench.peers.memory import forget_peak, peak

    count = 10 if effort.quick else 100
    x, labels = fdfast.datasets.mnist_sample(count)
    model, y = fdfast.datasets.mnist_cnn(), np.eye(10)[labels]

    def after(tile: int) -> float:
        fdfast.gradcheck(model, x, y, tile=tile)  # what is built once is not counted
        forget_peak()
        fdfast.gradcheck(model, x, y, tile=tile)
        return peak()

    few, many = after(14), after(1)
    return {
        "what": f"peak memory, {count} digits of 784 tiles against 4 tiles",
        "goal": "<= 1.05",
        "measured": f"{many / few:.3f}  ({many:.0f} MB / {few:.0f} MB)",
        "holds": bool(many <= 1.05 * few),
        "command": "python -m bench.peers",
    }
