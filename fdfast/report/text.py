"""A report as plain text, for terminals and assertion messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdfast.report.report import Report

_METRIC_NAMES = {
    "max_abs_error": "max absolute error",
    "median_rel_error": "median relative error",
    "mean_rel_error": "mean relative error",
    "geometric_mean_rel_error": "geometric mean rel. error",
    "max_rel_error": "max relative error",
    "cs231n_rel_error": "CS231n max relative error",
}


def render(report: Report) -> str:
    """Verdict, counts, metrics, reasons and worst tiles."""
    lines = [_headline(report), ""]
    lines += _counts(report)
    lines += ["", *_metrics(report), ""]
    lines += [f"  {sentence}" for reason in (*report.reasons, *report.hints) for sentence in _wrapped(reason)]
    lines += [f"  {sentence}" for sentence in _wrapped(power_sentence(report))]
    if report.verdict != "pass":
        lines += ["", *_worst(report)]
    lines += ["", _footer(report)]
    return "\n".join(lines)


def times(numbers: tuple[int, ...]) -> str:
    """Write extents with a cross between them: 28x28x1."""
    return "x".join(map(str, numbers)) or "scalar"


def _headline(report: Report) -> str:
    what = report.label or "f"
    many = f"{len(report)} examples of " if report.batched else ""
    tiles = f"{report.codes.size} tiles of {times(report.tile)}"
    return f"fdfast: {report.verdict.upper()}  {what}, {many}{times(report.shape)}, {tiles}"


def _counts(report: Report) -> list[str]:
    total = report.codes.size
    near = int((report.near & (report.codes == 0)).sum())
    lines = []
    for name, n in report.counts.items():
        note = f"   {n - near} at x, {near} near x" if name == "agree" and near else ""
        lines.append(f"  {name:<11}{n:>8}  {100 * n / total:6.2f} %{note}")
    lines.append(f"  coverage {100 * report.coverage:.2f} % (asked: {100 * report.coverage_asked:g} %)")
    return lines


def _metrics(report: Report) -> list[str]:
    smooth = report.metrics_smooth
    lines = [f"  {'error at x':<27}{'all tiles':>12}{'smooth tiles':>14}"]
    lines += [
        f"  {_METRIC_NAMES[name]:<27}{value:>12.2e}{smooth[name]:>14.2e}" for name, value in report.metrics.items()
    ]
    return lines


def _worst(report: Report, k: int = 8) -> list[str]:
    head = f"  {'tile at':<18}{'class':<12}{'autodiff':>13}{'difference':>13}{'rel. error':>12}"
    head += f"{'error bar':>11}{'left':>13}{'right':>13}"
    lines = [head]
    for row in report.worst(k):
        index = ", ".join(map(str, row["index"]))
        near = "*" if row["near_x"] else " "
        lines.append(
            f"  ({index})".ljust(20)
            + f"{row['class']:<12}{row['autodiff']:>13.4e}{row['finite_difference']:>13.4e}{row['rel_error']:>12.1e}"
            + f"{row['error_bar']:>11.1e}{row['left']:>13.4e}{row['right']:>13.4e}{near}"
        )
    if any(row["near_x"] for row in report.worst(k)):
        lines.append("  * autodiff, difference and bar are those near x, the one-sided slopes those at x")
    return lines


def power_sentence(report: Report) -> str:
    """Say which fault this run would have seen, and what became of a planted one."""
    power = report.power
    if math.isnan(power["median"]):
        return "Nothing was learnt that could have shown a fault."
    found = (
        f"Would have been found: a wrong factor of 1 +- {power['smallest']:.1e}; on a single tile, a relative error of "
        f"{power['median']:.1e} (half of the tiles) or {power['p90']:.1e} (nine tenths)."
    )
    return f"{found} {report.selftest}" if report.selftest else found


def _footer(report: Report) -> str:
    parts = [f"{report.engine} engine in {report.dtype}", f"step {report.step:.2g}", f"{report.evaluations} rows"]
    if report.refined:
        parts[-1] += f" ({report.refined} of them to refine single tiles)"
    parts.append(f"{report.timings.get('total', float('nan')):.3g} s")
    return "  " + ", ".join(parts)


def _wrapped(text: str, width: int = 108) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent="- ", subsequent_indent="  ")
