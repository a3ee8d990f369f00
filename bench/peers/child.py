"""One peer in a process of its own: ``python -m bench.peers.child KEY PROBLEM RESULT [--quick]``.

A result that is there already is of an earlier visit: this one adds times to it, in the setting that was found then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from bench.peers import metrics
from bench.peers.beside import Beside
from bench.peers.memory import forget_peak, peak
from bench.peers.problem import Float64, Problem
from bench.peers.registry import FULL, QUICK, Effort, Peer, Ready, load
from bench.rounds import PAUSE, Rounds, repeats

_SLOW = 1.0  # seconds; longer calls are not warmed up twice, and have a round less
_APART = 0.2  # quartiles of the ratios, relative to their median, that call for more rounds


def timed(ready: Ready, x: Float64, effort: Effort, rounds: Rounds) -> Any:
    """What a call returns; its times are added to `rounds`, only those that count."""
    found: Any = None

    def call() -> None:
        nonlocal found
        found = ready.run(x)

    seconds = []
    for _ in range(2):  # to warm up
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > _SLOW:
            effort = replace(effort, least=min(2, effort.least))
            break
    times, warm = repeats(min(seconds))
    begun = time.perf_counter()
    while _goes_on(rounds, time.perf_counter() - begun, effort):
        rounds.add(call, times, warm)
    rounds.keep_calm(effort.least)
    return found


def _goes_on(rounds: Rounds, spent: float, effort: Effort) -> bool:
    """Whether another round is due.

    Too few so far, or time left: twice as much where ratios lie far apart, more where few rounds are calm.
    """
    some = rounds.calm()
    if len(some) < effort.least:
        return len(rounds.seconds) < effort.least or spent < effort.patience
    low, middle, high = np.percentile([rounds.ratios[i] for i in some], (25, 50, 75))
    return spent < effort.budget * (2 if high - low > _APART * middle else 1)


def alarms(one: Peer, ready: Ready, problem: Problem, found: Any, seconds: float, effort: Effort) -> dict[str, Any]:
    """What it says about the correct gradient, under the name "", at the digit and beside it; there of faults, too."""
    said: dict[str, Any] = {}
    # A sample may not hold the pixel that a fault is on.
    slow = seconds > effort.budget / 2 or ready.pixels is not None
    for where, x, truth in (("digit", problem.x, problem.truth), ("generic", problem.generic, problem.generic_truth)):
        if one.kind == "checker" and ready.check is not None:
            said["judged"] = "itself"
            said[where] = {"": ready.check(x, None)}
            if where == "generic":
                said[where] |= {fault.name: ready.check(x, fault) for fault in problem.faults}
        elif one.kind == "estimator" and found is not None and (where == "digit" or not slow):
            said["judged"] = "CS231n"
            at = found if where == "digit" else ready.run(x)
            said[where] = metrics.judge(at, truth, problem.faults, ready.pixels)
    return said


def measure(one: Peer, problem: Problem, effort: Effort, before: dict[str, Any] | None) -> dict[str, Any]:
    """All that is said of a peer; or what was said before, with the times of one more visit."""
    call = "gradcheck" if one.kind == "checker" else "gradient"
    rounds = Rounds(partial(Beside().ask, call), PAUSE)
    known = {"choice": before["choice"]} if before else {}
    ready = one.make(problem, one.precision, replace(effort, rest=rounds.rest, **known))
    forget_peak()
    found = timed(ready, problem.x, effort, rounds)
    memory = peak()
    scale = 1.0 if ready.pixels is None else len(problem.truth) / len(ready.pixels)
    new = {
        "seconds": [scale * s for s in rounds.seconds],
        "beside": rounds.beside,
        "stolen": rounds.stolen,
        "visits": [len(rounds.seconds)],
    }
    if before:
        return before | {"least": rounds.least} | {key: before[key] + more for key, more in new.items()}
    result: dict[str, Any] = {
        "setting": ready.setting,
        "choice": dict(ready.choice),
        **new,
        "least": rounds.least,
        "peak_mb": memory,
        "evaluations": ready.evaluations,
        "work": ready.work,
        "pixels": None if ready.pixels is None else len(ready.pixels),
    }
    if found is not None:
        result["accuracy"] = metrics.accuracy(found, problem.truth, problem.smooth, ready.pixels)
    result["said"] = alarms(one, ready, problem, found, rounds.seconds[0], effort)
    return result


def main(arguments: list[str]) -> None:
    key, source, target = arguments[:3]
    np.random.seed(0)  # noqa: NPY002  some peers draw from the global generator
    before = json.loads(Path(target).read_text()) if Path(target).exists() else None
    effort = QUICK if "--quick" in arguments else FULL
    result = measure(load()[key], Problem.load(Path(source)), effort, before)
    Path(target).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
