"""A diagnosis as text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fdfast.attack.diagnosis import MaskingReport

WIDTH = 100


def render(report: MaskingReport, width: int = WIDTH) -> str:
    """Write verdict, reasons, advice, gains and the table of steps, sentences broken to so many columns."""
    many = len(report.verdicts)
    counts = ", ".join(f"{name} {n}" for name, n in report.counts.items())
    lines = [
        f"{report.verdict.upper()}  {report.label}, {many} example{'s' * (many != 1)}, epsilon {report.epsilon:g}",
        _wrap(f"{report.meaning[0].upper()}{report.meaning[1:]}.", width),
        f"  examples: {counts}",
        *(_wrap(f"- {reason}", width, "    ") for reason in report.reasons),
        _wrap(report.advice, width),
        "",
        "  one step of epsilon adds to the loss measured (median)",
    ]
    gains = report.gains | {"random signs": report.random_gain}
    wide = max(map(len, gains))
    lines += [f"    {name:<{wide}}  {gain:>9.3g}" for name, gain in gains.items()]
    lines += ["", "    step      cosine with autodiff  zero differences"]
    for step, cosine, flat in step_rows(report):
        lines.append(f"    {step:<9.2g} {cosine:>20} {flat:>17}")
    lines.append(f"  {report.queries} queries, {report.seconds:.3g} s")
    return "\n".join(lines)


def step_rows(report: MaskingReport) -> list[tuple[float, str, str]]:
    """Of every step the median cosine and share of zeros; a dash where differences are rounding."""
    rows = []
    for k, step in enumerate(report.measures.steps):
        cells = []
        for values, form in ((report.measures.cosine[:, k], "{:.2f}"), (report.measures.flat[:, k], "{:.0%}")):
            heard = values[~np.isnan(values)]
            cells.append(form.format(float(np.median(heard))) if 2 * heard.size >= values.size else "–")
        rows.append((float(step), cells[0], cells[1]))
    return rows


def _wrap(text: str, width: int, indent: str = "  ") -> str:
    return textwrap.fill(text, min(width, WIDTH), initial_indent="  ", subsequent_indent=indent)
