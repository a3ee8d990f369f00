"""Tables, the progress bar, and what is kept from the terminal."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fdfast.cli.terminal import bar, broken, coloured, table
from fdfast.quiet import silent_stderr

HEAD = ("digit", "verdict", "error")
ROWS = [["3", "PASS", "1.0e-09"], ["", "FAIL", ""]]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


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


@pytest.fixture(params=["terminal", "FORCE_COLOR"])
def coloured_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, wide: None) -> None:
    if request.param == "terminal":
        # In the module: pytest puts a stdout of its own in place before the test.
        monkeypatch.setattr("fdfast.cli.terminal.sys", SimpleNamespace(stdout=Terminal()))
    else:
        monkeypatch.setenv("FORCE_COLOR", "1")


@pytest.mark.usefixtures("coloured_out")
def test_a_table_in_a_terminal_is_coloured() -> None:
    drawn = table("Title", HEAD, ROWS, left=2)
    assert "\x1b[1;31mFAIL" in drawn
    assert plain(drawn).splitlines() == [
        "Title",
        "",
        "  digit  verdict    error",
        "  ─────  ───────  ───────",
        "  3      PASS     1.0e-09",
        "         FAIL",
    ]


@pytest.mark.usefixtures("coloured_out")
def test_a_table_that_is_wider_than_the_terminal_becomes_lines() -> None:
    long = "x" * 50
    drawn = plain(table("Title", HEAD, [*ROWS, [long, "", ""]], left=2))
    assert drawn.splitlines()[2:5] == ["  digit    3", "  verdict  PASS", "  error    1.0e-09"]
    assert drawn.splitlines()[-1] == f"  digit    {long}"
    assert max(map(len, drawn.splitlines())) <= 63


@pytest.mark.usefixtures("coloured_out")
def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", coloured("fdfast: FAIL  f\n  wrong    3"))


@pytest.mark.usefixtures("coloured_out")
def test_what_is_wrong_is_red_and_what_is_not_is_not() -> None:
    lines = coloured("fdfast: PASS  f\n  wrong    0\n  wrong   12\n  Wrong in swish; the rest is right").splitlines()
    assert ["31" in re.sub(r"[^\x1b]*\x1b\[([0-9;]*)m[^\x1b]*", r"\1 ", line) for line in lines] == [
        False, False, True, True,
    ]  # fmt: skip


@pytest.mark.usefixtures("coloured_out")
def test_long_lines_are_broken() -> None:
    told = plain(broken("head\n\n    a name: " + "word " * 40)).splitlines()
    assert told[:2] == ["head", ""]
    assert max(map(len, told)) <= 60
    assert {line[:6] for line in told[3:]} == {"      "}


def test_nothing_is_coloured_in_a_pipe() -> None:
    assert coloured("fdfast: FAIL") == "fdfast: FAIL"


def test_no_bar_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with bar("checking") as progress:
        assert progress is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_stderr_in_a_terminal(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with bar("checking", before="recording m", quiet=quiet) as progress:
        assert (progress is None) == quiet
        if progress is not None:
            time.sleep(0.3)  # rich draws ten times a second
            progress(5, 10)
            progress(10, 10)
    for word in ("recording m", "checking"):
        assert (word in shown.getvalue()) == (not quiet)


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
