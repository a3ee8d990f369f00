"""A report as plain text, for terminals and assertion messages."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fdfast.report.first_lines import by_order, said_first, under_test
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
#: Columns of a sentence, at most: longer lines are hard to follow.
_READABLE = 118
#: Columns of text where nobody says how many there are.
WIDTH = 114
_WORST = 8
_LINES = 40  # variables in the table, those with most to say


def render(report: Report, width: int = WIDTH) -> str:
    """Verdict, counts, table of variables, metrics, reasons and worst tiles; and the same of the second order.

    Parameters
    ----------
    report : Report
    width : int
        Columns that there are: tables leave out what has no room, sentences are broken.
    """
    lines = [
        *_broken(_headline(report), width, ""),
        *(line for one in said_first(report) for line in _broken(one, width)),
    ]
    lines += ["", *_found(report, width)]
    if report.second is not None and not isinstance(report.second, str):
        many = f"{report.second.total:,} {report.second.noun}s"
        second = f"second order: {report.second.verdict.upper()}  u . H v, {many}"
        lines += ["", *_broken(second, width), *_found(report.second, width)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, "", *_broken(_footer(report), width)]))


def _found(report: Report, width: int) -> list[str]:
    lines = _counts(report, width)
    if report.wrt != "input" or len(report.parts) > 1:
        lines += ["", *_table(report, width)]
    lines += ["", *_metrics(report), ""] if report.check == "every" else [""]
    for one in (*report.reasons, *report.hints, power_sentence(report)):
        lines += _broken(one, width, "  - ")
    if report.verdicts[0] != "pass" and (worst := report.worst(_WORST)):
        lines += ["", *_worst(report, worst, width)]
    return lines


def _broken(text: str, width: int, first: str = "  ") -> list[str]:
    """Lines of a sentence; what names a file or a layer stays whole."""
    wrap = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
    return wrap(
        text, min(max(width - 2, 20), _READABLE), initial_indent=first, subsequent_indent=" " * max(2, len(first))
    )


def _aligned(columns: Sequence[tuple[str, Sequence[str], str, int]], width: int) -> list[str]:
    """Lines of a table of columns (name, cells, "<" or ">", rank), of which those with the highest rank go first."""
    rooms = [max(map(len, (name, *cells))) for name, cells, _, _ in columns]
    shown = list(range(len(columns)))
    while len(shown) > 1 and sum(rooms[i] + 2 for i in shown) > width:
        shown.remove(max(shown, key=lambda i: (columns[i][3], i)))
    lines = zip(*((columns[i][0], *columns[i][1]) for i in shown), strict=True)
    kinds = [f"{columns[i][2]}{rooms[i]}" for i in shown]
    return ["  " + "  ".join(map(format, cells, kinds)).rstrip() for cells in lines]


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
    counted = "each " if "examples" in (report.label or "") else f"{len(report)} examples of "
    many = counted if part.batched else ""
    if report.check == "directions":
        return f"{many}{times(part.shape)}"
    return f"{many}{times(part.shape)}, {part.codes.size} tiles of {times(part.tile)}"


def title(report: Report) -> str:
    """Write what was checked; empty where nobody gave it a name."""
    if report.wrt != "weights":
        return report.label or ""
    examples = "1 example" if report.examples == 1 else f"{report.examples} examples"
    return f"weights of {report.label or 'f'}, {examples}"


def _counts(report: Report, width: int) -> list[str]:
    near = sum(int((part.near & (part.codes == 0)).sum()) for part in report.parts)
    lines = []
    for name, n in report.met.items():
        note = f"   {n - near} at x, {near} near x" if name == "agree" and near else ""
        lines.append(f"  {name:<11}{n:>8}  {100 * n / max(1, report.checked):6.2f} %{note}")
    of = f" of the {report.checked} weights to check" if report.wrt == "weights" else ""
    left = f"; {report.left_out} weights were left out by the budget" if report.left_out else ""
    coverage = f"coverage {100 * report.coverage:.2f} %{of} (asked: {100 * report.coverage_asked:g} %){left}"
    return lines + _broken(coverage, width)


def _table(report: Report, width: int) -> list[str]:
    rows = report.table
    order = sorted(range(len(rows)), key=lambda i: (-rows[i]["wrong"], -rows[i]["unresolved"], -rows[i]["kink"], i))
    shown = [rows[i] for i in sorted(order[:_LINES])]
    errors = ["" if math.isnan(row["max_rel_error"]) else f"{row['max_rel_error']:.1e}" for row in shown]
    named = [
        (
            "unres." if name == "unresolved" else name,
            [str(row[name]) for row in shown],
            ">",
            0 if name == "wrong" else 2,
        )
        for name in report.met
    ]
    columns = [
        (str(report.parts[0].kind), [row["name"] for row in shown], "<", 0),
        ("shape", [times(row["shape"]) for row in shown], ">", 3),
        ("checked", [str(row["checked"]) for row in shown], ">", 1),
        *named,
        ("max rel. error", errors, ">", 1),
        ("engine", [row["engine"] for row in shown], "<", 4),
    ]
    left = len(rows) - len(shown)
    return _aligned(columns, width) + ([f"  ... and {left} more with as few to say about them"] if left else [])


def _metrics(report: Report) -> list[str]:
    smooth, nouns = report.metrics_smooth, f"{report.noun}s"
    lines = [f"  {'error at x':<27}{f'all {nouns}':>12}{f'smooth {nouns}':>{8 + len(nouns) + 1}}"]
    lines += [
        f"  {_METRIC_NAMES[name]:<27}{value:>12.2e}{smooth[name]:>{8 + len(nouns) + 1}.2e}"
        for name, value in report.metrics.items()
    ]
    return lines


def _worst(report: Report, rows: list[dict[str, Any]], width: int) -> list[str]:
    sides = report.check == "every"
    columns = [
        (f"{report.noun} at", [place(row) for row in rows], "<", 0),
        ("class", [row["class"] for row in rows], "<", 1),
        (under_test(report), [f"{row['autodiff']:.4e}" for row in rows], ">", 0),
        ("difference", [f"{row['finite_difference']:.4e}" for row in rows], ">", 0),
        ("rel. error", [f"{row['rel_error']:.1e}" for row in rows], ">", 1),
        ("error bar", [f"{row['error_bar']:.1e}" for row in rows], ">", 2),
    ]
    if sides:
        columns += [(side, [f"{row[side]:.4e}" for row in rows], ">", 3) for side in ("left", "right")]
    starred = sides and any(row["near_x"] for row in rows)
    if starred:
        columns.insert(1, ("", ["*" if row["near_x"] else "" for row in rows], "<", 0))
    note = f"* {under_test(report)}, difference and bar are those near x, the one-sided slopes those at x"
    return _aligned(columns, width) + (_broken(note, width) if starred else [])


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
    return ", ".join(parts)
