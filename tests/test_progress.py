"""The bar: in a notebook it is one output, written over."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from fdfast import progress


class Shown:
    """The output of a cell."""

    def __init__(self) -> None:
        self.pictures: list[str] = []

    def update(self, what: Any) -> None:
        assert isinstance(what, Table)  # which a notebook can show
        console = Console(width=100, force_jupyter=False, file=None, record=True, quiet=False)
        with console.capture() as text:
            console.print(what)
        self.pictures.append(text.get())


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()

    def display(what: Any, display_id: bool) -> Shown:
        assert display_id
        shown.update(what)
        return shown

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(Console, "is_jupyter", True, raising=False)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    return shown


def test_a_cell_shows_what_goes_on_then_how_much_is_done(cell: Shown) -> None:
    with progress.progress_bar("checking", before="recording f") as bar:
        bar(1, 4)
        bar(4, 4)
    for part, picture in zip(("recording f", "25%", "100%", "checking"), cell.pictures[1:], strict=True):
        assert part in picture


def test_a_bar_that_an_error_ends_does_not_say_that_all_is_done(cell: Shown) -> None:
    def work() -> None:
        with progress.progress_bar("checking") as bar:
            bar(1, 4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert "100%" not in cell.pictures[-1]


@pytest.mark.parametrize(("asked", "passed"), [(None, None), (False, None), ("yes", "yes"), (print, print)])
def test_only_true_makes_a_bar(asked: Any, passed: Any) -> None:
    @progress.with_bar("work")
    def work(*, progress: Any = None) -> Any:
        return progress

    assert work(progress=asked) is passed
    assert isinstance(work(progress=True), progress.Bar)
