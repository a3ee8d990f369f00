"""W1 to W3: the difference engine, `gradient` and `gradcheck` on the shipped CNN, against batch, loop and autodiff."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import fdfast
from bench.difference_rig import CHUNKS, NAMES, USUAL, Rig, Size, best_chunk, compiled_gradient, digits
from bench.rounds import undisturbed
from bench.steal import Mark
from bench.timing import Row, format_seconds, side_by_side, steady
from fdfast.data.seed_loops import seed_loop

_PIECES = 16  # of the seed loop, 49 pixels each
_LOOPS = 4  # at the most
_CALLS = 20  # autodiff calls in one round: one alone is too short for the clock


def against(what: str, fast: float, slow: float, goal: float | None) -> Row:
    """How many times faster."""
    ratio = slow / fast
    return Row(
        what,
        "" if goal is None else f">= {goal:g} x",
        f"{ratio:.3g} x  ({format_seconds(fast)} / {format_seconds(slow)})",
        None if goal is None else ratio >= goal,
    )


def w1_rows(size: Size) -> Iterator[Row]:
    """Whole calls on one digit against the seed loop on the model as it is, in float32."""
    model, x, y = digits(1)
    point, target = x[0], y[0]
    calls = {
        "gradient": lambda: fdfast.gradient(model, point, y=target),
        "float32": lambda: fdfast.gradient(model, point, y=target, precision="float32"),
        "gradcheck": lambda: fdfast.gradcheck(model, point, target).metrics,
    }
    report = fdfast.gradcheck(model, point, target)
    yield Row("W1: engine of a check, classes of its tiles", "", f"{report.engine}, {list(report.counts.values())}")
    call, slow = _beside_the_loop(calls, model, point, target, max(1, size.rounds // 3))
    yield against("W1: fdfast.gradient(model, x, y), whole call, against the seed loop", call["gradient"], slow, 2500)
    yield against("W1: the same with precision='float32'", call["float32"], slow, None)
    yield against("W1: fdfast.gradcheck(model, x, y), whole call, against the seed loop", call["gradcheck"], slow, 1000)


def _beside_the_loop(
    calls: dict[str, Callable[[], object]], model: Any, x: Any, y: Any, loops: int
) -> tuple[dict[str, float], float]:
    """Median seconds of each call, warm, and seconds of the seed loop, which rests sixteen times while they are made.

    The loop takes many seconds, in which the speed of a shared machine changes. Its pieces are all of the same work:
    those count that the machine was calm in, as the first of the calls shows (see `bench.rounds.undisturbed`). While
    these are fewer than a loop has, there are more loops.
    """
    for call in calls.values():
        for _ in range(16):  # until everything that will be traced has been
            call()
    seconds = {name: [steady(call)] for name, call in calls.items()}
    pieces: list[float] = []
    stolen: list[float] = []

    def rest(done: int, total: int) -> None:
        nonlocal mark, begun
        if done % (total // _PIECES):
            return
        pieces.append(time.perf_counter() - begun)
        for name, call in calls.items():
            seconds[name].append(steady(call))
        stolen.append(mark.share())
        mark, begun = Mark(), time.perf_counter()

    def calm(least: int) -> list[int]:
        first = seconds[next(iter(calls))]
        return undisturbed(stolen, np.add(first[:-1], first[1:]) / 2, min(first), least)

    for turn in range(_LOOPS):
        if turn >= loops and len(calm(0)) >= _PIECES:
            break
        mark, begun = Mark(), time.perf_counter()
        seed_loop(model, x, y, USUAL["float32"], loss="categorical_crossentropy", progress=rest)
    beside = {name: np.add(found[:-1], found[1:]) / 2 for name, found in seconds.items()}
    some = calm(_PIECES // 4)
    loop = _PIECES * float(np.median([pieces[i] for i in some]))
    return {name: float(np.median(found[some])) for name, found in beside.items()}, loop


def w2_rows(size: Size) -> Iterator[Row]:
    """Per image, all pixels of many digits at once."""
    model, x, y = digits(size.images)
    count, rig = len(x), Rig(model, x, y)
    bare = {name: rig.existing(name) for name in NAMES}
    chunk = {name: best_chunk(forward, CHUNKS, size.rounds) for name, forward in bare.items()}
    engine = rig.batch("float64")
    autodiff = {name: compiled_gradient(rig.objective(name).model, x, y, model.loss, name) for name in NAMES}
    found = side_by_side(
        {
            "difference float32": lambda: rig.difference("float32"),
            "bare float32": lambda: bare["float32"](chunk["float32"]),
            "difference float64": lambda: rig.difference("float64"),
            "batch float64": engine,
            "bare float64": lambda: bare["float64"](chunk["float64"]),
            "autodiff float32": lambda: [autodiff["float32"](i) for i in range(_CALLS)],
            "autodiff float64": lambda: [autodiff["float64"](i) for i in range(_CALLS)],
            "gradient float32": lambda: fdfast.gradient(model, x, y=y, precision="float32"),
            "gradient float64": lambda: fdfast.gradient(model, x, y=y),
            "base pass": lambda: rig.base_only("float64"),
        },
        rounds=size.rounds,
        warm=2,
    )
    many = {"difference float32", "difference float64", "gradient float32", "gradient float64", "base pass"}
    each = {
        name: timing.median / (count if name in many else _CALLS if name.startswith("autodiff") else 1)
        for name, timing in found.items()
    }
    rows = f"chunk {chunk['float32']}"
    batch = min(each["batch float64"], each["bare float64"])
    for how, goals in (("difference", (20.0, 80.0)), ("gradient", (None, None))):
        name = "engine" if how == "difference" else "fdfast.gradient"
        narrow, wide = each[f"{how} float32"], each[f"{how} float64"]
        yield against(
            f"W2: {name}, float32, per image / bare float32 forward, {rows}", narrow, each["bare float32"], goals[0]
        )
        yield against(f"W2: {name}, float64, per image / float64 batch at its best chunk", wide, batch, goals[1])
    for ours, theirs, goal in (("float32", "float32", 2), ("float64", "float64", 2), ("float64", "float32", None)):
        one, call = each[f"difference {ours}"], each[f"autodiff {theirs}"]
        yield Row(
            f"W2: engine, {ours}, per image / one compiled autodiff call, {theirs}",
            "" if goal is None else f"<= {goal}",
            f"{one / call:.3g}  ({format_seconds(one)} / {format_seconds(call)})",
            None if goal is None else one / call <= goal,
        )
    yield Row(f"W2: base pass per image, one of {count}", "", format_seconds(each["base pass"]))


def w3_rows(size: Size) -> Iterator[Row]:
    """Per image, larger tiles: the engine on many digits at once, the batch on one."""
    model, x, y = digits(size.images)
    for tile in (2, 4, 5, 7, 14):
        rig = Rig(model, x, y, tile)
        bare = {name: rig.existing(name) for name in NAMES}
        rows = 2 * rig.tiling.tiles
        chunks = tuple(c for c in CHUNKS if c <= rows) or (rows,)
        chunk = {name: best_chunk(forward, chunks, size.rounds) for name, forward in bare.items()}
        found = side_by_side(
            {
                "difference float32": partial(rig.difference, "float32"),
                "difference float64": partial(rig.difference, "float64"),
                "float32": partial(bare["float32"], chunk["float32"]),
                "float64": partial(bare["float64"], chunk["float64"]),
            },
            rounds=size.rounds,
            warm=2,
        )
        for name in NAMES:
            one = found[f"difference {name}"].median / len(x)
            yield against(
                f"W3: tile {tile}, {rig.tiling.tiles} tiles: engine {name} / bare {name}", one, found[name].median, 1
            )
