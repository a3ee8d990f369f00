"""Pieces of HTML: all text passes `escape` unless it is `Markup`, which only this module and its callers make."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class Markup(str):
    """HTML that is put in as it stands."""


def escape(value: object) -> str:
    """Make a value safe as text and inside quotes; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else html.escape(str(value), quote=True)


def number(value: float, digits: int = 3) -> str:
    """Write a number with few digits; what is not a number is a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


class Number(str):
    """A cell of a table that stands to the right."""


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Write a table; numbers stand to the right."""

    def line(cells: Sequence[object], tag: str, like: Sequence[object]) -> str:
        kinds = [' class="number"' if isinstance(v, Number) else "" for v in like]
        return "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True))

    rows = list(rows)
    top = f"<thead><tr>{line(head, 'th', rows[0] if rows else head)}</tr></thead>" if head else ""
    body = "\n".join(f"<tr>{line(row, 'td', row)}</tr>" for row in rows)
    return Markup(f'<div class="wide"><table>{top}<tbody>\n{body}\n</tbody></table></div>')


def bullets(sentences: Iterable[object]) -> Markup:
    """Write sentences as a list."""
    items = "\n".join(f"<li>{escape(s)}</li>" for s in sentences)
    return Markup(f"<ul>\n{items}\n</ul>" if items else "")


def pairs(values: dict[str, Any]) -> Markup:
    """Write names and values as a table without a head."""
    rows = [(name, number(v) if isinstance(v, float) else v) for name, v in values.items()]
    return table((), rows)


def badge(word: str, colour: str) -> Markup:
    """Write a word in capitals on its colour."""
    return Markup(f'<span class="badge" style="background:{colour}">{escape(word.upper())}</span>')


def image(png: bytes, says: str) -> Markup:
    """Put a picture into the page itself; `says` is for those who cannot see it."""
    data = base64.b64encode(png).decode("ascii")
    return Markup(f'<img src="data:image/png;base64,{data}" alt="{escape(says)}">')


def drawn(draw: Callable[[io.BytesIO], object], says: str) -> Markup:
    """Put into the page what `draw` writes as a PNG, or the sentence that there is no matplotlib to draw by."""
    picture = io.BytesIO()
    try:
        draw(picture)
    except ImportError:
        return Markup("<p>No figure: matplotlib is not installed. Remedy: pip install matplotlib.</p>")
    return image(picture.getvalue(), says)


#: Styles by the beginning of an element. A notebook has rules of its own for what is in an output, and drops the style
#: sheets of one that it does not trust: only what stands at the element itself holds. No colour of text or paper, so
#: that they are those of the notebook, light or dark.
_AT_ELEMENTS = {
    "<table>": "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0",
    "<tr>": "background:none",
    "<th>": "text-align:left;padding:.2em .7em;border-bottom:1px solid #8888;white-space:nowrap",
    '<th class="number">': "text-align:right;padding:.2em .7em;border-bottom:1px solid #8888;white-space:nowrap",
    "<td>": "text-align:left;padding:.2em .7em;border-bottom:1px solid #8885",
    '<td class="number">': "text-align:right;padding:.2em .7em;border-bottom:1px solid #8885;white-space:nowrap",
    '<div class="wide">': "overflow-x:auto",
    '<span class="badge" style="': "color:#fff;padding:.15em .7em;border-radius:.4em;font-weight:bold;",
    '<span class="key" style="': "display:inline-block;width:.8em;height:.8em;margin-right:.5em;border-radius:.15em;",
    "<img ": "max-width:100%;height:auto;background:#fff;border-radius:.4em",
}


def for_notebook(parts: Iterable[str]) -> Markup:
    """Write pieces of HTML as one, as the output of a notebook's cell: every style at its element."""
    whole = "\n".join(part for part in parts if part)
    for start, style in _AT_ELEMENTS.items():
        styled = start + style if start[-1] == '"' else f'{start[:-1]} style="{style}"{start[-1]}'
        whole = whole.replace(start, styled)  # text is escaped, so that a "<" begins an element
    return Markup(f'<div class="fdfast" style="max-width:70em;overflow-wrap:anywhere">\n{whole}\n</div>')
