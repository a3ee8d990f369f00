"""The data of the measurements, the undisturbed sweep over them, and whether rows are its rows."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fdfast
from fdfast.data.datasets import load_idx
from fdfast.sweeps import Sweep
from fdfast.sweeps.folder import Folder

#: Examples of a shard where shards are to be many.
SMALL = 10


class Case(NamedTuple):
    """How many digits, where measurements may write, where the real digits are, how many die (None: as is usual)."""

    count: int
    folder: Path
    source: Path | None = None
    deaths: int | None = None


class Digits:
    """So many digits in one file, and a model.

    They are those of `source`, a folder of MNIST's IDX files: the test set, or the training set where that is too
    small. Else the shipped ones, again and again, each time moved by one more pixel, so that no two are the same.
    """

    def __init__(self, case: Case) -> None:
        self.count, self.folder = case.count, case.folder
        self.path = case.folder / f"digits-{case.count}.npz"
        self.model = fdfast.datasets.mnist_cnn()
        self.pixels, self.labels = _shipped(case.count) if case.source is None else _real(case.count, case.source)
        if not self.path.exists():
            np.savez(self.path, x=self.pixels, y=self.targets)

    @property
    def x(self) -> Any:
        return self.pixels.astype(np.float32) / np.float32(255)

    @property
    def targets(self) -> Any:
        return np.eye(10, dtype=np.float32)[self.labels]

    @cached_property
    def undisturbed(self) -> Sweep:
        """The sweep in small shards that nothing happens to."""
        return self.sweep("undisturbed", batch=SMALL)

    def sweep(self, name: str, **options: Any) -> Sweep:
        return fdfast.sweep(self.model, self.path, self.folder / name, **options)


def _shipped(count: int) -> tuple[Any, Any]:
    x, labels = fdfast.datasets.mnist_sample()
    rounds = -(-count // len(x))
    moved = [np.roll(x, divmod(turn, x.shape[1]), axis=(1, 2)) for turn in range(rounds)]
    return np.round(255 * np.concatenate(moved)[:count]).astype(np.uint8), np.tile(labels, rounds)[:count]


def _real(count: int, source: Path) -> tuple[Any, Any]:
    kind = "t10k" if count <= 10_000 else "train"
    pixels, labels = (load_idx(source / f"{kind}-{name}-ubyte.gz")[:count] for name in ("images-idx3", "labels-idx1"))
    if len(pixels) < count:
        raise ValueError(f"{source} has {len(pixels)} digits, --images asks for {count}")
    return pixels[..., None], labels


def rows(sweep: Sweep) -> Any:
    """All but the time, which is another one every time."""
    return sweep.table.drop(["seconds"])


def same(found: Sweep, expected: Sweep) -> bool:
    """Whether the rows are equal, bit for bit, none is missing and none is there twice."""
    return bool(rows(found).equals(rows(expected)))


def among(found: Path, expected: Sweep) -> bool:
    """Whether all parts that stand in a folder are whole and hold the rows that they must."""
    whole = rows(expected)
    folder = Folder(found)
    for part in folder.parts():
        table = folder.read(part)[0].replace_schema_metadata().drop(["seconds"])
        if not table.equals(whole.slice(table.column("index")[0].as_py(), len(table))):
            return False
    return True


def maps(found: Path) -> dict[tuple[str, str], bytes]:
    """Bytes of all arrays of maps, by file and name."""
    kept = {}
    for path in sorted(found.glob("_maps/part-*.npz")):
        with np.load(path) as arrays:
            kept |= {(path.name, name): arrays[name].tobytes() for name in arrays.files}
    return kept
