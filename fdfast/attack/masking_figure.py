"""The picture of a diagnosis: the loss along each gradient, and how differences go with autodiff at each step."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fdfast.report import blank_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fdfast.attack.diagnosis import MaskingReport

COLOURS = {
    "faithful": "#009E73",
    "saturated": "#D55E00",
    "staircase": "#CC79A7",
    "shattered": "#0072B2",
    "random": "#B8860B",
    "disconnected": "#8B1A1A",
    "unresolved": "#777777",
}
_LINES = {
    "autodiff": ("#D55E00", "-"),
    "autodiff of the margin": ("#0072B2", "--"),
    "differences": ("#009E73", "-"),
    "straight-through": ("#CC79A7", "-."),
    "random": ("#777777", ":"),
}
_LEGEND = {"random": "random signs (mean of 4)"}


def figure(report: MaskingReport) -> Figure:
    """Draw a diagnosis: medians over the examples, with quartiles."""
    with styled():
        fig = blank_figure(11.0, 4.6, 0.75)
        left, right = fig.subplots(1, 2)
        _along(left, report)
        _steps(right, report)
        many = len(report.verdicts)
        counts = "   ".join(f"{name} {n}" for name, n in report.counts.items())
        head = (
            f"{report.verdict.upper()}   {report.label}, {many} example{'s' * (many != 1)}, epsilon {report.epsilon:g}"
        )
        middle = 1 - 0.5 * 0.75 / 4.6
        title = fig.suptitle(
            f"{head}\n{counts}", x=0.02, y=middle, ha="left", va="center", fontsize=10, linespacing=1.5,
            color=COLOURS[report.verdict], weight="bold", parse_math=False,
        )  # fmt: skip
        title.set_in_layout(False)
    return fig


def save(report: MaskingReport, path: str | os.PathLike[str] | IO[bytes], dpi: float = 150) -> None:
    """Draw it and write it to a file; the suffix says the format (a stream gets PNG)."""
    with styled():
        figure(report).savefig(path, dpi=dpi)


def _along(ax: Any, report: MaskingReport) -> None:
    for name, curve in report.measures.curves.items():
        places = np.linspace(0, report.epsilon, curve.shape[1])
        low, middle, high = np.percentile(curve - curve[:, :1], (25, 50, 75), axis=0)
        colour, style = _LINES[name]
        ax.plot(places, middle, style, color=colour, label=_LEGEND.get(name, name), lw=1.8)
        ax.fill_between(places, low, high, color=colour, alpha=0.12, lw=0)
    ax.set(
        xlabel="distance in each element",
        ylabel="rise of the loss's measure",
        title="The loss along the sign of each gradient",
    )
    ax.legend(loc="upper left")
    ax.grid(alpha=0.25)


def _steps(ax: Any, report: MaskingReport) -> None:
    found = report.measures
    for values, name, colour, mark in (
        (found.cosine, "cosine of autodiff and differences", "#0072B2", "o"),
        (found.flat, "share of differences that are exactly zero", "#CC79A7", "s"),
    ):
        heard = [k for k in range(len(found.steps)) if np.isfinite(values[:, k]).mean() >= 0.5]
        middle = [float(np.nanmedian(values[:, k])) for k in heard]
        ax.plot(found.steps[heard], middle, mark + "-", color=colour, label=name, ms=4)
        spread = [np.nanpercentile(values[:, k], (25, 75)) for k in heard]
        if heard:
            ax.fill_between(found.steps[heard], *np.transpose(spread), color=colour, alpha=0.12, lw=0)
    if found.spot is not None:
        ax.axvline(
            found.spot, color="#009E73", lw=1, ls=":", label=f"differences tell something from {found.spot:.2g} on"
        )
    ax.set_xscale("log")
    ax.set(ylim=(-0.55, 1.1), xlabel="step of the differences", title="What differences see at each step")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.0))
    ax.grid(alpha=0.25)
