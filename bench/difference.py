"""The engines against loop, batch, autodiff and brute force: ``python -m bench.difference``, or some sections of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

import fdfast
from bench.rig import DIGITS, PRECISIONS, STEP, best_chunk, digits, middle, moves, reference, relative
from bench.timing import Row, Spread, ratio, row, side_by_side
from fdfast.data.seed_loops import seed_loop
from fdfast.estimates import KINK
from fdfast.functions import model_objective
from fdfast.moves import make_tiling

ACCURATE = {"float32": "<= 1e-6", "float64": "<= 1e-12"}
STRIP = (13, 15)  # rows of a digit that the loop walks through: one pixel costs what another does
_CHUNKS = (32, 64, 128, 256)
#: By how the line begins: how many times the time of fdfast. The last that fits counts.
GOALS = {
    "W2: 100 digits: TensorFlow float32": ">= 20", "W2: 100 digits: TensorFlow float64": ">= 80",
    "W2: 100 digits: autodiff": ">= 0.5", "W3": ">= 1", "W4: MobileNetV2": ">= 2", "W4: ResNet50": ">= 1",
    "W4: VGG16": ">= 1", "W4: VGG16 224, tile 16": ">= 8",
}  # fmt: skip


def loop_over_strip(model: Any, x: Any, y: Any, h: float) -> Any:
    """The seed loop over the pixels of `STRIP`, each time on the whole digit, in the dtype of x."""

    def whole(rows: Any) -> Any:
        full = x[None].copy()
        full[:, slice(*STRIP)] = rows
        return model(full)

    return seed_loop(whole, x[None, slice(*STRIP)], y[None], h, loss="categorical_crossentropy")


def w1() -> Iterator[Row]:
    """Whole calls on one digit against the loop on the model as it is, in float32; the batch engine against rows."""
    model, x, y = digits(1)
    call, narrow = partial(fdfast.gradient, model, x[0], y=y[0]), (x[0].astype("float32"), y[0].astype("float32"))
    calls = {
        "loop": lambda: loop_over_strip(model, *narrow, STEP["float32"]),
        "fdfast.gradient(model, x, y)": call,
        "the same with precision='float32'": partial(call, precision="float32"),
        "fdfast.gradcheck(model, x, y)": lambda: fdfast.gradcheck(model, x[0], y[0]).metrics,
    }
    found = side_by_side(calls, 21, pause=0.03)
    loop = found.pop("loop").times(28 / (STRIP[1] - STRIP[0]))
    for (what, took), goal in zip(found.items(), (">= 2500", "", ">= 1000"), strict=True):
        yield ratio(f"W1: the seed loop / {what}", loop, took, goal)
    for name in PRECISIONS:
        objective = model_objective(model, y, None, x.shape[1:], 1, batched=True, precision=name)
        rows = x.astype(name) + x.dtype.type(STEP[name]) * moves(make_tiling(x.shape[1:]), name)
        bare = partial(objective.tensor_values, tf.constant(rows), np.zeros(len(rows), np.int32))
        chunk = best_chunk(bare, _CHUNKS)
        calls = {"batch": partial(call, engine="batch", precision=name, max_rows=chunk), "bare": partial(bare, chunk)}
        found = side_by_side(calls, 21)
        what = f"W1: engine='batch', whole call / bare forward over existing rows, {name}, chunk {chunk}"
        yield ratio(what, found["batch"], found["bare"], "<= 1.05")
    traced = objective.traced.traces
    fdfast.gradcheck(model, x[0], y[0])
    yield row("W1: functions traced by a warm second gradcheck", objective.traced.traces - traced, "= 0")


def _beside(make: Callable[[Any], Iterable[list[dict[str, Any]]]]) -> Iterator[Row]:
    """Everybody's time over that of fdfast, per image, and errors."""
    from bench.peers import sections

    for cell in make(sections):
        head, ours = f"{cell[0]['section']}: {cell[0]['case']}: ", [one for one in cell if one["by"] == "fdfast"]
        for one, own in ((one, own) for one in cell if one["by"] != "fdfast" for own in ours):
            what = f"{head}{one['by']} {one['precision']} / fdfast {own['precision']}"
            goal = next((goal for start, goal in reversed(GOALS.items()) if what.startswith(start)), "")
            folded = head.startswith("W4") and one["by"] == "TensorFlow"  # the goal is against it as it is
            yield ratio(what, Spread(one["seconds"]), Spread(own["seconds"]), "" if folded else goal)
        text = ", ".join(f"{one['by']} {one['precision']} {one['error']:.1e}" for one in cell if one["error"])
        yield Row(f"{head}median errors", "", text)


w2 = partial(_beside, lambda s: (cell for name in PRECISIONS for cell in s.small(name, s.TILES[:1])))
w3 = partial(_beside, lambda s: (cell for name in PRECISIONS for cell in s.small(name, s.TILES[1:])))
w4 = partial(_beside, lambda s: s.large())


def growth() -> Iterator[Row]:
    """Many images in one call, tile 1: time of each, and how time grows."""
    from bench.peers.page import slope
    from bench.peers.sections import IMAGES, growth

    found = [Spread(cell["seconds"]) for _, (cell,) in zip(IMAGES, growth("float64"), strict=False)]
    for n, seconds in zip(IMAGES, found, strict=True):
        yield Row(f"growth: fdfast.gradient, {n} images, per image", "", str(seconds.times(1 / n)))
    exponent = slope(IMAGES[-2:], [seconds.median for seconds in found[-2:]])
    yield row(f"growth: exponent of time in images, {IMAGES[-2]} to {IMAGES[-1]}", exponent, "<= 1.1")


def accuracy() -> Iterator[Row | str]:
    """Median relative error over the pixels without a tie whose gradient is not zero, by precision and step."""
    model, x, y = digits(20)
    estimate = partial(fdfast.estimate, model, x, y=y, engine="difference")
    exact = np.stack([reference(model.get_weights(), *one).ravel() for one in zip(x, y, strict=True)])
    loose = estimate().tie < 0
    yield f"accuracy: {len(x)} digits, {loose.sum()} of {loose.size} pixels without a tie; truth to {DIGITS:.0f} places"

    def by_digit(found: Any) -> list[float]:
        return [middle(relative(*one)) for one in ((f[s], e[s]) for f, e, s in zip(found, exact, loose, strict=True))]

    for name in reversed(PRECISIONS):
        for h in ("auto", 1e-6):
            found = estimate(h=h, precision=name).value
            errors, worst = relative(found[loose], exact[loose]), np.nanmax(by_digit(found))
            text = f"{middle(errors):.1e} / {np.quantile(errors, 0.99):.1e} / {worst:.1e}"
            what = f"accuracy: {name}, h={h}: median / 99 % / worst digit"
            yield row(what, middle(errors), ACCURATE[name], text)
        objective = model_objective(model, y, None, x.shape[1:], len(x), batched=True, precision=name)
        errors = by_digit(objective.gradient(x.reshape(len(x), -1).astype(name)).reshape(exact.shape))
        text = f"{middle(errors):.1e} / {np.nanmax(errors):.1e}"
        yield Row(f"accuracy: {name} autodiff itself: median over digits / worst digit", "", text)


def kinks() -> Iterator[Row]:
    """Kinks that the engine sees, against brute force: slopes of float64 losses of displaced rows, blind to units."""
    model, x, y = digits(100)
    engine, brute = (fdfast.estimate(model, x, y=y, engine=name) for name in ("difference", "batch"))
    mine, theirs = engine.kind == KINK, brute.kind == KINK
    both, smooth = mine & theirs, (engine.tie >= 0) & ~mine
    counts = f"{mine.sum()} / {theirs.sum()} / {both.sum()}, of {mine.size} pixels of {len(x)} digits"
    yield Row("kinks: by the engine / by brute force / by both", "", counts)
    text = f"{smooth.sum()}, {(smooth & ~theirs).sum()}"
    yield Row("kinks: units tie, yet both slopes are the same, for the engine; and for both", "", text)
    off = np.maximum(np.abs(engine.right - brute.right), np.abs(engine.left - brute.left))
    scale = np.maximum(np.abs(engine.right), np.abs(engine.left))
    within = (off <= 1e-5 * scale + brute.error) & both
    yield Row("kinks: both slopes the same by both, to 1e-5 or the bar", "", f"{within.sum()} of {both.sum()}")
    yield Row("kinks: engine undecided", "", str((engine.kind > KINK).sum()))
    # A jump within the bar of brute force may well be none for it.
    apart = (mine != theirs) & ~(mine & (np.abs(engine.right - engine.left) <= 2 * brute.error))
    text = f"{apart.sum()} of {(mine != theirs).sum()}"
    yield row("kinks: disagreements that are not below the bar of brute force", apart.sum(), "= 0", text)


if __name__ == "__main__":
    from bench.__main__ import DIFFERENCE, main

    main(sys.argv[1:], DIFFERENCE)
