"""One measured cell of W2 to W4 and of the growth panels, and what measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.peers.metrics import Spread, spread
from bench.peers.registry import Effort
from bench.rounds import PAUSE, Pace, Rounds, repeats

_SLOW = 1.0  # seconds of a first call that tells how long one takes; after shorter ones another is asked
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
    ratio, beside : float
        Median of time over that of fdfast beside it, and of the latter, in seconds; NaN where that was not asked.
    error : float
        Median relative error; NaN where it was not looked at.
    sample : str
        What was measured of the whole; "" for all.
    chunk : int
        Rows of one forward pass; 0 where it is not for the caller to choose.
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
    beside: float = float("nan")
    error: float = float("nan")
    sample: str = ""
    chunk: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in which there is no NaN."""
        maybe = ("error", "ratio", "beside")
        return {**asdict(self), **{name: None for name in maybe if np.isnan(getattr(self, name))}}


@dataclass(frozen=True)
class Timed:
    """Seconds of a call, the same over its neighbour's, those of the neighbour, and what the call returned."""

    seconds: Spread
    ratio: float
    beside: float
    found: Any


def _clocked(call: Callable[[], Any]) -> tuple[Any, float]:
    """What one call returns, and its seconds."""
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start


class Stopwatch:
    """Times calls, beside those of fdfast where these are given."""

    def __init__(self, effort: Effort) -> None:
        self._effort = effort

    def once(self, call: Callable[[], Any]) -> Timed:
        """Warm up once, then time one call: for what other engines' processes time again, beside their own calls."""
        found = call()
        _, seconds = _clocked(call)
        return Timed(Spread(seconds, seconds, seconds), float("nan"), float("nan"), found)

    def __call__(
        self,
        call: Callable[[], Any],
        budget: float = 1.5,
        rounds: int = 9,
        beside: Callable[[], Pace] = lambda: Pace(float("nan"), float("nan")),
    ) -> Timed:
        """Warm up once, then time until the budget is spent, and until three rounds were calm.

        At least so often, twice if a call takes seconds. Calm rounds count; if the machine does not get calm in time,
        the calmest do: half of them, three at the most.
        """
        if self._effort.quick:
            budget, rounds = 0.2, 2
        found, seconds = _clocked(call)
        least = 1 if seconds > 2 * budget else 2 if seconds > _SLOW else self._effort.least
        if seconds < _SLOW:  # it may have been tracing
            _, seconds = _clocked(call)
        times, warm = repeats(seconds)
        done = Rounds(beside, PAUSE)
        begun = time.perf_counter()

        def goes_on() -> bool:
            spent, count = time.perf_counter() - begun, len(done.seconds)
            if count < least or (count < rounds and spent < budget):
                return True
            return len(done.calm()) < self._effort.least and spent < self._effort.patience

        while goes_on():
            done.add(call, times, warm)
        done.keep_calm(min(self._effort.least, (len(done.stolen) + 1) // 2))
        return Timed(spread(done.seconds), float(np.median(done.ratios)), float(np.median(done.beside)), found)


def cell(
    section: str, case: str, engine: str, precision: str, n: float, took: Timed, scale: float, **more: Any
) -> Cell:
    """A cell whose times are `scale` times what was measured."""
    s, ratio = took.seconds, scale * took.ratio
    times = [scale * seconds for seconds in (s.median, s.low, s.high)]
    return Cell(section, case, engine, precision, n, *times, ratio, took.beside, **more)


def middle(found: Any, exact: Any) -> float:
    """Median relative error where the true value is not zero."""
    some = exact != 0
    return float(np.median(np.abs(found[some] - exact[some]) / np.abs(exact[some])))
