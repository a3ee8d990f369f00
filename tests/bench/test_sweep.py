"""Short forms of what sweeps survive, and whether the measurements would see that they do not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.sweep.__main__ import main
from bench.sweep.damage import data, parts
from bench.sweep.digits import Case, Digits, among, same
from bench.timing import Row
from fdfast.sweeps import Sweep
from fdfast.sweeps.folder import Folder

#: Five files of one shard each.
COUNT = 50


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return Digits(Case(COUNT, tmp_path_factory.mktemp("digits")))


@pytest.mark.parametrize("section", [lambda case: parts(case, times=2), data])
def test_damage_is_survived(tmp_path: Path, section: Any) -> None:
    rows = [line for line in section(Case(COUNT, tmp_path)) if isinstance(line, Row)]
    assert len(rows) == 2
    assert all(row.holds for row in rows), "\n".join(map(str, rows))


def test_no_two_digits_are_the_same(digits: Digits, tmp_path: Path) -> None:
    many = Digits(Case(3_000, tmp_path)).pixels
    assert len({one.tobytes() for one in many}) == len(many)


def test_a_row_that_is_lost_or_twice_or_another_is_seen(digits: Digits, tmp_path: Path) -> None:
    whole = digits.undisturbed
    shutil.copytree(whole.path, tmp_path / "out")
    folder = Folder(tmp_path / "out")
    assert same(Sweep.load(folder.path), whole)
    first, second, *_ = folder.parts()
    kept = second.read_bytes()
    for wrong in (None, first.read_bytes()):
        second.unlink() if wrong is None else second.write_bytes(wrong)
        assert not same(Sweep.load(folder.path), whole)
    second.write_bytes(kept)
    assert among(folder.path, whole)
    table, about = folder.read(second)
    about.pop("sha256")
    folder.write("000000010", table.set_column(0, "index", [[i + 1 for i in range(10, 20)]]), about, None)
    assert not among(folder.path, whole)


def test_an_unknown_section_is_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["costs"])
    assert "unknown: costs; there are: cost, linear" in capsys.readouterr().err
