"""A fixed piece of work, timed beside every call: this machine's speed drifts, and ratios to it do not."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Yardstick:
    """One float32 matrix product on each core, in threads that sleep afterwards.

    BLAS itself is held to one thread by the environment: its own threads would spin on, into what is timed next.
    """

    def __init__(self, n: int = 512) -> None:
        rng = np.random.default_rng(0)
        self._pairs = [rng.random((2, n, n), np.float32) for _ in range(cores())]
        self._pool = ThreadPoolExecutor(len(self._pairs))
        self.work = 2.0 * n**3 * len(self._pairs)
        self.seconds()

    def seconds(self, times: int = 3) -> float:
        """The fastest of a few."""
        found = []
        for _ in range(times):
            start = time.perf_counter()
            list(self._pool.map(lambda pair: pair[0] @ pair[1], self._pairs))
            found.append(time.perf_counter() - start)
        return min(found)
