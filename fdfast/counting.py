"""How many rows are done, and of how many: for the progress of calls, and for interrupts."""

from __future__ import annotations

import math

from fdfast.functions import tell_interrupt
from fdfast.progress import Progress


class Count:
    """Adds up rows over several engine calls, and tells a progress callback of how many.

    Parameters
    ----------
    progress
        As `fdfast.gradient` takes it.
    rows : int
        That every example takes, at least.
    examples : int
    sure : bool
        Whether there will be no more. Else what is refined, and what is looked at near x, comes on top, and how much
        that is shows only then: until one group of examples is through, the share that is done grows more slowly the
        more rows there are, and never says that all is done. From then on the others are taken to be like it.
    """

    def __init__(self, progress: Progress, rows: int, examples: int, *, sure: bool = False) -> None:
        self._progress, self._rows, self._examples, self._sure = progress, rows, examples, sure
        self._done = self._through = self._ready = 0
        self._share = 0.0

    def __call__(self, rows: int) -> None:
        """Count rows that are done."""
        tell_interrupt()
        self._done += rows
        self._tell()

    def through(self, examples: int) -> None:
        """Say that a group of examples is through."""
        self._ready, self._through = self._ready + examples, self._done
        self._tell()

    def _tell(self) -> None:
        first = self._rows * self._examples
        if callable(self._progress) and self._sure:  # what an engine looks at twice is not told
            self._progress(min(self._done, first), first)
        elif callable(self._progress) and self._done:
            # Never less than before: a group that takes longer than the last only slows it down.
            share = max(self._share, min(1.0, self._done / self._expected()))
            expected = max(self._done, int(self._done / share))
            self._share = self._done / expected
            self._progress(self._done, expected)

    def _expected(self) -> int:
        first = self._rows * self._examples
        if self._ready:
            left = self._through * (self._examples - self._ready) // self._ready
            return max(self._through + left, self._done + (left > 0))
        return math.ceil(self._done / (1 - math.pow(1 + self._done / first, -1.2)))
