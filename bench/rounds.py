"""Rounds of a call beside a neighbour: a machine's speed drifts, and the ratio of two neighbouring moments does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bench.steal import LIMIT, Mark, calm
from bench.timing import LONG, WARM

PAUSE = 0.03  # seconds after a call, in which its threads fall asleep
_SHORT = 0.05  # seconds; shorter calls are timed together
_PIECE = 0.4  # seconds from which a call that can rest does so
_SLOW = 0.15  # how much longer than its least a neighbour takes from which a round is disturbed


class Pace(NamedTuple):
    """Seconds that a neighbour takes now, and the least that it has taken so far."""

    seconds: float
    least: float


def repeats(seconds: float) -> tuple[int, int]:
    """How many calls of so many seconds make a round, and how many before them warm up, since the neighbour was on."""
    return max(1, round(_SHORT / seconds)), max(1, int(WARM / seconds)) if seconds < LONG else 0


def undisturbed(stolen: Sequence[float], beside: Sequence[float], fastest: float, least: int) -> list[int]:
    """Numbers of the rounds that nothing disturbed, or of the `least` calmest ones if these are fewer.

    What other guests of a machine do to shared caches is counted nowhere. But it slows down the neighbour, which always
    does the same, and takes `fastest` seconds where nobody is in its way.
    """
    far = np.fmax(np.divide(stolen, LIMIT), (np.divide(beside, fastest) - 1) / _SLOW)
    return calm([float(one) for one in far], least, limit=1.0)


class Rounds:
    """Seconds of a call, seconds of its neighbour, and the share of CPU time that the host took meanwhile.

    The neighbour is timed before the first round and after each. A long call may be a loop that says, by calling
    `rest`, that it is between two evaluations: then the clock stops every 0.4 seconds, and the neighbour is
    timed in the middle of the call, too. The seconds of such a round are those of its pieces together, and so is the
    ratio to the neighbour.

    Parameters
    ----------
    neighbour : callable
        Gives its `Pace`.
    pause : float
        Seconds between the call and its neighbour, in which the threads of the call fall asleep.
    """

    def __init__(self, neighbour: Callable[[], Pace], pause: float = 0.0) -> None:
        self.seconds: list[float] = []
        self.beside: list[float] = []
        self.stolen: list[float] = []
        self.least = float("nan")  # of the neighbour; NaN: there is none
        self._neighbour, self._pause = neighbour, pause
        self._mark, self._before = Mark(), 0.0  # of the neighbour's last time; 0: not timed yet
        self._pieces: list[tuple[float, float, float]] = []
        self._since: float | None = None  # None: no round is on

    def add(self, call: Callable[[], object], times: int = 1, warm: int = 0) -> None:
        """One more round, of so many calls after others that only warm up."""
        if not self._before:
            self._mark, self._before = Mark(), self._ask()
        for _ in range(warm):
            call()
        self._pieces = []
        self._since = time.perf_counter()
        try:
            for _ in range(times):
                call()
            self._close()
        finally:
            self._since = None
        whole = sum(seconds for seconds, _, _ in self._pieces)
        self.seconds.append(whole / times)
        self.beside.append(whole / sum(seconds / beside for seconds, beside, _ in self._pieces))
        self.stolen.append(sum(seconds * stolen for seconds, _, stolen in self._pieces) / whole)

    def rest(self) -> None:
        """To be called between two evaluations of a call that is timed here; elsewhere it does nothing."""
        if self._since is not None and time.perf_counter() - self._since > _PIECE:
            self._close()
            self._since = time.perf_counter()

    def _close(self) -> None:
        assert self._since is not None
        seconds = time.perf_counter() - self._since
        time.sleep(self._pause)
        following, after = Mark(), self._ask()
        self._pieces.append((seconds, (self._before + after) / 2, self._mark.share()))
        self._mark, self._before = following, after

    def _ask(self) -> float:
        seconds, self.least = self._neighbour()
        return seconds

    @property
    def ratios(self) -> list[float]:
        """Times as long as the neighbour."""
        return [seconds / beside for seconds, beside in zip(self.seconds, self.beside, strict=True)]

    def calm(self, least: int = 0) -> list[int]:
        """Numbers of the rounds that nothing disturbed; or of the calmest, as far as `least` are not reached."""
        return undisturbed(self.stolen, self.beside, self.least, least)

    def keep_calm(self, least: int) -> None:
        """Drop all rounds but these."""
        which = self.calm(least)
        for some in (self.seconds, self.beside, self.stolen):
            some[:] = [some[i] for i in which]
