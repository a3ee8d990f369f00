"""Data in files: ``.npz`` archives and Parquet tables, gone through in order with one shard in memory."""

from __future__ import annotations

import glob
import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from fdfast.files import BadFile, npy_header, pixels
from fdfast.sweeps.shards import Array, Done, Shard, cuts
from fdfast.sweeps.tables import TableRows

_PIECE = 1 << 20
_ENDINGS = (".npz", ".parquet")
#: What a damaged archive raises.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


class Rows(Protocol):
    """Rows of some arrays of one file, read from its beginning to its end."""

    total: int
    names: tuple[str, ...]

    def read(self, first: int, count: int) -> dict[str, Array]:
        """Rows [first, first + count) by name of the array."""

    def verify(self) -> None:
        """Read everything once; raise if it is damaged."""

    def close(self) -> None:
        """Close the file."""


class Files:
    """Examples in one or more files, in the order of their names.

    Parameters
    ----------
    paths : sequence of Path
    x_key, y_key : str
        Arrays or columns that hold inputs and targets. One that is called ``key`` names the examples.
    shape : tuple or None
        Shape of one input of the model, if it is known: flat rows of a table are brought into it.
    scale : bool
        Divide 8-bit pixels by 255.
    """

    again = True

    def __init__(
        self, paths: Sequence[Path], x_key: str, y_key: str, shape: tuple[int | None, ...] | None, *, scale: bool
    ) -> None:
        self._paths, self._keys, self._shape, self._scale = list(paths), (x_key, y_key), shape, scale
        self.damaged: dict[str, str] = {}
        self._counts: list[int] = []
        self._stats: list[tuple[int, int]] = []
        facts: dict[str, Any] = {}
        self.size = 0
        for path in self._paths:
            self._stats.append(_stat(path))
            try:
                facts[path.name] = self._look(path)
            except (BadFile, ValueError, *BROKEN) as error:
                self.damaged[path.name] = " ".join(str(error).split())
                facts[path.name] = {"damaged": True}
                self._counts.append(0)
        if len(self.damaged) == len(self._paths):
            raise BadFile(next(iter(self.damaged.values())))
        self.total: int | None = sum(self._counts)
        self.about = {"kind": "files", "x": x_key, "y": y_key, "scale": scale, "files": facts}

    def _look(self, path: Path) -> dict[str, Any]:
        """Read the file from end to end: a damaged one is known before anything is computed from it."""
        rows = self._open(path)
        try:
            rows.verify()
            self.size = self.size or int(np.prod(self._arrays(rows, path, 0, min(1, rows.total))[0].shape[1:]))
            self._counts.append(rows.total)
        finally:
            rows.close()
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
        return {"examples": rows.total, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}

    def _open(self, path: Path) -> Rows:
        return (ArchiveRows if path.suffix == ".npz" else TableRows)(path, self._keys)

    def _arrays(self, rows: Rows, path: Path, first: int, count: int) -> tuple[Array, Array, list[str] | None]:
        found = rows.read(first, count)
        x, y = (found[key] for key in self._keys)
        shape = tuple(n for n in self._shape or () if n is not None)
        if shape and shape == self._shape != x.shape[1:] and math.prod(x.shape[1:]) == math.prod(shape):
            x = x.reshape(-1, *shape)
        keys = [str(key) for key in found["key"].tolist()] if "key" in found else None
        return pixels(x, scale=self._scale), y, keys

    def shards(self, batch: int, limit: int | None, done: Mapping[str, Done]) -> Iterator[Shard]:
        """Yield the shards that are not done, file by file; what cannot be read is left out and put into `damaged`."""
        left = limit
        several = len(self._paths) > 1
        for number, (path, count) in enumerate(zip(self._paths, self._counts, strict=True)):
            wanted = [
                (f"{number:05d}-{first:09d}" if several else f"{first:09d}", first, many)
                for first, many in cuts(count, batch, left)
            ]
            left = None if left is None else left - sum(many for _, _, many in wanted)
            missing = [one for one in wanted if one[0] not in done or done[one[0]].examples != one[2]]
            if not missing:
                continue
            try:
                yield from self._shards_of(path, number, missing, several)
            except (BadFile, *BROKEN) as error:
                self.damaged[path.name] = " ".join(str(error).split())

    def _shards_of(self, path: Path, number: int, wanted: Any, several: bool) -> Iterator[Shard]:
        rows = self._open(path)
        try:
            for name, first, many in wanted:
                x, y, keys = self._arrays(rows, path, first, many)
                if _stat(path) != self._stats[number]:
                    raise BadFile(f"DATA {str(path)!r} was changed while the sweep was running")
                yield Shard(name, first, x, y, keys, path.name if several else None)
        finally:
            rows.close()


class ArchiveRows:
    """Rows of arrays of an ``.npz`` archive, which is not loaded as a whole.

    Raises
    ------
    BadFile
        An array is missing, holds Python objects, is in Fortran order, or has another number of rows.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._where = f"DATA {str(path)!r}"
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise BadFile(f"{self._where} is no .npz file or is damaged ({error})") from error
        held = [name[:-4] for name in self._archive.namelist() if name.endswith(".npy")]
        missing = [name for name in names if name not in held]
        if missing:
            self.close()
            raise BadFile(
                f"{self._where} has no array {' and no array '.join(map(repr, missing))}; it has "
                f"{', '.join(held[:8]) or 'none'}. Name them by x_key and y_key (--x-key, --y-key)"
            )
        self.names = (*names, *(["key"] if "key" in held and "key" not in names else []))
        self._members: dict[str, _Member] = {}
        try:
            self._members = {name: _Member(self._archive, name, self._where) for name in self.names}
            totals = {name: member.shape[0] for name, member in self._members.items()}
            if len(set(totals.values())) != 1:
                told = ", ".join(f"{name} {n}" for name, n in totals.items())
                raise BadFile(f"{self._where}: the arrays have different numbers of examples: {told}")
        except BaseException:
            self.close()
            raise
        self.total = next(iter(totals.values()))

    def read(self, first: int, count: int) -> dict[str, Array]:
        """Rows [first, first + count) by name of the array."""
        return {name: member.read(first, count) for name, member in self._members.items()}

    def verify(self) -> None:
        """Read everything once; raise `BadFile` if a checksum is not right."""
        for member in self._members.values():
            member.verify()

    def close(self) -> None:
        """Close the archive."""
        for member in getattr(self, "_members", {}).values():
            member.close()
        self._archive.close()


class _Member:
    """One array of an archive, read forward; going back begins anew."""

    def __init__(self, archive: zipfile.ZipFile, name: str, where: str) -> None:
        self._archive, self._name, self._what = archive, name, f"{where}: array {name!r}"
        self._stream: IO[bytes] | None = None
        self._restart()

    def _restart(self) -> IO[bytes]:
        self.close()
        try:
            stream = self._stream = self._archive.open(f"{self._name}.npy")
            self.shape, fortran, self.dtype = npy_header(stream, self._what)
            if not self.shape:
                raise BadFile(f"{self._what} is a single number; it needs a leading axis of examples")
            if fortran and len(self.shape) > 1:
                raise BadFile(f"{self._what} is in Fortran order: save numpy.ascontiguousarray({self._name})")
        except (ValueError, *BROKEN) as error:
            self.close()
            raise error if isinstance(error, BadFile) else BadFile(f"{self._what} is damaged: {error}") from error
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._at = 0
        return stream

    def read(self, first: int, count: int) -> Array:
        stream = self._stream if self._stream is not None and self._at <= first else self._restart()
        self._take(stream, (first - self._at) * self._row, keep=False)
        content = self._take(stream, count * self._row, keep=True)
        self._at = first + count
        rows = np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        return rows.astype(self.dtype.newbyteorder("="), copy=False)

    def verify(self) -> None:
        stream = self._restart()
        self._take(stream, self.shape[0] * self._row, keep=False)
        try:
            longer = stream.read(1)  # the checksum is compared at the end of the member
        except BROKEN as error:
            raise BadFile(f"{self._what} is damaged: {error}") from error
        if longer:
            raise BadFile(f"{self._what} is damaged: it is longer than its header says")
        self.close()

    def _take(self, stream: IO[bytes], size: int, *, keep: bool) -> bytearray:
        content = bytearray()
        try:
            while size:
                piece = stream.read(min(_PIECE, size))
                if not piece:
                    raise EOFError("it is cut off")
                size -= len(piece)
                if keep:
                    content += piece
        except BROKEN as error:
            raise BadFile(f"{self._what} is damaged: {error}") from error
        return content

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def find_files(data: str | os.PathLike[str]) -> list[Path]:
    """The data files that a path, a folder or a pattern names, in order.

    Raises
    ------
    BadFile
        There are none, or they are of another kind.
    """
    path = Path(data)
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.suffix in _ENDINGS and not one.name.startswith(("_", ".")))
        if not found:
            raise BadFile(f"DATA {str(path)!r} has no .npz and no .parquet files")
    elif path.exists():
        found = [path]
    else:
        found = sorted(map(Path, glob.glob(str(data), recursive=True)))
        if not found:
            raise BadFile(f"DATA {str(data)!r} does not exist, and names no files as a pattern")
    wrong = [one for one in found if one.suffix not in _ENDINGS]
    if wrong:
        raise BadFile(f"DATA {str(wrong[0])!r} must be an .npz file or a Parquet table (.parquet)")
    if len({one.name for one in found}) < len(found):
        raise BadFile(f"DATA {str(data)!r} names files of the same name in several folders, which rows could not tell")
    return found
