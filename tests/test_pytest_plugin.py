"""The plugin in pytest sessions of their own, each in a directory of its own."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

from fdfast import pytest_plugin
from fdfast.pytest_plugin import file_name

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.usefixtures("loaded")

CASES = """
    import numpy as np
    import pytest

    X = np.array([1.0, 2.0, 3.0])

    def square(rows):
        return (rows**2).sum(axis=1)

    def explodes(rows):
        raise RuntimeError("inside f")

    def test_right(gradcheck):
        assert gradcheck(square, X, analytic=2 * X, batched=True).verdict == "pass"

    @pytest.mark.parametrize("name", ["a/b", "a b", "../../etc", "é" * 200])
    def test_wrong(gradcheck, name):
        gradcheck(square, X, analytic=2.2 * X, batched=True)  # the line of the test

    def test_expected(gradcheck):
        with pytest.raises(AssertionError, match="FAIL"):
            gradcheck(square, X, analytic=2.2 * X, batched=True)

    @pytest.mark.xfail
    def test_xfail(gradcheck):
        gradcheck(square, X, analytic=2.2 * X, batched=True)

    def test_layer(gradcheck):
        import keras
        layer = keras.layers.Dense(2)
        assert gradcheck(layer, np.ones((1, 3), "float32")).check == "directions"

    def test_wrong_layer(gradcheck):
        import keras, tensorflow as tf

        @tf.custom_gradient
        def twice(x):
            return 2 * x, lambda up: 2.2 * up

        class Twice(keras.layers.Layer):
            def call(self, x):
                return twice(x)

        gradcheck(Twice(name="my_layer"), np.ones((1, 3), "float32"))

    def test_error(gradcheck):
        gradcheck(explodes, X, analytic=X, batched=True)

    def test_two(gradcheck):
        for factor in (2.2, 1.8):
            try:
                gradcheck(square, X, analytic=factor * X, batched=True)
            except AssertionError:
                pass
        assert False, "both were wrong"

    @pytest.fixture
    def checked(gradcheck):
        gradcheck(square, X, analytic=2.2 * X, batched=True)

    def test_setup(checked):
        pass
"""


@pytest.fixture
def session(pytester):
    pytester.makepyfile(test_cases=CASES)
    return lambda *options: pytester.runpytest_inprocess("-p", "fdfast.pytest_plugin", "-p", "no:xdist", *options)


def test_failures_end_at_the_line_of_the_test_with_the_report(session):
    result = session("-k", "test_wrong and b or test_right")
    result.assert_outcomes(passed=1, failed=2)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            ">       gradcheck(square, X, analytic=2.2 * X, batched=True)  # the line of the test",
            "E       AssertionError: gradcheck FAIL: 3 of 3 tiles wrong: square",
            "E       fdfast: FAIL  square, 3, 3 tiles of 1",
            "E         wrong             3  100.00 %",
            "test_cases.py:*: AssertionError",
            "FAILED test_cases.py::test_wrong* - FAIL: 3 of 3 tiles wrong: square*",
        ]
    )
    assert "pytest_plugin.py" not in text
    assert "check.py" not in text


def test_layers_are_checked_and_blamed_first_in_the_summary(session):
    result = session("-k", "layer")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_cases.py::test_wrong_layer - FAIL: 3 of 3 elements wrong in *"])


def test_an_error_of_f_shows_where_it_comes_from(session):
    result = session("-k", "test_error")
    result.stdout.fnmatch_lines(['>       raise RuntimeError("inside f")', "E       RuntimeError: inside f"])


def test_reports_of_failed_tests_are_kept_and_named(session, pytester):
    result = session("--gradcheck-html", "kept/here")
    result.assert_outcomes(passed=3, failed=7, xfailed=1, errors=1)
    found = sorted(path.name for path in (pytester.path / "kept/here").iterdir())
    ids = [f"test_cases.py::test_wrong[{name}]" for name in ("a/b", "a b", "../../etc")]
    expected = [file_name(one) for one in ids]
    expected += [file_name("test_cases.py::test_two"), file_name("test_cases.py::test_two", 1)]
    expected += [file_name(f"test_cases.py::test_{name}") for name in ("setup", "wrong_layer")]
    assert set(expected) < set(found)
    assert len(found) == len(expected) + 1  # and the one with the long name
    assert list(pytester.path.glob("**/*.html")) == list((pytester.path / "kept/here").glob("*.html"))
    for path in (pytester.path / "kept/here").iterdir():
        assert "<html" in path.read_text(encoding="utf-8")[:200]
    result.stdout.fnmatch_lines(["*- fdfast -*", f"gradcheck report: *here/{expected[0]}"])


def test_nothing_is_written_unless_asked_for(session, pytester):
    session("-k", "test_wrong")
    assert not list(pytester.path.glob("**/*.html"))


def test_a_directory_that_is_a_file_is_refused(session, pytester):
    (pytester.path / "taken").write_text("")
    result = session("--gradcheck-html", "taken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gradcheck-html *taken: this is a file; name a directory*"])


def test_a_report_that_cannot_be_written_does_not_hide_the_failure(session, pytester):
    (pytester.path / "file").write_text("")
    result = session("-k", "test_two", "--gradcheck-html", "file/below")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gradcheck report not kept: NotADirectoryError: *"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.py::t[x/y]", "a.py::t[x y]"), ("a.py::t[x]", "a.py::t[x!]"), ("a.py::t[" + "x" * 300, "a.py::t[" + "x" * 301)],
)
def test_file_names_are_plain_short_and_apart(one, other):
    names = {file_name(one), file_name(other), file_name(one, 1), file_name("../../../etc/passwd")}
    assert len(names) == 4
    for name in names:
        assert len(name) <= 120
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>|[] ')
        assert not name.startswith((".", "-"))


def test_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, pytest, fdfast.pytest_plugin\n"
        "print(*({'tensorflow', 'keras', 'numba', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_example_runs():
    result = doctest.testmod(pytest_plugin)
    assert (result.attempted, result.failed) == (1, 0)
