"""Results and behaviour by the number of kernel threads, however that comes about."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import os, sys
if sys.argv[1] == "one core":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fdfast
fdfast.quiet_start()
import numpy as np
from fdfast.engines.difference import cores
model = fdfast.datasets.mnist_cnn()
digits = fdfast.datasets.mnist_sample(2)
x, y = digits[0], np.eye(10)[digits[1]]
found = fdfast.gradient(model, x, y=y, engine="windows")
report = fdfast.gradcheck(model, x, y)
slope = fdfast.directional(model, x, np.ones_like(x), y=y).value
print(cores(), report.verdict, slope.hex(), found.tobytes().hex())
"""
#: name: (OMP_NUM_THREADS, threads; None for the cores of the machine)
SETTINGS = {
    "1": ("1", 1),
    "2": ("2", 2),
    "8": ("8", 8),
    "nested": ("3,2", 3),
    "more than there may be": ("100000", 4096),
    "none": ("0", None),
    "no number": ("many", None),
    "one core": (None, 1),
}


def ran(name: str) -> tuple[int, str, float, np.ndarray]:
    asked, _ = SETTINGS[name]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": asked} if asked is not None else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    threads, verdict, slope, found = done.stdout.split()[-4:]
    return int(threads), verdict, float.fromhex(slope), np.frombuffer(bytes.fromhex(found))


@pytest.fixture(scope="module")
def one() -> tuple[int, str, float, np.ndarray]:
    return ran("1")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "1"])
def test_results_are_those_of_one_thread(name: str, one: tuple[int, str, float, np.ndarray]) -> None:
    if name == "one core" and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    threads, verdict, slope, found = ran(name)
    assert threads == (SETTINGS[name][1] or len(os.sched_getaffinity(0)))
    assert verdict == one[1]
    # What the differences start from comes from TensorFlow, which adds up in another order on other cores.
    np.testing.assert_allclose(found, one[3], rtol=1e-9, atol=1e-12 * np.abs(one[3]).max())
    assert slope == pytest.approx(one[2], rel=1e-12)
    if name != "one core":
        assert found.tobytes() == one[3].tobytes()
