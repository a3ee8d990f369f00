"""A sweep as text, as one self-contained HTML page, and as a piece of HTML for notebooks."""

from __future__ import annotations

import io
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fdfast.report import (
    VERDICT_COLOURS,
    Markup,
    Number,
    badge,
    bullets,
    drawn,
    escape,
    for_notebook,
    number,
    pairs,
    styled,
    table,
)
from fdfast.report import page as write_page

if TYPE_CHECKING:
    from fdfast.sweeps.found import Sweep

_COLOURS = VERDICT_COLOURS | {"error": "#CC79A7", "done": "#0072B2"}
_MEANING = {
    "fail": "the gradient is wrong at some element",
    "error": "the example cannot be used; the row says why",
    "inconclusive": "nothing is wrong, but too little could be compared",
    "pass": "enough elements agree, and none is wrong",
    "done": "what was asked for, with nothing to judge",
}
_PICTURES, _LISTED = 4, 20
#: Columns of which there is a histogram, where they are.
_HISTOGRAMS = {
    "worst_over_allowed": "worst element of each example: error over the error allowed",
    "smooth_median_rel_error": "median relative error of each example, where smooth",
    "norm_2": "Euclidean norm of each gradient",
    "distance_l2": "length of the change of each example",
}


def text(sweep: Sweep) -> str:
    """Verdict, counts, notes and the worst, for a terminal."""
    lines = [_headline(sweep), ""]
    lines += [f"  {name:<13}{n:>9,}   {_MEANING[name]}" for name, n in sweep.counts.items()]
    elements = _elements(sweep)
    if elements:
        lines += ["", f"  elements: {elements}"]
    lines += [f"  {line}" for line in _outcome(sweep)]
    if {"fail", "error"} & set(sweep.counts):
        lines += ["", "  the worst:", *(f"    {_place(row)}: {_told(row)}" for row in sweep.worst(8))]
    lines += ["", *(f"  - {note}" for note in sweep.notes)] if sweep.notes else []
    return "\n".join([*lines, "", f"  rows: {sweep.path}/part-*.parquet"])


def fragment(sweep: Sweep) -> str:
    """Write verdict, counts, histograms and the worst as a piece of HTML: what a notebook shows."""
    head = f"<p>{_badge(sweep)} {escape(_headline(sweep))}</p>"
    worst = _worst(sweep) if {"fail", "error"} & set(sweep.counts) else ""
    return for_notebook([head, _counts(sweep), _checkpoints(sweep), _histograms(sweep), worst, bullets(sweep.notes)])


def page(sweep: Sweep) -> str:
    """Write counts, histograms of errors, a list and pictures of the worst as one page."""
    name = _headline(sweep)
    sections = [
        ("Examples", _counts(sweep)),
        ("Checkpoints", _checkpoints(sweep)),
        ("Errors", _histograms(sweep)),
        ("The worst", _worst(sweep)),
        ("Pictures of the worst", _gallery(sweep)),
        ("What to know", bullets(sweep.notes)),
        ("Settings", _settings(sweep)),
    ]
    heading = f"{_badge(sweep)} <span>{escape(sweep.path.name)}</span>"
    return write_page(name, Markup(heading), name, sections)


def _badge(sweep: Sweep) -> Markup:
    return badge(sweep.verdict, VERDICT_COLOURS[sweep.verdict])


def _headline(sweep: Sweep) -> str:
    task = sweep.manifests[0]["task"]
    unfinished = "" if sweep.finished else ", not finished"
    return f"fdfast sweep: {sweep.verdict.upper()}  {task} of {len(sweep):,} examples{unfinished}"


def _elements(sweep: Sweep) -> str:
    """Number of elements of each class, over all examples."""
    columns = set(sweep.table.column_names)
    if "agree" not in columns:
        return ""
    names = ("agree", "wrong", "kink", "unresolved", "singular")
    sums = {name: int(np.nansum(_numbers(sweep, name))) for name in names}
    total = sum(sums.values())
    told = [f"{name} {n:,}" for name, n in sums.items() if n or name in names[:2]]
    return ", ".join(told) + (f"; {100 * sums['agree'] / total:.3f} % agree" if total else "")


def _outcome(sweep: Sweep) -> list[str]:
    """What attacks and looks for masking came to."""
    columns = set(sweep.table.column_names)
    if "success" in columns:
        known = [one for one in sweep.table.column("success").to_pylist() if one is not None]
        return [f"the attack succeeds on {sum(known):,} of {len(known):,} examples"]
    if "masking" in columns:
        found = Counter(one for one in sweep.table.column("masking").to_pylist() if one is not None)
        return [f"autodiff's gradient: {', '.join(f'{name} {n:,}' for name, n in found.most_common())}"]
    return []


def _numbers(sweep: Sweep, name: str) -> Any:
    return np.asarray(sweep.table.column(name).to_numpy(), np.float64)


def _counts(sweep: Sweep) -> Markup:
    total = len(sweep)
    rows = [
        (_key(name), Number(f"{n:,}"), Number(f"{100 * n / total:.2f} %"), _MEANING[name])
        for name, n in sweep.counts.items()
    ]
    elements = _elements(sweep)
    said = f"<p>Elements of all examples: {escape(elements)}.</p>" if elements else ""
    said += "".join(f"<p>{escape(line)}.</p>" for line in _outcome(sweep))
    return Markup(table(("verdict", "examples", "share", "meaning"), rows) + said)


def _key(name: str) -> Markup:
    return Markup(f'<span class="key" style="background:{_COLOURS[name]}"></span>{escape(name)}')


def _checkpoints(sweep: Sweep) -> str:
    names = sweep.table.column("checkpoint").to_pylist()
    order = [name for name in dict.fromkeys(names) if name is not None]
    if not order:
        return ""
    verdicts = sweep.table.column("verdict").to_pylist()
    kinds = list(sweep.counts)
    count = dict.fromkeys(((name, kind) for name in order for kind in kinds), 0)
    for name, verdict in zip(names, verdicts, strict=True):
        count[name, verdict or "done"] += 1
    rows = [(name, *(Number(count[name, kind]) for kind in kinds)) for name in order]
    return table(("checkpoint", *kinds), rows)


def _histograms(sweep: Sweep) -> str:
    found = {}
    verdicts = np.array([verdict or "done" for verdict in sweep.table.column("verdict").to_pylist()])
    for name, words in _HISTOGRAMS.items():
        if name in sweep.table.column_names:
            values = _numbers(sweep, name)
            fine = np.isfinite(values) & (values > 0)
            if fine.any():
                found[words] = (np.log10(values[fine]), verdicts[fine], name == "worst_over_allowed")
    if not found:
        return ""
    return drawn(lambda file: _draw(found, file), "Histograms over examples: " + "; ".join(found))


def _draw(found: dict[str, Any], to: io.BytesIO) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with styled():
        fig = Figure(figsize=(5.6 * len(found), 3.2), layout="constrained")
        for ax, (words, (logs, verdicts, limited)) in zip(
            fig.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
        ):
            low, high = math.floor(logs.min()), math.ceil(logs.max() + 1e-9)
            kinds = [kind for kind in _COLOURS if np.any(verdicts == kind)]
            edges = np.linspace(low, max(high, low + 1), 41)
            ax.hist(
                [logs[verdicts == kind] for kind in kinds],
                edges, stacked=True, color=[_COLOURS[kind] for kind in kinds], label=kinds,
            )  # fmt: skip
            if limited:
                ax.axvline(0, color="#777777", linestyle=":", label="allowed")
            ax.set(title=words, ylabel="examples")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))
            ax.legend(frameon=False)
        fig.savefig(to, dpi=110)


def _place(row: dict[str, Any]) -> str:
    """Which example a row is of."""
    where = [row["checkpoint"], row["file"], row["key"]]
    return " ".join(filter(None, [*where, str(row["index"])]))


def _told(row: dict[str, Any]) -> str:
    if row["verdict"] == "error":
        return f"error: {row['reason']}"
    where = tuple(row["worst_index"]) if row["worst_index"] is not None else ()
    blamed = f", wrong in {row['culprit']}" if row["culprit"] else ""
    return (
        f"{row['verdict']}, {row['wrong']} wrong of {row['total']}; at {where} autodiff "
        f"{_figure(row['worst_autodiff'], 5)}, difference {_figure(row['worst_finite_difference'], 5)}{blamed}"
    )


def _figure(value: float | None, digits: int = 2) -> str:
    return number(math.nan if value is None else value, digits)


def _worst(sweep: Sweep) -> str:
    if "worst_over_allowed" not in sweep.table.column_names:
        return ""
    rows = [
        (
            _place(row),
            _key(row["verdict"]),
            Number("–" if row["wrong"] is None else row["wrong"]),
            str(tuple(row["worst_index"] or ())) if row["verdict"] != "error" else row["reason"],
            *(Number(_figure(row[f"worst_{name}"], 5)) for name in ("autodiff", "finite_difference")),
            *(Number(_figure(row[f"worst_{name}"])) for name in ("rel_error", "over_allowed")),
            row["culprit"] or "",
        )
        for row in sweep.worst(_LISTED)
    ]
    names = ("wrong", "worst element", "autodiff", "difference", "relative error", "over allowed", "layer to blame")
    shown = slice(None) if any(row[-1] for row in rows) else slice(-1)
    return table(("example", "verdict", *names)[shown], [row[shown] for row in rows])


def _gallery(sweep: Sweep) -> str:
    if "worst_over_allowed" not in sweep.table.column_names:
        return ""
    rows = [row for row in sweep.worst(_PICTURES) if row["verdict"] != "error"]
    if sweep.pictures is None:
        return (
            "<p>Pictures need model and data: make the page from what fdfast.sweep(...) returns, called again with the "
            "same arguments; it finds all rows there. A generator cannot be read twice.</p>"
        )
    reports = sweep.pictures(rows)
    shown = [(row, reports[row["checkpoint"], row["file"], row["index"]]) for row in rows]
    return "\n".join(f"<h3>{escape(_place(row))}: {escape(_told(row))}</h3>\n{_drawn(report)}" for row, report in shown)


def _drawn(report: Any) -> Markup:
    return drawn(report.plot, f"Both gradients, relative error and classes: {report.verdict}")


def _settings(sweep: Sweep) -> Markup:
    manifest = sweep.manifests[0]
    seconds = _numbers(sweep, "seconds").sum()
    own: dict[str, Any] = {name: manifest[name] for name in ("task", "batch", "keep", "threads")}
    own |= {"model, weights": manifest["model"]["weights"][:16], "data": manifest["data"]["kind"]}
    own |= manifest["versions"] | manifest["options"]
    own["computing"] = f"{seconds:.1f} s, {1000 * seconds / max(1, len(sweep)):.2f} ms for each example"
    return pairs(own)
