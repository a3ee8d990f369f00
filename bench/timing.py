"""Medians, quartiles and ratios of calls taken in turn: a slow spell of a shared machine hits all alike. And tables."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_SHORT, _LONG = 0.05, 0.25  # seconds: shorter calls are timed together; longer ones need no warming up
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, "=": operator.eq}


class Spread:
    """Seconds, or ratios, round by round; their median and quartiles."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, np.float64)
        self.low, self.median, self.high = (float(q) for q in np.percentile(self.values, (25, 50, 75)))

    def over(self, other: Spread) -> Spread:
        """Ratios, round by round: both calls of a round have met the same machine."""
        return Spread(self.values / other.values)

    def times(self, factor: float) -> Spread:
        return Spread(self.values * factor)

    def __str__(self) -> str:
        return f"{seconds_text(self.median)} [{seconds_text(self.low)} .. {seconds_text(self.high)}]"


def side_by_side(
    calls: Mapping[str, Callable[[], object]], rounds: int = 7, budget: float = float("inf"), pause: float = 0.0
) -> dict[str, Spread]:
    """Seconds of every call, warm, once a round, forwards and backwards; after `budget` seconds no third round begins.

    In the `pause` before each call the threads of the one before fall asleep.
    """
    # The first call traces, and the second says how many go together.
    first = {name: clocked(call) for name, call in calls.items()}
    first = {name: clocked(calls[name]) if seconds < 1 else seconds for name, seconds in first.items()}
    many = {name: max(1, round(_SHORT / seconds)) for name, seconds in first.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for turn in range(max(2, rounds)):
        if turn > 1 and time.perf_counter() - begun > budget:
            break
        for name in reversed(calls) if turn % 2 else calls:
            time.sleep(pause)
            if first[name] < _LONG:  # the caches are another's
                clocked(calls[name], many[name])
            found[name].append(clocked(calls[name], many[name]) / many[name])
    return {name: Spread(seconds) for name, seconds in found.items()}


def clocked(call: Callable[[], object], many: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(many):
        call()
    return time.perf_counter() - start


def seconds_text(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 0.9995:  # which is rounded to 1
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


class Row(NamedTuple):
    """One line of the table: what, goal, measured, and whether it holds; None where there is no goal."""

    what: str
    goal: str
    measured: str
    holds: bool | None = None

    def __str__(self) -> str:
        mark = {True: "yes", False: "NO", None: ""}[self.holds]
        return f"{self.what:<80} {self.goal:>9} {mark:>4}  {self.measured}"


def row(what: str, value: float, goal: str = "", text: str = "") -> Row:
    """Hold a figure against a goal such as "<= 1.05" or "< 6 s"; `text` is what is printed of it."""
    sign, limit = goal.split()[:2] if goal else ("", "")
    return Row(what, goal, text or f"{value:.3g}", bool(_HOLDS[sign](value, float(limit))) if goal else None)


def ratio(what: str, over: Spread, under: Spread, goal: str = "") -> Row:
    """How many times one call takes the other's time: median and quartiles over the rounds, then both times."""
    both = f"({seconds_text(over.median)} / {seconds_text(under.median)})"
    return row(what, over.over(under).median, goal, f"{times(over.over(under))}  {both}")


def times(ratios: Spread) -> str:
    median, low, high = (f"{v:,.0f}" if v >= 99.95 else f"{v:.3g}" for v in (ratios.median, ratios.low, ratios.high))
    return f"{median} [{low} .. {high}]"


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, ["---"] * len(head), *rows])
