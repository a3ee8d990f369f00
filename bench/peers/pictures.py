"""The pictures of docs/benchmarks.md, drawn from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.peers.cells import ENGINES
from bench.peers.limits import DENSE
from bench.peers.metrics import spread
from bench.peers.text import PANELS, curves, slope
from bench.peers.visits import summary

# Okabe and Ito's colours.
COLOURS = {
    "fdfast": "#D55E00",
    "TensorFlow": "#0072B2",
    "JAX": "#009E73",
    "PyTorch": "#CC79A7",
    "SciPy": "#E69F00",
    "loops": "#555555",
    "attacks": "#56B4E9",
    "autodiff": "#999999",
}
MARKERS = {"float32": "o", "float64": "s"}
_DPI = 110  # of the figure itself: labels are placed by its pixels
_LEAST = 1e-17  # an error of nothing has no place on a logarithmic axis
_SHORT = {
    "TensorFlow by hand, ": "TF ",
    "PyTorch by hand, torch.compile": "torch.compile",
    "PyTorch by hand": "torch",
    "JAX by hand, jit, vmap and map": "JAX",
    "scipy.optimize.approx_fprime": "approx_fprime",
    "SciPy _numdiff, 3-point": "_numdiff",
    "scipy.differentiate.jacobian": "differentiate.jacobian",
    "tf.test.compute_gradient": "tf.test",
    "torch.autograd.gradcheck": "torch gradcheck",
    "numdifftools.Gradient": "numdifftools",
    "ART, query-efficient estimator": "ART",
    "Foolbox, evolution strategies": "Foolbox",
    "fdfast.gradient, engine='batch'": "fdfast batch",
    "autodiff, TensorFlow, traced": "autodiff TF",
    "autodiff, JAX, jit": "autodiff JAX",
    "autodiff, PyTorch": "autodiff torch",
}


def draw(found: dict[str, Any], folder: Path) -> None:
    """Write whichever picture has results."""
    if any("accuracy" in one for one in found["w1"]):
        peers(found["w1"]).savefig(folder / "benchmarks-peers.png")
    rows = summary(found["sections"])
    if rows:
        growth(rows).savefig(folder / "benchmarks-growth.png")
    parts = found["sections"].get("split-fdfast", {}).get("rows", ())
    if parts:
        split(parts).savefig(folder / "benchmarks-split.png")


def short(name: str) -> str:
    """What fits beside a point."""
    for long, brief in _SHORT.items():
        name = name.replace(long, brief)
    return name


def peers(w1: list[dict[str, Any]]) -> Figure:
    """Time against error: the lower left corner is where one wants to be."""
    fig = Figure(figsize=(13, 9), layout="constrained", dpi=_DPI)
    ax = fig.subplots()
    points = []
    for one in w1:
        if "accuracy" not in one:
            continue
        x, y = spread(one["seconds"]).median * 1e3, max(one["accuracy"]["smooth"]["median"], _LEAST)
        size = 13 if one["family"] == "fdfast" else 7
        shape = "*" if one["kind"] == "autodiff" else MARKERS[one["precision"]]
        filled = COLOURS[one["family"]] if one["precision"] == "float64" else "white"
        ax.plot(x, y, shape, ms=size, color=COLOURS[one["family"]], mfc=filled, mew=1.6, zorder=3)
        points.append((x, y, short(one["name"]), COLOURS[one["family"]], one["family"] == "fdfast"))
    ax.set(xscale="log", yscale="log")
    ax.margins(0.08)
    ax.set_xlabel("time for all 784 pixels of one digit, ms")
    ax.set_ylabel("median relative error on smooth pixels")
    ax.set_title("One MNIST digit, every pixel: faster to the left, more right digits below")
    _limits(ax, w1)
    ax.grid(alpha=0.25)
    families = {one["family"] for one in w1 if "accuracy" in one}
    handles = [
        Line2D([], [], marker="o", ls="", color=c, label=name) for name, c in COLOURS.items() if name in families
    ]
    handles += [
        Line2D([], [], marker="o", ls="", color="k", mfc="white", label="float32, open"),
        Line2D([], [], marker="s", ls="", color="k", label="float64, filled"),
        Line2D([], [], marker="*", ls="", ms=9, color=COLOURS["autodiff"], label="autodiff, for comparison"),
    ]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    fig.canvas.draw()
    _labels(ax, points)
    return fig


def _limits(ax: Axes, w1: list[dict[str, Any]]) -> None:
    """Where 1568 dense passes end at the matrix product's pace."""
    for precision, style in (("float32", ":"), ("float64", "--")):
        rates = [
            one["work"] / min(one["seconds"])
            for one in w1
            if one["kind"] == "limit" and one["precision"] == precision and "missing" not in one
        ]
        if rates:
            at = 1e3 * 2 * 784 * DENSE / max(rates)
            ax.axvline(at, color="k", ls=style, lw=1, alpha=0.5)
            ax.text(
                at, 0.02, f" all rows at matmul peak, {precision}", rotation=90, fontsize=8, alpha=0.7,
                transform=ax.get_xaxis_transform(), va="bottom", ha="right",
            )  # fmt: skip


def _labels(ax: Axes, points: list[tuple[float, float, str, str, bool]]) -> None:
    """Each label at the first place around its point where it covers nothing; a thin line leads back."""
    centres = np.array([ax.transData.transform((x, y)) for x, y, *_ in points])
    taken = [tuple(text.get_window_extent().extents) for text in ax.texts]  # of the limits
    for (cx, cy), (*_, ours) in zip(centres, points, strict=True):
        half = 12 if ours else 7
        taken.append((cx - half, cy - half, cx + half, cy + half))
    frame = ax.get_window_extent()
    around = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    for (x, y, name, colour, ours), (cx, cy) in zip(points, centres, strict=True):
        text = ax.annotate(name, (x, y), (0, 0), textcoords="offset pixels", fontsize=8.5, color=colour)
        if ours:
            text.set_fontweight("bold")
        extent = text.get_window_extent()
        width, height = extent.width + 2, extent.height + 2
        best, least = (12.0, -height / 2), np.inf
        for reach in (14, 22, 32, 44, 58, 74, 92, 112, 134):
            for across, up in around:
                left = cx + reach * across - (width if across < -0.3 else 0 if across > 0.3 else width / 2)
                low = cy + reach * up - height / 2
                box = (left, low, left + width, low + height)
                inside = left > frame.x0 and box[2] < frame.x1 and low > frame.y0 and box[3] < frame.y1
                cost = sum(_overlap(box, other) for other in taken) + reach + (0 if inside else 1e6)
                if cost < least:
                    best, least = (left - cx, low - cy), cost
        text.remove()
        far = np.hypot(*best) > 30
        ax.annotate(
            name, (x, y), best, textcoords="offset pixels", fontsize=8.5, color=colour,
            fontweight="bold" if ours else "normal",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": colour, "alpha": 0.6} if far else None,
        )  # fmt: skip
        taken.append((cx + best[0], cy + best[1], cx + best[0] + width, cy + best[1] + height))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return 50 + 3 * wide * high if wide > 0 and high > 0 else 0.0


def growth(rows: list[dict[str, Any]]) -> Figure:
    """Four panels, log-log, with the slopes in the legends."""
    fig = Figure(figsize=(15, 8.5), layout="constrained", dpi=_DPI)
    colours = {"fdfast": COLOURS["fdfast"], "tensorflow": COLOURS["TensorFlow"], "jax": COLOURS["JAX"]}
    for ax, (section, (what, where)) in zip(fig.subplots(2, 2).ravel(), PANELS.items(), strict=True):
        for (engine, precision), (n, seconds) in curves(rows, section).items():
            steep = f", slope {slope(n, seconds):.1f}" if len(n) > 1 else ""
            double = precision == "float64"
            ax.plot(
                n, np.multiply(seconds, 1e3), "-" if double else "--", marker=MARKERS[precision], ms=6,
                color=colours[engine], mfc=colours[engine] if double else "white",
                lw=2.2 if engine == "fdfast" else 1.3, label=f"{ENGINES[engine]}, {precision}{steep}",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=what, ylabel="time, ms", title=where)
        ax.grid(alpha=0.25, which="both")
        if section in ("side", "depth"):
            ticks = sorted({row["n"] for row in rows if row["section"] == section})
            ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
            ax.set_xticks([], minor=True)
        if ax.lines:
            ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    fig.suptitle("Time of a whole gradient as things grow; slope over the last three points")
    return fig


def split(rows: Sequence[dict[str, Any]]) -> Figure:
    """One stacked bar for each of our own calls."""
    fig = Figure(figsize=(10, 3.2), layout="constrained", dpi=_DPI)
    ax = fig.subplots()
    calls, parts = (list(dict.fromkeys(row[key] for row in rows)) for key in ("split", "part"))
    spent = {(row["split"], row["part"]): row["seconds"] * 1e3 for row in rows}
    begin = np.zeros(len(calls))
    for part, colour in zip(parts, COLOURS.values(), strict=False):
        wide = np.array([spent[call, part] for call in calls])
        bars = ax.barh(calls, wide, left=begin, color=colour, label=part)
        # Only where there is room for it.
        room = 0.03 * max(sum(spent[call, one] for one in parts) for call in calls)
        ax.bar_label(
            bars, [f"{w:.1f}" if w > room else "" for w in wide], label_type="center", color="white", fontsize=8
        )
        begin += wide
    ax.invert_yaxis()
    ax.set(xlabel="time for one MNIST digit, 784 pixels, ms", title="Where the time of a warm call goes")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return fig
