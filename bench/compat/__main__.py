"""`fdfast.compat.tensorflow` against TensorFlow's own checkers: ``python -m bench.compat [NAME ...]``.

Every check of the bench by both, in turn, in three modes; then the first call of a process; then larger ones.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bench.compat import models, numbers
from bench.compat.cases import Case, chosen
from bench.compat.modes import MODES, difference, outcome
from bench.compat.suite import cnn_rows, suite_rows
from bench.timing import Row, clocked, markdown, row, seconds_text

CASES = [*numbers.CASES, *models.CASES]
#: By which a check may be slower: of its time, and in seconds.
SHARE, SECONDS = 0.1, 2e-3
#: Bounds of the seconds that the original takes: small, middle and large calls.
BOUNDS = (0.01, 0.03, 0.1, 0.3, np.inf)
#: Names of the checks that a new process is begun for.
FIRST = ("sin", "dense layer", "conv2d", "batch normalisation")


class Timed(NamedTuple):
    """Seconds of a check by the original and by ours."""

    case: Case
    original: float
    ours: float
    differs: str
    failed: bool  # the original, with an exception

    @property
    def slower(self) -> bool:
        """Whether ours is slower by more than is allowed, where the original gives a result at all."""
        return not self.failed and self.ours > self.original + max(SHARE * self.original, SECONDS)


def timed(case: Case, mode: str, rounds: int) -> Timed:
    """Both checkers in turn, the fastest call of each; the first ones load kernels, are compared, and do not count."""
    seconds: dict[str, list[float]] = {"original": [], "ours": []}
    found = {which: once(which, case, mode)[1] for which in seconds}
    for turn in range(rounds):
        for which in sorted(seconds, reverse=bool(turn % 2)):
            seconds[which].append(once(which, case, mode)[0])
        if turn and sum(map(sum, seconds.values())) > 1.0:
            break
    original, mine = (min(seconds[which]) for which in ("original", "ours"))
    differs = difference(found["ours"], found["original"], case, 1 / 1024)
    return Timed(case, original, mine, differs, isinstance(found["original"], Exception))


def once(which: str, case: Case, mode: str) -> tuple[float, Any]:
    """Seconds of one call, and what it gives."""
    call, context = MODES[mode](which, case)
    found: list[Any] = []
    gc.collect()
    with context:
        return clocked(lambda: found.append(outcome(call))), found[0]


def summary(mode: str, all_of: list[Timed]) -> Iterator[Row]:
    """Totals, means and the worst of one mode."""
    original, mine = (np.array([getattr(one, which) for one in all_of]) for which in ("original", "ours"))
    total = original.sum() / mine.sum()
    both = f"({seconds_text(original.sum())} / {seconds_text(mine.sum())})"
    yield row(f"{mode}: {len(all_of)} checks, original / ours, total", total, ">= 10", f"{total:.3g}  {both}")
    yield row(f"{mode}: geometric mean", float(np.exp(np.log(original / mine).mean())), ">= 3")
    worst = [f"{one.case.name} {one.original / one.ours:.2f}" for one in all_of if one.slower]
    yield Row(f"{mode}: slower by more than 10 % and 2 ms", "0", ", ".join(worst) or "0", not worst)
    other = [f"{one.case.name}: {one.differs}" for one in all_of if one.differs]
    yield Row(f"{mode}: results that differ by more than rounding", "0", "; ".join(other) or "0", not other)


def by_size(found: dict[str, list[Timed]]) -> str:
    """Table of gains by what the original takes, small first."""
    lines = []
    for low, high in zip((0.0, *BOUNDS), BOUNDS, strict=False):
        cells = []
        for all_of in found.values():
            gains = [one.original / one.ours for one in all_of if low <= one.original < high]
            cells.append(f"{np.exp(np.log(gains).mean()):.2g} ({len(gains)})" if gains else "")
        reach = f"under {seconds_text(high)}" if np.isfinite(high) else f"{seconds_text(low)} and more"
        lines.append([reach, *cells])
    return markdown(["the original takes", *(f"gain, {mode} (checks)" for mode in found)], lines)


def first_rows(modes: list[str], cases: list[Case]) -> Iterator[Row]:
    """The first call of a process, which loads kernels: new processes, in turn."""
    for case in cases:
        for mode in modes:
            seconds = {which: _in_new_process(which, case, mode) for which in ("original", "ours")}
            both = f"({seconds_text(seconds['original'])} / {seconds_text(seconds['ours'])})"
            gain = seconds["original"] / seconds["ours"]
            yield Row(f"{mode}: first call of a process, {case.name}", "", f"{gain:.3g}  {both}")


def _in_new_process(which: str, case: Case, mode: str) -> float:
    command = [sys.executable, "-m", "bench.compat", "--once", which, "--mode", mode, case.name]
    found = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    return float(np.median([float(text) for text in found]))


def main(arguments: list[str]) -> None:
    """Print what was asked for; a goal that is missed is no error: the machine may be slow."""
    parser = argparse.ArgumentParser(prog="python -m bench.compat", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks or families; all by default")
    parser.add_argument("--mode", action="append", choices=list(MODES), help="may be given again; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", action="store_true", help="a line for every check")
    parser.add_argument("--only", choices=["checks", "first", "large"])
    parser.add_argument("--once", choices=["original", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    cases, modes = chosen(CASES, options.names), options.mode or list(MODES)
    if options.once:
        print(once(options.once, cases[0], modes[0])[0])
        return
    parts: dict[str, Callable[[], Iterator[object]]] = {
        "checks": lambda: checks(cases, modes, options.rounds, options.each),
        "first": lambda: first_rows(modes, chosen(cases, options.names or FIRST)),
        "large": lambda: (one for rows in (cnn_rows, suite_rows) for one in rows()),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            for line in part():
                print(line, flush=True)


def checks(cases: list[Case], modes: list[str], rounds: int, each: bool) -> Iterator[object]:
    """Every check in every mode; rows, and the table."""
    found: dict[str, list[Timed]] = {}
    for mode in modes:
        found[mode] = []
        for case in cases:
            found[mode].append(one := timed(case, mode, rounds))
            if each:
                both = f"{seconds_text(one.original):>8} {seconds_text(one.ours):>8} {one.original / one.ours:6.2f}"
                yield f"{mode:6}{case.name:30} {case.size:4}  {both} {'SLOWER' * one.slower} {one.differs}"
        yield from summary(mode, found[mode])
    yield f"\n{by_size(found)}"


if __name__ == "__main__":
    main(sys.argv[1:])
