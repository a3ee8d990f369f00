"""Runs every peer in a process of its own, one after the other, with the same threads and a time limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.machine import cores
from bench.peers.nursery import Nursery, last_line
from bench.peers.registry import Effort, Peer

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """The same threads for all. NumPy's BLAS has one, because only the limit uses it, on all cores by itself."""
    threads = str(cores())
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }


def run_module(module: str, arguments: Sequence[str], limit: float, **options: Any) -> str | None:
    """Run ``python -m module``; None if all went well, else why not, in one line. `options` are of `subprocess.run`."""
    command = [sys.executable, "-m", module, *arguments]
    options = {"env": environment(), **options}
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=limit, capture_output=True, text=True, **options)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s"
    if done.returncode == 0:
        return None
    return last_line(done.stderr, done.returncode)


def measured(
    peer: Peer, source: Path, effort: Effort, nursery: Nursery, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the peer found in a process of its own, or why there is nothing; with the times of a visit before."""
    head = {"key": peer.key, "name": peer.name, "family": peer.family, "precision": peer.precision, "kind": peer.kind}
    if not peer.installed:
        return {**head, "missing": f"{peer.needs} is not installed"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        if before:
            target.write_text(json.dumps(before))
        arguments = [peer.key, str(source), str(target), *(["--quick"] if effort.quick else [])]
        why = nursery.run("bench.peers.child", arguments, effort.limit)
        if why is None:
            return {**head, **json.loads(target.read_text())}
        return {**before, "once": why} if before else {**head, "missing": why}
