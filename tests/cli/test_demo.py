"""The demonstration, on a small scale: what it prints, and the pictures it leaves."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fdfast.cli import command as cli
from fdfast.cli import demo, robust
from fdfast.data import mnist_cnn, mnist_sample


@pytest.fixture(scope="module")
def model() -> Any:
    return mnist_cnn()


@pytest.fixture(autouse=True)
def one_model(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace its functions once for all tests."""
    monkeypatch.setattr(demo, "mnist_cnn", lambda: model)


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = cli.main(["demo", *arguments])
    out, err = capfd.readouterr()
    return code, out.splitlines(), err


def rows(lines: list[str], title: str) -> list[list[str]]:
    """Cells of the table that stands under a title."""
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 4
    stop = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return [re.split(r" {2,}", line.strip()) for line in lines[start:stop]]


def test_one_digit_without_the_loop(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, lines, err = run(capfd, "--count", "1", "--no-loop", "--tile", "4", "--out", "deep/pictures")
    assert (code, err) == (0, "")
    assert max(map(len, lines)) <= 100
    assert rows(lines, "Verdicts")[0][:3] == ["0", "0 (99.9 %)", "PASS"]
    (every, smooth) = rows(lines, "Finite differences against autodiff")
    assert every[1:3] == ["all", "49"]
    assert smooth[0] == "smooth"
    assert float(smooth[3]) < 1e-6 < 1e-3 < float(every[4])  # medians: rounding alone; then also the kinks
    assert len(rows(lines, "Time")) == 3
    assert rows(lines, "What the model says")[0][1].startswith("0 (")
    paths = [line.strip() for line in lines if line.endswith(".png")]
    assert paths == [f"deep/pictures/{what}-0-digit-0.png" for what in ("check", "attack")]
    for path in paths:
        content = Path(path).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 20_000  # an empty figure takes a few thousand bytes


def test_the_loop_is_timed_and_compared(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, lines, err = run(capfd, "--digits", "3", "--tile", "7", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    errors = rows(lines, "Finite differences against autodiff")
    assert [row[0] for row in errors] == ["3", "smooth", "3, by the loop", "smooth"]
    assert float(errors[3][3]) > 100 * float(errors[1][3])  # the float32 loop is far less exact
    times = rows(lines, "Time")
    assert times[-1][0].startswith("the loop, two calls per square: float32, h = 0.001")
    assert times[-1][-1] == "1 x"


def test_quiet_leaves_only_the_pictures(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = ("--digits", "1,1,1,1", "--no-loop", "--tile", "14", "--quiet", "--out", str(tmp_path))
    assert run(capfd, *line) == (0, [], "")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{what}-{i}-digit-1.png" for what in ("check", "attack") for i in range(demo.PICTURES)
    )


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["pass", "pass"], 0), (["pass", "inconclusive"], 2), (["fail", "pass"], 1), (["inconclusive", "fail"], 1)],
)
def test_the_exit_code_is_the_worst_verdict(monkeypatch: pytest.MonkeyPatch, verdicts: list[str], code: int) -> None:
    class Report:
        def __init__(self, verdict: str) -> None:
            self.verdict = verdict

    monkeypatch.setattr(demo, "run", lambda settings: [Report(v) for v in verdicts])
    assert cli.main(["demo"]) == code


def test_the_user_s_own_mnist(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x, labels = mnist_sample(10)
    images = np.round(255 * x[..., 0]).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_test=images[::-1], y_test=labels[::-1].astype(np.uint8))
    line: Any = ("--data", str(tmp_path / "mnist.npz"), "--count", "1", "--no-loop", "--tile", "14")
    code, lines, _ = run(capfd, *line, "--out", str(tmp_path / "out"))
    assert code == 0
    assert "1 digit (of the 10 in your MNIST test set)" in lines[0]
    assert rows(lines, "Verdicts")[0][0] == "9"


def test_digits_are_taken_once_each() -> None:
    x, labels, _ = demo._digits(SimpleNamespace(digits=(7, 7, 2), count=None, data=None))
    assert labels.tolist() == [7, 7, 2]
    assert (x[0] != x[1]).any()


def test_train_adds_the_table_of_accuracies(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "train", lambda epsilon: f"trained at {epsilon:g}")
    line = ("--count", "1", "--no-loop", "--tile", "14", "--out", str(tmp_path))
    assert "trained at 0.2" in run(capfd, *line, "--train")[1]
    assert "trained at 0.2" not in run(capfd, *line)[1]
