"""A report on weights as plain text."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

from fdfast.report.text import times

if TYPE_CHECKING:
    from fdfast.report.weights import WeightReport

_LINES = 40  # variables in the table, the worst first to stay


def render(report: WeightReport) -> str:
    """Verdict, counts, table of variables, reasons and worst weights."""
    examples = "1 example" if report.examples == 1 else f"{report.examples} examples"
    head = f"fdfast: {report.verdict.upper()}  weights of {report.label or 'the model'}, {examples}, "
    head += f"{report.weights} weights in {len(report.variables)} variables"
    lines = [head, ""]
    for name, n in report.counts.items():
        lines.append(f"  {name:<11}{n:>9}  {100 * n / max(1, report.checked):6.2f} %")
    left = f"; {report.left_out} weights were left out by the budget" if report.left_out else ""
    asked = f"(asked: {100 * report.coverage_asked:g} %)"
    lines.append(f"  coverage {100 * report.coverage:.2f} % of the {report.checked} weights to check {asked}{left}")
    lines += ["", *_table(report), ""]
    m = report.metrics_smooth
    lines.append(
        f"  smooth weights: relative error median {m['median_rel_error']:.1e}, mean {m['mean_rel_error']:.1e}, "
        f"max {m['max_rel_error']:.1e}; absolute max {m['max_abs_error']:.1e}"
    )
    for reason in (*report.reasons, *report.hints):
        lines += [f"  {part}" for part in textwrap.wrap(reason, 108, initial_indent="- ", subsequent_indent="  ")]
    if report.verdict != "pass":
        lines += ["", *_worst(report)]
    lines += ["", _footer(report)]
    return "\n".join(lines)


def page(report: WeightReport) -> str:
    """The same as an HTML page."""
    title = html.escape(f"fdfast: weights of {report.label or 'the model'}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><pre>{html.escape(render(report))}</pre></body></html>\n"
    )


def _table(report: WeightReport) -> list[str]:
    rows = report.table
    shown = sorted(
        sorted(range(len(rows)), key=lambda i: (-rows[i]["wrong"], -rows[i]["unresolved"], -rows[i]["kink"], i))[
            :_LINES
        ]
    )
    wide = max([len(rows[i]["name"]) for i in shown] + [8])
    lines = [
        f"  {'variable':<{wide}}  {'shape':>14}{'checked':>10}{'agree':>9}{'wrong':>7}{'kink':>7}{'unres.':>8}"
        f"{'max rel. error':>16}  engine"
    ]
    for i in shown:
        row = rows[i]
        error = "" if row["max_rel_error"] is None else f"{row['max_rel_error']:.1e}"
        lines.append(
            f"  {row['name']:<{wide}}  {times(tuple(row['shape'])):>14}{row['checked']:>10}{row['agree']:>9}"
            f"{row['wrong']:>7}{row['kink']:>7}{row['unresolved']:>8}{error:>16}  {row['engine']}"
        )
    if len(rows) > len(shown):
        lines.append(f"  ... and {len(rows) - len(shown)} more variables with as few to say about them")
    return lines


def _worst(report: WeightReport) -> list[str]:
    rows = report.worst()
    wide = max([len(_name(row)) for row in rows] + [6])
    lines = [
        f"  {'weight':<{wide}}  {'class':<12}{'autodiff':>13}{'difference':>13}{'rel. error':>12}{'error bar':>11}"
    ]
    for row in rows:
        lines.append(
            f"  {_name(row):<{wide}}  {row['class']:<12}{_cell(row['autodiff'], '13.4e')}"
            f"{_cell(row['finite_difference'], '13.4e')}{_cell(row['rel_error'], '12.1e')}"
            f"{_cell(row['error_bar'], '11.1e')}{'*' if row['near_x'] else ''}"
        )
    if any(row["near_x"] for row in rows):
        lines.append("  * decided at inputs near x")
    return lines


def _name(row: dict[str, Any]) -> str:
    return f"{row['variable']}[{', '.join(map(str, row['index']))}]"


def _cell(value: float | None, how: str) -> str:
    return format(float("nan") if value is None else value, how)


def _footer(report: WeightReport) -> str:
    rows = f"{report.evaluations} losses with a displaced weight"
    if report.refined:
        rows += f" ({report.refined} of them to refine single weights)"
    return f"  differences in {report.dtype}, {rows}, {report.timings.get('total', float('nan')):.3g} s"
