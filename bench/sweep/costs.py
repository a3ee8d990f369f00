"""What a sweep costs: beside the plain loop, by the number of examples, in memory, and on Ray."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.digits import check as plain_loop
from bench.sweep.digits import Case, Digits, same
from bench.timing import Row, row
from fdfast.sweeps.folder import Folder

_WARM = 200


class _Clocks:
    """Seconds that passed, and seconds of the processor, of one turn after the other."""

    def __init__(self) -> None:
        self.turns: dict[str, list[Any]] = {}
        self._now, self._at = "", self._read()

    def _read(self) -> Any:
        return np.array([time.perf_counter(), time.process_time()])

    def turn(self, to: str) -> None:
        at = self._read()
        self.turns.setdefault(self._now, []).append(at - self._at)
        self._now, self._at = to, at


def cost(case: Case) -> Iterator[Row | str]:
    """One sweep over a file, which lets the plain loop have its turn after every shard.

    Both do the same work, so that on a machine with other work the processor's time, and the median over the turns,
    tell more than the sums of times that passed.
    """
    digits, clocks = Digits(case), _Clocks()
    x, labels = digits.x, digits.labels
    plain_loop(x, labels, _WARM, digits.model)
    digits.sweep("warm", limit=_WARM)
    turned = 0

    def turn(upto: int, _: Any) -> None:
        nonlocal turned
        if upto > turned:
            clocks.turn("loop")
            plain_loop(x[turned:upto], labels[turned:upto], upto - turned, digits.model)
            clocks.turn("sweep")
            turned = upto

    with _timed(Folder, "write") as writing:
        clocks.turn("sweep")
        digits.sweep("here", progress=turn)
        clocks.turn("")
    # The sweep begins before its first shard, and ends after its last, in a turn of its own.
    loop, sweep = np.array(clocks.turns["loop"]), np.array(clocks.turns["sweep"])
    what = f"sweep: {case.count:,} digits from a file, over the plain loop, in turns"
    for clock, name in enumerate(("time", "time of the processor")):
        (over,), (under,) = sweep[:, [clock]].sum(axis=0), loop[:, [clock]].sum(axis=0)
        each = f"({1e3 * over / case.count:.2f} ms / {1e3 * under / case.count:.2f} ms an example)"
        yield row(f"{what}: {name}", over / under, "<= 1.1", f"{over / under:.3f}  {each}")
    median = float(np.median(sweep[:-1, 0] / loop[:, 0]))
    yield row(f"{what}: time, median of the turns", median, "<= 1.1", f"{median:.3f}")
    yield f"    of it, writing parts: {1e3 * sum(writing) / case.count:.2f} ms an example"


@contextlib.contextmanager
def _timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds of every call of a method while the block runs."""
    seconds, call = [], getattr(owner, name)

    def clocked(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, clocked)
    try:
        yield seconds
    finally:
        setattr(owner, name, call)


_CHILD = """
import sys, resource, time, fdfast
fdfast.quiet_start()
model = fdfast.datasets.mnist_cnn()
fdfast.sweep(model, sys.argv[1], sys.argv[2] + "-warm", limit=100)
start = time.perf_counter(), time.process_time()
fdfast.sweep(model, sys.argv[1], sys.argv[2])
print(time.perf_counter() - start[0], time.process_time() - start[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def linear(case: Case) -> Iterator[Row | str]:
    """Time and peak memory of warm sweeps over files, every size in a process of its own."""
    sizes = [n for n in (100, 1_000, 10_000, 60_000) if n <= case.count]
    found = []
    for n in sizes:
        path, out = Digits(case._replace(count=n)).path, case.folder / f"linear-{n}"
        run = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path), str(out)], check=True, stdout=subprocess.PIPE, text=True
        )
        found.append((n, *map(float, run.stdout.split())))
        n, seconds, processor, memory = found[-1]
        yield f"    {n:,} digits: {seconds:.2f} s, {processor:.2f} s of the processor; {memory:.0f} MB at the peak"
    many, seconds, processor, memory = np.array(found).T
    between = f"from {sizes[0]:,} to {sizes[-1]:,} digits"
    for name, each in (("time", seconds), ("time of the processor", processor)):
        exponent = float(np.polyfit(np.log(many), np.log(each), 1)[0])
        yield row(f"sweep: exponent of the {name}, {between}", exponent, "<= 1.05", f"{exponent:.3f}")
    peaks = dict(zip(many, memory, strict=True))
    if 10_000 in peaks:
        over = peaks[10_000] / peaks[1_000]
        told = f"{over:.3f}  ({peaks[10_000]:.0f} MB / {peaks[1_000]:.0f} MB)"
        yield row("sweep: peak memory, 10,000 digits against 1,000", over, "<= 1.05", told)


def on_ray(case: Case) -> Iterator[Row | str]:
    """Rows of one process, of one and of two workers; what an example costs beside its computing."""
    digits = Digits(case)
    here = digits.sweep("here")
    for workers in (1, 2):
        times: list[tuple[int, float]] = []

        def progress(done: int, _: Any, times: list[tuple[int, float]] = times) -> None:
            times.append((done, time.perf_counter()))

        start = time.perf_counter()
        found = digits.sweep(f"ray-{workers}", ray={"workers": workers}, progress=progress)
        whole = time.perf_counter() - start
        # Every worker's first shard is slower: it records and compiles.
        (first, begun), (last, ended) = times[workers], times[-1]
        each = 1e3 * (ended - begun) / (last - first)
        computing = 1e3 * float(np.mean(found.table.column("seconds").to_numpy()[first:]))
        yield (
            f"    Ray, {workers} workers, {case.count:,} digits: {whole:.1f} s, of them {begun - start:.1f} s before "
            f"every worker's first part; then {each:.2f} ms an example, computing {computing:.2f} ms of a worker: "
            f"{each * workers - computing:.2f} ms of overhead"
        )
        equal = sum(one == other for one, other in zip(_lines(found), _lines(here), strict=True))
        what = f"sweep: rows of {workers} workers on Ray that are those of one process, bit for bit"
        yield row(what, equal * same(found, here), f"= {case.count}", f"{equal:,} of {case.count:,}")


def _lines(sweep: Any) -> Iterator[str]:
    """Rows as text, in which NaN is equal to NaN."""
    for one in sweep:
        yield repr({name: value for name, value in one.items() if name != "seconds"})
