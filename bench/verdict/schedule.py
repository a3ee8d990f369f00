"""Which subject gets which faults: each model a few, each kind of fault about equally often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from bench.verdict.cases import PER_MODEL
from bench.verdict.faults import DISTORTIONS, FAULTS
from bench.verdict.subject import Plan

LAYERS, ARRAYS, CALLABLES = 2, 8, 2  # faults per subject by each route; a layer costs a model and its tracing
_ON_DIGITS = ("one pixel 1 %", "diagonal softmax", "bfloat16", "scale 1.001", "one pixel 10 %")

Task = tuple[Plan, list[tuple[str, str]]]


def schedule(pairs: int, seed: int) -> Iterator[Task]:
    """Subjects with what is to be run on them: (route, fault), first of all without one."""
    digits = max(1, pairs // 25)
    used: Counter[tuple[str, str]] = Counter()
    control = [("autodiff", "none"), ("array", "none")]
    for name, count in _names("m", pairs - digits):
        plan = Plan.of(name, seed, count)
        assert plan.spec
        runs = [*control, *_least(used, "layer", (f.name for f in FAULTS.values() if f.fits(plan.spec)), LAYERS)]
        runs += _least(used, "array", filter(plan.fits, DISTORTIONS), ARRAYS)
        yield plan, runs + _least(used, "callable", filter(plan.fits, DISTORTIONS), CALLABLES)
    for name, count in _names("d", digits):
        yield Plan.of(name, seed, count), control
    for number in range(math.ceil(digits / PER_MODEL)):
        plan = Plan.of(f"f{number:03d}", seed)
        runs = [("layer", _ON_DIGITS[number % len(_ON_DIGITS)])]
        runs += _least(used, "array", filter(plan.fits, DISTORTIONS), 3)
        yield plan, runs + _least(used, "callable", filter(plan.fits, DISTORTIONS), 1)


def _names(letter: str, pairs: int) -> Iterator[tuple[str, int]]:
    for number in range(math.ceil(pairs / PER_MODEL)):
        yield f"{letter}{number:03d}", min(PER_MODEL, pairs - number * PER_MODEL)


def _least(used: Counter[tuple[str, str]], route: str, faults: Iterable[str], many: int) -> list[tuple[str, str]]:
    chosen = sorted(((route, fault) for fault in faults), key=lambda run: used[run])[:many]
    used.update(chosen)
    return chosen
