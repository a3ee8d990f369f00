"""``fdfast sweep``: exit codes, output, resuming by the command that is named."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweeps_small import examples, rows, small_model

from fdfast.cli import main
from fdfast.sweeps import Sweep

# Keras, on NumPy 2, where it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X, Y = examples(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeping")
    small_model().save(path / "m.keras")
    np.savez(path / "d.npz", x=(255 * X).astype(np.uint8), y=Y)
    np.savez(path / "nan.npz", x=np.where(np.arange(6)[:, None, None, None] == 2, np.nan, X), y=Y)
    (path / "runs").mkdir()
    for epoch in (1, 2):
        small_model(epoch).save(path / "runs" / f"e{epoch}.keras")
    return path


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return tmp_path


def run(capfd: Any, command: str, out: Path) -> tuple[int, str, str]:
    code = main(["sweep", *shlex.split(command), "--out", str(out)])
    return code, *capfd.readouterr()


def test_a_sweep_is_told_and_written(capfd: Any, here: Path) -> None:
    code, out, err = run(capfd, "m.keras d.npz --batch 4 --limit 5", here / "out")
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "fdfast sweep: PASS  gradcheck of 5 examples",
        "",
        "  pass                 5   enough elements agree, and none is wrong",
    ]
    assert out.rstrip().endswith(f"written: {here / 'out' / '_summary.html'}")
    page = (here / "out" / "_summary.html").read_text()
    assert page.count("data:image/png;base64,") == 5  # histograms, and four pictures
    code, out, _ = run(capfd, "m.keras d.npz --batch 4 --no-html --json -", here / "out")
    told = json.loads(out)
    assert (code, told["verdict"], told["examples"], told["counts"]) == (0, "pass", 6, {"pass": 6})
    code, _, err = run(capfd, "m.keras d.npz --batch 3", here / "out")
    assert code == 3
    assert "batch, the number of examples of a part: 4 then, 3 now" in err
    assert "--restart" in err
    assert run(capfd, "m.keras d.npz --batch 3 --restart --no-html --quiet", here / "out") == (0, "", "")


def test_an_example_that_cannot_be_used_is_inconclusive(capfd: Any, here: Path) -> None:
    code, out, _ = run(capfd, "m.keras nan.npz --no-html", here / "out")
    assert code == 2
    assert "  error                1   the example cannot be used; the row says why" in out
    assert "    2: error: " in out


def test_checkpoints(capfd: Any, here: Path) -> None:
    code, out, _ = run(capfd, "d.npz --checkpoints runs --rtol 1e-3 --limit 2", here / "out")
    assert (code, "gradcheck of 4 examples" in out) == (0, True)
    assert "Checkpoints" in (here / "out" / "_summary.html").read_text()


def test_gradients(capfd: Any, here: Path) -> None:
    code, out, _ = run(capfd, "m.keras d.npz --task gradient --keep maps --tile 2 --no-html", here / "out")
    assert (code, "  done                 6" in out) == (0, True)
    assert len(list((here / "out" / "_maps").iterdir())) == 1


def test_ctrl_c_names_the_command_that_goes_on(capfd: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fdfast.sweeps.folder import Folder

    write, written = Folder.write, []

    def interrupted(self: Any, *arguments: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    monkeypatch.setattr(Folder, "write", interrupted)
    code, _, err = run(capfd, "m.keras d.npz --batch 2 --no-html --restart", here / "a b")
    assert code == 130
    told = f"fdfast: interrupted: 2 of 6 examples are in {here / 'a b'}; the same call goes on from there: "
    again = shlex.join(["sweep", *["m.keras", "d.npz", "--batch", "2", "--no-html", "--out"], str(here / "a b")])
    assert err == f"{told}fdfast {again}\n"


def test_the_command_that_is_named_goes_on(capfd: Any, here: Path) -> None:
    run(capfd, "m.keras d.npz --batch 2 --limit 2 --no-html", here / "out")
    part = here / "out" / "part-000000000.parquet"
    before = part.stat().st_mtime_ns
    assert run(capfd, "m.keras d.npz --batch 2 --no-html", here / "out")[0] == 0
    assert part.stat().st_mtime_ns == before
    run(capfd, "m.keras d.npz --batch 2 --no-html", here / "whole")
    assert rows(Sweep.load(here / "out")).equals(rows(Sweep.load(here / "whole")))


BAD = [
    ("d.npz", "sweep needs MODEL and DATA, or --checkpoints DIR"),
    ("m.keras d.npz --workers 2", "--workers, --worker-cpus and --worker-gpus go with --ray ADDRESS"),
    ("none.keras d.npz", "does not exist"),
    ("m.keras none.npz", "DATA 'none.npz' does not exist"),
    ("m.keras d.npz --x-key z", "has no array 'z'; it has x, y"),
    ("m.keras d.npz --import nothing_there", "--import nothing_there: No module named"),
    ("m.keras d.npz --limit 0", "limit must be a whole number of at least 1"),
    ("d.npz --checkpoints nowhere", "checkpoints 'nowhere' is no folder"),
    ("m.keras d.npz --task train", "'--task': 'train' is not one of"),
]


@pytest.mark.parametrize(("command", "message"), BAD)
def test_a_mistake_is_one_clear_line(capfd: Any, here: Path, command: str, message: str) -> None:
    code, out, err = run(capfd, command, here / "out")
    assert (code, out) == (3, "")
    assert message in err
    assert len(err.splitlines()) == 1
