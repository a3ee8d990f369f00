"""A report as plain text, for terminals and assertion messages."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from fdfast.report.first_lines import by_order, said_first
from fdfast.report.plain import times

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
_COLUMNS = {"agree": 9, "wrong": 7, "kink": 7, "unresolved": 8, "singular": 10}
_WORST = 8
_LINES = 40  # variables in the table, those with most to say


def render(report: Report) -> str:
    """Verdict, counts, table of variables, metrics, reasons and worst tiles; and the same of the second order."""
    lines = [_headline(report), *(f"  {line}" for one in said_first(report) for line in textwrap.wrap(one, 112))]
    lines += ["", *_found(report)]
    if report.second is not None and not isinstance(report.second, str):
        many = f"{report.second.total:,} {report.second.noun}s"
        lines += ["", f"  second order: {report.second.verdict.upper()}  u . H v, {many}", *_found(report.second)]
    return "\n".join([*lines, "", _footer(report)])


def _found(report: Report) -> list[str]:
    lines = _counts(report)
    if report.wrt != "input" or len(report.parts) > 1:
        lines += ["", *_table(report)]
    lines += ["", *_metrics(report), ""] if report.check == "every" else [""]
    lines += [f"  {sentence}" for reason in (*report.reasons, *report.hints) for sentence in _wrapped(reason)]
    lines += [f"  {sentence}" for sentence in _wrapped(power_sentence(report)) if sentence]
    if report.verdicts[0] != "pass" and (worst := report.worst(_WORST)):
        lines += ["", *_worst(report, worst)]
    return lines


def _headline(report: Report) -> str:
    where = _size(report)
    orders = by_order(report)
    blame = f": {orders}" if orders else f": wrong in {report.culprit}" if report.culprit else ""
    return f"fdfast: {report.verdict.upper()}  {title(report) or 'f'}, {where}{blame}"


def _size(report: Report) -> str:
    if report.wrt == "weights":
        return f"{report.total} weights in {len(report.parts)} variables"
    part = report.parts[0]
    if len(report.parts) > 1:
        return f"{report.total} {report.noun}s in {len(report.parts)} arrays"
    many = f"{len(report)} examples of " if part.batched else ""
    if report.check == "directions":
        return f"{many}{times(part.shape)}"
    return f"{many}{times(part.shape)}, {part.codes.size} tiles of {times(part.tile)}"


def title(report: Report) -> str:
    """Write what was checked; empty where nobody gave it a name."""
    if report.wrt != "weights":
        return report.label or ""
    examples = "1 example" if report.examples == 1 else f"{report.examples} examples"
    return f"weights of {report.label or 'f'}, {examples}"


def _counts(report: Report) -> list[str]:
    near = sum(int((part.near & (part.codes == 0)).sum()) for part in report.parts)
    lines = []
    for name, n in report.met.items():
        note = f"   {n - near} at x, {near} near x" if name == "agree" and near else ""
        lines.append(f"  {name:<11}{n:>8}  {100 * n / max(1, report.checked):6.2f} %{note}")
    of = f" of the {report.checked} weights to check" if report.wrt == "weights" else ""
    left = f"; {report.left_out} weights were left out by the budget" if report.left_out else ""
    lines.append(f"  coverage {100 * report.coverage:.2f} %{of} (asked: {100 * report.coverage_asked:g} %){left}")
    return lines


def _table(report: Report) -> list[str]:
    rows = report.table
    order = sorted(range(len(rows)), key=lambda i: (-rows[i]["wrong"], -rows[i]["unresolved"], -rows[i]["kink"], i))
    shown = sorted(order[:_LINES])
    wide = max([len(rows[i]["name"]) for i in shown] + [8])
    columns = {name: width for name, width in _COLUMNS.items() if name in report.met}
    named = "".join(f"{'unres.' if name == 'unresolved' else name:>{width}}" for name, width in columns.items())
    head = f"{'shape':>14}{'checked':>10}{named}{'max rel. error':>16}  engine"
    lines = [f"  {report.parts[0].kind:<{wide}}  {head}"]
    for i in shown:
        row = rows[i]
        error = "" if math.isnan(row["max_rel_error"]) else f"{row['max_rel_error']:.1e}"
        counts = "".join(f"{row[name]:>{width}}" for name, width in columns.items())
        shape = times(row["shape"])
        lines.append(f"  {row['name']:<{wide}}  {shape:>14}{row['checked']:>10}{counts}{error:>16}  {row['engine']}")
    if len(rows) > len(shown):
        lines.append(f"  ... and {len(rows) - len(shown)} more with as few to say about them")
    return lines


def _metrics(report: Report) -> list[str]:
    smooth, nouns = report.metrics_smooth, f"{report.noun}s"
    lines = [f"  {'error at x':<27}{f'all {nouns}':>12}{f'smooth {nouns}':>{8 + len(nouns) + 1}}"]
    lines += [
        f"  {_METRIC_NAMES[name]:<27}{value:>12.2e}{smooth[name]:>{8 + len(nouns) + 1}.2e}"
        for name, value in report.metrics.items()
    ]
    return lines


def _worst(report: Report, rows: list[dict[str, Any]]) -> list[str]:
    wide = max([len(place(row)) + 3 for row in rows] + [18])
    head = f"  {f'{report.noun} at':<{wide}}{'class':<12}{'autodiff':>13}{'difference':>13}{'rel. error':>12}"
    sides = report.check == "every"
    head += f"{'error bar':>11}" + (f"{'left':>13}{'right':>13}" if sides else "")
    lines = [head]
    for row in rows:
        near = "*" if row["near_x"] else " "
        lines.append(
            f"  {place(row)}".ljust(wide + 2)
            + f"{row['class']:<12}{row['autodiff']:>13.4e}{row['finite_difference']:>13.4e}{row['rel_error']:>12.1e}"
            + f"{row['error_bar']:>11.1e}"
            + (f"{row['left']:>13.4e}{row['right']:>13.4e}{near}" if sides else "")
        )
    if sides and any(row["near_x"] for row in rows):
        lines.append("  * autodiff, difference and bar are those near x, the one-sided slopes those at x")
    return lines


def place(row: dict[str, Any]) -> str:
    """Where a tile or weight is: ``(3, 17, 0)``, or with a name ``conv_1/kernel[0, 0, 0, 5]``."""
    index, name = ", ".join(map(str, row["index"])), row.get("variable") or row.get("input")
    return f"{name}[{index}]" if name else f"({index})"


def power_sentence(report: Report) -> str:
    """Say which fault this run would have seen, and what became of a planted one."""
    power = report.power if report.directed is None else {"median": 0.0}
    if math.isnan(power["median"]):
        return "" if report.counts["wrong"] else "Nothing was learnt that could have shown a fault."
    if report.directed is not None:
        return report.selftest or ""
    found = (
        f"Would have been found: a wrong factor of 1 +- {power['smallest']:.1e}; on a single {report.noun}, a relative "
        f"error of {power['median']:.1e} (half of the {report.noun}s) or {power['p90']:.1e} (nine tenths)."
    )
    return f"{found} {report.selftest}" if report.selftest else found


def _footer(report: Report) -> str:
    rows = "losses with a displaced weight" if report.wrt == "weights" else "rows"
    rows = "differences" if report.check == "directions" else rows
    parts = [f"{report.engine} engine in {report.dtype}", f"step {report.step:.2g}", f"{report.evaluations} {rows}"]
    if report.refined:
        parts[-1] += f" ({report.refined} of them to refine single {report.noun}s)"
    parts.append(f"{report.timings.get('total', float('nan')):.3g} s")
    return "  " + ", ".join(parts)


def _wrapped(text: str, width: int = 108) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="- ", subsequent_indent="  ")
