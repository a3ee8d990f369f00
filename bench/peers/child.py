"""One peer in a process of its own: ``python -m bench.peers.child KEY PROBLEM RESULT [--quick]``.

A result that is there already is of an earlier visit: this one adds times to it, in the setting that was found then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from bench.peers import metrics
from bench.peers.beside import Beside
from bench.peers.memory import forget_peak, peak
from bench.peers.problem import Float64, Problem
from bench.peers.registry import FULL, QUICK, Effort, Peer, Ready, load
from bench.steal import LIMIT, Mark, calm

_SHORT = 0.03  # seconds; shorter calls are repeated until they last that long
_SLOW, _ONCE = 1.0, 5.0  # seconds; longer calls are not warmed up twice, or made but once
_APART = 0.2  # quartiles of the ratios, relative to their median, that call for more rounds
_PAUSE = 0.03  # seconds after a call, in which the peer's threads fall asleep


@dataclass
class Rounds:
    """Seconds per call, seconds of fdfast's before and after it, and the share that the host took meanwhile."""

    seconds: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)

    def add(self, seconds: float, beside: float, stolen: float) -> None:
        self.seconds.append(seconds)
        self.beside.append(beside)
        self.stolen.append(stolen)

    def calm(self, least: int) -> Rounds:
        """Without those in which the host took much."""
        which = calm(self.stolen, least)
        return Rounds(*([some[i] for i in which] for some in (self.seconds, self.beside, self.stolen)))


def timed(ready: Ready, x: Float64, effort: Effort, beside: Beside) -> tuple[Any, Rounds]:
    """What a call returns, and the rounds that count."""
    mark = Mark()
    again, before = np.inf, beside.seconds()
    for _ in range(2):
        start = time.perf_counter()
        found = ready.run(x)
        again = min(again, time.perf_counter() - start)
        if again > _SLOW:
            break
    if again > _ONCE:  # warming up is nothing beside it
        return found, Rounds([again], [(before + beside.seconds()) / 2], [mark.share()])
    inner = max(1, round(_SHORT / again))
    rounds = Rounds()
    mark, before = Mark(), beside.seconds()
    begun = time.perf_counter()
    while _goes_on(rounds, time.perf_counter() - begun, effort):
        start = time.perf_counter()
        for _ in range(inner):
            found = ready.run(x)
        seconds = (time.perf_counter() - start) / inner
        time.sleep(_PAUSE)
        following, after = Mark(), beside.seconds()
        rounds.add(seconds, (before + after) / 2, mark.share())
        mark, before = following, after
    return found, rounds.calm(effort.least)


def _goes_on(rounds: Rounds, spent: float, effort: Effort) -> bool:
    """Whether another round is due.

    Too few so far, or time left: twice as much where ratios lie far apart, or few rounds are calm.
    """
    if len(rounds.seconds) < effort.least:
        return True
    some = rounds.calm(effort.least)
    low, middle, high = np.percentile(np.divide(some.seconds, some.beside), (25, 50, 75))
    unsure = high - low > _APART * middle or max(some.stolen) > LIMIT
    return spent < effort.budget * (2 if unsure else 1)


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
    ready = one.make(problem, one.precision, replace(effort, choice=before["choice"]) if before else effort)
    forget_peak()
    beside = Beside("gradcheck" if one.kind == "checker" else "gradient")
    found, rounds = timed(ready, problem.x, effort, beside)
    memory = peak()
    scale = 1.0 if ready.pixels is None else len(problem.truth) / len(ready.pixels)
    new = {
        "seconds": [scale * s for s in rounds.seconds],
        "beside": rounds.beside,
        "stolen": rounds.stolen,
        "visits": [len(rounds.seconds)],
    }
    if before:
        return before | {key: before[key] + more for key, more in new.items()}
    result: dict[str, Any] = {
        "setting": ready.setting,
        "choice": dict(ready.choice),
        **new,
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
