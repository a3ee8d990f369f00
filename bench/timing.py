"""Medians and ratios taken side by side: each round runs every candidate once, so a slow spell hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.steal import Mark, calm

WARM, _TIMED = 0.05, 0.1  # seconds of calls that find cold caches, which do not count, and of calls that do
LONG = 0.5  # seconds of a call from which it is nothing beside it that it finds cold caches


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate: in every round that counts, median and quartiles."""

    seconds: tuple[float, ...]
    median: float
    low: float
    high: float

    def over(self, other: Timing) -> float:
        """Median ratio to another candidate of the same rounds: steadier than that of the medians where both drift."""
        return float(np.median(np.divide(self.seconds, other.seconds)))

    def __str__(self) -> str:
        return f"{format_seconds(self.median)} [{format_seconds(self.low)} .. {format_seconds(self.high)}]"


def side_by_side(candidates: Mapping[str, Callable[[], object]], rounds: int = 7, warm: int = 1) -> dict[str, Timing]:
    """Time every candidate once per round, forwards and backwards, after `warm` rounds that do not count.

    Rounds in which the host of a virtual machine took CPU time away do not count either, if at least half are left.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    stolen = []
    for turn in range(warm + rounds):
        mark = Mark()
        for name in reversed(candidates) if turn % 2 else candidates:
            start = time.perf_counter()
            candidates[name]()
            if turn >= warm:
                seconds[name].append(time.perf_counter() - start)
        if turn >= warm:
            stolen.append(mark.share())
    some = calm(stolen, least=(rounds + 1) // 2)
    return {name: _timing([s[i] for i in some]) for name, s in seconds.items()}


def _timing(seconds: Sequence[float]) -> Timing:
    return Timing(tuple(seconds), *(float(q) for q in np.percentile(seconds, (50, 25, 75))))


def steady(call: Callable[[], object]) -> float:
    """Median seconds of a call that is made again and again; a long one counts at once."""
    found: list[float] = []
    begun = last = time.perf_counter()
    while not found or last - begun < WARM + _TIMED:
        call()
        now = time.perf_counter()
        if last - begun > WARM or now - last > LONG:
            found.append(now - last)
        last = now
    return statistics.median(found)


def format_seconds(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 0.9995:  # which is rounded to 1
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


@dataclass(frozen=True)
class Row:
    """One line of the table: what, goal, measured, and whether it holds; None where there is no goal."""

    what: str
    goal: str
    measured: str
    holds: bool | None = None

    def __str__(self) -> str:
        mark = {True: "yes", False: "NO", None: ""}[self.holds]
        return f"{self.what:<72} {self.goal:>12} {self.measured:>34} {mark:>4}"
