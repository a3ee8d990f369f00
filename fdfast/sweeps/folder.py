"""The folder of a sweep: parts that are there whole or not at all, a manifest, a lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdfast.sweeps.shards import Done

if TYPE_CHECKING:
    import pyarrow as pa

#: Names that begin with "_" are no data to pandas, DuckDB, Spark and Arrow, which read the folder as one table.
MANIFEST, _MAPS, _LOCK, _NEW = "_manifest.json", "_maps", "_lock", "_new-"
_META = b"fdfast"
#: Stands in a part while its checksum is taken, which then takes its place: a digest, so that no row holds it.
_UNSEALED = hashlib.sha256(b"fdfast.sweep").hexdigest().encode()


class Busy(RuntimeError):
    """Another process is sweeping into the folder."""


def arrow() -> Any:
    """Import pyarrow with its Parquet module; raise ImportError with the remedy where it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "a sweep writes Parquet files by pyarrow, which is missing: pip install 'fdfast[sweep]'"
        ) from error
    return pyarrow


class Folder:
    """Results on disk. Every file is written under another name, synced and renamed.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def manifest(self) -> dict[str, Any] | None:
        """Read the manifest; None if there is none."""
        try:
            found: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path / MANIFEST} is damaged ({error}): resume=False starts anew") from error
        return found

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        self._replace(self.path / MANIFEST, json.dumps(manifest, indent=1).encode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other sweeps out; the lock ends with the process, however that ends.

        Raises
        ------
        Busy
            Another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / _LOCK, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another sweep is writing into {self.path}: wait for it, or take another folder") from None
            for left in self.path.rglob(f"{_NEW}*"):  # of a process that was killed
                left.unlink(missing_ok=True)
            yield

    def clear(self) -> None:
        """Remove what a sweep has written."""
        # The manifest last: without it, parts would be anybody's.
        for path in [*self.parts(), *self.path.glob(f"{_MAPS}/part-*.npz"), self.path / MANIFEST]:
            path.unlink(missing_ok=True)

    def parts(self) -> list[Path]:
        """Files of results, in the order of the examples."""
        return sorted(self.path.glob("part-*.parquet"))

    def maps(self, name: str) -> Path:
        """File of the maps of a shard."""
        return self.path / _MAPS / f"part-{name}.npz"

    def write(self, name: str, table: pa.Table, about: dict[str, Any], maps: bytes | None) -> None:
        """Write the results of one shard; the part comes last, so that it stands for its maps too."""
        pa = arrow()
        if maps is not None:
            self._replace(self.maps(name), maps)
        sink = pa.BufferOutputStream()
        with pa.parquet.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({_META: json.dumps(about | {"sha256": _UNSEALED.decode()}).encode()})
        # A part that was damaged later is found out, and made again. Parquet's own checksums leave out its footer.
        content = sink.getvalue().to_pybytes()
        self._replace(self.path / f"part-{name}.parquet", content.replace(_UNSEALED, _checksum(content)))

    def read(self, part: Path) -> tuple[pa.Table, dict[str, Any]]:
        """Read a part, and what was written about it.

        Raises
        ------
        ValueError
            It is damaged.
        """
        pa = arrow()
        try:
            content = part.read_bytes()
            with pa.parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
                table, about = file.read(), json.loads(file.metadata.metadata[_META])
            seal = str(about["sha256"]).encode()
            if _checksum(content.replace(seal, _UNSEALED)) != seal:
                raise ValueError("its checksum is another one")
            return table, about
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{part} is damaged: {' '.join(str(error).split())}") from error

    def done(self, identity: str, *, maps: bool) -> tuple[dict[str, Done], list[str]]:
        """Look through the parts: what is done by shard, and sentences about those that must be made again.

        Parameters
        ----------
        identity : str
            Of the manifest that the parts must belong to.
        maps : bool
            Whether there must be maps, too.
        """
        found, spoilt = {}, []
        for part in self.parts():
            name = part.stem.removeprefix("part-")
            try:
                table, about = self.read(part)
                if about["identity"] != identity:
                    raise ValueError(f"{part} is of another sweep")
                if len(table) != about["examples"]:
                    raise ValueError(f"{part} is damaged: {len(table)} of {about['examples']} rows")
                if maps:
                    _whole_archive(self.maps(name))
                found[name] = Done(about["examples"], about["digest"])
            except (ValueError, KeyError) as error:
                spoilt.append(f"{error}; it was made again")
                part.unlink()
        return found, spoilt

    def _replace(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f"{_NEW}{path.name}")
        try:
            with open(new, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                said = (
                    f"no space left for {path}; what was written before is whole, and the same call goes on from there"
                )
                raise OSError(error.errno, said) from error
            raise
        # The new name must survive a loss of power, too.
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _whole_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError(f"{path} is damaged")
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or missing ({error})") from error
