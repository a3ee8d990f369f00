"""How many threads the kernels use."""

from __future__ import annotations

import os

_MOST = 4096  # threads that a kernel takes


def cores() -> int:
    """Threads to use: OMP_NUM_THREADS if it is set, and no more than kernels take; else this process' own cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return min(int(asked), _MOST)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
