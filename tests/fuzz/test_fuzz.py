"""The fuzzers, for so many inputs, the same ones on every machine: `make fuzz` goes on for an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INPUTS = {"kernels": 8000, "calls": 2000, "files": 600}


def ran(name: str, *arguments: str) -> str:
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_is_found(name: str) -> None:
    assert "; 0 findings" in ran(name, "inf", "0", str(INPUTS[name]))


def test_mixed_use_in_threads() -> None:
    """For some seconds: `make mixed` goes on for an hour, and lets less grow."""
    assert "; 0 findings" in ran("mixed", "15", "0")
