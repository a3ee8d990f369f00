"""All peers on one digit, and docs/benchmarks.md with its pictures: ``python -m bench.peers [NAME ...]``.

Needs the environment of `make bench-peers`; what is missing there is named on the page. Results go to build/peers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.peers import page
from bench.peers.registry import FAMILIES
from bench.peers.sections import SECTIONS
from fdfast.engines.difference import cores

ROOT = Path(__file__).parents[2]
_PACKAGES = "tensorflow keras torch jax numpy scipy numdifftools foolbox adversarial-robustness-toolbox"
#: Name of every process -> its module and arguments.
PLAN = {
    **{f"{name}-{p}": ("bench.peers.w1", name, p) for name, (_, precisions) in FAMILIES.items() for p in precisions},
    **{name: ("bench.peers.sections", name) for name in SECTIONS},
}


def environment() -> dict[str, str]:
    """The same threads for all, asleep while they wait; a malloc that keeps what is freed, for PyTorch's sake."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(cores()))
    malloc = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
    threads |= {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    device = {"JAX_PLATFORMS": "cpu", "JAX_TRACEBACK_FILTERING": "off", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **threads, **malloc, **device, "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(module: str, *arguments: str, file: Path, limit: float = 500.0) -> dict[str, Any]:
    """What a process found until it ended, and why it ended early if it did; it may live for `limit` seconds."""
    file.unlink(missing_ok=True)
    why, command = "", [sys.executable, "-m", module, str(file), *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment(), timeout=limit, capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]
    except subprocess.TimeoutExpired:
        why = f"stopped after {limit:g} s"
    return {"rows": json.loads(file.read_text()) if file.exists() else [], "missing": why}


def main(arguments: list[str]) -> None:
    """Measure, one process after the other, write the page and its pictures, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PLAN)}; all by default")
    names = parser.parse_args(arguments).names
    if unknown := [name for name in names if name not in PLAN]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(PLAN)}")
    folder, processes, start = ROOT / "build" / "peers", {}, time.monotonic()
    docs = folder if names else ROOT / "docs"
    for one in (folder, docs / "img"):
        one.mkdir(parents=True, exist_ok=True)
    for name in names or PLAN:
        module, *more = PLAN[name]
        processes[name] = run(module, *more, file=folder / f"{name}.json")
        print(f"{time.monotonic() - start:5.0f} s  {name}: {processes[name]['missing'] or 'done'}", flush=True)
    there = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    versions = ", ".join(f"{name} {there[name]}" for name in _PACKAGES.split() if name in there)
    machine = f"{platform.machine()}, {cores()} cores, a load of {os.getloadavg()[2]:.1f} at the end, CPU only"
    machine += f"; Python {platform.python_version()}, {versions}"
    found = {"processes": processes, "machine": machine, "minutes": (time.monotonic() - start) / 60}
    page.draw(processes, docs / "img")
    for name in page.PAGES:
        (docs / name).write_text(page.whole(found, name))
        print((docs / name).read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
