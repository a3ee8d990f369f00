"""``python -m bench.verdict``: the verdicts on right and wrong gradients, against those of the usual rules."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # TensorFlow comes in with these, after its log level is set
    from bench.verdict.measure import Record
    from bench.verdict.subject import Plan


def main(arguments: list[str]) -> int:
    """Print the tables; returns 0 whatever they say: this is a measurement."""
    parser = argparse.ArgumentParser(prog="python -m bench.verdict", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, help="correct (model, input) pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every record to a file")
    parser.add_argument("--case", metavar="NAME", help="run one case, such as m003/5/layer:scale 2")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error("--pairs must be at least 2: one random model and one digit")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return one(options.case, options.seed) if options.case else everything(options.pairs, options.seed, options.json)


def everything(pairs: int, seed: int, file: Path | None) -> int:
    """Run the schedule; say at once what is remarkable. An interrupt ends it early, with tables of what there is."""
    from bench.verdict.schedule import schedule
    from bench.verdict.table import lines, plain, remarkable

    started = said = time.perf_counter()
    records: list[Record] = []
    try:
        for plan, runs in schedule(pairs, seed):
            new = run(plan, runs)
            records += new
            gc.collect()  # a Keras model is a cycle
            for line in remarkable(new):
                print(line, file=sys.stderr, flush=True)
            if time.perf_counter() - said > 60:
                said = time.perf_counter()
                print(f"{said - started:.0f} s: {plan.name}, {len(records)} checks", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: the tables are of a part of the schedule", file=sys.stderr)
    print(f"verdict benchmark, seed {seed}: {len(records)} checks in {time.perf_counter() - started:.0f} s\n")
    print("\n".join(lines(records)))
    if file:
        file.write_text(json.dumps([plain(r) for r in records], indent=1) + "\n", encoding="utf-8")
    return 0


def run(plan: Plan, runs: list[tuple[str, str]]) -> list[Record]:
    """All runs of one subject; a model that cannot be evaluated at all is a record of its own."""
    from bench.verdict.measure import Bench, raised

    try:
        bench = Bench(plan.subject())
    except Exception as error:
        return [raised(f"{plan.name}/0/{route}:{fault}", route, fault, error) for route, fault in runs]
    return [record for route, fault in runs for record in bench.run(route, fault)]


def one(case: str, seed: int) -> int:
    """Run one case: SUBJECT/INPUT, or SUBJECT/INPUT/ROUTE:FAULT."""
    from bench.verdict.measure import Bench
    from bench.verdict.subject import Plan

    name, which, *rest = case.split("/", 2)
    route, fault = rest[0].split(":") if rest else ("autodiff", "none")
    plan = Plan.of(name, seed)
    print(plan.spec or "the shipped CNN", "\n")
    wanted = f"{name}/{which}/{route}:{fault}"
    shown = {}
    records = Bench(plan.subject(), shown.__setitem__).run(route, fault)
    for record in records:
        if record.case == wanted or record.verdict == "error":
            print(shown.get(record.case, ""), "\n\n", record, sep="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
