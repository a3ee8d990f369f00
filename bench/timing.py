"""Medians and ratios taken side by side: each round runs every candidate once, so a slow spell hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate: median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{format_seconds(self.median)} [{format_seconds(self.low)} .. {format_seconds(self.high)}]"


def side_by_side(candidates: Mapping[str, Callable[[], object]], rounds: int = 7, warm: int = 1) -> dict[str, Timing]:
    """Time every candidate once per round, after `warm` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warm + rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn >= warm:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(*(float(q) for q in np.percentile(s, (50, 25, 75)))) for name, s in seconds.items()}


def format_seconds(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
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
