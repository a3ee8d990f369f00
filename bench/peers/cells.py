"""One measured cell of W2 to W4 and of the growth panels, and what measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.peers.metrics import Spread, spread
from bench.peers.registry import Effort
from bench.rounds import Pace, Rounds

ENGINES = {"fdfast": "fdfast", "tensorflow": "TensorFlow by hand", "jax": "JAX by hand"}


@dataclass(frozen=True)
class Cell:
    """Time of all pixels of one image.

    Attributes
    ----------
    section, case : str
        Such as "W3" and "tile 4".
    engine, precision : str
    n : float
        What the section lets grow.
    seconds, low, high : float
        Median and quartiles, per image, extrapolated from the sample if there is one.
    ratio : float
        Median of time over that of fdfast beside it; NaN where that was not asked.
    error : float
        Median relative error; NaN where it was not looked at.
    sample : str
        What was measured of the whole; "" for all.
    """

    section: str
    case: str
    engine: str
    precision: str
    n: float
    seconds: float
    low: float
    high: float
    ratio: float
    error: float = float("nan")
    sample: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in which there is no NaN."""
        return {**asdict(self), **{name: None for name in ("error", "ratio") if np.isnan(getattr(self, name))}}


@dataclass(frozen=True)
class Timed:
    """Seconds of a call, the same over its neighbour's, and what the call returned."""

    seconds: Spread
    ratio: float
    found: Any


class Stopwatch:
    """Times calls, beside those of fdfast where these are given."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort

    def __call__(
        self,
        call: Callable[[], Any],
        budget: float = 1.5,
        rounds: int = 9,
        beside: Callable[[], Pace] = lambda: Pace(float("nan"), float("nan")),
    ) -> Timed:
        """Warm up once, then time until the budget is spent, twice at least, and until three rounds were calm.

        These count; if the machine does not get calm in time, the calmest do: half of them, three at the most.
        """
        start = time.perf_counter()
        found = call()
        if self._effort.quick:
            budget, rounds = 0.2, 2
        done = Rounds(beside)
        begun = time.perf_counter()
        least = 1 if begun - start > 2 * budget else 2

        def goes_on() -> bool:
            spent, count = time.perf_counter() - begun, len(done.seconds)
            if count < least or (count < rounds and spent < budget):
                return True
            return len(done.calm()) < self._effort.least and spent < self._effort.patience

        while goes_on():
            done.add(call)
        done.keep_calm(min(self._effort.least, (len(done.stolen) + 1) // 2))
        return Timed(spread(done.seconds), float(np.median(done.ratios)), found)


def cell(
    section: str, case: str, engine: str, precision: str, n: float, took: Timed, scale: float, **more: Any
) -> Cell:
    """A cell whose times are `scale` times what was measured."""
    s = took.seconds
    return Cell(
        section, case, engine, precision, n, scale * s.median, scale * s.low, scale * s.high, scale * took.ratio, **more
    )


def better(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Of two visits of a section that times peers, the cells in which they did better; or the one that went well."""
    if "missing" in before or "missing" in after:
        return after if "missing" in before else before
    return {"rows": [min(pair, key=_slowness) for pair in zip(before["rows"], after["rows"], strict=True)]}


def _slowness(row: dict[str, Any]) -> float:
    return float(row["seconds"] if row["ratio"] is None else row["ratio"])


def middle(found: Any, exact: Any) -> float:
    """Median relative error where the true value is not zero."""
    some = exact != 0
    return float(np.median(np.abs(found[some] - exact[some]) / np.abs(exact[some])))
