"""What the command line shows: tables, verdicts in colour, and a bar."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import IO

from fdfast.progress import Bar, progress_bar

#: Colours of the verdicts, for rich.
COLOURS = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}
#: Columns where there is no terminal.
PIPED = 114
_GAP = 2  # between columns


@contextlib.contextmanager
def bar(what: str, *, before: str = "recording the model, compiling", quiet: bool = False) -> Iterator[Bar | None]:
    """Yield a bar on stderr that leaves nothing behind; None where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        file: IO[str] | None = None
        with contextlib.suppress(OSError):  # a stream of somebody's own has no descriptor
            # Of its own, because what TensorFlow says on descriptor 2 while it is imported is kept from the terminal.
            file = stack.enter_context(os.fdopen(os.dup(sys.stderr.fileno()), "w"))
        yield stack.enter_context(progress_bar(what, before=before, file=file, transient=True))


def width() -> int:
    """Columns of the terminal, or of what COLUMNS says."""
    return shutil.get_terminal_size((PIPED, 24)).columns if in_colour() or "COLUMNS" in os.environ else PIPED


def in_colour() -> bool:
    """Whether stdout is a terminal, or FORCE_COLOR says that it is to be taken for one."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def broken(text: str) -> str:
    """Break the lines of a text that are longer than the terminal, and colour what `coloured` does."""
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(line, width(), subsequent_indent=indent, drop_whitespace=True) or [""]
    return coloured("\n".join(lines))


def coloured(text: str) -> str:
    """Colour verdicts, and lines of what is wrong, where stdout is a terminal; NO_COLOR leaves them bold."""
    if not in_colour():
        return text
    from rich.text import Text

    drawn = Text(text)
    drawn.highlight_regex(r"(?m)^fdfast.*$", "bold")
    for word, style in COLOURS.items():
        drawn.highlight_regex(rf"\b{word}\b", style)
    drawn.highlight_regex(r"(?m)^  Wrong in .*|^  wrong +[1-9].*|^  .*[)\]] +(\* +)?wrong +.*$", COLOURS["FAIL"])
    drawn.highlight_regex(r"(?m)^  written: ", "dim")
    return _drawn(drawn)


def _drawn(*what: object) -> str:
    from rich.console import Console

    # Lines have their length by now; rich must not break them once more.
    console = Console(width=1000, force_terminal=True)
    with console.capture() as text:
        for one in what:
            console.print(one, soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())


def duration(seconds: float) -> str:
    """Three digits in the unit that reads best."""
    for limit, scale, unit in ((1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align cells in columns, the first `left` ones to the left; with rules and colours in a terminal.

    Rows may hold empty cells. Where a terminal is narrower than the table, names of columns are broken; and where it is
    narrower still, each row becomes lines of names and cells. The result ends without a line break.
    """
    heads, room = [[name] for name in head], width() if in_colour() else math.inf
    if not _fits(heads, rows, room):
        heads = [name.split() or [""] for name in head]
    if not _fits(heads, rows, room):
        return _records(title, head, rows)
    widths = _widths(heads, rows)

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) for c, w in zip(cells[:left], widths, strict=False)]
        padded += [c.rjust(w) for c, w in zip(cells[left:], widths[left:], strict=True)]
        return ("  " + "  ".join(padded)).rstrip()

    tall = max(map(len, heads))
    top = [line(cells) for cells in zip(*([""] * (tall - len(one)) + one for one in heads), strict=True)]
    rule = line(["-" * w for w in widths])
    if not in_colour():
        return "\n".join([title, "", *top, rule, *map(line, rows)])
    lines = "\n".join(["", *top, rule.replace("-", "─"), *map(line, rows)])
    return f"{_bold(title)}\n{coloured(lines)}"


def _widths(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, [*one, *(row[i] for row in rows)])) for i, one in enumerate(heads)]


def _fits(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], room: float) -> bool:
    return sum(_widths(heads, rows)) + _GAP * len(heads) <= room


def _records(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    wide = max(map(len, head))
    found = [_bold(title)]
    for row in rows:
        told = [f"  {name:<{wide}}  {cell}" for name, cell in zip(head, row, strict=True) if cell]
        found += ["", *told]
    return "\n".join([found[0], coloured("\n".join(found[1:]))])


def _bold(title: str) -> str:
    from rich.text import Text

    return _drawn(Text(textwrap.fill(title, width()), style="bold"))
