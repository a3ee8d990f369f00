"""W1: the shipped CNN, one real digit, every pixel. The batch engine against a bare forward pass and the seed loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import Row, format_seconds, side_by_side
from fdfast.data.seed_loops import seed_loop
from fdfast.engines.batch import BatchEngine, RowBuffer
from fdfast.engines.pairs import Pairs
from fdfast.functions.model import model_objective
from fdfast.functions.shadow import shadow_of
from fdfast.moves.scheme import plan_steps
from fdfast.moves.tiling import make_tiling

SHAPE = (28, 28, 1)


def engine_rows(model: keras.Model, x: Any, y: Any) -> Iterator[Row]:
    """Batch engine / bare forward over rows that exist already: same rows, same dtype, same chunk."""
    for precision in ("float32", "float64"):
        yield _engine_row(model, x, y, precision)


def _engine_row(model: keras.Model, x: Any, y: Any, precision: Any) -> Row:
    tiling = make_tiling(SHAPE)
    objective = model_objective(model, y, None, SHAPE, 1, batched=False, precision=precision)
    points = np.ascontiguousarray(x.reshape(1, -1), objective.dtype)
    tile = np.arange(tiling.tiles)
    pairs = Pairs(np.zeros_like(tile), tile, plan_steps(points, tiling).offsets()[0])
    example = np.zeros(1, np.int32)
    engine = BatchEngine(objective, tiling)
    for _ in range(3):  # the chunk is found here, and remembered
        engine.differences(points, example, pairs)
    chunk, _ = engine._chunking.next(objective.row_bytes, 2 * len(tile))
    rows, _ = RowBuffer(points, tiling).fill(pairs, np.empty((len(tile), 2)))
    existing = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
    who = np.zeros(len(rows), np.int32)
    found = side_by_side(
        {
            "engine": lambda: engine.differences(points, example, pairs),
            "bare": lambda: objective.tensor_values(existing, who, chunk),
        },
        rounds=50 if precision == "float32" else 20,  # what is left of the noise is some 2 %
    )
    ratio = found["engine"].over(found["bare"])
    return Row(
        f"batch engine / bare forward over existing rows, {precision}, {len(rows)} rows, chunk {chunk}",
        "<= 1.05",
        f"{ratio:.3f}  ({format_seconds(found['engine'].median)} / {format_seconds(found['bare'].median)})",
        ratio <= 1.05,
    )


def loop_rows(model: keras.Model, x: Any, y: Any) -> Iterator[Row]:
    """Whole `gradient` call / seed loop, both in the same precision, on the same digit."""
    yield _loop_row(model, model, x, y, "float32", 2.0**-8, 100)
    yield _loop_row(model, shadow_of(model, SHAPE).model, x, y, "float64", 2.0**-17, None)


def _loop_row(
    model: keras.Model, looped: keras.Model, x: Any, y: Any, precision: Any, h: float, goal: int | None
) -> Row:
    def whole() -> object:
        return fdfast.gradient(model, x, y=y, precision=precision)

    def loop() -> object:
        return seed_loop(looped, x, y, h, loss="categorical_crossentropy")

    # The loop takes seconds: it runs once, with the calls timed before and after it.
    before = side_by_side({"call": whole}, rounds=7, warm=3)["call"].median
    slow = side_by_side({"loop": loop}, rounds=1, warm=0)["loop"].median
    call = (before + side_by_side({"call": whole}, rounds=7)["call"].median) / 2
    return Row(
        f"fdfast.gradient, {precision}, against the seed loop in {precision}",
        "" if goal is None else f">= {goal} x",
        f"{slow / call:.0f} x  ({format_seconds(call)} / {format_seconds(slow)})",
        None if goal is None else slow / call >= goal,
    )


def check_rows(model: keras.Model, x: Any, y: Any) -> Iterator[Row]:
    """Whole gradcheck on a generic point / one bare float64 batch, and what it traces when warm."""
    tiling = make_tiling(SHAPE)
    generic = x + np.random.default_rng(0).uniform(0, 1 / 255, x.shape)
    objective = model_objective(model, y, None, SHAPE, 1, batched=False, precision="float64")
    points = np.ascontiguousarray(generic.reshape(1, -1), np.float64)
    pairs = Pairs(np.zeros(tiling.tiles, np.int64), np.arange(tiling.tiles), plan_steps(points, tiling).offsets()[0])
    rows, _ = RowBuffer(points, tiling).fill(pairs, np.empty((tiling.tiles, 2)))
    existing = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
    who = np.zeros(len(rows), np.int32)
    report = fdfast.gradcheck(model, generic, y)
    engine = BatchEngine(objective, tiling)
    chunk, _ = engine._chunking.next(objective.row_bytes, len(rows))
    found = side_by_side(
        {
            "check": lambda: fdfast.gradcheck(model, generic, y).metrics,
            "bare": lambda: objective.tensor_values(existing, who, chunk),
        },
        rounds=7,
    )
    ratio = found["check"].median / found["bare"].median
    yield Row(
        "whole gradcheck / one bare float64 batch, no tile on a kink",
        "<= 3",
        f"{ratio:.2f}  ({format_seconds(found['check'].median)}; {report.refined} rows refine)",
        ratio <= 3,
    )
    traces = objective.traced.traces if objective.traced else 0
    fdfast.gradcheck(model, x, y)
    yield Row(
        "functions traced by a warm second gradcheck",
        "0",
        str((objective.traced.traces if objective.traced else 0) - traces),
    )


def run() -> Iterator[Row]:
    """All rows of this file."""
    model = fdfast.datasets.mnist_cnn()
    x, labels = fdfast.datasets.mnist_sample(1)
    y = np.eye(10)[labels[0]]
    yield from engine_rows(model, x[0], y)
    yield from check_rows(model, x[0], y)
    yield from loop_rows(model, x[0], y)
