"""``fdfast check``: the gradient of a saved model, on examples of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fdfast.cli.loading import load, options, tell, write
from fdfast.cli.terminal import bar, coloured, table, width

if TYPE_CHECKING:
    from fdfast.report import Report

#: Examples in the table, the worst ones.
_LISTED = 20


def check(arguments: SimpleNamespace) -> str:
    """Check, tell what was found, and return the verdict."""
    model, examples = load(arguments)
    from fdfast.check import gradcheck

    label = ", ".join(filter(None, (model.name, Path(arguments.data).name, examples.which)))
    asked = options(arguments, gradcheck) | {"label": label}
    with bar("checking", before=f"recording {model.name}, compiling", quiet=arguments.quiet) as progress:
        report = gradcheck(model, examples.x, examples.y, progress=progress, **asked)
    written = write(arguments.out, report, "report.json", "report.html", "check.png")
    tell(arguments, report, "\n\n".join(_told(report)), written)
    return report.verdict


def _told(report: Report) -> Iterator[str]:
    from fdfast.report import render

    yield coloured(render(report, width()))
    if report.wrt == "input" and all(part.batched for part in report.parts) and len(report) > 1:
        yield by_example(report)


def by_example(report: Report) -> str:
    """Write one line for each example of a batch, the worst first."""
    each = [(report[i], i) for i in range(len(report))]
    severity = ("fail", "inconclusive", "pass")
    each.sort(key=lambda one: (severity.index(one[0].verdict), -one[0].counts["wrong"], one[0].coverage, one[1]))
    names = list(report.met)
    rows = []
    for one, i in each[:_LISTED]:
        error = max((part.max_rel_error for part in one.parts), key=lambda value: -1.0 if value != value else value)
        counts = [str(one.counts[name]) for name in names]
        rows.append([str(i), one.verdict.upper(), *counts, "-" if error != error else f"{error:.1e}"])
    left = len(each) - len(rows)
    title = "Examples, the worst first" + (f" ({left} more with less to say)" if left > 0 else "")
    head = ("example", "verdict", *("unres." if name == "unresolved" else name for name in names), "rel. error")
    return table(title, head, rows, left=2)
