"""All peers on one digit, and docs/benchmarks.md with its pictures: ``python -m bench.peers [--quick] [KEY ...]``.

Needs the environment of `make bench-peers`; what is missing there is named in the tables. Results go to build/peers.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.peers import machine, pictures, render
from bench.peers.beside import standing
from bench.peers.metrics import alone, only_calm, visits
from bench.peers.nursery import AHEAD, BESIDES, USUAL, Nursery, nursery
from bench.peers.registry import FULL, QUICK, Effort, Peer, load
from bench.peers.runner import ROOT, environment, measured, run_module
from bench.peers.section import PLAN
from bench.peers.visits import merged, unconfirmed
from bench.steal import Mark

_SECTION_LIMIT = 240.0  # seconds
_VISITS = 5  # to a peer, at the most: a machine's speed changes within minutes, and not by the same factor for all
_APART = 1.1  # factor between the ratios of the two best visits from which there is one more
_LONG = 730.0  # seconds from the beginning, after which no peer is visited for the third time
_LATE = 1310.0  # after which no section is visited again


def peers(keys: list[str], folder: Path, effort: Effort) -> list[dict[str, Any]]:
    """W1, one process after the other, all once more minutes later, and again those whose best visit stands alone."""
    source = folder / "problem.npz"
    some = [one for key, one in load().items() if not keys or key in keys]
    found: dict[str, dict[str, Any]] = {}
    with standing(source, environment(), ROOT) as options, contextlib.ExitStack() as open_ones:

        @functools.cache
        def forks(modules: tuple[str, ...]) -> Nursery:
            env = options["env"] | BESIDES.get(modules, {})
            return open_ones.enter_context(nursery(modules, ROOT, {**options, "env": env}))

        for visit in range(2 if effort.quick else _VISITS):
            for one in _due(some, found, visit, effort):
                if visit > 1 and time.monotonic() - _begun > _LONG:
                    break
                modules = AHEAD.get(one.needs, USUAL)
                found[one.key] = measured(one, source, effort, forks(modules), found.get(one.key))
                print(f"{_clock()} visit {visit + 1}: {render.line(found[one.key])}", flush=True)
    return list(_calm(found, effort).values())


def _calm(found: dict[str, dict[str, Any]], effort: Effort) -> dict[str, dict[str, Any]]:
    """The same, of calm rounds only: now that it is known how fast fdfast is where nothing disturbs it."""
    there = [one for one in found.values() if "missing" not in one]
    fastest = {
        checks: min((one["least"] for one in there if (one["kind"] == "checker") == checks), default=float("nan"))
        for checks in (True, False)
    }
    return {
        key: one if "missing" in one else only_calm(one, fastest[one["kind"] == "checker"], effort.least)
        for key, one in found.items()
    }


def _due(some: list[Peer], found: dict[str, dict[str, Any]], visit: int, effort: Effort) -> list[Peer]:
    """Whom to visit: all, then all who are compared with fdfast, then those whose best visit is not confirmed yet.

    Those first who are farthest from that, and last those of whom but one visit was calm.
    """
    if not visit:
        return some
    calm = _calm(found, effort)
    there = [one for one in some if not calm[one.key].keys() & {"missing", "once"} and calm[one.key]["kind"] != "limit"]
    if visit == 1:
        return there
    far = {one.key: alone(visits(calm[one.key])) for one in there}
    some = [one for one in there if far[one.key] >= _APART]
    return sorted(some, key=lambda one: (far[one.key] == float("inf"), -far[one.key]))


def sections(names: list[str], folder: Path, effort: Effort) -> dict[str, Any]:
    """W2 to W4, growth and goals, and again what is compared with fdfast: what was found, or why not."""
    plan = [one for one in PLAN if not names or one[0] in names]
    found: dict[str, Any] = {}
    with standing(folder / "problem.npz", environment(), ROOT) as options, nursery(USUAL, ROOT, options) as forks:

        def visited(name: str, engine: str, more: list[str]) -> dict[str, Any]:
            target = folder / f"section-{name}-{engine}.json"
            target.unlink(missing_ok=True)
            arguments = [name, engine, str(folder), *(["--quick"] if effort.quick else []), *more]
            if (name, engine) == ("large", "jax"):  # another backend, which is chosen when Keras is imported
                env = options["env"] | {"KERAS_BACKEND": "jax"}
                why = run_module("bench.peers.section", arguments, _SECTION_LIMIT, **{**options, "env": env})
            else:
                why = forks.run("bench.peers.section", arguments, _SECTION_LIMIT)
            print(f"{_clock()} {name}, {engine}: {why or 'done'}", flush=True)
            return {"missing": why} if why else {"rows": json.loads(target.read_text())}

        for name, engine in plan:
            found[f"{name}-{engine}"] = visited(name, engine, [])
        for _ in range(0 if effort.quick else _VISITS - 1):
            for name, engine in reversed(plan):  # large networks first: one visit to them says least
                key = f"{name}-{engine}"
                cells = unconfirmed(found, key, _APART)
                if cells and time.monotonic() - _begun < _LATE:
                    found[key] = merged(found[key], visited(name, engine, ["--cells", json.dumps(cells)]))
    return found


_begun = time.monotonic()


def _clock() -> str:
    return str(timedelta(seconds=round(time.monotonic() - _begun)))


def main(arguments: list[str]) -> int:
    """Measure, write, and say how far the ratios are from those of the run before."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument(
        "keys", nargs="*", help="some peers of W1, or sections (small, large, growth, split, goals); default all"
    )
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    parser.add_argument(
        "--render", action="store_true", help="only write the page anew, from the results of the last run"
    )
    options = parser.parse_args(arguments)
    folder = ROOT / "build" / ("peers-quick" if options.quick else "peers")
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    if not options.render:
        before = json.loads(results.read_text()) if results.exists() else None
        with _temporary():
            found = _measure(options.keys, folder, QUICK if options.quick else FULL)
        results.write_text(json.dumps(found, indent=1))
        if before:
            print(render.drift(before, found))
    found = json.loads(results.read_text())
    whole = not options.quick and not found["only"]
    docs = ROOT / "docs" if whole else folder
    (docs / "img").mkdir(exist_ok=True)
    pictures.draw(found, docs / "img")
    (docs / "benchmarks.md").write_text(render.page(found))
    print(render.w1_tables(found["w1"]))
    print(f"written: {docs / 'benchmarks.md'}")
    return 0


@contextlib.contextmanager
def _temporary() -> Iterator[None]:
    """A folder for what processes that are forked leave behind: what TensorFlow traces, what PyTorch compiles.

    It is for one run, so that a second one compiles as much as the first.
    """
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            del os.environ["TMPDIR"]
            os.environ.update({} if before is None else {"TMPDIR": before})


def _measure(keys: list[str], folder: Path, effort: Effort) -> dict[str, Any]:
    known = {*load(), *(name for name, _ in PLAN)}
    if unknown := [key for key in keys if key not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    start, mark = time.monotonic(), Mark()
    why = run_module("bench.peers.prepare", [str(folder / "problem.npz")], effort.limit)
    if why:
        raise SystemExit(f"the problem cannot be prepared: {why}")
    names = [key for key in keys if key in dict(PLAN)]
    some = [key for key in keys if key not in names]
    w1 = peers(some, folder, effort) if some or not keys else []
    more = sections(names, folder, effort) if names or not keys else {}
    return {
        "quick": effort.quick,
        "only": keys,
        "machine": machine.description(),
        "minutes": (time.monotonic() - start) / 60,
        "stolen": mark.share(),
        "w1": w1,
        "sections": more,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
