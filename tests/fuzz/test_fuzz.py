"""The fuzzers, for as long as a test may take: `make fuzz` gives them an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = {"kernels": 5, "calls": 15, "files": 10}


@pytest.mark.parametrize("name", SECONDS)
def test_nothing_is_found(name):
    script = Path(__file__).with_name(f"{name}.py")
    command = [sys.executable, str(script), str(SECONDS[name]), "0"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr[-2000:]}"
    assert "; 0 findings" in ran.stdout
