"""Figures of a report. matplotlib is imported when one is drawn; pyplot and its global state never are."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fdfast.report import panels, text
from fdfast.report.example import Example
from fdfast.report.first_lines import said_first, under_test
from fdfast.report.panels import NEAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fdfast.report.part import Part
    from fdfast.report.report import Report

VERDICT_COLOURS = {"pass": "#009E73", "fail": "#D55E00", "inconclusive": "#777777"}
EXAMPLES_SHOWN = 4
VARIABLES_SHOWN = 30

_STYLE = {"font.size": 8.0, "axes.titlesize": 9.0, "legend.fontsize": 7.5, "legend.frameon": False}
_PAIR = ("#0072B2", "#D55E00")  # clean, adversarial
_HEADER = 0.85  # inches


def figure(report: Report, *, title: str | None = None) -> Figure:
    """Draw a report: gradients, relative error, histogram, class map.

    Parameters
    ----------
    report : Report
        Of one example, or of a batch: then one row per example, at most four, most wrong tiles first.
    title : str, optional
        Stands behind the verdict. The label of the report when None.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot: nothing has to be closed.

    Notes
    -----
    Both gradients of one example share one symmetric colour scale. Gradients are derivatives of whole tiles,
    as in the report. Where channels are tiles of their own, the maps show the one with the greatest autodiff
    gradient, and the class map the worst class over channels.
    """
    lines = _header(report, title)
    with styled():
        if report.wrt == "weights" or len(report.parts) > 1:
            fig, said = _variables(report)
        elif report.check == "directions":
            fig, said = _directed(report)
        else:
            fig, said = _inputs(report)
        lines[0] += said
        _write_header(fig, report.verdict, lines)
    return fig


def _inputs(report: Report) -> tuple[Figure, str]:
    """Draw the examples of one input, at most four of them; the second is what to say of the others."""
    shown, said = _shown(_examples(report))
    if len(shown) == 1:
        return _one_image(shown[0]) if shown[0].is_image else _one_vector(shown[0]), said
    return _image_rows(shown) if shown[0].is_image else _vector_rows(shown), said


def _directed(report: Report) -> tuple[Figure, str]:
    """Draw the gradient, what would have been found of it, and classes: differences are of few elements."""
    shown, said = _shown(_examples(report))
    fig = blank_figure(12.0, _HEADER + 2.4 * len(shown))
    axes = fig.subplots(len(shown), 4 if shown[0].is_image else 2, squeeze=False)
    for row, e in zip(axes, shown, strict=True):
        if e.is_image:
            panels.show_image(row[0], e.x, "Input")
            panels.gradients(row[1:2], e)
            panels.detectable(row[2], e)
            panels.classes(row[3], e)
        else:
            panels.overlay(row[0], e)
            panels.detectable(row[1], e)
        if len(shown) > 1:
            row[0].set_ylabel(f"example {e.index}")
        for ax in row:
            ax.set_anchor("N")
    return fig, said


def _shown(examples: list[Example]) -> tuple[list[Example], str]:
    """The examples that are drawn, those with most wrong tiles first, and what to say of the others."""
    shown = sorted(examples, key=lambda e: -np.count_nonzero(e.classes == "wrong"))[:EXAMPLES_SHOWN]
    names = ", ".join(str(e.index) for e in shown)
    said = f"   (examples {names} of {len(examples)} shown: those with most wrong tiles)"
    return shown, said if len(examples) > len(shown) else ""


def _variables(report: Report) -> tuple[Figure, str]:
    """Draw shares of classes and errors of variables, at most thirty of them, those with most to say."""
    order = sorted(range(len(report.parts)), key=lambda i: (-report.parts[i].counts["wrong"], i))[:VARIABLES_SHOWN]
    shown = [report.parts[i] for i in sorted(order)]
    fig = blank_figure(12.0, _HEADER + 1.4 + 0.3 * len(shown))
    axes = fig.subplots(1, 2, sharey=True)
    panels.shares(axes[0], shown, report.noun)
    panels.spreads(axes[1], shown)
    more = len(report.parts) - len(shown)
    return fig, f"   ({more} more variables not shown, with no more wrong)" if more else ""


def save(report: Report, path: str | os.PathLike[str] | IO[bytes], dpi: float = 150) -> None:
    """Draw a report and write it to a file; the suffix says the format (a stream gets PNG).

    Parameters
    ----------
    report : Report
    path : path or binary stream
    dpi : float
        Dots per inch; one example is 1500 by 950 pixels at 150.
    """
    with styled():
        figure(report).savefig(path, dpi=dpi)


def adversarial_figure(
    x: npt.ArrayLike,
    x_adv: npt.ArrayLike,
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    title: str | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Draw an adversarial example beside the clean one, with what the model says to each.

    Parameters
    ----------
    x, x_adv : (H, W), (H, W, 1) or (H, W, 3)
        The image and the adversarial image, in [0, 1] for colours.
    before, after : (classes,)
        Predicted probabilities of the two.
    title : str, optional
    labels : sequence of str, optional
        Names of the classes; their numbers when None.

    Returns
    -------
    matplotlib.figure.Figure
    """
    clean, adversarial = np.asarray(x, np.float64), np.asarray(x_adv, np.float64)
    probabilities = {"clean": np.ravel(np.asarray(before)), "adversarial": np.ravel(np.asarray(after))}
    names = [str(i) for i in range(probabilities["clean"].size)] if labels is None else list(labels)
    images = {"clean": clean, "adversarial": adversarial}
    both = (float(min(clean.min(), adversarial.min())), float(max(clean.max(), adversarial.max())))
    moved = adversarial - clean
    limit = float(np.max(np.abs(moved), initial=0.0)) or 1.0
    with styled():
        fig = blank_figure(10.0, 5.4, header=0.4 if title else 0.0)
        axes = fig.subplot_mosaic([["clean", "moved", "adversarial"], ["bars"] * 3], height_ratios=[2, 1])
        for name, image in images.items():
            best = int(np.argmax(probabilities[name]))
            says = f"{name}: {names[best]} ({percent_text(probabilities[name][best])})"
            panels.show_image(axes[name], image, says, both)
        # Of colours, the channel that moved most at each pixel, with its sign.
        flat = moved.reshape(*moved.shape[:2], -1)
        most = np.argmax(np.abs(flat), axis=2, keepdims=True)
        shown = np.take_along_axis(flat, most, axis=2)[..., 0]
        drawn = axes["moved"].imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
        panels.colour_bar(axes["moved"], drawn, "adversarial − clean")
        axes["moved"].set_title(f"perturbation, at most {limit:.3g}")
        for shift, colour, (name, p) in zip((-0.2, 0.2), _PAIR, probabilities.items(), strict=True):
            bars = axes["bars"].bar(np.arange(p.size) + shift, p, 0.38, color=colour, label=name)
            texts = [f"{v:.0%}" if v >= 0.005 else "" for v in p]
            axes["bars"].bar_label(bars, texts, fontsize=7, padding=1)
        axes["bars"].set_xticks(np.arange(len(names)), names, parse_math=False)
        axes["bars"].set(ylim=(0, 1.15), yticks=(0, 0.5, 1), ylabel="probability", title="What the model says")
        axes["bars"].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
        if title:
            fig.suptitle(title, fontsize=11, parse_math=False).set_in_layout(False)
    return fig


def step_text(step: float) -> str:
    """Write a step with its power of two where it is one: ``9.54e-07 = 2^-20``."""
    fraction, exponent = math.frexp(step)
    return f"{step:.3g} = 2^{exponent - 1}" if fraction == 0.5 else f"{step:.3g}"


def tile_text(part: Part) -> str:
    """Write the extent of a tile: ``4 × 4``, and what moves together where there are channels."""
    axis = part.channel_axis
    spatial = [n for i, n in enumerate(part.tile) if i != axis]
    text = " × ".join(str(n) for n in spatial) or "1"
    if axis is not None and part.shape[axis] > 1:
        held, channels = part.tile[axis], part.shape[axis]
        moved = "channels together" if held == channels else "channels apart"
        text += f", {moved if held in (1, channels) else f'{held} of {channels} channels together'}"
    return text


def percent_text(part: float) -> str:
    """Write a fraction in per cent, rounded down: 100.0 % means all."""
    return f"{math.floor(part * 1000 + 1e-9) / 10:.1f} %"


def _examples(report: Report) -> list[Example]:
    part, tested = report.parts[0], under_test(report)

    def split(values: Any, one: tuple[int, ...]) -> npt.NDArray[Any]:
        # Channels last, as a picture has them.
        each = np.asarray(values).reshape(-1, *one)
        return each if part.channel_axis is None else np.moveaxis(each, 1 + part.channel_axis, -1)

    words = np.where(part.near & (part.classes == "agree"), NEAR, part.classes)
    on_grid = (part.numeric, part.analytic, part.rel_error, words, part.detectable)
    columns = zip(split(part.x, part.shape), *(split(v, part.grid) for v in on_grid), strict=True)
    tile = list(part.tile)
    if part.channel_axis is not None:
        tile.append(tile.pop(part.channel_axis))
    return [replace(Example(i, x, tuple(tile), *rest), tested=tested) for i, (x, *rest) in enumerate(columns)]


@contextmanager
def styled() -> Iterator[None]:
    """Use the defaults of matplotlib and ours, and bring the caller's settings back afterwards."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


@cache
def shown_figure() -> type[Figure]:
    """matplotlib's Figure, which a notebook shows as a picture where it ends a cell, without pyplot's help."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            with styled():
                self.savefig(picture, format="png", dpi=100)
            return picture.getvalue()

    return ShownFigure


def blank_figure(width: float, height: float, header: float = _HEADER) -> Figure:
    """A figure with room of `header` inches above for what is said of it; for use under `styled`."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # The engine makes room for a title, but not for the badge beside it: both stand above its rectangle.
    room = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, rect=(0, 0, 1, 1 - header / height))
    return shown_figure()(figsize=(width, height), layout=room)


def _header(report: Report, title: str | None) -> list[str]:
    name = title if title is not None else text.title(report)
    moved = sum(int((part.near & (part.classes == "agree")).sum()) for part in report.parts)
    what = f"tile {tile_text(report.parts[0])}" if report.wrt == "input" else f"{report.total} weights"
    if report.check == "directions":
        what = f"{report.total} {report.noun}s"
    near = f" ({moved} of them near x)" if moved else ""
    counts = "   ".join(f"{name} {n}" + (near if name == "agree" else "") for name, n in report.met.items())
    return [
        textwrap.shorten(name, 90, placeholder=" ...") if name else "Finite differences against the gradient",
        f"{counts}   coverage {percent_text(report.coverage)}",
        f"{what}   step {step_text(report.step)}   engine {report.engine}   {report.dtype}",
        *said_first(report),
    ]


def _write_header(fig: Figure, verdict: str, lines: list[str]) -> None:
    width, height = fig.get_size_inches()
    badge = 0.25 + 0.145 * len(verdict)  # inches, of bold capitals of 15 points
    columns = int((width - badge - 0.4) / 0.085)  # the mean letter of 9.5 points, and some
    lines = [short for line in lines for short in textwrap.wrap(line, columns, drop_whitespace=True)]
    room = max(_HEADER, 0.15 + 0.185 * len(lines))  # lines of 9.5 points, 1.4 apart
    if room > _HEADER:
        height += room - _HEADER
        fig.set_size_inches(width, height)
        engine: Any = fig.get_layout_engine()
        engine.set(rect=(0, 0, 1, 1 - room / height))
    middle = 1 - 0.5 * room / height
    box = {"boxstyle": "round,pad=0.4", "fc": VERDICT_COLOURS[verdict], "ec": "none"}
    at = (0.5 * badge + 0.12) / width
    fig.text(at, middle, verdict.upper(), size=15, weight="bold", color="white", ha="center", va="center", bbox=box)
    # parse_math: a label may hold dollar signs.
    text = fig.suptitle(
        "\n".join(lines), x=(badge + 0.3) / width, y=middle, ha="left", va="center", fontsize=9.5,
        linespacing=1.4, parse_math=False,
    )  # fmt: skip
    text.set_in_layout(False)


def _one_image(e: Example) -> Figure:
    fig = blank_figure(10.0, 19 / 3)
    axes = fig.subplots(2, 3)
    panels.show_image(axes[0, 0], e.x, "Input")
    panels.gradients(axes[0, 1:], e)
    panels.relative(axes[1, 0], e, panels.decades([e]))
    panels.histogram(axes[1, 1], e)
    panels.classes(axes[1, 2], e)
    axes[1, 1].set_box_aspect(min(max(e.x.shape[0] / e.x.shape[1], 0.6), 1.2))
    for ax in axes.flat:
        ax.set_anchor("N")
    return fig


def _one_vector(e: Example) -> Figure:
    fig = blank_figure(10.0, 19 / 3)
    axes = fig.subplots(2, 2)
    panels.vector(axes[0, 0], e)
    panels.overlay(axes[0, 1], e)
    panels.scatter(axes[1, 0], e, panels.decades([e]))
    panels.histogram(axes[1, 1], e)
    return fig


def _image_rows(examples: list[Example]) -> Figure:
    fig = blank_figure(14.0, _HEADER + 2.6 * len(examples))
    axes = fig.subplots(len(examples), 5, squeeze=False)
    for row, e in zip(axes, examples, strict=True):
        panels.show_image(row[0], e.x, "Input")
        row[0].set_ylabel(f"example {e.index}", fontsize=10)
        panels.gradients(row[1:3], e)
        panels.relative(row[3], e, panels.decades(examples))
        panels.classes(row[4], e)
        for ax in row:
            ax.set_anchor("N")
    return fig


def _vector_rows(examples: list[Example]) -> Figure:
    fig = blank_figure(12.0, _HEADER + 2.6 * len(examples))
    axes = fig.subplots(len(examples), 2, squeeze=False)
    for row, e in zip(axes, examples, strict=True):
        panels.overlay(row[0], e)
        row[0].set_ylabel(f"example {e.index}\nderivative")
        panels.scatter(row[1], e, panels.decades(examples))
    return fig
