"""Tables, the progress bar, and what is kept from the terminal."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from fdfast.cli.terminal import progress_bar, silent_stderr, table

HEAD = ("digit", "verdict", "error")
ROWS = [["3", "PASS", "1.0e-09"], ["", "FAIL", ""]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_plain_table_is_aligned_and_has_no_trailing_blanks() -> None:
    assert table("Title", HEAD, ROWS, left=2).splitlines() == [
        "Title",
        "",
        "  digit  verdict    error",
        "  -----  -------  -------",
        "  3      PASS     1.0e-09",
        "         FAIL",
    ]


@pytest.mark.usefixtures("wide")
def test_a_table_in_a_terminal_is_coloured_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    long = "x" * 90
    drawn = table("Title", HEAD, [*ROWS, [long, "", ""]], left=2)
    assert long in drawn
    assert "\x1b[" in drawn
    assert "1.0e-09" in drawn


def test_no_bar_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("checking") as progress:
        assert progress is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_stderr_in_a_terminal(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress_bar("checking", quiet=quiet) as progress:
        assert (progress is None) == quiet
        if progress is not None:
            progress(5, 10)
            progress(10, 10)
    assert ("checking" in shown.getvalue()) == (not quiet)


def say() -> None:
    os.write(2, b"native noise\n")


def fail_to_import() -> None:
    with silent_stderr():
        say()
        raise ImportError


@pytest.mark.parametrize(("level", "heard"), [("2", ""), ("3", ""), ("0", "native noise\n"), ("1", "native noise\n")])
def test_native_noise_is_kept_unless_it_was_asked_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, level: str, heard: str
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with silent_stderr():
        say()
    assert capfd.readouterr().err == heard


def test_native_noise_comes_out_with_an_exception(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    with pytest.raises(ImportError):
        fail_to_import()
    say()
    assert capfd.readouterr().err == "native noise\n" * 2
