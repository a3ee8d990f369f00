"""A diagnosis as one self-contained HTML page, and as a piece of HTML for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fdfast.attack.masking_figure import COLOURS, save
from fdfast.attack.masking_text import step_rows
from fdfast.attack.masks import meaning
from fdfast.report import Markup, Number, badge, bullets, drawn, escape, for_notebook, number, page, table

if TYPE_CHECKING:
    from fdfast.attack.diagnosis import MaskingReport


def to_html(report: MaskingReport) -> str:
    """Write a diagnosis as one HTML page that needs nothing else: no network, no file, no script."""
    sections = [
        ("Why", bullets(report.reasons)),
        ("What to do", _advice(report)),
        ("Where the loss goes", _figure(report)),
        ("Examples", _counts(report)),
        ("One step of epsilon", _gains(report)),
        ("Steps", _steps(report)),
        ("Cost", Markup(f"<p>{report.queries} queries, {report.seconds:.3g} s</p>")),
    ]
    return page(f"fdfast: {report.verdict}, {report.label}", _head(report), _summary(report), sections)


def fragment(report: MaskingReport) -> str:
    """Write verdict, reasons, advice and gains as a piece of HTML: what a notebook shows."""
    parts = [
        f"<p>{_head(report)} {escape(_summary(report))}</p>",
        _figure(report),
        bullets(report.reasons),
        _advice(report),
        _gains(report),
    ]
    return for_notebook(parts)


def _figure(report: MaskingReport) -> Markup:
    says = f"Loss along each gradient, and step against cosine. {report.meaning}."
    return drawn(lambda file: save(report, file), says)


def _head(report: MaskingReport) -> Markup:
    return Markup(f"{badge(report.verdict, COLOURS[report.verdict])} <span>{escape(report.label)}</span>")


def _summary(report: MaskingReport) -> str:
    many = len(report.verdicts)
    first = f"{report.meaning[0].upper()}{report.meaning[1:]}"
    return f"{first}. {many} example{'s' * (many != 1)}, epsilon {report.epsilon:g}."


def _advice(report: MaskingReport) -> Markup:
    said, call = report.advice.split(": ", 1)
    return Markup(f"<p>{escape(said)}: <code>{escape(call.rstrip('.'))}</code></p>")


def _counts(report: MaskingReport) -> Markup:
    many = len(report.verdicts)
    rows = [
        (_key(name), Number(n), Number(f"{100 * n / many:.1f} %"), meaning(name)) for name, n in report.counts.items()
    ]
    return table(("verdict", "examples", "share", "meaning"), rows)


def _key(name: str) -> Markup:
    return Markup(f'<span class="key" style="background:{COLOURS[name]}"></span>{escape(name)}')


def _gains(report: MaskingReport) -> Markup:
    gains = report.gains | {"random signs": report.random_gain}
    return table(
        ("along the sign of", "adds to the loss's measure (median)"), [(k, Number(number(v))) for k, v in gains.items()]
    )


def _steps(report: MaskingReport) -> Markup:
    rows = [(Number(f"{step:.2g}"), Number(cosine), Number(flat)) for step, cosine, flat in step_rows(report)]
    return table(("step", "cosine with autodiff", "differences that are zero"), rows)
