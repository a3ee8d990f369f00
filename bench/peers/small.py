"""W2 and W3: the shipped CNN on many digits, and in larger tiles; by fdfast and the two best peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.peers.batched import CHUNKS, Build, Tiles, best_chunk, quotients, sensible
from bench.peers.beside import Beside
from bench.peers.cells import Cell, Stopwatch, cell, middle
from bench.peers.problem import STEP, Problem
from bench.peers.registry import PRECISIONS, Effort, Precision

TILES = (2, 4, 5, 7, 14)
IMAGES = 100
_BUDGET = 0.5  # seconds, of what is not compared but only grows


def rows(engine: str, problem: Problem, effort: Effort) -> Iterator[Cell]:
    """All cells of one engine."""
    watch = Stopwatch(effort)
    for precision in PRECISIONS:
        yield from (
            _ours(problem, precision, effort, watch)
            if engine == "fdfast"
            else _theirs(engine, problem, precision, effort, watch)
        )


def images(effort: Effort) -> int:
    """How many digits fdfast takes in one call."""
    return 10 if effort.quick else IMAGES


def our_call(problem: Problem, model: Any, count: int, tile: int, precision: str) -> Callable[[], object]:
    """The first so many digits in one call."""
    import fdfast

    x, y = problem.digits[:count].astype("float32"), np.eye(10)[problem.labels[:count]]
    return lambda: fdfast.gradient(model, x, y=y, tile=tile, precision=precision)


def _ours(problem: Problem, precision: Precision, effort: Effort, watch: Stopwatch) -> Iterator[Cell]:
    import fdfast
    from bench.peers.tensorflow_peers import keras_model

    model, count = keras_model(problem, "float32"), images(effort)
    for tile in (1, *TILES):
        found = fdfast.gradient(
            model, problem.generic, y=problem.target, tile=tile, precision=precision, reduction="sum"
        )
        sides = Tiles(tile)
        first = np.unique(sides.owner, return_index=True)[1]
        error = middle(found.ravel()[first], sides.sums(problem.generic_truth))
        took = watch.once(our_call(problem, model, count, tile, precision))
        section, case = ("W2", f"{count} digits") if tile == 1 else ("W3", f"tile {tile}")
        yield cell(section, case, "fdfast", precision, sides.count, took, 1 / count, error=error)
    for n in (1, 10) if effort.quick else (1, 10, 100, 1000):
        x, labels = fdfast.datasets.mnist_sample(n)
        y = np.eye(10)[labels]
        took = watch(lambda x=x, y=y: fdfast.gradient(model, x, y=y, precision=precision), _BUDGET)
        yield cell("images", str(n), "fdfast", precision, n, took, 1.0)


def builder(engine: str, problem: Problem, precision: Precision) -> Build:
    """How the engine evaluates rows; imports it."""
    if engine == "jax":
        from bench.peers import jax_peers

        return jax_peers.builder(problem, precision)
    from bench.peers import tensorflow_peers

    return tensorflow_peers.builder(problem, precision, "traced")


def _theirs(engine: str, problem: Problem, precision: Precision, effort: Effort, watch: Stopwatch) -> Iterator[Cell]:
    build, h = builder(engine, problem, precision), STEP[precision]
    x, beside = problem.digits.astype(precision), Beside()
    targets = np.eye(10, dtype=precision)[problem.labels]
    for tile in (1, *TILES):
        section, case = ("W2", f"{IMAGES} digits") if tile == 1 else ("W3", f"tile {tile}")
        here = (section, case, precision)
        if not effort.due(here):
            continue
        sides = Tiles(tile)
        chunks = effort.chunks(here, sensible((64,) if effort.quick else CHUNKS, 2 * sides.count))
        losses = best_chunk(build, sides.moves(precision), chunks, x[0], targets[0], h)
        at = problem.generic.astype(precision), problem.target.astype(precision)
        error = middle(quotients(losses(*at, h), h), sides.sums(problem.generic_truth))
        some = range(2 if tile == 1 else 10)
        near = partial(beside.ask, f"digits {images(effort)} {tile} {precision}")
        took = watch(lambda some=some, losses=losses: [losses(x[i], targets[i], h) for i in some], beside=near)
        more = {"error": error, "sample": f"{len(some)} of the digits", "chunk": losses.chunk}
        yield cell(section, case, engine, precision, sides.count, took, 1 / len(some), **more)
        for n in [n for n in (1, 4) if tile == 1 and effort.due(("images", str(n), precision))]:
            took = watch(lambda n=n, losses=losses: [losses(x[i], targets[i], h) for i in range(n)], _BUDGET)
            yield cell("images", str(n), engine, precision, n, took, 1.0)
