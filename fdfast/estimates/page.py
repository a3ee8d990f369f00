"""An estimate as a piece of HTML for notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from fdfast.markup import Markup, Number, drawn, escape, for_notebook, number, table

if TYPE_CHECKING:
    from fdfast.estimates.estimate import Estimate

#: Kinds in the order of their codes, and the colours that reports have for what becomes of them.
_KINDS = {"smooth": "#009E73", "kink": "#E69F00", "unresolved": "#999999", "singular": "#CC79A7"}
#: Examples that are drawn.
_SHOWN = 4


def fragment(found: Estimate) -> str:
    """Write how many tiles are of which kind, how sure their derivatives are, and a picture of them.

    Parameters
    ----------
    found : Estimate

    Returns
    -------
    str
        One ``div``, with no script and no style sheet.
    """
    examples, tiles = found.value.shape
    many = "1 example" if examples == 1 else f"{examples} examples"
    rows = []
    for code, (name, colour) in enumerate(_KINDS.items()):
        here = found.kind == code
        if here.any():
            key = Markup(f'<span class="key" style="background:{colour}"></span>{escape(name)}')
            cells = (np.count_nonzero(here), *(number(_middle(v[here])) for v in (np.abs(found.value), found.error)))
            rows.append((key, *map(Number, cells)))
    return for_notebook(
        [
            f"<p><b>Finite differences</b> of {many}, {tiles} tiles each: {escape(found.engine)} engine, "
            f"{found.evaluations} rows, {found.refined} of them to refine single tiles; median step "
            f"{number(_middle(found.step))}, noise of f {number(float(np.max(found.noise)))}.</p>",
            _figure(found),
            table(("kind", "tiles", "median |derivative|", "median error bar"), rows),
        ]
    )


def _middle(values: object) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if known.size else float("nan")


def _figure(found: Estimate) -> Markup:
    says = "Derivative of every tile with its error bar, coloured by kind"
    return drawn(lambda file: _draw(found, file), says)


def _draw(found: Estimate, file: io.BytesIO) -> None:
    from matplotlib import style
    from matplotlib.figure import Figure

    shown = range(min(len(found.value), _SHOWN))
    with style.context(["default", {"font.size": 8.0, "legend.frameon": False}]):
        fig = Figure(figsize=(9.0, 0.4 + 1.9 * len(shown)), layout="constrained")
        for i, ax in zip(shown, fig.subplots(len(shown), 1, squeeze=False)[:, 0], strict=True):
            for code, (name, colour) in enumerate(_KINDS.items()):
                at = np.flatnonzero((found.kind[i] == code) & np.isfinite(found.value[i]))
                if at.size:
                    bars = np.where(np.isfinite(found.error[i, at]), found.error[i, at], 0.0)
                    ax.errorbar(at, found.value[i, at], bars, fmt=".", ms=3, lw=0.8, color=colour, label=name)
            ax.axhline(0, color="#777777", lw=0.5)
            ax.set(ylabel="derivative" if len(shown) == 1 else f"example {i}")
            ax.legend(loc="upper right", ncols=len(_KINDS))
        ax.set(xlabel="tile")
        fig.savefig(file, format="png", dpi=100)
