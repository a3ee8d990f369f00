"""CPU time that the host of a virtual machine takes away for others, as Linux counts it; and rounds without it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

_STAT = Path("/proc/stat")
_FIELD = 8  # of the line "cpu": user, nice, system, idle, iowait, irq, softirq, steal
#: Share of the CPU time of a round from which its figures tell more of the host than of what was timed.
LIMIT = 0.05


def stolen() -> float:
    """Seconds since the start of the machine, over all its cores; 0 where nobody counts them."""
    try:
        with _STAT.open() as lines:
            fields = lines.readline().split()
    except OSError:
        return 0.0
    return int(fields[_FIELD]) / os.sysconf("SC_CLK_TCK") if len(fields) > _FIELD else 0.0


class Mark:
    """A moment, since when the stolen share is asked."""

    def __init__(self) -> None:
        self._stolen, self._seconds = stolen(), time.perf_counter()

    def share(self) -> float:
        """Stolen since then, of the CPU time that all cores have."""
        passed = time.perf_counter() - self._seconds
        return (stolen() - self._stolen) / (passed * (os.cpu_count() or 1))


def calm(shares: Sequence[float], least: int, limit: float = LIMIT) -> list[int]:
    """Numbers of the rounds up to the limit, or of the `least` calmest ones if these are fewer."""
    limit = max([limit, *sorted(shares)[:least]])
    return [number for number, share in enumerate(shares) if share <= limit]
