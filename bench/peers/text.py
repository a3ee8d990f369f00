"""The words of docs/benchmarks.md around its tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.peers.cells import ENGINES
from bench.peers.metrics import exponent
from bench.peers.render import absent, figure, limit, table, times, w1_tables
from bench.peers.visits import summary
from bench.timing import format_seconds

_HEAD = """\
# Benchmarks

fdfast beside the tools that people use instead: the same weights, the same real digit, one run. Written by
`make bench-peers`; do not edit. {machine}

Accuracy stands beside time, because a fast wrong gradient is worth nothing. Every peer gets the best setting that was
found: rows per forward pass, step, tracing or compilation, both precisions. The step of the hand-batched ones is chosen
by the truth, which a user does not have. Ports of the network to PyTorch and JAX agree with Keras' probabilities to
1e-6, or are refused. PyTorch runs with a malloc that keeps what is freed (MALLOC_MMAP_THRESHOLD_,
MALLOC_TRIM_THRESHOLD_): with glibc's own rules some of its processes take twice as long as others.

![Time against error of all peers](img/benchmarks-peers.png)

## One digit, every pixel (W1)

The shipped CNN (34,826 weights) and the sample's MNIST test digit number 3, whose loss of 0.14 leaves float32 something
to subtract; categorical cross-entropy, tile 1, 784 pixels. Each line has processes of its own, all with the same
threads: one, minutes later another, and up to three more until the best is confirmed by another within 10 %. "Times
fdfast" compares with `fdfast.gradient` in float64, for checkers with `fdfast.gradcheck`: a standing process makes that
call before and after each of the peer's, because a machine's speed drifts, and every 0.4 s in the middle of those that
loop over evaluations, which rest meanwhile. Both are warm: calls that find cold caches come first and do not count,
except of calls of half a second and more, in which that does not show. It is the median of a visit, and of the two
visits in which the peer did best the mean: some processes never get as fast as others of the same program, which the
time, of all visits, shows. Our own lines tell what is left of the drift. Only calm rounds count, or the three calmest:
the host took at most 5 % of the CPU time (steal in /proc/stat), and our own call beside, which is always the same,
took at most 15 % longer than at its best in the run. Other guests of a shared machine slow down what misses its caches
by half, for seconds or minutes, and a product of matrices not at all; with their share in it, a ratio would be of that
hour. Peak memory is of the whole process, framework included, trying of chunks not. Truth is a backward pass in
extended precision, in NumPy.

"""

_ERRORS = """\
Relative errors over the pixels whose gradient is not zero. "Smooth" are the {smooth} of them along which no unit
changes branch within 2^-17. On "all", the background ties max pools: there the loss has no gradient, a central
difference is the mean of two slopes and autodiff one of them, so that nobody's median is small, and only a verdict per
pixel helps.

"""

_VERDICTS = """\
Verdicts: on the digit as it is, and on the digit plus uniform noise below 1/255, where nothing ties. Checkers speak by
their own rule and default tolerance; estimators have none, so the usual rule of CS231n speaks for them, against the
true gradient: max |a - b| / max(1e-8, |a| + |b|) above 1e-2. The four faults are planted in the autodiff side, at the
digit with noise: a gradient that is twice too large, 1 % too large, twice too large on one pixel of 784, or one row too
low. `caught*`: it calls the correct gradient wrong too, so its alarm says nothing. A dash: too slow to be asked again.

"""


def whole(found: dict[str, Any]) -> str:
    """The page."""
    parts = w1_tables(found["w1"]).split("\n\n")
    text = f"{_HEAD.format(machine=_machine(found))}{parts[0]}\n\n{limit(found['w1'])}\n\n"
    text += f"{_ERRORS.format(smooth=_smooth(found['w1']))}{parts[1]}\n\n{_VERDICTS}{parts[2]}\n"
    rows = summary(found["sections"])
    text += _per_image(rows, "W2", "Many digits (W2)", _W2)
    text += _per_image(rows, "W3", "Larger tiles (W3)", _W3)
    text += _per_image(rows, "W4", "A large network (W4)", _W4)
    text += _growth(rows)
    text += _split(found)
    text += _goals(found)
    gone = absent(found)
    if gone:
        text += "\n## Not measured\n\n" + "\n".join(f"- {sentence}" for sentence in gone) + "\n"
    return text


_W2 = (
    "Time per image. fdfast takes all digits in one call, with which peers are compared: a standing process makes it "
    "before and after each of their calls. Here and below, a peer has two visits, and up to three more in the cells "
    "whose best is not confirmed by another within 10 %: the time is of the best one, the ratio the mean of the two "
    "best. fdfast's own time is that beside the peers, where there are any. Error: median over all pixels of digit "
    "number 3 with noise, where nothing ties."
)
_W3 = "Time per image, all tiles; tile 5 is ragged. Error as above, against the sum of the gradient over each tile."
_W4 = (
    "MobileNetV2 with random weights and calibrated batch norm, all tiles of one image. fdfast is called on the "
    "network as it is; the peers get batch norm folded into the convolutions, which doubles their speed. Error against "
    "float64 autodiff."
)


def _machine(found: dict[str, Any]) -> str:
    about = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    quick = " **A quick run: the figures mean nothing.**" if found["quick"] else ""
    return (
        f"Measured on {about['architecture']} ({about['simd']}), {about['cores']} cores, CPU only, in "
        f"{found['minutes']:.0f} minutes, in which the host took {100 * found.get('stolen', 0):.0f} % of the CPU time "
        f"for others. Python {about['python']}, {versions}.{quick}"
    )


def _smooth(w1: list[dict[str, Any]]) -> int:
    counts = [one["accuracy"]["smooth"]["count"] for one in w1 if "accuracy" in one and not one["pixels"]]
    return max(counts, default=0)


def _per_image(rows: Iterable[dict[str, Any]], section: str, title: str, words: str) -> str:
    some = [row for row in rows if row["section"] == section]
    if not some:
        return ""
    lines = []
    for row in sorted(some, key=lambda row: [r["case"] for r in some].index(row["case"])):
        than = "1" if row["engine"] == "fdfast" else times(row["ratio"])
        time = f"{format_seconds(row['seconds'])} [{format_seconds(row['low'])} .. {format_seconds(row['high'])}]"
        lines.append(
            (
                row["case"],
                ENGINES[row["engine"]],
                row["precision"],
                time,
                than,
                figure(row["error"]),
                (row["sample"] or "all") + (f", {row['chunk']} rows at a time" if row["chunk"] else ""),
            )
        )
    head = ("", "by", "precision", "time per image", "times fdfast, same precision", "median error", "measured")
    return f"\n## {title}\n\n{words}\n\n{table(head, lines)}\n"


def curves(rows: Iterable[dict[str, Any]], section: str) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """(engine, precision) -> what grows, seconds; in rising order."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        here = row["section"] == section or (section == "tiles" and row["section"] in ("W2", "W3"))
        if here:
            found.setdefault((row["engine"], row["precision"]), []).append((row["n"], row["seconds"]))
    return {who: tuple(map(list, zip(*sorted(points), strict=True))) for who, points in found.items()}  # type: ignore[misc]


PANELS = {
    "side": ("side of the image, pixels", "4 convolutions of 16 channels, tile 1"),
    "tiles": ("number of tiles", "shipped CNN, tiles of 14, 7, 5, 4, 2, 1"),
    "images": ("number of images", "shipped CNN, tile 1"),
    "depth": ("convolutions before the mean", "32 x 32 pixels, 16 channels, tile 1"),
}


def slope(n: list[float], seconds: list[float]) -> float:
    """Over the last three points, where fixed costs have faded."""
    return exponent(n[-3:], seconds[-3:])


def _growth(rows: list[dict[str, Any]]) -> str:
    lines = []
    for section, (what, where) in PANELS.items():
        for (engine, precision), (n, seconds) in curves(rows, section).items():
            steep = f"{slope(n, seconds):.2f}" if len(n) > 1 else "-"
            ends = f"{n[0]:g}: {format_seconds(seconds[0])}, {n[-1]:g}: {format_seconds(seconds[-1])}"
            lines.append((what, ENGINES[engine], precision, steep, ends, where))
    if not lines:
        return ""
    words = "Slopes on log-log paper over the last three points: 1 is in proportion, 2 the square."
    head = ("grows", "by", "precision", "slope", "from, to", "fixed")
    return f"\n## Growth\n\n![Growth of time](img/benchmarks-growth.png)\n\n{words}\n\n{table(head, lines)}\n"


def _split(found: dict[str, Any]) -> str:
    rows = found["sections"].get("split-fdfast", {}).get("rows", ())
    if not rows:
        return ""
    calls, parts = (list(dict.fromkeys(row[key] for row in rows)) for key in ("split", "part"))
    spent = {(row["split"], row["part"]): row["seconds"] for row in rows}
    lines = [
        (
            call,
            *(format_seconds(spent[call, part]) for part in parts),
            format_seconds(sum(spent[call, p] for p in parts)),
        )
        for call in calls
    ]
    words = (
        "Where the time of one call goes, the digit of W1, warm, means. Base pass: Keras in float64, once per point. "
        "Kernels: C++. Autodiff: TensorFlow, what is under test; in a check the values of the network come with it, "
        "and the gradient in float32 is waited for if another thread has not got it yet. Python and NumPy: steps, "
        "bars, classes, report."
    )
    body = f"{words}\n\n![Time split](img/benchmarks-split.png)\n\n{table(('call', *parts, 'whole'), lines)}"
    return f"\n## Where the time goes\n\n{body}\n"


def _goals(found: dict[str, Any]) -> str:
    rows = found["sections"].get("goals-fdfast", {}).get("rows", ())
    if not rows:
        return ""
    lines = [
        (r["what"], r["goal"], r["measured"], "yes" if r["holds"] else "**no**", f"`{r['command']}`") for r in rows
    ]
    words = (
        "What fdfast holds itself to, measured in this run by the functions behind the commands. The verdicts are of a "
        "sample; the command takes 1,000 models and inputs."
    )
    return f"\n## Goals\n\n{words}\n\n{table(('what', 'goal', 'measured', 'holds', 'command'), lines)}\n"
