"""One measured cell of W2 to W4 and of the growth panels, and what measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.peers.metrics import Spread, spread
from bench.peers.registry import Effort
from bench.rounds import Rounds

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
class Pace:
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
        beside: Callable[[], float] = lambda: float("nan"),
    ) -> Pace:
        """Warm up once, then time until the budget is spent, twice at least; calm rounds count, or the calmer half."""
        start = time.perf_counter()
        found = call()
        if self._effort.quick:
            budget, rounds = 0.2, 2
        done = Rounds(beside)
        begun = time.perf_counter()
        least = 1 if begun - start > 2 * budget else 2
        while len(done.seconds) < rounds and (len(done.seconds) < least or time.perf_counter() - begun < budget):
            done.add(call)
        done.keep_calm((len(done.stolen) + 1) // 2)
        return Pace(spread(done.seconds), float(np.median(done.ratios)), found)


def cell(section: str, case: str, engine: str, precision: str, n: float, pace: Pace, scale: float, **more: Any) -> Cell:
    """A cell whose times are `scale` times what was measured."""
    s = pace.seconds
    return Cell(
        section, case, engine, precision, n, scale * s.median, scale * s.low, scale * s.high, scale * pace.ratio, **more
    )


def middle(found: Any, exact: Any) -> float:
    """Median relative error where the true value is not zero."""
    some = exact != 0
    return float(np.median(np.abs(found[some] - exact[some]) / np.abs(exact[some])))
