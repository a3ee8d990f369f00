"""``fdfast demo``: real digits, a trained network, the checks, the loop that they replace, and pictures."""

from __future__ import annotations

import os
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack import GradientKind, check_epsilon, fgsm
from fdfast.check import gradcheck, gradient
from fdfast.cli.terminal import bar, table, width
from fdfast.data import CLASSES, mnist_cnn, mnist_sample, mnist_test, seed_loop
from fdfast.moves import make_tiling
from fdfast.progress import Bar
from fdfast.report import Report, json_text
from fdfast.verdict import AGREE, WRONG, error_summary

Images = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

#: Step of the loop: the smallest that is of use in float32, by the answer that the loop comes from.
LOOP_STEP = 1e-3
#: More digits than these are checked, but not drawn.
PICTURES = 3
_COLUMNS = {
    "max_abs_error": "Absolute",
    "median_rel_error": "Median",
    "mean_rel_error": "Mean",
    "geometric_mean_rel_error": "Geom. Mean",
    "max_rel_error": "Max",
}


def run(settings: SimpleNamespace) -> list[Report]:
    """Print the demonstration, write its pictures, and return the reports; settings are the options of the command."""
    out = settings.out
    check_epsilon(settings.epsilon)
    silent = settings.quiet or settings.json == "-"
    say: Callable[[str], object] = (lambda text: None) if silent else partial(print, flush=True)
    x, labels, source = _digits(settings)
    out.mkdir(parents=True, exist_ok=True)
    y = np.eye(CLASSES)[labels]
    model = mnist_cnn()
    tile = settings.tile
    parts = f"{x[0].size} pixels" if tile == 1 else f"squares of {tile} x {tile} pixels"
    many = source.replace("digit", "digits", 1) if len(x) > 1 else source
    intro = (
        f"A trained MNIST CNN ({model.count_params()} weights) and {len(x)} {many}: the derivative of the loss "
        f"with respect to each of the {parts}, autodiff checked against finite differences."
    )
    say(_filled(intro) + "\n")

    reports = []
    with bar("checking", quiet=settings.quiet) as progress:
        for i, label in enumerate(labels):
            part = progress and partial(_part, progress, i, len(x))
            reports.append(gradcheck(model, x[i], y[i], tile=tile, label=f"MNIST digit {label}", progress=part))
    before = model.predict(x, verbose=0)
    say(_verdicts(reports, labels, before) + "\n")

    rows = []
    for report, label in zip(reports, labels, strict=True):
        rows += [_row(str(label), "all", report.summary), _row("", "smooth", report.summary_smooth)]
    times = _times(model, x[0], y[0], settings)
    if not settings.no_loop:
        what = f"the loop, two calls per {'pixel' if tile == 1 else 'square'}"
        with bar(f"{what}, on digit {labels[0]}", quiet=settings.quiet) as progress:
            start = time.perf_counter()
            looped = seed_loop(model, x[0], y[0], LOOP_STEP, settings.tile, progress=progress)
            times.append((f"{what}: float32, h = {LOOP_STEP:g}", time.perf_counter() - start))
        rows[2:2] = _loop_rows(f"{labels[0]}, by the loop", reports[0], looped)
    title = "Finite differences against autodiff: largest absolute error, then relative errors"
    head = ("digit", "pixels" if tile == 1 else "squares", "number", *_COLUMNS.values())
    say(table(title, head, rows, left=2) + "\n")
    say(_time_table(times, int(labels[0])) + "\n")

    kinds: tuple[GradientKind, ...] = ("finite-difference", "autodiff")
    moved = [fgsm(model, x, y, settings.epsilon, gradient=kind, tile=tile) for kind in kinds]
    after = [model.predict(one, verbose=0) for one in moved]
    say(_attack_table(labels, before, after, moved, settings.epsilon) + "\n")

    if settings.train:
        from fdfast.cli.robust import train

        say(train(settings.epsilon) + "\n")
    paths = _pictures(settings, reports, x, labels, before, moved[0], after[0])
    say("Pictures" + (f" of the first {PICTURES} digits" if len(x) > PICTURES else ""))
    for path in paths:
        say(f"  {path}")
    say("")
    for sentence in _closing(reports, labels):
        say(sentence)
    if settings.json is not None:
        told = {str(label): report.to_dict() for label, report in zip(labels, reports, strict=True)}
        found = {"digits": told, "seconds": dict(times), "pictures": [str(path) for path in paths]}
        print(json_text(found)) if settings.json == "-" else json_text(found, settings.json)
    return reports


def _part(progress: Bar, i: int, n: int, done: int, expected: int) -> None:
    progress(i * expected + done, n * expected)


def _digits(settings: SimpleNamespace) -> tuple[Images, npt.NDArray[np.int64], str]:
    if settings.data is None:
        x, labels = mnist_sample()
        source = "real digit"
    else:
        x, labels = mnist_test(settings.data or None)
        source = f"digit (of the {len(x)} in your MNIST test set)"
    if settings.count is not None:
        if not 1 <= settings.count <= len(x):
            raise ValueError(f"--count must be between 1 and {len(x)}, got {settings.count}")
        return x[: settings.count], labels[: settings.count], source
    places: list[int] = []
    for digit in settings.digits:
        later = [int(i) for i in np.flatnonzero(labels == digit) if i not in places]
        if not later:
            raise ValueError(f"--digits: there is no (further) {digit} among the {len(x)} images, digits 0 to 9")
        places.append(later[0])
    return x[places], labels[places], source


def _verdicts(reports: Sequence[Report], labels: npt.NDArray[np.int64], p: npt.NDArray[Any]) -> str:
    rows = []
    for report, label, row in zip(reports, labels, p, strict=True):
        near = int((report.near & (report.codes == AGREE)).sum())
        agree = report.counts["agree"]
        others = [str(report.counts[name]) for name in ("kink", "unresolved", "wrong")]
        said = [str(label), _prediction(row), report.verdict.upper()]
        rows.append([*said, str(agree - near), str(near), *others])
    head = ("digit", "model says", "verdict", "agree at x", "agree near x", "kink", "unres.", "wrong")
    return table("Verdicts", head, rows, left=3)


def _prediction(p: npt.NDArray[Any]) -> str:
    # Rounded down: 100.0 % would say that nothing is left.
    return f"{int(p.argmax())} ({np.floor(1000 * float(p.max())) / 10:.1f} %)"


def _loop_rows(name: str, report: Report, looped: Float64) -> list[list[str]]:
    tiling = make_tiling(report.shape, report.tile)
    # Every pixel of a tile holds the derivative along the whole tile.
    by_tile = tiling.on_grid(tiling.sums(looped) / tiling.counts)
    smooth = ~report.near & ((report.codes == AGREE) | (report.codes == WRONG))
    return [
        _row(name, "all", error_summary(by_tile, report.analytic)),
        _row("", "smooth", error_summary(by_tile[smooth], report.analytic[smooth])),
    ]


def _row(name: str, which: str, summary: dict[str, Any]) -> list[str]:
    numbers = [f"{summary[key]:.1e}" if summary["n_rel"] else "-" for key in _COLUMNS]
    return [name, which, str(summary["n"]), *numbers]


def _times(model: Any, x: Images, y: Float64, settings: SimpleNamespace) -> list[tuple[str, float]]:
    tile, h = settings.tile, LOOP_STEP
    calls: dict[str, Callable[[], object]] = {
        f"fdfast.gradient: float32, h = {h:g}": lambda: gradient(model, x, h, y=y, tile=tile, precision="float32"),
        f"fdfast.gradient: float64, h = {h:g}": lambda: gradient(model, x, h, y=y, tile=tile),
        "fdfast.gradcheck: float64, both gradients, error bars, verdict": lambda: gradcheck(model, x, y, tile=tile),
    }
    return [(name, _warm_seconds(call)) for name, call in calls.items()]


def _warm_seconds(call: Callable[[], object], seconds: float = 3.0) -> float:
    """Time a call after it was made once; the median of three, or of fewer if that takes longer than `seconds`."""
    call()
    found: list[float] = []
    while len(found) < 3 and sum(found) < seconds:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _time_table(times: Sequence[tuple[str, float]], digit: int) -> str:
    slowest = times[-1][1] if times[-1][0].startswith("the loop") else None
    rows = [[name, f"{seconds:.3g} s", f"{slowest / seconds:.3g} x" if slowest else ""] for name, seconds in times]
    head = ("call", "time", "faster" if slowest else "")
    return table(f"Time for digit {digit}, on this machine ({os.cpu_count()} cores), warm", head, rows)


def _attack_table(labels: Any, before: Any, after: list[Any], moved: list[Any], epsilon: float) -> str:
    same = np.mean(moved[0] == moved[1], axis=(1, 2, 3))
    rows = [
        [str(label), *(_prediction(p[i]) for p in (before, *after)), f"{100 * same[i]:.1f} %"]
        for i, label in enumerate(labels)
    ]
    head = ("digit", "clean", "by finite differences", "by autodiff", "pixels equal")
    title = f"What the model says to adversarial digits: every pixel moved by at most {epsilon:g} (FGSM)"
    return table(title, head, rows, left=4)


def _pictures(
    settings: SimpleNamespace, reports: Sequence[Report], x: Images, labels: Any, before: Any, moved: Any, after: Any
) -> list[Path]:
    from fdfast.report import adversarial_figure

    paths = []
    with bar("drawing", quiet=settings.quiet) as progress:
        for i, report in enumerate(reports[:PICTURES]):
            if progress is not None:
                progress(i, min(PICTURES, len(reports)))
            name = f"{i}-digit-{labels[i]}.png"
            check, attack = settings.out / f"check-{name}", settings.out / f"attack-{name}"
            report.plot(check)
            title = f"MNIST digit {labels[i]}, FGSM by finite differences, epsilon = {settings.epsilon:g}"
            adversarial_figure(x[i], moved[i], before[i], after[i], title).savefig(attack, dpi=150)
            paths += [check, attack]
    return paths


def _filled(text: str) -> str:
    return textwrap.fill(text, min(width(), 98))


def _closing(reports: Sequence[Report], labels: npt.NDArray[np.int64]) -> list[str]:
    total = sum(r.codes.size for r in reports)
    near = sum(int(r.near.sum()) for r in reports)
    black = sum(int((r.near & (_brightest(r) == 0)).sum()) for r in reports)
    said = (
        f"{near} of the {total} derivatives sit on a kink, {black} of these in the black background, where the cells "
        "of a max pool tie: autodiff takes one side there and a difference the mean of both, which makes the errors "
        "over all pixels large although nothing is wrong, so these were checked at a point near x, where the loss is "
        "smooth."
    )
    sentences = [said] if near else []
    both = zip(reports, labels, strict=True)
    kept = [(float(r.deployed["digits"]), int(label)) for r, label in both if r.deployed]
    if kept:
        worst, digit = min(kept)
        sentences.append(
            f"The model's own float32 gradient keeps {worst:.1f} right decimal digits on the image of a "
            f"{digit}, so the checks compare in float64, where rounding is not mistaken for a wrong formula."
        )
    return [_filled(sentence) for sentence in sentences]


def _brightest(report: Report) -> Float64:
    tiling = make_tiling(report.shape, report.tile)
    pixels = report.x.reshape(-1)[tiling.members]
    return np.asarray(tiling.on_grid(np.maximum.reduceat(pixels, tiling.offsets[:-1])), np.float64)
