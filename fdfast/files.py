"""Data from files that nobody vouches for: plain arrays, no code."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

#: Bytes that a file may claim to hold: a small archive can promise, and inflate to, any number.
LIMIT = 2 << 30
_HEADER = 1 << 16  # bytes that the header of an array may take
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class BadFile(ValueError):
    """A file cannot be used; the message names it and says why."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Some examples of a file, as `fdfast.gradcheck` takes them.

    Attributes
    ----------
    x, y : ndarray
        Without a leading axis if a single example was asked for.
    notes : list of str
        What was done to them.
    which : str
        Which examples, in words.
    batched : bool
        Whether there is a leading axis of examples.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    notes: list[str]
    which: str
    batched: bool


def refuse_claim(claimed: int, limit: int, what: str) -> None:
    """Raise `BadFile` where more than `limit` bytes are claimed."""
    if claimed > limit:
        raise BadFile(
            f"{what} claims {_size(claimed)} unpacked; {_size(limit)} are allowed. If you trust it, --max-bytes "
            f"{claimed} lets it in"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count:,} bytes"


def pick_examples(
    x: npt.NDArray[Any], y: npt.NDArray[Any], shape: tuple[int | None, ...] | None, index: str, *, scale: bool = True
) -> Examples:
    """Pick examples, and turn 8-bit pixels into floats.

    Parameters
    ----------
    x, y : ndarray
        As they are in the file.
    shape : tuple or None
        Of a batch of the model's inputs: an x with one axis less is a single example, and one without a last axis of
        length 1 is given it. None if unknown: x is a batch.
    index : str
        ``"3"``, ``"0:10"`` or ``"all"``.
    scale : bool
        Divide 8-bit pixels by 255; else only turn them into floats.

    Raises
    ------
    ValueError
        The arrays do not fit together, or the index does not fit them.
    """
    notes = []
    if x.dtype == np.uint8:
        how = "scaled by 1/255 to [0, 1]" if scale else "taken as floats 0 .. 255, not scaled"
        notes.append(f"x is uint8: {how}")
        x = pixels(x, scale=scale)
    if _lacks_channel(x.shape, shape):
        notes.append(f"x has shape {x.shape}, the model takes {shape}: a last axis of length 1 was added")
        x = x[..., None]
    if shape is not None and x.ndim == len(shape) - 1:
        if index not in ("0", "all"):
            raise ValueError(f"--index {index} does not fit: x is a single example, shape {x.shape}")
        return Examples(x, y, notes, "", False)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x {x.shape} and y {y.shape} must have the same number of examples, along axis 0")
    some, words = _pick(index, len(x))
    return Examples(x[some], y[some], notes, words, isinstance(some, slice))


def _lacks_channel(given: tuple[int, ...], shape: tuple[int | None, ...] | None) -> bool:
    """Whether pictures come without the axis of their only channel, as in the usual file of MNIST."""
    if shape is None or shape[-1] != 1 or len(given) < len(shape) - 2:
        return False
    inner = given[len(given) - (len(shape) - 2) :]  # one example, or a batch
    return len(given) - len(inner) < 2 and all(b in (None, a) for a, b in zip(inner, shape[1:-1], strict=True))


def pixels(x: npt.NDArray[Any], *, scale: bool) -> npt.NDArray[Any]:
    """Turn 8-bit pixels into floats, in [0, 1] if they are scaled; anything else stays as it is."""
    return x.astype(np.float32) / np.float32(255 if scale else 1) if x.dtype == np.uint8 else x


def _pick(index: str, count: int) -> tuple[int | slice, str]:
    form = f"--index must be a number, a range first:last or 'all', got {index!r}"
    if index == "all":
        if not count:
            raise ValueError("--index all picks nothing: there are no examples")
        return slice(None), f"all {count} examples"
    parts = index.split(":")
    try:
        numbers = [int(p) if p.strip() else None for p in parts]
    except ValueError:
        raise ValueError(form) from None
    if len(parts) == 1 and numbers[0] is not None:
        i = numbers[0]
        if not -count <= i < count:
            raise ValueError(f"--index {i} is out of range: there are {count} examples, 0 to {count - 1}")
        return i, f"example {i % count}"
    if len(parts) != 2:
        raise ValueError(form)
    start, stop, _ = slice(*numbers).indices(count)
    if start >= stop:
        raise ValueError(f"--index {index} picks nothing: there are {count} examples, 0 to {count - 1}")
    return slice(start, stop), f"examples {start} to {stop - 1}"


def names_in(path: str | Path, x: str = "x", y: str = "y") -> tuple[tuple[str, str], list[str]]:
    """Names of the arrays of inputs and targets in an ``.npz`` file, and what to say of them.

    Where the usual names were asked for and are not there, ``x_test`` and ``y_test`` are taken, then ``x_train`` and
    ``y_train``: so the file of MNIST that Keras downloads calls them. A file that is none is `read_arrays`' to refuse.
    """
    if (x, y) == ("x", "y"):
        try:
            with zipfile.ZipFile(path) as archive:
                held = archive.namelist()
        except (OSError, zipfile.BadZipFile):
            held = []
        for pair in (("x", "y"), ("x_test", "y_test"), ("x_train", "y_train")):
            if all(f"{name}.npy" in held for name in pair):
                said = f"DATA has no arrays x and y: {pair[0]} and {pair[1]} are taken"
                return pair, [said] if pair != ("x", "y") else []
    return (x, y), []


def read_arrays(path: str | Path, names: tuple[str, ...], limit: int = LIMIT) -> dict[str, npt.NDArray[Any]]:
    """Read arrays from an ``.npz`` file, never by pickle, and none where they claim more than `limit` bytes together.

    Raises
    ------
    BadFile
        There is no such file, it is no ``.npz``, an array is missing, holds Python objects, is too large, or
        is damaged.
    """
    where = f"DATA {str(path)!r}"
    try:
        # Opened here: np.load(path) leaves the file open when the archive is broken.
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            held = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            missing = [name for name in names if name not in held]
            if missing:
                has = ", ".join(held[:8]) or "no array"
                raise BadFile(
                    f"{where} has no array {' and no array '.join(map(repr, missing))}; it has {has}. "
                    "Name them by --x-key and --y-key"
                )
            headers = {name: _header(archive, name, where) for name in names}
            claimed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values())
            refuse_claim(claimed, limit, f"{where}: array{'s' if len(names) > 1 else ''} {_listed(names)}")
            return {name: _read(archive, name, where) for name in names}
    except OSError as error:
        raise BadFile(f"{where} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadFile(
            f"{where} is no .npz file or is damaged ({error}): write one by numpy.savez('data.npz', x=x, y=y)"
        ) from error


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(map(repr, names))


class _Start:
    """The beginning of a file, of which no more than so many bytes are read: a header may claim any length."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member, self._left = member, _HEADER

    def read(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError(f"its header claims more than {_HEADER} bytes")
        self._left -= count
        return self._member.read(count)


def npy_header(member: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, Fortran order and dtype of an array of plain numbers; what follows are its elements.

    Raises
    ------
    BadFile
        It holds Python objects, is in a later format, or is damaged.
    """
    start: Any = _Start(member)
    try:
        version = np.lib.format.read_magic(start)
        if version not in _HEADERS:
            raise BadFile(f"{what} is in npy format {version}; versions (1, 0) and (2, 0) are read")
        shape, fortran, dtype = _HEADERS[version](start)
    except (BadFile, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # the header is parsed as Python: TokenError, SyntaxError, TypeError, RecursionError
        raise BadFile(f"{what} is damaged: {error}") from error
    if dtype.hasobject:
        raise BadFile(f"{what} holds pickled Python objects, which are not loaded: save plain numbers")
    return shape, fortran, dtype


def _header(archive: zipfile.ZipFile, name: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array."""
    with archive.open(f"{name}.npy") as member:
        shape, _, dtype = npy_header(member, f"{where}: array {name!r}")
    return shape, dtype


def _read(archive: zipfile.ZipFile, name: str, where: str) -> npt.NDArray[Any]:
    what = f"{where}: array {name!r}"
    try:
        with archive.open(f"{name}.npy") as member:
            array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return array
    except ValueError as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"{what} is damaged: {error}") from error
