"""A report as one self-contained HTML page, and as a short piece of HTML for notebooks.

Nothing is fetched: no script, no font, no style from outside; the figure is inside as PNG. All text passes
`escape` unless it is `Markup`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fdfast.markup import Markup, Number, badge, bullets, drawn, escape, for_notebook, number, pairs, table
from fdfast.report.first_lines import by_order, said_first, under_test
from fdfast.report.panels import CLASS_COLOURS
from fdfast.report.plain import times
from fdfast.report.plot import VERDICT_COLOURS, percent_text, save, step_text, tile_text
from fdfast.report.text import place, title

if TYPE_CHECKING:
    from fdfast.report.report import Report

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #f3f3f3; --line: #d0d0d0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #17181a; --soft: #232527; --line: #44474a; }
}
body { margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; display: flex; gap: 1rem; align-items: center; flex-wrap: wrap;
     overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
.wide { overflow-x: auto; }
li { overflow-wrap: anywhere; }
"""
_TABLES = """
.fdfast table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.fdfast th, .fdfast td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #8885; }
.fdfast td.number, .fdfast th.number { text-align: right; white-space: nowrap; }
.fdfast .badge { color: #fff; padding: .15rem .7rem; border-radius: .4rem; font-weight: bold; }
.fdfast .key { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: .15em; }
.fdfast .bar { display: flex; width: 9rem; height: .8em; border-radius: .15em; overflow: hidden; }
"""
_MEANING = {
    "agree": "the two gradients are equal within error bar and tolerance",
    "wrong": "they differ by more, and the function is smooth there",
    "kink": "the function has a kink at x: there is no single derivative to compare with",
    "unresolved": "the error bar is wider than the tolerance: nothing was learnt",
    "singular": "the function has no finite slope at x: it jumps, is not defined beside x, or is infinitely steep",
}
_METRICS = {
    "max_abs_error": ("maximum absolute error", "max |fd − ad|"),
    "median_rel_error": ("median relative error", "median of |fd − ad| / |ad|, where ad ≠ 0"),
    "mean_rel_error": ("mean relative error", "ruled by the gradients near zero"),
    "geometric_mean_rel_error": ("geometric mean relative error", "where positive"),
    "max_rel_error": ("maximum relative error", "ruled by the gradients near zero"),
    "cs231n_rel_error": ("CS231n relative error", "max |fd − ad| / max(1e-8, |fd| + |ad|)"),
}


def to_html(report: Report) -> str:
    """Write a report as one HTML page that needs nothing else: no network, no file, no script.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
        HTML5, light or dark as the reader's system is. Without matplotlib it says that there is no figure.
    """
    name = title(report) or "Gradient check"
    return page(
        f"fdfast: {report.verdict}, {name}",
        Markup(f"{_badge(report)} <span>{escape(name)}</span>"),
        _summary(report),
        [(heading, Markup(write(report))) for heading, write in SECTIONS],
        _first(report),
    )


def page(name: str, head: Markup, summary: str, sections: Iterable[tuple[str, str]], first: Iterable[str] = ()) -> str:
    """Write a page of its own: title, first line, summary, what is said first, and sections that are not empty."""
    told = (f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>" for heading, content in sections if content)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(name)}</title>",
            f"<style>{_STYLE}{_TABLES}</style>\n</head>",
            f'<body class="fdfast">\n<h1>{head}</h1>',
            f"<p>{escape(summary)}</p>",
            *first,
            *told,
            "</body>\n</html>\n",
        ]
    )


def fragment(report: Report) -> str:
    """Write verdict, figure, reasons, counts and metrics as a piece of HTML: what a notebook shows of a report.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
        One ``div``, with no script and no style sheet.
    """
    name = escape(title(report) or "Gradient check")
    parts = [
        f"<p>{_badge(report)} <b>{name}</b> {escape(_summary(report))}</p>",
        *_first(report),
        _figure(report, dpi=100),
        bullets([*report.reasons, *report.hints]),
        _counts(report),
        _metrics(report),
        _worst(report) if report.verdict == "fail" else "",
        _second(report),
    ]
    return for_notebook(parts)


def _badge(report: Report) -> Markup:
    return badge(report.verdict, VERDICT_COLOURS[report.verdict])


def _class(name: str) -> Markup:
    return Markup(f'<span class="key" style="background:{CLASS_COLOURS[name]}"></span>{escape(name)}')


def _first(report: Report) -> list[str]:
    return [f"<p><strong>{escape(one)}</strong></p>" for one in said_first(report)]


def _second(report: Report) -> str:
    """Counts, reasons and worst elements of the second order."""
    if report.second is None or isinstance(report.second, str):
        return ""
    second = report.second
    parts = [bullets([*second.reasons, *second.hints]), _counts(second)]
    if second.verdict != "pass":
        parts.append(_worst(second))
    return "\n".join([f"<p>{_badge(second)} {escape(_summary(second))}</p>", *filter(None, parts)])


def _summary(report: Report) -> str:
    orders = by_order(report)
    return (f"{orders[0].upper()}{orders[1:]}. " if orders else "") + (
        f"{report.counts['agree']} of {report.checked} {report.noun}s agree ({percent_text(report.coverage)}; asked: "
        f"{100 * report.coverage_asked:g} %); wrong: {report.counts['wrong']}."
        + (f" {report.left_out} were left out by the budget." if report.left_out else "")
    )


def _why(report: Report) -> str:
    return bullets(report.reasons)


def _hints(report: Report) -> str:
    return bullets(report.hints)


def _counts(report: Report) -> str:
    near = sum(int((part.near & (part.classes == "agree")).sum()) for part in report.parts)
    said = {"agree": f"{_MEANING['agree']}: {report.counts['agree'] - near} at x, {near} near x, off a kink"}
    rows = [
        (
            _class(name),
            Number(n),
            Number(percent_text(n / max(1, report.checked))),
            said.get(name, meaning) if near else meaning,
        )
        for name, meaning in _MEANING.items()
        if name in report.met
        for n in [report.counts[name]]
    ]
    return table(("class", f"{report.noun}s", "share", "meaning"), rows)


def _figure(report: Report, dpi: float = 150) -> str:
    shown = "Maps of both gradients, the relative error and the class of each tile"
    if report.check == "directions":
        shown = "Maps of the gradient, of what would have been found, and of the class of each element"
    if report.wrt == "weights":
        shown = "Classes and relative errors of every variable"
    return drawn(lambda file: save(report, file, dpi), f"{shown}. {_summary(report)}")


def _metrics(report: Report) -> str:
    if report.check == "directions":
        return ""  # a few elements have a difference of their own
    rows = [
        (name, Number(number(report.metrics[key])), Number(number(report.metrics_smooth[key])), note)
        for key, (name, note) in _METRICS.items()
    ]
    return table(("error at x", f"all {report.noun}s", f"smooth {report.noun}s", ""), rows)


def _worst(report: Report) -> str:
    keys = ["autodiff", "finite_difference", "abs_error", "rel_error", "error_bar"]
    keys += ["left", "right"] if report.check == "every" else []
    rows = [
        (
            place(row).strip("()") + (" *" if row.get("near_x") else ""),
            _class(row["class"]),
            *(Number(number(row[key], 5 if key in keys[:2] + keys[5:] else 2)) for key in keys),
        )
        for row in report.worst(10)
    ]
    named = (under_test(report), "difference", "error", "relative", "error bar", "left slope", "right slope")
    head = (f"{report.noun} at", "class", *named[: len(keys)])
    starred = any(row.get("near_x") for row in report.worst(10))
    note = "<p>* decided near x, because x is on a kink there; the one-sided slopes are those at x.</p>"
    return (table(head, rows) + (note if starred else "")) if rows else ""


def _deployed(report: Report) -> str:
    if not report.deployed:
        return ""
    return pairs({str(k).replace("_", " "): v for k, v in report.deployed.items()})


def _settings(report: Report) -> str:
    if report.wrt == "weights":
        own = {"weights": f"{report.total} in {len(report.parts)} variables, {report.examples} examples"}
    else:
        part = report.parts[0]
        own = {
            "input": f"shape {part.shape}" + (f", {len(part.numeric)} examples" if part.batched else ""),
        }
        if report.check == "every":
            own["tile"] = f"{tile_text(part)}; grid {part.grid}"
    own |= {
        "step": step_text(report.step),
        "engine": f"{report.engine}, {report.dtype}",
    }
    if report.check == "every":
        own["evaluations"] = f"{report.evaluations} rows, {report.refined} of them to refine single {report.noun}s"
        own["noise of f"] = number(report.noise)
    else:
        own |= {"differences": str(report.evaluations), "rounding, of one element's share": number(report.noise)}
    return pairs(own | report.settings)


def _variables(report: Report) -> str:
    if report.wrt == "input" and len(report.parts) == 1:
        return ""
    rows = [
        (
            row["name"],
            Number(times(tuple(row["shape"]))),
            Number(row["checked"]),
            _bar(row),
            *(Number(row[name]) for name in report.met),
            Number(number(row["max_rel_error"], 2)),
            row["engine"],
        )
        for row in report.table
    ]
    return table((report.parts[0].kind, "shape", "checked", "", *report.met, "max rel. error", "engine"), rows)


def _bar(row: dict[str, Any]) -> Markup:
    """Write shares of the classes as a coloured bar."""
    pieces = "".join(
        f'<span style="background:{colour};flex:{row[name]}"></span>'
        for name, colour in CLASS_COLOURS.items()
        if row[name]
    )
    return Markup(f'<span class="bar">{pieces}</span>')


def _timings(report: Report) -> str:
    rows = [(name, Number(f"{1000 * seconds:.4g} ms")) for name, seconds in report.timings.items()]
    return table((), rows) if rows else ""


def _optional(attribute: str) -> Callable[[Report], str]:
    """Write an attribute that not every report has: a sentence, a list of them, or a dict."""

    def write(report: Report) -> str:
        value = getattr(report, attribute, None)
        if not value:
            return ""
        if isinstance(value, dict):
            return pairs(value)
        return bullets([value] if isinstance(value, str) else value)

    return write


_POWER = {
    "smallest": "a common factor off by (seen on the most sensitive {0})",
    "median": "a single {0} off by, relatively (half of the {0}s)",
    "p90": "a single {0} off by, relatively (nine tenths of the {0}s)",
}


def _power(report: Report) -> str:
    found: dict[str, float] = getattr(report, "power", None) or {}
    return pairs({_POWER.get(name, name).format(report.noun): value for name, value in found.items()}) if found else ""


#: What the page is made of, in order. A section that has nothing to say returns "" and is left out.
SECTIONS: tuple[tuple[str, Callable[[Report], str]], ...] = (
    ("Why", _why),
    ("What the mismatch looks like", _hints),
    ("Where", _figure),
    ("Classes", _counts),
    ("Variables", _variables),
    ("Errors", _metrics),
    ("The worst", _worst),
    ("Second order", _second),
    ("The gradient in the model's own precision", _deployed),
    ("What this check would have caught", _power),
    ("Self-test", _optional("selftest")),
    ("Settings", _settings),
    ("Time", _timings),
)
