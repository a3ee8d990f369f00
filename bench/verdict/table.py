"""The tables, and the list of every false alarm and every miss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bench.verdict.faults import DISTORTIONS, FAULTS
from bench.verdict.measure import Record
from bench.verdict.rules import NAMES


class Outcome:
    """Records by what was right, and what was said of it."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.correct = [r for r in records if r.correct and r.route == "autodiff" and r.tiles]
        self.control = [r for r in records if r.correct and r.route == "array" and r.tiles]
        self.faulty = [r for r in records if not r.correct and r.tiles]
        self.due = [r for r in self.faulty if r.to_be_found]
        self.raised = [r for r in records if r.verdict == "error"]
        self.alarms, self.of_arrays = ([r for r in some if r.found] for some in (self.correct, self.control))
        self.misses = [r for r in self.due if not r.found]
        self.unplaced = [r for r in self.due if r.found and r.located is False]

    @property
    def holds(self) -> bool:
        """No correct gradient accused, every fault found, in its place, and nothing raised."""
        return not (self.alarms or self.of_arrays or self.misses or self.unplaced or self.raised)


def lines(records: Sequence[Record]) -> Iterator[str]:
    """The whole report."""
    all_of = Outcome(records)
    yield from _correct_side(all_of.correct, all_of.control)
    yield from _wrong_side(all_of.faulty)
    yield from _rivals(all_of.correct, all_of.due)
    raised = len(all_of.raised)
    for title, found in (
        ("false alarms of fdfast", all_of.alarms),
        ("the true gradient at x, given as an array, called wrong", all_of.of_arrays),
        ("misses of fdfast", all_of.misses),
        ("one-pixel faults found elsewhere, or with other tiles accused", all_of.unplaced),
        (f"{raised} checks that raised; the last of each kind", list({r.note: r for r in all_of.raised}.values())),
    ):
        if found:
            yield f"\n{title} (again: --case NAME with the same seed):"
            yield from (_one(r) for r in found)
    yield ""
    yield f"goal: 0 false alarms: {_yes(not all_of.alarms)}"
    yield f"goal: 0 false alarms on arrays: {_yes(not all_of.of_arrays)}"
    yield f"goal: all found: {_yes(not all_of.misses)}"
    yield f"goal: all one-pixel faults located: {_yes(not all_of.unplaced)}"
    if raised:
        yield f"and {raised} checks raised"


def remarkable(records: Sequence[Record]) -> Iterator[str]:
    """Every false alarm, every miss, and the first check that raised."""
    raised = [r for r in records if r.verdict == "error"]
    for r in (*raised[:1], *(r for r in records if r.tiles)):
        what = "raised" if not r.tiles else "false alarm" if r.correct and r.found else ""
        what = what or ("missed" if r.to_be_found and not r.found else "")
        if what:
            yield f"{what}: {_one(r).strip()}"


def _correct_side(correct: list[Record], control: list[Record]) -> Iterator[str]:
    yield "no fault: must never be called fail"
    yield f"{'':<44}{'pairs':>7}{'pass':>7}{'inconclusive':>14}{'fail':>6}{'tiles':>9}{'accused':>9}"
    groups = (
        ("random models, autodiff", [r for r in correct if r.case[0] == "m"]),
        ("shipped CNN, real digits, autodiff", [r for r in correct if r.case[0] == "d"]),
        ("the same gradients as arrays: no jitter", control),
    )
    for title, some in groups:
        if some:
            verdicts = [sum(r.verdict == name for r in some) for name in ("pass", "inconclusive", "fail")]
            tiles, accused = sum(r.tiles for r in some), sum(r.wrong for r in some)
            yield f"{title:<44}{len(some):>7}{verdicts[0]:>7}{verdicts[1]:>14}{verdicts[2]:>6}{tiles:>9}{accused:>9}"
    yield f"\n{'coverage':<44}{'least':>7}{'5 %':>7}{'10 %':>7}{'median':>8}{'share of pairs with at least 99 %':>36}"
    for title, some in groups:
        if some:
            c = np.array([r.coverage for r in some])
            low, five, ten, half = np.quantile(c, (0, 0.05, 0.1, 0.5))
            yield f"{title:<44}{low:>7.3f}{five:>7.3f}{ten:>7.3f}{half:>8.3f}{(c >= 0.99).mean():>36.3f}"


def _wrong_side(faulty: list[Record]) -> Iterator[str]:
    yield "\none fault: must be called fail if a smooth tile that counts is off by 1e-3 (due)"
    yield f"{'fault':<28}{'route':<10}{'due':>6}{'found':>7}{'pass':>6}{'inconcl.':>9}{'located':>9}   others: found"
    for route in ("layer", "array", "callable"):
        for fault in (*DISTORTIONS, *(name for name in FAULTS if name not in DISTORTIONS)):
            some = [r for r in faulty if r.route == route and r.fault == fault]
            if not some:
                continue
            due = [r for r in some if r.to_be_found]
            rest = [r for r in some if not r.to_be_found]
            verdicts = [sum(r.verdict == name for r in due) for name in ("fail", "pass", "inconclusive")]
            located = f"{sum(bool(r.located) for r in due)}" if any(r.located is not None for r in due) else ""
            others = f"{sum(r.found for r in rest)} of {len(rest)}" if rest else ""
            counts = f"{len(due):>6}{verdicts[0]:>7}{verdicts[1]:>6}{verdicts[2]:>9}{located:>9}"
            yield f"{fault:<28}{route:<10}{counts}   {others:>13}"


def _rivals(correct: list[Record], due: list[Record]) -> Iterator[str]:
    yield "\nthe usual rules on the same pairs and faults"
    yield f"{'rule':<26}{'false alarms':>20}{'misses':>20}"

    def row(name: str, alarms: Iterable[bool], found: Iterable[bool]) -> str:
        a, f = list(alarms), list(found)
        return f"{name:<26}{_share(sum(a), len(a)):>20}{_share(len(f) - sum(f), len(f)):>20}"

    yield row("fdfast", (r.found for r in correct), (r.found for r in due))
    for name in NAMES:
        yield row(name, (r.rules[name] for r in correct if r.rules), (r.rules[name] for r in due if r.rules))


def _one(r: Record) -> str:
    seen = f"coverage {r.coverage:.3f}  wrong {r.wrong}/{r.tiles}  effect {r.effect:.2e}"
    return f"  {r.case:<44} {r.verdict:<13} {r.note or seen}"


def _share(some: int, of: int) -> str:
    return f"{some}/{of} {100 * some / of:5.1f} %" if of else "-"


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def plain(record: Record) -> dict[str, object]:
    """For JSON, which has no infinity."""
    effect = record.effect if math.isfinite(record.effect) else None
    return {**vars(record), "effect": effect, "due": record.to_be_found}
