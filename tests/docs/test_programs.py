"""Every program of a page that a user needs runs, and prints what stands below it."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs.pages import DOCS, ROOT, USER_PAGES, Block, blocks, name_of

from fdfast import datasets
from fdfast.cli import main

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.usefixtures("loaded")

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_PROGRAMS = [path for path in [*USER_PAGES, DOCS / "second-order.md"] if blocks(path.read_text())]
#: What other tests hold: the build of a wheel, that of the pages, the demonstration.
NOT_RUN = ("python -m pip", "python3 -m venv", "env/bin/python -m pip", "make ", "fdfast demo")


def prints(got: str, wanted: str, where: str) -> None:
    assert doctest.OutputChecker().check_output(wanted, got, OPTIONS), f"{where}: wanted\n{wanted}\ngot\n{got}"


def expected(following: Block | None) -> str | None:
    return following.text if following is not None and following.language == "text" else None


def run_command(line: str, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code of a command, and what it printed."""
    name, *arguments = shlex.split(line)
    if name == "fdfast":
        try:
            code = main(arguments)
        except SystemExit as end:  # --version and --help
            code = int(end.code or 0)
        return code, capsys.readouterr().out
    assert name == "pytest", f"{line}: what would run this?"
    if not any(one.endswith(".py") for one in arguments):
        pytester.makepyfile(test_nothing="def test_nothing():\n    pass\n")
    plugin = () if "fdfast.pytest_plugin" in line else ("-p", "fdfast.pytest_plugin")
    # A session in this process: a new one would load TensorFlow again.
    here = ("-p", "no:xdist", "-p", "no:cacheprovider", "-Wignore:Module already imported so cannot be rewritten")
    result = pytester.runpytest_inprocess(*here, *plugin, *arguments)
    return int(result.ret), result.stdout.str()


# Keras 3.15 saves with NumPy 2 in a way that NumPy warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name_of)
def test_the_programs_of_a_page_run_one_after_the_other(
    path: Path, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    found = blocks(path.read_text())
    names: dict[str, Any] = {"__name__": "__page__"}
    for block, following in zip(found, [*found[1:], None], strict=True):
        where = f"{name_of(path)}: {block.text.splitlines()[0]}"
        wanted = expected(following)
        if block.language == "python" and (file := re.match(r"# (\w+\.py)\n", block.text)):
            Path(file[1]).write_text(block.text)
        elif block.language == "python":
            capsys.readouterr()
            exec(compile(block.text, str(path), "exec"), names)
            said = capsys.readouterr().out
            if wanted is not None:
                prints(said, wanted, where)
        elif block.language == "console":
            # A "$ " begins a command; what it prints may follow.
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                if line.startswith(NOT_RUN):
                    continue
                code, said = run_command(line, pytester, capsys)
                assert code == 0, f"{where}: {line} ended with {code}\n{said}"
                if output.strip():
                    prints(said, output, where)
        else:
            assert block.language == "text", f"{where}: {block.language!r} does not say how to test it"


def test_the_runner_sees_a_wrong_output() -> None:
    prints("a 1.25 b\n", "a ... b\n", "here")
    with pytest.raises(AssertionError, match="wanted"):
        prints("fail\n", "pass\n", "here")


def test_the_first_programs_of_the_page_on_sweeps_run(pytester: pytest.Pytester) -> None:
    x, labels = datasets.mnist_sample(2)
    np.savez("digits.npz", x=x, y=np.eye(10)[labels])
    first, second = [block.text for block in blocks((DOCS / "sweeps.md").read_text()) if block.language == "python"][:2]
    names: dict[str, Any] = {}
    exec(compile(first, "docs/sweeps.md", "exec"), names)
    # What follows needs pandas and DuckDB, which nothing here depends on.
    exec(compile(second.splitlines()[0], "docs/sweeps.md", "exec"), names)
    assert Path("summary.html").exists()
    assert len(names["sweep"]) == 2


def test_the_program_of_the_readme_prints_what_stands_there(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    program, printed = [block.text for block in blocks((ROOT / "README.md").read_text())][:2]
    exec(compile(program, "README.md", "exec"), {})
    # Last digits of the errors below depend on the machine.
    counts = printed.split("\n\n  error at x")[0]
    assert capsys.readouterr().out.startswith(counts)
    assert Path("check.png").exists()
    assert Path("check.html").exists()
