"""Parts are there whole or not at all; what was spoilt since is found; one sweep at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bench.sweep.dying import STAGES, die_inside
from fdfast.sweeps.folder import Busy, Folder
from fdfast.sweeps.shards import Done

TABLE = pa.table({"index": [0, 1], "verdict": ["pass", "fail"]})
ABOUT = {"identity": "me", "examples": 2, "digest": "d"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "out")
    with made.locked():
        made.write("a", TABLE, ABOUT, b"")
        made.write("b", TABLE, ABOUT, None)
        made.write_manifest({"task": "x"})
    return made


def test_what_was_written_is_read(folder: Folder) -> None:
    assert [part.name for part in folder.parts()] == ["part-a.parquet", "part-b.parquet"]
    assert folder.read(folder.parts()[0])[0].equals(TABLE)
    assert folder.manifest() == {"task": "x"}
    assert folder.done("me", maps=False) == ({"a": Done(2, "d"), "b": Done(2, "d")}, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[30] ^= 0xFF  # in the first page
    path.write_bytes(content)


def footer(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"verdict") > 1  # no page holds it, and so no page's checksum
    path.write_bytes(content.replace(b"verdict", b"verdicu"))


SPOILT = {
    "cut off": (cut, "part-a.parquet is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "part-a.parquet is damaged"),
    "flipped": (flipped, "part-a.parquet is damaged"),
    "flipped outside of all pages": (footer, "part-a.parquet is damaged: its checksum is another one"),
    "of another table": (lambda path: pa.parquet.write_table(TABLE, path), "part-a.parquet is damaged"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_part_is_named_and_made_again(folder: Folder, how: str) -> None:
    spoil, message = SPOILT[how]
    spoil(folder.parts()[0])
    done, said = folder.done("me", maps=False)
    assert list(done) == ["b"]
    assert len(said) == 1
    assert message in said[0]
    assert said[0].endswith("it was made again")
    assert [part.name for part in folder.parts()] == ["part-b.parquet"]


def test_a_part_of_another_sweep_and_one_without_maps_are_made_again(folder: Folder) -> None:
    assert folder.done("me", maps=True)[0] == {}  # the archive of a is empty, that of b is missing
    folder.write("b", TABLE, ABOUT, None)
    assert "is of another sweep" in folder.done("you", maps=False)[1][0]


def test_every_flipped_byte_is_seen(folder: Folder) -> None:
    part = folder.parts()[0]
    good = part.read_bytes()
    for at in range(0, len(good), 7):  # prime: no field of a fixed size is passed over
        part.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            folder.read(part)
    part.write_bytes(good)
    assert folder.read(part)[0].equals(TABLE)


class Full:
    """A disk that is full after so many more files."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, handle: int) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 1])
def test_a_full_disk_leaves_nothing_half_written(folder: Folder, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", Full(2 * room))  # a file and its folder are synced
    with pytest.raises(OSError, match=r"no space left for .*; what was written before is whole") as caught:
        folder.write("c", TABLE, ABOUT, b"maps")
    assert caught.value.errno == errno.ENOSPC
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    after.pop(folder.maps("c"), None)  # without its part it counts for nothing
    assert after == before


def test_what_a_killed_process_left_is_swept_away(folder: Folder) -> None:
    left = folder.path / "_new-part-c.parquet"
    left.write_bytes(b"half")
    with folder.locked():
        assert not left.exists()


class Killed(BaseException):
    """Ends a write as kill -9 does: nothing of it is cleared away."""


def killed(*_: Any) -> None:
    raise Killed


FILES = ("_manifest.json", "part-c.npz", "part-c.parquet")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("file", FILES)
def test_death_inside_of_a_write_leaves_the_old_file_or_the_new_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: Any, stage: str, file: str
) -> None:
    before = {part: part.read_bytes() for part in folder.parts()}
    for owner, name in ((Folder, "_replace"), (os, "fsync"), (os, "replace")):  # what is brought back
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr("fdfast.sweeps.folder.open", open, raising=False)
    die_inside(stage, FILES.index(file), killed)

    def write() -> None:
        with folder.locked():
            folder.write_manifest({"task": "y"})
            folder.write("c", TABLE, ABOUT, b"maps")

    with pytest.raises(Killed):
        write()
    monkeypatch.undo()
    assert capsys.readouterr().out == f"{file}\n"  # or it died elsewhere
    left = list(folder.path.rglob("_new-*"))
    assert [path.name for path in left] == ([f"_new-{file}"] if stage != "renamed" else [])
    with folder.locked():
        assert not list(folder.path.rglob("_new-*"))
        whole = {"a", "b", "c"} if (stage, file) == ("renamed", FILES[2]) else {"a", "b"}
        assert (folder.done("me", maps=False)[0].keys(), folder.done("me", maps=False)[1]) == (whole, [])
        assert folder.manifest() == {"task": "x" if file == FILES[0] and stage != "renamed" else "y"}
    assert {part: part.read_bytes() for part in before} == before


HOLD = """
import sys
from fdfast.sweeps.folder import Folder
with Folder(sys.argv[1]).locked():
    print(1, flush=True)
    input()
"""


def test_a_second_sweep_into_one_folder_is_refused_until_the_first_ends(folder: Folder) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Busy, match="another sweep is writing into"), folder.locked():
            pass
        other.kill()
        other.wait()
        with folder.locked():  # the lock died with the process
            pass


def test_only_what_a_sweep_wrote_is_removed(folder: Folder) -> None:
    own = folder.path / "mine.txt"
    own.write_text("kept")
    folder.clear()
    assert sorted(path.name for path in folder.path.iterdir()) == ["_lock", "_maps", "mine.txt"]


def test_a_damaged_manifest_is_named(folder: Folder) -> None:
    (folder.path / "_manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"_manifest\.json is damaged.*resume=False starts anew"):
        folder.manifest()


def test_other_tools_see_rows_and_nothing_else(folder: Folder) -> None:
    import pyarrow.dataset as ds

    found: Any = ds.dataset(folder.path, format="parquet").to_table()
    assert found.column("index").to_pylist() == [0, 1, 0, 1]
