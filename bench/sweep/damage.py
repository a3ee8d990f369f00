"""A full disk, parts that were damaged later, data that are damaged in the middle: what is said, and what is kept."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fdfast
from bench.sweep.digits import SMALL, Case, Digits, among, same
from bench.timing import Row, row
from fdfast.sweeps import DataError, Sweep

#: Sizes of a disk, from one that takes nothing but the manifest on.
_ROOMS = ("8k", "64k", "256k")


def full(case: Case) -> Iterator[Row | str]:
    """File systems that become full, then larger; needs the right to mount."""
    digits = Digits(case)
    right = 0
    for room in _ROOMS:
        with _mounted(case.folder / f"disk-{room}", room) as disk:
            if disk is None:
                yield "    not measured: tmpfs cannot be mounted here, which root can"
                return
            out = disk / "out"
            try:
                digits.sweep(str(out), batch=SMALL)
                raise AssertionError(f"{room} were enough: more --images are needed")
            except OSError as error:
                said = str(error).replace(str(disk), "")
            have, left = len(list(out.glob("part-*"))), len(list(out.rglob("_new-*")))
            yield f"    a disk of {room}: {said}; {have} parts stand, {left} halves are left"
            stands = "no space left" in said and not left and among(out, digits.undisturbed)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            right += stands and same(digits.sweep(str(out), batch=SMALL), digits.undisturbed)
    yield row("sweep: full disks that are named, kept whole and gone on with", right, f"= {len(_ROOMS)}")


@contextlib.contextmanager
def _mounted(path: Path, size: str) -> Iterator[Path | None]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def parts(case: Case, times: int = 10) -> Iterator[Row]:
    """Parts that were cut off, and parts with one byte changed, at places drawn at random."""
    digits, rng = Digits(case), np.random.default_rng(3)
    out = case.folder / "spoilt"
    shutil.copytree(digits.undisturbed.path, out, dirs_exist_ok=True)

    def cut(content: bytes, at: int) -> bytes:
        return content[:at]

    def changed(content: bytes, at: int) -> bytes:
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]

    for words, spoil in (("cut off", cut), ("with one bit changed", changed)):
        right = 0
        for _ in range(times):
            # A note of before stays in the manifest: the last one is of this time.
            part = sorted(out.glob("part-*"))[int(rng.integers(len(list(out.glob("part-*")))))]
            content = part.read_bytes()
            part.write_bytes(spoil(content, int(rng.integers(len(content)))))
            others = {path: path.stat().st_mtime_ns for path in out.glob("part-*") if path != part}
            found = digits.sweep(out.name, batch=SMALL)
            named = part.name in found.notes[-1] and "damaged" in found.notes[-1]
            kept = all(path.stat().st_mtime_ns == time for path, time in others.items())
            right += named and kept and same(found, digits.undisturbed)
        yield row(f"sweep: parts {words} that are named and made again, alone", right, f"= {times}")


_SHARDS = 5


def data(case: Case) -> Iterator[Row | str]:
    """Data in files, of which the one in the middle is damaged in its middle: before a sweep, and while it runs."""
    digits = Digits(case)
    for kind in ("npz", "parquet"):
        folder = case.folder / f"data-{kind}"
        names = _saved(digits, folder, kind)
        bad = folder / names[_SHARDS // 2]
        good = bad.read_bytes()
        spoilt = good[: len(good) // 2] + bytes(256) + good[len(good) // 2 + 256 :]
        whole, right = fdfast.sweep(digits.model, folder, case.folder / f"whole-{kind}", batch=SMALL), 0
        for when, done in (("before the sweep", 0), ("while it runs", SMALL)):
            out = case.folder / f"out-{kind}-{done}"
            if not done:
                bad.write_bytes(spoilt)
            said = _error(digits.model, folder, out, _spoiling(bad, spoilt, done))
            yield f"    {kind}, damaged {when}: {said.replace(str(folder), '')}"
            files = set(Sweep.load(out).table.column("file").to_pylist())
            bad.write_bytes(good)
            others = bad.name in said and files == set(names) - {bad.name}
            right += others and same(fdfast.sweep(digits.model, folder, out, batch=SMALL), whole)
        yield row(f"sweep: {kind} files damaged in the middle: named, all else done, then the same rows", right, "= 2")


def _saved(digits: Digits, folder: Path, kind: str) -> list[str]:
    folder.mkdir()
    for i, some in enumerate(np.array_split(np.arange(digits.count), _SHARDS)):
        x, y, path = digits.pixels[some], digits.targets[some], folder / f"shard-{i}.{kind}"
        if kind == "npz":
            np.savez_compressed(path, x=x, y=y)
        else:
            table = pa.table({"x": list(x.reshape(len(x), -1)), "y": list(y)})
            pq.write_table(table, path, write_page_checksum=True)
    return [path.name for path in sorted(folder.iterdir())]


def _spoiling(path: Path, content: bytes, after: int) -> Any:
    """What damages a file once so many rows are there."""

    def progress(done: int, _: Any) -> None:
        if after and done == after:
            path.write_bytes(content)

    return progress


def _error(model: Any, folder: Path, out: Path, progress: Any) -> str:
    try:
        fdfast.sweep(model, folder, out, batch=SMALL, progress=progress)
    except DataError as error:
        return str(error)
    raise AssertionError("a damaged file was not seen")
