"""kill -9 of the process, also in the middle of a write, of workers and of nodes: what stands after it, and goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.sweep.digits import SMALL, Case, Digits, among, maps, same
from bench.sweep.dying import STAGES
from bench.timing import Row, row
from fdfast.sweeps import on_ray
from fdfast.sweeps.folder import Folder

_TIMES, _NODES = 20, 5
_LONGEST, _PARTS = 1.0, 3  # seconds from a sign of life to a death, and parts before it

_PROCESS = f"""
import sys, fdfast
fdfast.quiet_start()
fdfast.sweep(fdfast.datasets.mnist_cnn(), sys.argv[1], sys.argv[2], batch={SMALL},
             progress=lambda done, _: print(done, flush=True))
"""


def process(case: Case) -> Iterator[Row | str]:
    """Death of the process at moments drawn at random, again and again, in one folder until it is full."""
    digits, rng, look = Digits(case), np.random.default_rng(0), _Look(case, "killed")
    right, times = 0, case.deaths or _TIMES
    while look.deaths < times:
        look.begin()
        with subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(digits.path), str(look.out)], stdout=subprocess.PIPE
        ) as run:
            assert run.stdout is not None
            for _ in range(1 + int(rng.integers(_PARTS + 1))):  # the first line says what is there
                run.stdout.readline()
            time.sleep(float(rng.uniform(0, _LONGEST)))
            run.kill()
        right += look.end(killed=run.returncode == -signal.SIGKILL)
    yield look.told()
    yield row("sweep: kill -9 of the process: what stands is right and is kept", right, f"= {times}")
    yield row("sweep: ... and is gone on with to the same rows", look.finish(), "= 1")


_INSIDE = f"""
import sys, fdfast
from bench.sweep.dying import die_inside
fdfast.quiet_start()
die_inside(sys.argv[3], eval(sys.argv[4]))
fdfast.sweep(fdfast.datasets.mnist_cnn(), sys.argv[1], sys.argv[2], batch={SMALL}, keep="maps")
"""
#: The manifest is the first file that a process writes, then come maps and a part of one shard after the other.
_FILES = 7


def writes(case: Case) -> Iterator[Row | str]:
    """Death of the process inside of a write, of files drawn at random, and of the manifest that closes a sweep."""
    digits, rng, times = Digits(case), np.random.default_rng(1), case.deaths or _TIMES
    look = _Look(case, "inside", keep="maps")
    earlier = [*map(int, rng.integers(0, _FILES, times)), *[None] * len(STAGES)]
    right, names = 0, set()
    for i, before in enumerate(earlier):
        if before is not None:
            look.begin(_FILES)
        with subprocess.Popen(
            [sys.executable, "-c", _INSIDE, str(digits.path), str(look.out), STAGES[i % len(STAGES)], str(before)],
            stdout=subprocess.PIPE, text=True,
        ) as run:  # fmt: skip
            assert run.stdout is not None
            names.add(run.stdout.readline().strip().split(".")[-1])
        right += look.end(killed=run.returncode == -signal.SIGKILL)
    yield look.told()
    kinds = ", ".join(sorted(names))
    yield row(f"sweep: kill -9 inside of a write ({kinds}): what stands is right", right, f"= {len(earlier)}")
    yield row("sweep: ... and is gone on with to the same rows and maps", look.finish(), "= 1")


class _Look:
    """What stands in a folder after each death, beside the undisturbed sweep."""

    def __init__(self, case: Case, name: str, **options: Any) -> None:
        self._digits, self._name, self._options = Digits(case), name, {"batch": SMALL, **options}
        self.out: Path = case.folder / name
        self._whole = self._digits.sweep(f"undisturbed-{name}", **self._options)
        self._parts = len(Folder(self._whole.path).parts())
        self._stood: dict[Path, tuple[int, int]] = {}
        self.deaths = self._halves = self._most = self._ends = 0

    def begin(self, files: int = 0) -> None:
        """Finish the folder and take an empty one if too few parts are missing for so many files."""
        if len(list(self.out.glob("part-*"))) >= self._parts - files:
            if not self.finish():
                raise AssertionError(f"{self.out} does not hold the rows of an undisturbed sweep")
            shutil.rmtree(self.out)
            self._stood = {}

    def end(self, *, killed: bool) -> bool:
        """Whether all that stands is right, and what stood before is the same file as then."""
        if not killed:  # it came to its end before
            return False
        now = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.out.glob("part-*")}
        kept = all(now.get(path) == file for path, file in self._stood.items())
        self._halves += len(list(self.out.rglob("_new-*")))
        self.deaths += 1
        self._stood, self._most = now, max(self._most, len(now))
        return kept and among(self.out, self._whole)

    def finish(self) -> bool:
        """Go on to the end, and compare."""
        found = self._digits.sweep(self._name, **self._options)
        self._ends += 1
        return found.finished and same(found, self._whole) and maps(found.path) == maps(self._whole.path)

    def told(self) -> str:
        return (
            f"    {self.deaths} deaths, {self._halves} half-written files left by them, up to {self._most} parts of "
            f"{self._parts} standing, {self._ends} times gone on to the end on the way"
        )


class _Deaths(threading.Thread):
    """Has somebody die while a sweep goes on: at random moments, each after a sign of life since the last.

    Parameters
    ----------
    die : callable
        Returns whether somebody died.
    times : int
        How many may.
    """

    def __init__(self, die: Callable[[], bool], times: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._die, self._times, self._rng = die, times, np.random.default_rng(seed)
        self._alive, self._over = threading.Event(), threading.Event()
        self.count, self.noticed = 0, 0

    def run(self) -> None:
        while self.count < self._times and not self._over.is_set():
            if self._alive.wait(0.05) and not self._over.wait(float(self._rng.uniform(0, _LONGEST))):
                died = self._die()
                self.count += died
                if died:
                    self._alive.clear()

    def progress(self, done: int, _: Any) -> None:
        if done:
            self._alive.set()

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """Let them die while the block runs; count the shards and starts that the sweep had to do again."""
        mourn = on_ray._Pool._mourn

        def counted(pool: Any, *what: Any) -> None:
            self.noticed += 1
            mourn(pool, *what)

        on_ray._Pool._mourn = counted  # type: ignore[method-assign]
        self.start()
        try:
            yield
        finally:
            on_ray._Pool._mourn = mourn  # type: ignore[method-assign]
            self._over.set()
            self.join()


def workers(case: Case) -> Iterator[Row | str]:
    """Death of Ray's workers."""
    yield from _on_ray(case, "workers", case.deaths or _TIMES, _one_worker, {"workers": 2})


def nodes(case: Case) -> Iterator[Row | str]:
    """Death of one node of two, after which another joins."""
    import ray
    from ray.cluster_utils import Cluster

    # A node joins out of a thread, where no handler of a signal may be set.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}, shutdown_at_exit=False)
    second = [cluster.add_node(num_cpus=1)]

    def die() -> bool:
        if sum(".work" in title for _, title in _workers()) < 2:
            return False  # else nobody would miss the node
        cluster.remove_node(second.pop(), allow_graceful=False)
        second.append(cluster.add_node(num_cpus=1))
        return True

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield from _on_ray(
            case, "nodes", case.deaths or _NODES, lambda _: die(), {"address": cluster.address, "workers": 2}
        )
    finally:
        ray.shutdown()
        cluster.shutdown()


def _workers() -> list[tuple[Any, str]]:
    """Processes of workers, with what they are at."""
    import psutil

    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if (title := one.cmdline()[0]).startswith("ray::Worker"):
                found.append((one, title))
    return found


def _one_worker(rng: np.random.Generator) -> bool:
    if not (alive := _workers()):
        return False
    alive[int(rng.integers(len(alive)))][0].kill()
    return True


def _on_ray(
    case: Case, what: str, times: int, die: Callable[[np.random.Generator], bool], ray: dict[str, Any]
) -> Iterator[Row | str]:
    digits, rng = Digits(case), np.random.default_rng(2)
    died = noticed = right = turns = 0
    while died < times:
        deaths = _Deaths(lambda: die(rng), times - died, turns)
        with deaths.during():
            found = digits.sweep(f"{what}-{turns}", batch=SMALL, ray=ray, progress=deaths.progress)
        turns, died, noticed = turns + 1, died + deaths.count, noticed + deaths.noticed
        right += same(found, digits.undisturbed)
    yield f"    {died} deaths of {what} in {turns} sweeps, {noticed} shards or starts of workers done again"
    yield row(f"sweep: kill -9 of {what} on Ray, {times} times: sweeps with the same rows", right, f"= {turns}")
