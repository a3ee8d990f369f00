"""Pages of docs/ from the results: tables and pictures; the words are in the files of the same name with .in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.timing import Spread, markdown, seconds_text, times

Found = dict[str, Any]
PANELS = {"side": "side of the image, pixels", "tiles": "number of tiles", "images": "number of images"}
PANELS |= {"depth": "convolutions before the mean"}
# Okabe and Ito's colours.
COLOURS = {
    "fdfast": "#D55E00", "TensorFlow": "#0072B2", "JAX": "#009E73", "PyTorch": "#CC79A7", "SciPy": "#E69F00",
    "loops": "#555555", "attacks": "#56B4E9",
}  # fmt: skip
MARKERS = {"float32": "o", "float64": "s"}
_DPI = 110


PAGES = ("benchmarks.md", "benchmarks-sizes.md")


def whole(found: Found, page: str = PAGES[0]) -> str:
    rows = [row for process in found["processes"].values() for row in process["rows"]]
    cells = [row for row in rows if row.get("section", "")[:1] == "W" and row["by"] != "autodiff"]
    gone = [(f"{row['name']}, {row['precision']}", row["missing"]) for row in rows if "missing" in row]
    gone += [(name, process["missing"]) for name, process in found["processes"].items() if process["missing"]]
    parts = {key: found[key] for key in ("machine", "minutes")} | {"sections": sections_table(cells)}
    parts["w1"] = w1_table(row for row in rows if "kind" in row and "missing" not in row)
    parts["missing"] = "".join(f"- Not measured: {name}: {why}.\n" for name, why in gone)
    return (Path(__file__).parents[2] / f"docs/{page}.in").read_text().format(**parts).rstrip() + "\n"


def w1_table(rows: Iterable[Found]) -> str:
    lines = []
    for row in rows:
        errors = [f"{error:.1e}" for error in row["errors"]] or ["-", "-"]
        seconds = seconds_text(Spread(row["seconds"]).median) + ("*" if row["pixels"] < 784 else "")
        said = ", ".join("false alarm" if one else "pass" for one in row["accuses"]) or "-"
        figures = (times(Spread(row["ratios"])), seconds, *errors, said)
        lines.append((row["name"], row["precision"], *figures, row["setting"]))
    head = ("", "precision", "times fdfast", "time", "error", "99 %", "correct: digit, with noise", "setting")
    return markdown(head, lines)


def sections_table(cells: list[Found]) -> str:
    by: dict[tuple[str, str, str], dict[str, Found]] = {}
    for cell in cells:
        by.setdefault((cell["section"], cell["case"], cell["precision"]), {})[cell["by"]] = cell
    lines = []
    for case, who in by.items():
        line = [*case, str(Spread(who["fdfast"]["seconds"])), f"{who['fdfast']['error']:.1e}"]
        for one in (who.get(name) for name in ("TensorFlow", "JAX")):
            line += [times(Spread(one["ratios"])), f"{one['error']:.1e}"] if one else ["-", "-"]
        lines.append(line)
    head = ("", "", "precision", "fdfast", "error", "TensorFlow by hand, times", "error", "JAX by hand, times", "error")
    return markdown(head, lines)


def curves(cells: list[Found], section: str) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """(who, precision) -> what grows, seconds; in rising order."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for cell in cells:
        here = cell["section"] in (("W2", "W3") if section == "tiles" else (section,))
        if here and cell["by"] != "autodiff":
            point = cell["n"], Spread(cell["seconds"]).median
            found.setdefault((cell["by"], cell["precision"]), []).append(point)
    return {who: tuple(map(list, zip(*sorted(points), strict=True))) for who, points in found.items()}  # type: ignore[misc]


def slope(n: Any, seconds: Any) -> float:
    """Of a straight line through the last three points on log-log paper, where fixed costs have faded."""
    return float(np.polyfit(np.log(n[-3:]), np.log(seconds[-3:]), 1)[0]) if len(n) > 1 else float("nan")


def draw(processes: Found, folder: Path) -> None:
    rows = [row for process in processes.values() for row in process["rows"] if "missing" not in row]
    for make, key in ((peers, "kind"), (growth, "section"), (split, "split")):
        if some := [row for row in rows if key in row]:
            make(some).savefig(folder / f"benchmarks-{make.__name__}.png")


def _look(colour: str, precision: str) -> dict[str, Any]:
    """Open circles are float32, filled squares float64."""
    return {"color": colour, "marker": MARKERS[precision], "mfc": colour if precision == "float64" else "white"}


def peers(rows: list[dict[str, Any]]) -> Figure:
    """One line for everybody: how many times as long as fdfast, with quartiles, and how wrong."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["name"]] = min(best.get(row["name"], np.inf), Spread(row["ratios"]).median)
    names = sorted(best, key=best.__getitem__)
    fig = Figure(figsize=(13, 0.27 * len(names) + 1.3), layout="constrained", dpi=_DPI)
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    left.set_yticks(range(len(names)), names)
    for row in rows:
        y, ratio, colour = names.index(row["name"]), Spread(row["ratios"]), COLOURS[row["family"]]
        left.get_yticklabels()[y].set_color(colour)
        left.plot([ratio.low, ratio.high], [y, y], color=colour, lw=2, alpha=0.5)
        left.plot(ratio.median, y, ms=7, **_look(colour, row["precision"]))
        if row["errors"]:
            right.plot(row["errors"][0], y, ms=7, **_look(colour, row["precision"]))
    left.set(title="times as long as fdfast, median and quartiles", ylim=(len(names) - 0.4, -0.6))
    left.axvline(1, color=COLOURS["fdfast"], lw=1, zorder=0)
    right.set_title("median relative error")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.grid(alpha=0.25)
    left.legend(handles=[Line2D([], [], ls="", label=name, **_look("black", name)) for name in MARKERS])
    return fig


def growth(cells: list[dict[str, Any]]) -> Figure:
    fig = Figure(figsize=(14, 8), layout="constrained", dpi=_DPI)
    for ax, (section, what) in zip(fig.subplots(2, 2).ravel(), PANELS.items(), strict=True):
        ax.set(xscale="log", yscale="log", xlabel=what, ylabel="time, ms")
        for (by, precision), (n, seconds) in curves(cells, section).items():
            label = f"{by}, {precision}, slope {slope(n, seconds):.1f}"
            dash = "-" if precision == "float64" else "--"
            ax.plot(n, np.multiply(seconds, 1e3), ls=dash, label=label, **_look(COLOURS[by], precision))
            ax.set_xticks(n, [f"{t:g}" for t in n])
            ax.set_xticks([], minor=True)
            ax.legend(fontsize=8)
        ax.grid(alpha=0.25)
    fig.suptitle("Time of a whole gradient as things grow; slope over the last three points")
    return fig


def split(rows: list[dict[str, Any]]) -> Figure:
    fig = Figure(figsize=(10, 3.2), layout="constrained", dpi=_DPI)
    ax, begin = fig.subplots(), np.zeros(len({row["split"] for row in rows}))
    for part, colour in zip(dict.fromkeys(row["part"] for row in rows), COLOURS.values(), strict=False):
        some = [row for row in rows if row["part"] == part]
        wide = np.array([row["seconds"] * 1e3 for row in some])
        bars = ax.barh([row["split"] for row in some], wide, left=begin, color=colour, label=part)
        words = [f"{w:.1f}" if w > 0.2 else "" for w in wide]  # only where there is room
        ax.bar_label(bars, words, label_type="center", color="white", fontsize=8)
        begin += wide
    ax.invert_yaxis()
    ax.set(xlabel="time for one MNIST digit, 784 pixels, ms", title="Where the time of a warm call goes")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return fig
