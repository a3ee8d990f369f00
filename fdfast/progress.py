"""A bar for what takes long: in a terminal by rich, in a notebook the same bar as the output of its cell."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

#: What a caller may ask for: a function of rows done and expected, True for a bar, or nothing.
Progress = Callable[[int, Any], object] | bool | None
_Call = TypeVar("_Call", bound=Callable[..., Any])

#: Seconds between two pictures of the bar in a notebook.
_EVERY = 0.2


class Bar:
    """A bar that is shown: called with rows done and expected, told by `say` what is going on."""

    def __init__(self, shown: RichProgress, what: str, before: str) -> None:
        self._shown, self._what = shown, what
        self._task = shown.add_task(before, total=None)

    def __call__(self, done: int, expected: int | None) -> None:
        """Show how much is done, of how much if that is known."""
        self._shown.update(self._task, description=self._what, completed=done, total=expected)

    def say(self, text: str) -> None:
        """Show what is going on, until rows are counted."""
        self._shown.update(self._task, description=text)


@contextlib.contextmanager
def progress_bar(
    what: str, *, before: str = "recording f, compiling", file: IO[str] | None = None, transient: bool = False
) -> Iterator[Bar]:
    """Show a bar until the block ends; where there is neither a terminal nor a notebook, one line at the end.

    Parameters
    ----------
    what : str
        Stands before the bar.
    before : str
        Stands there until the first rows are done: the first call of f is recorded and compiled.
    file : text stream, optional
        stderr if left out.
    transient : bool
        Whether it leaves nothing in the terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(file=file, stderr=True)
    if console.is_jupyter:
        with _in_cell(Progress(*columns, console=console, auto_refresh=False)) as shown:
            bar = Bar(shown, what, before)
            bar.say(before)  # what is shown so far has no task yet
            yield bar
    else:
        with Progress(*columns, console=console, transient=transient) as shown:
            yield Bar(shown, what, before)


@contextlib.contextmanager
def _in_cell(bar: Any) -> Iterator[Any]:
    """Show a bar as an output that is written over: rich itself would need ipywidgets."""
    from IPython.display import display

    handle, update = display(bar.make_tasks_table(bar.tasks), display_id=True), bar.update
    last = 0.0

    def shown(*args: Any, **given: Any) -> None:
        nonlocal last
        update(*args, **given)
        if time.monotonic() - last >= _EVERY:
            handle.update(bar.make_tasks_table(bar.tasks))
            last = time.monotonic()

    bar.update = shown
    try:
        yield bar
    finally:
        for task in bar.tasks:
            bar.stop_task(task.id)
        handle.update(bar.make_tasks_table(bar.tasks))


def with_bar(what: str) -> Callable[[_Call], _Call]:
    """Let ``progress=True`` of a function show a bar that says `what`; anything else is passed on."""

    def decorate(call: _Call) -> _Call:
        @functools.wraps(call)
        def shown(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            asked = options.get("progress")
            if not isinstance(asked, bool):
                return call(*args, **options)
            if not asked:
                return call(*args, **options | {"progress": None})
            with progress_bar(what) as bar:
                return call(*args, **options | {"progress": bar})

        return cast(_Call, shown)

    return decorate
