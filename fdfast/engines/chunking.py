"""How many rows go through f at once: small enough for the cache and the memory budget, measured once."""

from __future__ import annotations

import weakref
from typing import Any

from fdfast.tape import is_steady

#: Memory that rows and activations together may take, in bytes.
BUDGET = 512 << 20
#: Candidates in rows. Below 16 the overhead of an op shows; above 256 no model measured got faster.
CANDIDATES = (32, 64, 128, 256)
_TRIALS = 2


class Chunking:
    """The best number of rows per forward pass for one traced function, found while real work is done.

    Every candidate gets the same number of timed blocks; the one with the least time per row is kept. Times are
    minima, because noise only ever adds. Without enough work to measure, the default stands.
    """

    def __init__(self) -> None:
        self._times: dict[int, list[float]] = {}
        self.warm = False
        self.ceiling: int | None = None

    def candidates(self, row_bytes: int, budget: int = BUDGET) -> list[int]:
        """Candidates whose rows and activations fit into half the budget; at least one pair of rows."""
        limit = max(2, budget // 2 // row_bytes)
        if self.ceiling is not None:
            limit = min(limit, self.ceiling)
        return [c for c in CANDIDATES if c <= limit] or [limit - limit % 2]

    def next(self, row_bytes: int, rows_left: int, budget: int = BUDGET) -> tuple[int, bool]:
        """Return the chunk for the next block, and whether it is a trial to be reported by `record`."""
        options = self.candidates(row_bytes, budget)
        usual = options[min(1, len(options) - 1)]
        if is_steady():
            return usual, False
        untried = [c for c in options if len(self._times.get(c, [])) < _TRIALS]
        if untried and self.warm and rows_left >= 2 * untried[0]:
            return untried[0], True
        tried = {c: min(self._times[c]) for c in options if self._times.get(c)}
        return (min(tried, key=tried.__getitem__) if tried else usual), False

    def record(self, chunk: int, rows: int, seconds: float) -> None:
        """Note how long a trial took."""
        self._times.setdefault(chunk, []).append(seconds / rows)

    def halve(self, chunk: int) -> int:
        """Lower the ceiling after memory ran out; returns the new chunk, always whole pairs."""
        self.ceiling = max(2, chunk // 4 * 2)
        return self.ceiling


_known: weakref.WeakKeyDictionary[Any, Chunking] = weakref.WeakKeyDictionary()


def chunking_for(traced: object) -> Chunking:
    """Return what is known about a traced function; remembered as long as the function lives."""
    if traced is None:
        return Chunking()
    return _known.setdefault(traced, Chunking())
