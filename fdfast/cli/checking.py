"""``fdfast check``: the gradient of a saved model, on examples of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fdfast.cli.loading import load, tell
from fdfast.cli.terminal import bar, coloured, table, width

if TYPE_CHECKING:
    from fdfast.report import Report

#: Examples in the table, the worst ones.
_LISTED = 20


def check(arguments: SimpleNamespace) -> str:
    """Check, tell what was found, and return the verdict."""
    model, examples = load(arguments)
    from fdfast.check import gradcheck

    with bar("checking", before=f"recording {model.name}, compiling", quiet=arguments.quiet) as progress:
        report = gradcheck(
            model,
            examples.x,
            examples.y,
            loss=arguments.loss,
            wrt=arguments.wrt,
            check=arguments.check,
            order=2 if arguments.order == "2" else 1,
            tile=arguments.tile,
            channels=arguments.channels,
            h="auto" if arguments.step is None else arguments.step,
            engine=arguments.engine,
            precision=arguments.precision,
            rtol=arguments.rtol,
            coverage=arguments.coverage,
            jitter=None if arguments.no_jitter else "auto",
            bounds=arguments.bounds,
            selftest=arguments.selftest,
            seed=arguments.seed,
            label=", ".join(filter(None, (model.name, Path(arguments.data).name, examples.which))),
            progress=progress,
        )
    written = []
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        written = [arguments.out / name for name in ("report.json", "report.html", "check.png")]
        for write, path in zip((report.to_json, report.to_html, report.plot), written, strict=True):
            write(path)
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
    return table(
        title,
        ("example", "verdict", *("unres." if name == "unresolved" else name for name in names), "rel. error"),
        rows,
        left=2,
    )
