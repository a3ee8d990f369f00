"""The page docs/benchmarks.md, and the lines on the terminal, from the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bench.peers.limits import DENSE
from bench.peers.metrics import of_two_best, spread, visits
from bench.peers.visits import summary
from bench.timing import format_seconds

Result = dict[str, Any]
ESTIMATE, CHECK = "fdfast-gradient-float64", "fdfast-check-float64"
FAULTS = ("twice", "1 % off", "one pixel twice", "one row down")


def line(one: Result) -> str:
    """For the terminal, as soon as a peer is done."""
    head = f"{one['name']}, {one['precision']}"
    if "missing" in one:
        return f"{head}: {one['missing']}"
    error = one.get("accuracy", {}).get("smooth", {}).get("median")
    once = f"; another visit: {one['once']}" if "once" in one else ""
    return f"{head}: {_time(one)}" + ("" if error is None else f", median error {error:.1e}") + once


def drift(before: Result, after: Result) -> str:
    """How far the ratios to fdfast are from those of another run: of W1, and of W2 to W4."""
    own = (ESTIMATE, CHECK)
    found = []
    for what, of in (("W1", lambda run: against(run["w1"])), ("W2 to W4", per_image)):
        old, new = of(before), of(after)
        changes = {key: abs(new[key] / old[key] - 1) for key in new if key in old and key not in own}
        if not changes:
            continue
        worst = max(changes, key=lambda key: changes[key])
        inside = sum(change <= 0.2 for change in changes.values())
        middle = float(np.median(list(changes.values())))
        found.append(
            f"{what}: {inside} of {len(changes)} within 20 %, median change {100 * middle:.0f} %, "
            f"largest {100 * changes[worst]:.0f} % ({worst}: {old[worst]:.3g}, then {new[worst]:.3g})"
        )
    return "ratios against the run before: " + ("; ".join(found) or "none in common")


def per_image(run: Result) -> dict[str, float]:
    """Times as long as fdfast beside it, in the sections."""
    rows = [row for row in summary(run["sections"]) if row["ratio"]]
    return {f"{row['case']}, {row['engine']} {row['precision']}": row["ratio"] for row in rows}


def against(w1: Iterable[Result]) -> dict[str, float]:
    """Times as long as fdfast beside it: checkers as `gradcheck`, all others as `gradient`, both in float64."""
    return {one["key"]: of_two_best(visits(one)) for one in w1 if "missing" not in one and one["kind"] != "limit"}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column is text, the others are figures."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])


def _time(one: Result) -> str:
    found = spread(one["seconds"])
    text = format_seconds(found.median)
    if len(one["seconds"]) > 1:
        text += f" [{format_seconds(found.low)} .. {format_seconds(found.high)}]"
    return text + (f" (from {one['pixels']} pixels)" if one.get("pixels") else "")


def figure(value: float | None) -> str:
    """Two digits, or a dash."""
    return "-" if value is None or np.isnan(value) else f"{value:.1e}"


def times(value: float | None) -> str:
    """Two digits, three from a hundred on; or a dash."""
    return "-" if value is None else f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def w1_tables(w1: list[Result]) -> str:
    """Time, accuracy and verdicts."""
    there = [one for one in w1 if "missing" not in one and one["kind"] != "limit"]
    than = against(w1)
    head = ("", "precision", "time, median [quartiles]", "times fdfast", "evaluations/s", "peak MB", "setting")
    rows = (
        (
            one["name"],
            one["precision"],
            _time(one),
            times(than.get(one["key"])),
            f"{one['evaluations'] / spread(one['seconds']).median:,.0f}",
            f"{one['peak_mb']:.0f}",
            one["setting"],
        )
        for one in there
    )
    parts = [table(head, rows)]
    names = ("median", "geometric", "p99", "largest")
    head = ("", "precision", *(f"{where}: {name}" for where in ("smooth", "all") for name in names))
    exact = (
        (one["name"], one["precision"], *(figure(one["accuracy"][w][n]) for w in ("smooth", "all") for n in names))
        for one in there
        if "accuracy" in one
    )
    parts.append(table(head, exact))
    head = ("", "precision", "rule", "digit: correct", "with noise: correct", *FAULTS)
    parts.append(table(head, (_verdict(one) for one in there if one["said"].get("judged"))))
    return "\n\n".join(parts)


def _verdict(one: Result) -> tuple[str, ...]:
    said = one["said"]

    def correct(where: str) -> str:
        return "-" if where not in said else "false alarm" if said[where][""] else "pass"

    generic = said.get("generic")
    faults = ["-" if generic is None else _caught(generic, name) for name in FAULTS]
    rule = "its own" if said["judged"] == "itself" else "CS231n"
    return one["name"], one["precision"], rule, correct("digit"), correct("generic"), *faults


def _caught(said: dict[str, bool], fault: str) -> str:
    return ("caught*" if said[""] else "caught") if said[fault] else "missed"


def limit(w1: list[Result]) -> str:
    """The machine's matrix product, and what it means for W1."""
    peak: dict[str, float] = {}
    for one in w1:
        if one["kind"] == "limit" and "missing" not in one:
            rate = one["work"] / min(one["seconds"])
            peak[one["precision"]] = max(rate, peak.get(one["precision"], 0.0))
    dense = 2 * 784 * DENSE
    parts = [f"{rate / 1e9:.0f} GFLOP/s in {name}, hence {format_seconds(dense / rate)}" for name, rate in peak.items()]
    return (
        f"The limit of everything that evaluates all rows: 1568 dense forward passes are {dense / 1e9:.2f} GFLOP; this "
        f"machine's best matrix product makes {'; '.join(parts)}."
    )


def absent(found: Result) -> list[str]:
    """One sentence for everything that is missing."""
    lines = [f"{one['name']}, {one['precision']}: {one['missing']}" for one in found["w1"] if "missing" in one]
    lines += [
        f"{one['name']}, {one['precision']}, another visit: {one['once']}" for one in found["w1"] if "once" in one
    ]
    lines += [f"{name}: {one['missing']}" for name, one in found["sections"].items() if "missing" in one]
    return lines + [f"{name}, another visit: {one['once']}" for name, one in found["sections"].items() if "once" in one]


def page(found: Result) -> str:
    """All of docs/benchmarks.md."""
    from bench.peers.text import whole

    return whole(found)
