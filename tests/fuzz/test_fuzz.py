"""The fuzzers, for so many inputs, the same ones on every machine: `make fuzz` goes on for an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INPUTS = {"kernels": 8000, "calls": 2000, "files": 600}


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_is_found(name):
    script = Path(__file__).with_name(f"{name}.py")
    command = [sys.executable, str(script), "inf", "0", str(INPUTS[name])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr[-2000:]}"
    assert "; 0 findings" in ran.stdout
