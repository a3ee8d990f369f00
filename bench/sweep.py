"""What a sweep costs and survives: ``python -m bench.sweep [cost] [linear] [ray] [kill] [workers] [node] [full]``.

Every part prints what it measured. Without names: all of them, on few examples; --images N takes more.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fdfast
from bench.digits import check as plain_loop
from fdfast.sweeps import Sweep

_WIDE = 100


def data_of(count: int, folder: Path) -> Path:
    """So many digits as a file, the shipped ones again and again, each time with other noise."""
    path = folder / f"digits-{count}.npz"
    if not path.exists():
        x, labels = fdfast.datasets.mnist_sample()
        some, rng = np.arange(count) % len(x), np.random.default_rng(0)
        noise = (
            rng.uniform(0, 1e-3, (count, *x.shape[1:])).astype(np.float32)
            * (np.arange(count) >= len(x))[:, None, None, None]
        )
        np.savez(path, x=np.clip(x[some] + noise, 0, 1), y=np.eye(10, dtype=np.float32)[labels[some]])
    return path


def rows(sweep: Sweep) -> Any:
    return sweep.table.drop(["seconds"])


def cost(count: int, folder: Path) -> None:
    """Time beside that of the plain loop, in turns; on a machine with other work, the processor's time tells more."""
    x, labels = fdfast.datasets.mnist_sample()
    model, data = fdfast.datasets.mnist_cnn(), (x[:count], np.eye(10)[labels[:count]])
    plain_loop(x, labels, _WIDE, model)
    fdfast.sweep(model, (x[:_WIDE], np.eye(10)[labels[:_WIDE]]), folder / "warm")
    found = []
    for turn in range(5):
        clocks = [np.array([time.perf_counter(), time.process_time()])]
        plain_loop(x, labels, count, model)
        clocks.append(np.array([time.perf_counter(), time.process_time()]))
        fdfast.sweep(model, data, folder / f"cost-{turn}")
        clocks.append(np.array([time.perf_counter(), time.process_time()]))
        found.append(np.diff(clocks, axis=0) * 1e3 / count)
    each = np.array(found)  # (turns, loop or sweep, clock)
    for clock, name in enumerate(("time", "processor's time")):
        (loop, swept), ratio = np.median(each[:, :, clock], axis=0), np.median(each[:, 1, clock] / each[:, 0, clock])
        print(f"cost, {name}: loop {loop:.2f} ms, sweep {swept:.2f} ms an example, ratio {ratio:.3f}")


_CHILD = """
import sys, resource, time, fdfast
from pathlib import Path
start = time.perf_counter()
model = fdfast.datasets.mnist_cnn()
def progress(done, expected):
    global start
    if done == 100: start = time.perf_counter()
fdfast.sweep(model, sys.argv[1], sys.argv[2], progress=progress)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - start)
"""


def _child(count: int, folder: Path) -> tuple[float, float]:
    out = folder / f"out-{count}"
    shutil.rmtree(out, ignore_errors=True)
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, str(data_of(count, folder)), str(out)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    memory, seconds = map(float, run.stdout.split())
    return memory, seconds


def linear(count: int, folder: Path) -> None:
    """Time after the first part and peak memory, each size in a process of its own; the exponent of the time."""
    sizes = [n for n in (300, 1_000, 3_000, 10_000, 60_000) if n <= count]
    found = [(n, *_child(n, folder)) for n in sizes]
    for n, memory, seconds in found:
        print(f"  {n} examples: {seconds:.1f} s after the first {_WIDE}, {memory:.0f} MB", flush=True)
    slope = np.polyfit(np.log([n - _WIDE for n, _, _ in found]), np.log([s for _, _, s in found]), 1)[0]
    print(f"linear: exponent {slope:.3f} from {sizes[0]} to {sizes[-1]} examples")


def on_ray(count: int, folder: Path) -> None:
    """Rows of one process, of one and of two workers; what an example costs beside its computing."""
    data, model = data_of(count, folder), fdfast.datasets.mnist_cnn()
    here = fdfast.sweep(model, data, folder / "here")
    for workers in (1, 2):
        times: list[tuple[int, float]] = []

        def progress(done: int, _: Any, times: list[tuple[int, float]] = times) -> None:
            times.append((done, time.perf_counter()))

        start = time.perf_counter()
        found = fdfast.sweep(model, data, folder / f"ray-{workers}", ray={"workers": workers}, progress=progress)
        whole = time.perf_counter() - start
        computing = float(np.sum(found.table.column("seconds").to_numpy()))
        (first, begun), (last, ended) = times[1], times[-1]
        each = (ended - begun) / (last - first)
        print(
            f"ray, {workers} workers: equal {rows(found).equals(rows(here))}; {whole:.1f} s in all, {1e3 * each:.2f} "
            f"ms an example after the first part, computing {1e3 * computing / count:.2f} ms, so "
            f"{1e3 * (each * workers) - 1e3 * computing / count:.2f} ms of overhead"
        )


_KILLED = """
import sys, fdfast
kind = sys.argv[3]
ray = None if kind == "process" else {"workers": 2}
fdfast.sweep(fdfast.datasets.mnist_cnn(), sys.argv[1], sys.argv[2], batch=10, ray=ray,
             progress=lambda done, _: print(done, flush=True))
"""


def kill(count: int, folder: Path, times: int = 20) -> None:
    """kill -9 of the process at random moments, each time going on."""
    data, rng = data_of(count, folder), np.random.default_rng(0)
    whole = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, folder / "whole-10", batch=10)
    out, killed, spoilt = folder / "killed", 0, 0
    while killed < times:
        run = subprocess.Popen([sys.executable, "-c", _KILLED, str(data), str(out), "process"], stdout=subprocess.PIPE)
        assert run.stdout is not None
        # How many parts are there, and then a first new one: within one of the next, or while it is written.
        if run.stdout.readline() and run.stdout.readline():
            time.sleep(float(rng.uniform(0, 0.6)))
        run.send_signal(signal.SIGKILL)
        run.wait()
        killed += 1
        left = [path for path in out.rglob("_new-*")]
        spoilt += len(left)
        done = len(list(out.glob("part-*")))
        if done * 10 >= count:
            shutil.rmtree(out)
    found = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, out, batch=10)
    print(
        f"kill -9 of the process, {times} times ({spoilt} half-written files left): equal "
        f"{rows(found).equals(rows(whole))}"
    )


def kill_workers(count: int, folder: Path, times: int = 20) -> None:
    """kill -9 of Ray's workers while one sweep runs."""
    import psutil

    data, rng = data_of(count, folder), np.random.default_rng(1)
    whole = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, folder / "whole-10", batch=10)
    killed: list[int] = []

    def progress(done: int, _: Any) -> None:
        if len(killed) < times and rng.uniform() < 0.5:
            alive = [one for one in psutil.Process().children(recursive=True) if "ray::Worker" in one.name()]
            if alive:
                one = alive[int(rng.integers(len(alive)))]
                one.send_signal(signal.SIGKILL)
                killed.append(one.pid)

    found = fdfast.sweep(
        fdfast.datasets.mnist_cnn(), data, folder / "workers", batch=10, ray={"workers": 2}, progress=progress
    )
    print(f"kill -9 of a worker, {len(killed)} times: equal {rows(found).equals(rows(whole))}")


def node(count: int, folder: Path, times: int = 5) -> None:
    """Death of a node of two, and a new one, while one sweep runs."""
    import ray
    from ray.cluster_utils import Cluster

    data = data_of(count, folder)
    whole = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, folder / "whole-10", batch=10)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = [cluster.add_node(num_cpus=1)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    died = 0

    def progress(done: int, _: Any) -> None:
        nonlocal died
        if done and done % (count // (times + 1) // 10 * 10 or 10) == 0 and died < times:
            cluster.remove_node(second.pop(), allow_graceful=False)
            second.append(cluster.add_node(num_cpus=1))
            died += 1

    try:
        found = fdfast.sweep(
            fdfast.datasets.mnist_cnn(), data, folder / "nodes", batch=10, progress=progress,
            ray={"address": cluster.address, "workers": 2},
        )  # fmt: skip
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(f"death of a node, {died} times: equal {rows(found).equals(rows(whole))}")


def full(count: int, folder: Path) -> None:
    """A file system of 256 KB that is full, then larger; needs the right to mount."""
    data = data_of(count, folder)
    whole = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, folder / "whole-10", batch=10)
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=False).returncode:
        print("full disk: not measured, tmpfs cannot be mounted here")
        return
    try:
        try:
            fdfast.sweep(fdfast.datasets.mnist_cnn(), data, small / "out", batch=10)
            said = "never full"
        except OSError as error:
            said = str(error)
        have = len(list((small / "out").glob("part-*")))
        left = [path.name for path in small.rglob("_new-*")]
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        found = fdfast.sweep(fdfast.datasets.mnist_cnn(), data, small / "out", batch=10)
        print(f"full disk: {said}; {have} parts, left {left}; gone on: equal {rows(found).equals(rows(whole))}")
    finally:
        subprocess.run(["umount", small], check=True)


PARTS = {
    "cost": cost, "linear": linear, "ray": on_ray, "kill": kill, "workers": kill_workers,
    "node": node, "full": full,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--images", type=int, default=1000, metavar="N")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            PARTS[part](options.images, Path(folder))
    print(f"peak memory of the driver: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
