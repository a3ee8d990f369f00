"""The kernels on every instruction set they are compiled for, not only on the best one of this machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: Of `test_program`: exact integers with their kinks, random networks of every operation, and all smooth functions.
CASES = "whole_numbers or networks_of_everything or smooth_functions_side_by_side"


def run(arguments: list[str], isa: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, because a process chooses once."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=os.environ | {"FDFAST_ISA": isa}, cwd=TESTS, capture_output=True, text=True)


@pytest.mark.parametrize("isa", ["plain", "x86_64_v3"])
def test_kernels_are_right_on_lesser_instruction_sets(isa: str) -> None:
    if isa != "plain" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{isa} is not compiled for {platform.machine()}")
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_program.py", "-k", CASES], isa)
    if "this processor or this build does not have" in done.stdout:
        pytest.skip(f"this processor does not have {isa}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    done = run(
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "test_program.py", "-k", CASES], "sse9"
    )
    assert done.returncode == 1
    assert "ValueError: FDFAST_ISA is 'sse9'" in done.stdout
