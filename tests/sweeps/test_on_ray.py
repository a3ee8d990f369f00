"""On Ray the rows are those of one process, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sweeps_small import examples, rows, small_model

from fdfast.sweeps import Sweep, sweep
from fdfast.sweeps.on_ray import Settings, settings_of

ray = pytest.importorskip("ray", reason="needs the extra fdfast[ray]")

X, Y = examples(12)
# Keras, on NumPy 2, where it saves weights; Ray, which leaves sockets and processes to their ends.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for all tests of this file: to start one takes seconds."""
    folder = str(Path(__file__).parent.parent)
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, kept]))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH") if kept is None else os.environ.update(PYTHONPATH=kept)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(small_model(), (X, Y), tmp_path_factory.mktemp("here"), batch=2)


@pytest.mark.usefixtures("cluster")
def test_two_workers_give_the_rows_of_one_process_though_one_is_killed(here: Sweep, tmp_path: Path) -> None:
    killed: list[int] = []

    def progress(done: int, _: Any) -> None:
        if done == 4:
            one = next(one for one in psutil.Process().children(recursive=True) if "ray::Worker" in one.name())
            one.send_signal(signal.SIGKILL)
            killed.append(one.pid)

    found = sweep(small_model(), (X, Y), tmp_path, batch=2, ray={"workers": 2}, progress=progress)
    assert killed
    assert rows(found).equals(rows(here))
    assert ray.is_initialized()  # a cluster of the caller's is left running


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_raises_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"examples 0 to 1 cannot be used: .*finite"):
        sweep(small_model(), (X * float("nan"), Y), tmp_path, batch=2, ray={"workers": 1})
    with pytest.raises(ValueError, match="no node of the cluster has 64 CPUs and 0 GPUs"):
        sweep(small_model(), (X, Y), tmp_path / "large", ray={"cpus": 64})


SETTINGS = [
    ("local", Settings()),
    ("auto", Settings("auto")),
    ({"workers": 3, "gpus": 1}, Settings("local", 3, gpus=1)),
]


@pytest.mark.parametrize(("given", "expected"), SETTINGS)
def test_settings(given: Any, expected: Settings) -> None:
    assert settings_of(given) == expected


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="ray takes address, workers, cpus, gpus, got worker"):
        settings_of({"worker": 2})
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        settings_of({"workers": 0})


WITHOUT = """
import sys, numpy as np
for name in sys.argv[2:]:
    sys.modules[name] = None
import fdfast, fdfast.check, fdfast.sweeps
from sweeps_small import examples, small_model
try:
    fdfast.sweep(small_model(), examples(2), sys.argv[1], ray="local")
except ImportError as error:
    print(error)
print("ray" in sys.modules and sys.modules["ray"] is not None)
"""


@pytest.mark.parametrize(
    ("missing", "said"), [("ray", "pip install 'fdfast[ray]'"), ("pyarrow", "pip install 'fdfast[sweep]'")]
)
def test_without_the_extras_the_remedy_is_said_and_nothing_else_needs_them(
    tmp_path: Path, missing: str, said: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path), missing],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert said in run.stdout.splitlines()[0]
    assert run.stdout.splitlines()[1] == "False"
