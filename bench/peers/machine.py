"""What the figures were measured on, without naming anybody's host."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "tensorflow", "keras", "torch", "jax", "jaxlib", "numpy", "scipy", "numdifftools", "foolbox",
    "adversarial-robustness-toolbox",
)  # fmt: skip
_SIMD = ("avx512f", "avx2", "avx", "asimd", "neon")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> dict[str, Any]:
    """Architecture, cores, widest vectors, versions."""
    return {
        "architecture": platform.machine(),
        "cores": cores(),
        "simd": _simd(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _simd() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return ""
    return next((one for one in _SIMD if one in flags), "")
