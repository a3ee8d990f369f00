"""The pytest plugin: a `gradcheck` fixture, and ``--gradcheck-html DIR`` for the reports of failures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fdfast.report import Report

_OPTION = "--gradcheck-html"
_FAILED = pytest.StashKey[list["Report"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line option."""
    parser.getgroup("fdfast", "gradient checks (fdfast)").addoption(
        _OPTION,
        metavar="DIR",
        default=None,
        help="keep in DIR an HTML report of every failed gradcheck of failed tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """See that the directory for reports is none of the files."""
    directory = _directory(config)
    if directory is not None and directory.exists() and not directory.is_dir():
        raise pytest.UsageError(f"{_OPTION} {directory}: this is a file; name a directory, which need not exist yet")


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`fdfast.assert_gradcheck`, whose failures end at the line of the test and are kept as HTML if asked for.

    Returns
    -------
    callable
        ``gradcheck(f, x, y=None, **options)`` takes the arguments of `fdfast.gradcheck` and returns its report, or
        raises AssertionError with the report as its message.
    """
    failed = request.node.stash.setdefault(_FAILED, [])

    def check(f: Any, x: Any, y: Any = None, **options: Any) -> Report:
        # Only a failed check ends at the caller's line: errors of f show where they come from.
        __tracebackhide__ = methodcaller("errisinstance", AssertionError)
        from fdfast.check import gradcheck

        report = gradcheck(f, x, y, **options)
        if not report:
            failed.append(report)
            raise AssertionError(f"{report.short}\n\n{report}")
        return report

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the verdict first in the short summary; keep the reports of a test that failed, and name their files."""
    report = yield
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash is not None:  # the short summary cuts lines: the verdict comes first
        crash.message = crash.message.removeprefix("AssertionError: gradcheck ")
    directory, failed = _directory(item.config), item.stash.get(_FAILED, [])
    if report.failed and directory is not None:
        for i, one in enumerate(failed):
            report.sections.append(("fdfast", _keep(one, directory / file_name(item.nodeid, i))))
        failed.clear()
    return report


def _directory(config: pytest.Config) -> Path | None:
    given = config.getoption(_OPTION)
    return None if given is None else Path(config.invocation_params.dir, given)


def _keep(report: Report, path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report.to_html(path)
    except Exception as error:  # a full disk must not hide which tests failed
        return f"gradcheck report not kept: {type(error).__name__}: {error}"
    return f"gradcheck report: {path}"


def file_name(nodeid: str, number: int = 0) -> str:
    """Return a file name for the report of a test, the same in every run and on every worker.

    Parameters
    ----------
    nodeid : str
        As pytest gives it, for instance ``"tests/test_model.py::test_loss[relu-1/2]"``.
    number : int
        Of the failed check within the test, from 0.

    Returns
    -------
    str
        ASCII letters, digits, ``._-`` only, at most 120 of them. Ends in a digest of the node id, because different
        ids may look alike after that.

    Examples
    --------
    >>> file_name("tests/test_model.py::test_loss[relu-1/2]")
    'tests_test_model.py_test_loss_relu-1_2-0624bf.html'
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", nodeid).strip("._")[:90]
    digest = hashlib.sha256(nodeid.encode()).hexdigest()[:6]
    return f"{plain}-{digest}{f'-{number + 1}' if number else ''}.html"
