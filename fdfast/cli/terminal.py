"""What the command line shows: tables, a progress bar, and nothing of TensorFlow's start-up messages."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

Progress = Callable[[int, int], None]

#: Colours of the verdicts, for rich.
_COLOURS = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}


@contextlib.contextmanager
def progress_bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield a callback (done, expected or None) that draws a bar on stderr; None where stderr is no terminal.

    Parameters
    ----------
    what : str
        Stands before the bar.
    quiet : bool
        Draw none.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, expected: bar.update(task, completed=done, total=expected)


def duration(seconds: float) -> str:
    """Three digits in the unit that reads best."""
    for limit, scale, unit in ((1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align cells in columns, the first `left` ones to the left; with rules and colours in a terminal.

    Rows may hold empty cells. The result ends without a line break.
    """
    if sys.stdout.isatty():
        return _rich_table(title, head, rows, left)
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) for c, w in zip(cells[:left], widths, strict=False)]
        padded += [c.rjust(w) for c, w in zip(cells[left:], widths[left:], strict=True)]
        return ("  " + "  ".join(padded)).rstrip()

    return "\n".join([title, "", line(head), line(["-" * w for w in widths]), *map(line, rows)])


def _rich_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        drawn.add_column(Text(name), justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    # Wider than the terminal if need be: a broken line can be read, a cut-off cell cannot.
    console = Console(width=1000)
    with console.capture() as text:
        console.print(Text(title, style="bold"))
        console.print(drawn, end="")
    return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep what native code writes to file descriptor 2 to ourselves, unless something goes wrong.

    TensorFlow writes a dozen lines while it is imported and when it first looks for devices, before any of
    its own settings act. An exception brings them to light. Does nothing if TF_CPP_MIN_LOG_LEVEL asks for
    messages.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1"):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            said.seek(0)
            os.write(2, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without its start-up messages."""
    with silent_stderr():
        import tensorflow as tf

        tf.zeros(1)
