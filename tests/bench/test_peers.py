"""The pure parts of the comparison with other tools; none of those tools is needed."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import rounds, timing
from bench.peers import __main__ as command
from bench.peers import beside, cells, child, metrics, pictures, registry, render, section, small, text
from bench.peers import visits as visiting
from bench.peers.batched import Tiles, quotients, sensible
from bench.peers.cells import Cell, Stopwatch
from bench.peers.install import REQUIREMENTS, names
from bench.peers.nursery import nursery
from bench.peers.problem import SHAPE, Fault
from bench.peers.runner import ROOT
from bench.peers.section import PLAN

PACE = rounds.Pace(0.01, 0.01)
FOLDER = Path(registry.__file__).parent
PEER_MODULES = {"torch", "jax", "art", "foolbox", "eagerpy", "numdifftools", "scipy", "tensorflow", "keras"}


@pytest.mark.parametrize(
    ("found", "truth", "median", "geometric", "largest"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, 0.0, 0.0),
        ([1.1, 2.0, 5.0], [1.0, 2.0, 0.0], 0.05, 0.1, 0.1),  # no true gradient at the third, an exact hit at the second
        ([1.01, 1.1, 2.0], [1.0, 1.0, 1.0], 0.1, 0.1, 1.0),  # geometric mean of 0.01, 0.1 and 1
    ],
)
def test_errors(found, truth, median, geometric, largest):
    got = metrics.errors(np.array(found), np.array(truth))
    assert (got.median, got.geometric, got.largest) == pytest.approx((median, geometric, largest))


def test_errors_of_nothing_are_nan():
    got = metrics.errors(np.ones(3), np.zeros(3))
    assert got.count == 0
    assert math.isnan(got.median)


@pytest.mark.parametrize(
    ("found", "analytic", "alarm"),
    [
        ([1.0, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [1.0, 1.01], False),  # 1 % off is 0.5 % of the sum of both
        ([1.0, 1.0], [1.0, 1.03], True),
        ([1e-11, 1.0], [-1e-11, 1.0], False),  # both below the rule's floor of 1e-8
    ],
)
def test_alarm(found, analytic, alarm):
    assert metrics.alarm(np.array(found), np.array(analytic)) is alarm


def test_judge_looks_at_the_sample_only():
    truth = np.random.default_rng(0).uniform(1, 2, 784)
    factor = np.ones(SHAPE)
    factor[3, 4] = 2.0
    fault, pixel = Fault("one", factor), 3 * 28 + 4
    others = np.delete(np.arange(784), pixel)
    assert metrics.judge(truth, truth, (fault,), None) == {"": False, "one": True}
    assert metrics.judge(truth[others], truth, (fault,), others) == {"": False, "one": False}


def test_fault_shifts_then_multiplies():
    gradient = np.zeros(SHAPE)
    gradient[3, 4] = 1.0
    moved = Fault("down", 3 * np.ones(SHAPE), shift=1)(gradient.ravel()).reshape(SHAPE)
    assert moved[4, 4] == 3.0
    assert np.count_nonzero(moved) == 1


def test_exponent():
    n = np.array([1.0, 10.0, 100.0])
    assert metrics.exponent(n, 7 * n**1.5) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("side", "shape", "count"), [(1, SHAPE, 784), (5, SHAPE, 36), (14, SHAPE, 4), (8, (20, 12, 3), 6)]
)
def test_tiles_cover_every_pixel_once(side, shape, count):
    tiles = Tiles(side, shape)
    moves = tiles.moves("float64")
    assert tiles.count == count
    assert moves.shape == (2 * count, *shape)
    np.testing.assert_array_equal(moves[0::2].sum(axis=0), np.ones(shape))
    np.testing.assert_array_equal(moves[0::2], -moves[1::2])
    gradient = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(tiles.sums(gradient), (moves[0::2] * gradient).reshape(count, -1).sum(axis=1))
    np.testing.assert_array_equal(tiles.moves("float64", [1]), moves[2:4])


def test_quotients_are_central_differences():
    np.testing.assert_allclose(quotients([3.0, 1.0, 0.0, 1.0], 0.5), [2.0, -1.0])


def test_sensible_chunks_end_at_all_rows():
    assert sensible((16, 32, 64), 40) == [16, 32, 40]


def test_peers_are_registered_once_for_each_precision():
    peers = registry.load()
    assert {"seed-loop-float32", "torch-slow-float64", "fdfast-check-float64", "scipy-3point-float64"} <= set(peers)
    assert "scipy-3point-float32" not in peers
    with pytest.raises(ValueError, match=r"'tf-eager-float32' is already registered, by bench\.peers\."):
        registry.peer("tf-eager", "", "", "numpy")(lambda *_: None)


def test_a_peer_that_is_not_installed_says_so():
    peer = registry.Peer("x", "X", "x", "float32", "estimator", "no_such_module", lambda *_: None)
    assert not peer.installed


def test_only_what_runs_imports_a_peer():
    """Module level imports of the package: a missing peer must not keep the others from running."""
    allowed = {"prepare.py"}
    for file in FOLDER.glob("*.py"):
        tree = ast.parse(file.read_text())
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        found = {name.partition(".")[0] for name in imported} & PEER_MODULES
        assert not found or file.name in allowed, f"{file.name} imports {found} at module level"


def test_requirements_are_pinned():
    assert names(["# a comment", "", "torch==2.0  # why"]) == ["torch==2.0"]
    assert all("==" in one for one in names(REQUIREMENTS.read_text().splitlines()))


def result(key: str, seconds: float, kind: str = "estimator", **more: object) -> dict:
    name, _, precision = key.rpartition("-")
    errors = {"count": 229, "median": 1e-9, "geometric": 1e-9, "p99": 1e-7, "largest": None}
    return {
        "key": key,
        "name": name,
        "family": "JAX",
        "precision": precision,
        "kind": kind,
        "setting": "64 rows at a time",
        "seconds": [seconds, seconds, seconds],
        "beside": [0.01, 0.01, 0.01],
        "visits": [2, 1],
        "peak_mb": 300.0,
        "evaluations": 1568,
        "work": 0.0,
        "pixels": None,
        "accuracy": {"smooth": errors, "all": errors},
        "said": {
            "judged": "CS231n",
            "digit": {"": True, **dict.fromkeys(render.FAULTS, True)},
            "generic": {"": False, "twice": True, "1 % off": False, "one pixel twice": True, "one row down": True},
        },
        **more,
    }


def results() -> dict:
    def ratio(section: str, engine: str) -> float:
        return 3.0 if section.startswith("W") and engine != "fdfast" else math.nan

    cells = [
        Cell(section, case, engine, "float64", n, n / 100, n / 100, n / 100, ratio(section, engine), error=1e-9)
        for engine in ("fdfast", "tensorflow")
        for section, cases in (("W2", (784,)), ("W3", (16, 49)), ("images", (1, 10)), ("depth", (1, 2, 4)))
        for n in cases
        for case in (str(n),)
    ]
    limit = result("peak-float32", 0.1, "limit", work=1e10, said={})
    del limit["accuracy"]
    return {
        "quick": True,
        "only": [],
        "machine": {"architecture": "abc", "simd": "avx2", "cores": 2, "python": "3.11", "versions": {"jax": "1"}},
        "minutes": 3.0,
        "w1": [
            result(render.ESTIMATE, 0.01),
            result("jax-float64", 0.05),
            result("loop-float64", 20.0, said={"judged": "CS231n", "digit": {"": True}}, pixels=56),
            limit,
            result("art-float64", 0.5, once="stopped after 9 s"),
            {"key": "gone", "name": "gone", "precision": "float32", "kind": "estimator", "missing": "not installed"},
        ],
        "sections": {
            **{
                f"small-{engine}": {"rows": [cell.as_dict() for cell in cells if cell.engine == engine]}
                for engine in ("fdfast", "tensorflow")
            },
            "small-jax": {"missing": "stopped after 9 s"},
            "goals-fdfast": {
                "rows": [{"what": "W", "goal": ">= 2 x", "measured": "3 x", "holds": True, "command": "make bench"}]
            },
        },
    }


def test_against_is_relative_to_the_calls_beside():
    there = results()["w1"]
    there[1]["beside"] = [0.02] * 3  # the machine was half as fast just then
    assert render.against(there)["jax-float64"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("seconds", "visits", "ratio"),
    [
        ([0.05, 0.04, 0.05], [3], 5.0),  # the median of a visit, not its fastest round
        ([0.09, 0.09, 0.06, 0.05, 0.05], [2, 1, 2], 5.5),
    ],
)
def test_against_is_of_the_two_visits_in_which_the_peer_did_best(seconds, visits, ratio):
    there = results()["w1"]
    there[1] |= {"seconds": seconds, "beside": [0.01] * len(seconds), "visits": visits}
    assert render.against(there)["jax-float64"] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("second", "more", "visits"),
    [
        (1.05, {}, 2),
        (1.2, {}, 3),  # the third is like the first
        (0.8, {}, 5),  # never again as fast as the second
        (1.2, {"kind": "limit"}, 1),  # its ratio is in no table
        (1.2, {"once": "stopped after 9 s"}, 1),
        (1.2, {"missing": "not installed"}, 1),
    ],
)
def test_a_third_visit_is_for_those_whose_best_visit_stands_alone(monkeypatch, tmp_path, second, more, visits):
    """Each case says what the first visit found; the second is `second` times as slow, the others like the first."""
    pace = [1.0, second, 1.0, 1.0, 1.0]

    def measured(peer, source, effort, forks, before):
        done = len(before["visits"]) if before else 0
        seconds = [*(before["seconds"] if before else []), 0.01 * pace[done]]
        return result(peer.key, 0.0, **more) | {
            "seconds": seconds,
            "beside": [0.01] * (done + 1),
            "stolen": [0.0] * (done + 1),
            "least": 0.01,
            "visits": [1] * (done + 1),
        }

    key = "jax-float64"
    monkeypatch.setattr(command, "measured", measured)
    monkeypatch.setattr(command, "load", lambda: {key: SimpleNamespace(key=key, needs="jax")})
    monkeypatch.setattr(command, "standing", lambda *_: contextlib.nullcontext({"env": {}}))
    monkeypatch.setattr(command, "nursery", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(command.render, "line", lambda one: "")
    (one,) = command.peers([], tmp_path, registry.FULL)
    assert len(one["visits"]) == visits


def test_peers_that_need_it_are_forked_from_a_process_whose_malloc_keeps_memory(monkeypatch, tmp_path):
    begun = []
    peers = {
        key: SimpleNamespace(key=key, needs=needs) for key, needs in (("a", "torch"), ("b", "scipy"), ("c", "art"))
    }

    def nursery(modules, root, options):
        begun.append((modules[0], sorted(options["env"])))
        return contextlib.nullcontext()

    monkeypatch.setattr(command, "measured", lambda *_: {"kind": "limit", "missing": "no"})
    monkeypatch.setattr(command, "load", lambda: peers)
    monkeypatch.setattr(command, "standing", lambda *_: contextlib.nullcontext({"env": {"HOME": "/"}}))
    monkeypatch.setattr(command, "nursery", nursery)
    monkeypatch.setattr(command.render, "line", lambda one: "")
    command.peers([], tmp_path, registry.FULL)
    keeps = ["HOME", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]
    assert begun == [("torch", keeps), ("tensorflow", ["HOME"])]


def test_those_farthest_from_a_confirmed_best_visit_come_first():
    def visited(*ratios, kind="estimator", **more):
        some = len(ratios)
        return {
            "kind": kind,
            "seconds": [0.01 * r for r in ratios],
            "beside": [0.01] * some,
            "stolen": [0.0] * some,
            "least": 0.01,
            "visits": [1] * some,
            **more,
        }

    found = {
        "confirmed": visited(5.0, 5.2),
        "near": visited(5.0, 6.0),
        "single": visited(5.0),
        "far": visited(5.0, 9.0),
        "limit": visited(5.0, 9.0, kind="limit"),
        "stopped": visited(5.0, 9.0, once="stopped after 9 s"),
        "missing": {"kind": "estimator", "missing": "not installed"},
    }
    some = [SimpleNamespace(key=key) for key in found]
    due = [[one.key for one in command._due(some, found, visit, registry.FULL)] for visit in range(3)]
    assert due[0] == list(found)
    assert due[1] == ["confirmed", "near", "single", "far"]
    assert due[2] == ["far", "near", "single"]


def test_a_second_visit_adds_times_in_the_setting_of_the_first(monkeypatch):
    choices = []

    def make(problem, precision, effort):
        choices.append(dict(effort.choice))
        return registry.Ready(lambda x: x.ravel(), 1, "4 at a time", choice={"chunk": 4})

    peer = registry.Peer("some-float64", "some", "x", "float64", "autodiff", "numpy", make)
    problem = SimpleNamespace(
        x=np.ones(SHAPE), truth=np.ones(784), smooth=np.ones(784, bool), generic=0, generic_truth=0
    )
    monkeypatch.setattr(child, "Beside", lambda: SimpleNamespace(ask=lambda call: PACE))
    effort = registry.Effort(budget=0.0, least=2)
    first = child.measure(peer, problem, effort, None)
    second = child.measure(peer, problem, effort, first)
    assert choices == [{}, {"chunk": 4}]
    assert first["visits"] == [2]
    assert second["visits"] == [2, 2]
    assert second["seconds"][:2] == first["seconds"]
    assert len(second["seconds"]) == len(second["beside"]) == 4
    assert second["least"] == 0.01
    timed = ("seconds", "beside", "stolen", "visits")
    assert {**second, **dict.fromkeys(timed)} == {**first, **dict.fromkeys(timed)}


def test_only_calm_rounds_of_a_visit_count(monkeypatch):
    """The host takes half of the time in every second round; calls and their neighbours are slow then."""
    shares = itertools.cycle([0.5, 0.0])
    monkeypatch.setattr(rounds, "Mark", lambda: SimpleNamespace(share=lambda: next(shares)))
    ready = registry.Ready(lambda x: x, 1)
    found = rounds.Rounds(lambda: PACE)
    child.timed(ready, np.ones(SHAPE), registry.Effort(budget=0.0, patience=0.0, least=6), found)
    assert sorted(found.stolen) == [0.0] * 3 + [0.5] * 3  # too few are calm
    found = rounds.Rounds(lambda: PACE)
    child.timed(ready, np.ones(SHAPE), registry.Effort(budget=0.2, least=2), found)
    assert set(found.stolen) == {0.0}
    assert len(found.stolen) == len(found.seconds) == len(found.beside) >= 2


def test_rounds_beside_a_slow_neighbour_are_not_calm():
    """Something that is counted nowhere slows down every second round and, half as much, the neighbour."""
    paces = itertools.cycle([rounds.Pace(seconds, 0.01) for seconds in (0.01, 0.01, 0.015, 0.015)])
    found = rounds.Rounds(lambda: next(paces))
    for _ in range(8):
        found.add(lambda: None)
    assert found.calm() == [0, 4]  # each between two calm moments
    assert found.calm(least=3) == [0, 1, 3, 4, 5, 7]  # half of the neighbours of the others were calm
    found.keep_calm(2)
    assert found.beside == [0.01, 0.01]


def test_only_calm_rounds_of_all_visits_count():
    """The second visit, and the last round of the third, were beside calls half as fast as the run's fastest."""
    one = {
        "seconds": [1.0, 1.1, 9.0, 1.2, 1.3, 9.0],
        "beside": [0.01, 0.011, 0.02, 0.01, 0.01, 0.02],
        "stolen": [0.0] * 6,
        "visits": [2, 1, 3],
    }
    got = metrics.only_calm(one, 0.01, 3)
    assert got == {
        "seconds": [1.0, 1.1, 1.2, 1.3],
        "beside": [0.01, 0.011, 0.01, 0.01],
        "stolen": [0.0] * 4,
        "visits": [2, 2],
    }
    assert metrics.only_calm(one, 0.001, 3)["visits"] == [1, 2]  # none is calm: the three calmest


@pytest.mark.parametrize(
    ("cold", "warm", "spent"),
    [
        ([0.02, 0.02, 0.02], 0.001, 0.15),  # 50 ms that do not count, then 100 ms
        ([0.3], 0.2, 0.5),  # a call that is longer than that does not count either
        ([], 3.0, 3.0),  # but one beside which it is nothing to be cold
    ],
)
def test_a_call_is_timed_when_it_is_warm(monkeypatch, cold, warm, spent):
    clock = itertools.chain(cold, itertools.repeat(warm))
    now = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call():
        now[0] += next(clock)

    assert timing.steady(call) == pytest.approx(warm)
    assert spent - 1e-9 <= now[0] < spent + 0.01


def test_a_peer_rests_between_its_evaluations(monkeypatch):
    """The clock stops in the middle of a call where the peer allows it, and only while it runs."""
    monkeypatch.setattr(rounds, "_PIECE", 0.0)
    neighbours = []
    near = SimpleNamespace(ask=lambda call: neighbours.append(call) or PACE)
    monkeypatch.setattr(child, "Beside", lambda: near)

    def make(problem, precision, effort):
        f = effort.resting(lambda x: x)
        f(problem.x)  # while it is made ready no clock is on
        assert not neighbours
        return registry.Ready(lambda x: [f(x), f(x)][0].ravel(), 2)

    peer = registry.Peer("some-float64", "some", "x", "float64", "autodiff", "numpy", make)
    ones = np.ones(784, bool)
    problem = SimpleNamespace(x=np.ones(SHAPE), truth=np.ones(784), smooth=ones, generic=0, generic_truth=0)
    monkeypatch.setattr(child, "repeats", lambda seconds: (1, 0))
    found = child.measure(peer, problem, registry.Effort(budget=0.0, least=2), None)
    assert len(found["seconds"]) == 2
    assert len(neighbours) == 1 + 2 * 3  # before all, at both evaluations and at the end; none while it warms up


def test_a_standing_process_makes_each_call_once_and_warms_it_up(monkeypatch):
    asked, made = [], []

    def our_call(problem, model, count, tile, precision):
        made.append((count, tile, precision))
        return lambda: asked.append(tile)

    monkeypatch.setattr(small, "our_call", our_call)
    calls = beside.Calls(SimpleNamespace())
    monkeypatch.setattr(beside.Calls, "_model", None)
    for _ in range(2):
        call, images = calls("digits", "10", "4", "float32")
        assert images == 10
    assert made == [(10, 4, "float32")]
    assert asked == [4] * 3
    call()
    assert asked == [4] * 4


def test_drift_names_the_worst():
    before, after = results(), results()
    after["w1"][1]["seconds"] = [0.065] * 3
    after["sections"]["small-tensorflow"]["rows"][0]["ratio"] = 3.3
    assert render.drift(before, after) == (
        "ratios against the run before: W1: 2 of 3 within 20 %, median change 0 %, largest 30 % "
        "(jax-float64: 5, then 6.5); W2 to W4: 3 of 3 within 20 %, median change 0 %, largest 10 % "
        "(784, tensorflow float64: 3, then 3.3)"
    )
    assert render.drift({"w1": [], "sections": {}}, after).endswith("none in common")


def row(case: str, ratio: float | None, beside: float | None = 0.01, seconds: float = 1.0, engine: str = "jax") -> dict:
    where = {"section": "W3", "case": case, "engine": engine, "precision": "float64"}
    return where | {"seconds": seconds, "ratio": ratio, "beside": beside, "chunk": 8}


@pytest.mark.parametrize(
    ("visits", "seconds", "times", "due"),
    [
        # ratio, seconds of fdfast beside it; seconds are those of the cell of the best visit, numbered from 0
        ([(3.0, 0.01)], 0, 3.0, True),
        ([(4.0, 0.01), (3.0, 0.01)], 1, 3.5, True),
        ([(4.0, 0.01), (3.0, 0.01), (3.2, 0.01)], 1, 3.1, False),
        ([(4.0, 0.01), (3.0, 0.014), (4.2, 0.011)], 0, 4.1, False),  # fdfast was disturbed beside the second
        ([(4.0, 0.01), (3.0, 0.014)], 0, 4.0, True),
        ([(None, None), (None, None)], 0, None, False),
    ],
)
def test_a_cell_is_of_its_calm_visits_and_due_again_while_the_two_best_are_apart(visits, seconds, times, due):
    rows = [row("a", *visit, seconds=float(number)) for number, visit in enumerate(visits)]
    found = {"small-jax": {"rows": rows}}
    (one,) = visiting.summary(found)
    assert one["seconds"] == seconds
    assert one["ratio"] == (times if times is None else pytest.approx(times))
    cells = [("W3", "a", "float64", 8)] if due else []
    assert visiting.unconfirmed(found, "small-jax", 1.1) == cells
    assert visiting.unconfirmed({"small-jax": found["small-jax"] | {"once": "no"}}, "small-jax", 1.1) == []


def test_how_fast_fdfast_is_where_nothing_disturbs_it_is_known_from_the_visits_to_all_engines():
    found = {
        "small-tensorflow": {"rows": [row("a", 9.0, 0.01, engine="tensorflow")]},
        "small-jax": {"rows": [row("a", 4.0, 0.02), row("a", 5.0, 0.011)]},
        "small-fdfast": {"rows": [row(case, None, None, engine="fdfast") for case in "ab"]},
        "large-jax": {"missing": "stopped after 9 s"},
        "goals-fdfast": {"rows": [{"what": "no cell of a section"}]},
    }
    rows = visiting.summary(found)
    assert [one["ratio"] for one in rows] == [9.0, 5.0, None, None]
    # Its own time is that beside the peers, where it was not disturbed; nobody was compared in the last cell.
    assert [one["seconds"] for one in rows] == [1.0, 1.0, pytest.approx(0.0105), 1.0]
    due = {key: visiting.unconfirmed(found, key, 1.1) for key in found}
    assert [key for key, cells in due.items() if cells] == ["small-tensorflow", "small-jax"]


def test_only_cells_that_are_due_are_measured_with_the_chunk_of_the_first_visit(monkeypatch, tmp_path):
    def rows(name, engine, folder, effort):
        for cell in ("W3", "tile 2", "float64"), ("W3", "tile 4", "float64"):
            if effort.due(cell):
                yield {"case": cell[1], "chunks": list(effort.chunks(cell, (32, 128)))}

    monkeypatch.setattr(section, "rows", rows)

    def measured(*more):
        section.main(["small", "jax", str(tmp_path), *more])
        return json.loads((tmp_path / "section-small-jax.json").read_text())

    assert measured() == [{"case": "tile 2", "chunks": [32, 128]}, {"case": "tile 4", "chunks": [32, 128]}]
    some = measured("--cells", json.dumps([("W3", "tile 4", "float64", 98)]))
    assert some == [{"case": "tile 4", "chunks": [98]}]


def test_a_visit_that_fails_takes_nothing_away():
    before = {"rows": [row("a", 3.0)]}
    assert visiting.merged(before, {"rows": [row("b", 4.0)]}) == {"rows": [row("a", 3.0), row("b", 4.0)]}
    assert visiting.merged(before, {"missing": "stopped after 9 s"}) == before | {"once": "stopped after 9 s"}


def test_cells_that_are_confirmed_are_not_visited_again(monkeypatch, tmp_path):
    """Ratios of tile 2 agree at once, of tile 4 in the third visit; TensorFlow's second visit fails."""
    asked = []
    ratios = {"jax": {"2": [5.0, 5.1], "4": [5.0, 6.0, 5.2]}, "tensorflow": {"2": [5.0], "4": [5.0]}}

    def run(module, arguments, limit, **_):
        name, engine, folder, *more = arguments
        cells = [case for _, case, _, _ in json.loads(more[1])] if more else ["2", "4"]
        asked.append((name, engine, "".join(cells) if more else "all"))
        if engine == "tensorflow" and more:
            return "stopped after 9 s"
        compared = engine in ratios
        rows = [
            row(case, ratios[engine][case].pop(0) if compared else None, 0.01 if compared else None, engine=engine)
            for case in cells
        ]
        (Path(folder) / f"section-{name}-{engine}.json").write_text(json.dumps(rows))
        return None

    monkeypatch.setattr(command, "standing", lambda *_: contextlib.nullcontext({"env": {}}))
    monkeypatch.setattr(command, "nursery", lambda *_: contextlib.nullcontext(SimpleNamespace(run=run)))
    monkeypatch.setattr(command, "run_module", run)
    found = command.sections(["small", "split"], tmp_path, registry.FULL)
    first = [("small", engine, "all") for engine in ("fdfast", "tensorflow", "jax")] + [("split", "fdfast", "all")]
    assert asked[:7] == [*first, ("small", "jax", "24"), ("small", "tensorflow", "24"), ("small", "jax", "4")]
    assert len(asked) == 7
    assert [(one["case"], one["ratio"]) for one in found["small-jax"]["rows"]] == [
        ("2", 5.0),
        ("4", 5.0),
        ("2", 5.1),
        ("4", 6.0),
        ("4", 5.2),
    ]
    assert found["small-tensorflow"]["once"] == "stopped after 9 s"


def test_short_calls_are_timed_together_and_long_ones_at_once(monkeypatch):
    """A round of a call below 50 ms, after the neighbour's, would be of its cold caches."""
    now, counts = SimpleNamespace(seconds=0.0), []
    for module in (rounds, timing, cells):
        monkeypatch.setattr(module.time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(rounds, "Mark", lambda: SimpleNamespace(share=lambda: 0.0))

    def calls(seconds):
        counts.clear()

        def call():
            counts.append(0)
            now.seconds += seconds

        return call

    def beside():
        counts.append(1)
        return rounds.Pace(0.01, 0.01)

    took = Stopwatch(registry.FULL)(calls(0.01), budget=0.1, rounds=3, beside=beside)
    assert took.ratio == pytest.approx(1.0)
    assert counts[:2] == [0, 0]  # traces, and says how long it takes
    assert counts[2:14] == [1, *[0] * 10, 1]  # five to warm up, five that count
    took = Stopwatch(registry.FULL)(calls(2.0), budget=2.0, rounds=1, beside=beside)
    assert took.ratio == pytest.approx(200.0)
    assert counts == [0, 1, 0, 1, 0, 1]  # patience is 3 s
    took = Stopwatch(registry.FULL).once(calls(2.0))
    assert took.seconds == metrics.Spread(2.0, 2.0, 2.0)
    assert counts == [0, 0]  # warms up; nobody beside


@pytest.mark.parametrize(
    "said",
    [
        "| jax | float64 | 50 ms [50 ms .. 50 ms] | 5 | 31,360 | 300 | 64 rows at a time |",
        "| loop | float64 | 20 s [20 s .. 20 s] (from 56 pixels) | 2000 |",
        "| jax | float64 | CS231n | false alarm | pass | caught | missed | caught | caught |",
        "| loop | float64 | CS231n | false alarm | - | - | - | - | - |",
        "| jax | float64 | 1.0e-09 | 1.0e-09 | 1.0e-07 | - |",
        "100 GFLOP/s in float32, hence",
        "- gone, float32: not installed",
        "- art, float64, another visit: stopped after 9 s",
        "- small-jax: stopped after 9 s",
        "| W | >= 2 x | 3 x | yes | `make bench` |",
        "A quick run: the figures mean nothing.",
        "| number of images | TensorFlow by hand | float64 | 1.00 |",
        "| 784 | fdfast | float64 | 7.84 s [7.84 s .. 7.84 s] | 1 | 1.0e-09 | all |",
        "| 784 | TensorFlow by hand | float64 | 7.84 s [7.84 s .. 7.84 s] | 3 | 1.0e-09 | all |",
    ],
)
def test_page_says(said):
    assert said in text.whole(results())


def test_pictures_are_drawn(tmp_path):
    pictures.draw(results(), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"benchmarks-peers.png", "benchmarks-growth.png"}


@pytest.mark.parametrize("before", [None, "/elsewhere"])
def test_what_processes_leave_behind_goes_with_the_run(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("TMPDIR", raising=False)
    else:
        monkeypatch.setenv("TMPDIR", before)
    with contextlib.suppress(KeyboardInterrupt), command._temporary():
        folder = Path(os.environ["TMPDIR"])
        (folder / "traced.py").touch()
        raise KeyboardInterrupt
    assert not folder.exists()
    assert os.environ.get("TMPDIR") == before


def test_plan_writes_before_it_reads():
    """Peers read the folded network that the run of fdfast has written."""
    assert PLAN.index(("large", "fdfast")) < min(PLAN.index(("large", engine)) for engine in ("tensorflow", "jax"))


@pytest.mark.parametrize(
    ("body", "limit", "answer"),
    [
        ("def main(arguments): open(arguments[0], 'w').write('done')", 30.0, None),
        ("def main(arguments): raise ValueError('no such thing')", 30.0, "ValueError: no such thing"),
        ("def main(arguments): print('words'); raise SystemExit(3)", 30.0, "SystemExit: 3"),
        ("import time\ndef main(arguments): time.sleep(60)", 0.2, "stopped after 0 s"),
    ],
)
def test_a_fork_does_its_work_or_says_why_not_and_the_next_one_too(tmp_path, body, limit, answer):
    (tmp_path / "work_of_a_fork.py").write_text(body)
    target = tmp_path / "result"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with nursery(("no_such_module", "json"), tmp_path, {"env": environment}) as forks:
        for _ in range(2):
            assert forks.run("work_of_a_fork", [str(target)], limit) == answer
    assert target.exists() == (answer is None)
