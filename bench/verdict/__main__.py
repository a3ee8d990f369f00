"""``python -m bench.verdict``: the verdicts on right and wrong gradients, against those of the usual rules."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from bench.timing import markdown
from bench.verdict import families
from bench.verdict.cases import named
from bench.verdict.faults import DISTORTIONS, FAULTS
from bench.verdict.subject import NAMES, Record, measure, schedule

_VERDICTS = ("pass", "inconclusive", "fail")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.verdict", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, help="correct (model, input) pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", metavar="NAME", help="run one case, such as m003/5/layer:scale 2")
    parser.add_argument("--check", default="auto", choices=("auto", "directions"), help="how fdfast checks")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error("--pairs must be at least 2: one random model and one digit")
    if options.case:
        return one(options.case, options.seed, options.check)
    started, records = time.perf_counter(), []
    for spec, runs in schedule(options.pairs, options.seed):
        for record in measure(spec, runs, by=options.check):
            records.append(record)
            if record.odd:
                print(record, file=sys.stderr, flush=True)
        gc.collect()  # a Keras model is a cycle
    seconds = time.perf_counter() - started
    print(f"verdict benchmark, seed {options.seed}: {len(records)} checks in {seconds:.0f} s\n")
    print("\n".join([*lines(records), "", *families.lines(options.seed)]))


def one(case: str, seed: int, by: str) -> None:
    """Run one case, SUBJECT/INPUT or SUBJECT/INPUT/ROUTE:FAULT, and show its report."""
    name, which, *rest = case.split("/", 2)
    route, fault = rest[0].split(":") if rest else ("autodiff", "none")
    spec, reports = named(name, seed), {}
    print(spec, "\n")
    for record in measure(spec, [(route, fault)], reports.__setitem__, by):
        if record.case == f"{name}/{which}/{route}:{fault}" or record.verdict == "error":
            print(reports.get(record.case, ""), "\n\n", record, sep="")


def lines(records: Sequence[Record]) -> Iterator[str]:
    right = [r for r in records if r.fault == "none" and r.tiles]
    correct, control = ([r for r in right if r.route == route] for route in ("autodiff", "array"))
    due = [r for r in records if r.to_be_found]
    groups = {
        "random models, autodiff": [r for r in correct if r.case[0] == "m"],
        "shipped CNN, real digits, autodiff": [r for r in correct if r.case[0] == "d"],
        "the same gradients as arrays: no jitter": control,
    }
    head = ("no fault: must never be called fail", "pairs", *_VERDICTS, "tiles", "accused")
    quantiles = ("coverage: least", "5 %", "10 %", "median", "at least 99 %")
    yield markdown((*head, *quantiles), [_correct(title, some) for title, some in groups.items() if some])
    yield "\none fault: must be called fail if a smooth tile that counts is off by 1e-3 (due)\n"
    kinds = [(fault, route) for route in ("layer", "array", "callable") for fault in {**DISTORTIONS, **FAULTS}]
    some = {kind: [r for r in records if (r.fault, r.route) == kind and r.tiles] for kind in kinds}
    head = ("fault", "route", "due", *_VERDICTS, "located", "others: found")
    yield markdown(head, [_wrong(*kind, of) for kind, of in some.items() if of])
    yield "\nthe usual rules on the same pairs and faults\n"
    said = {"fdfast": ([r.found for r in correct], [r.found for r in due])}
    said |= {name: ([r.rules[name] for r in correct], [r.rules[name] for r in due]) for name in NAMES}
    rates = [(name, _share(alarms), _share([not one for one in found])) for name, (alarms, found) in said.items()]
    yield markdown(("rule", "false alarms", "misses"), rates)
    goals = {
        "0 false alarms": [r for r in correct if r.found],
        "0 false alarms on arrays": [r for r in control if r.found],
        "all found": [r for r in due if not r.found],
        "all one-pixel faults located": [r for r in due if r.found and r.located is False],
        "no check raised": list({r.note: r for r in records if r.note}.values()),  # the last of each kind
    }
    yield ""
    for goal, against in goals.items():
        yield f"goal: {goal}: {'NO, again by --case NAME with the same seed:' if against else 'yes'}"
        yield from (f"  {r}" for r in against)


def _correct(title: str, some: list[Record]) -> tuple[object, ...]:
    c = np.array([r.coverage for r in some])
    figures = [f"{q:.3f}" for q in (*np.quantile(c, (0, 0.05, 0.1, 0.5)), (c >= 0.99).mean())]
    return title, len(some), *_verdicts(some), sum(r.tiles for r in some), sum(r.wrong for r in some), *figures


def _wrong(fault: str, route: str, some: list[Record]) -> tuple[object, ...]:
    due, rest = ([r for r in some if r.to_be_found is wanted] for wanted in (True, False))
    located = sum(bool(r.located) for r in due) if any(r.located is not None for r in due) else ""
    others = f"{sum(r.found for r in rest)} of {len(rest)}" if rest else ""
    return fault, route, len(due), *_verdicts(due), located, others


def _verdicts(some: list[Record]) -> list[int]:
    return [sum(r.verdict == name for r in some) for name in _VERDICTS]


def _share(some: list[bool]) -> str:
    return f"{sum(some)}/{len(some)} {100 * np.mean(some):5.1f} %" if some else "-"


if __name__ == "__main__":
    main(sys.argv[1:])
