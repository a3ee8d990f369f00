"""Models and data from files that nobody vouches for: plain arrays and plain layers, no code."""

from __future__ import annotations

import importlib
import io
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable
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


def check_model_file(path: str | Path) -> None:
    """Raise `BadFile` unless there is a ``.keras`` archive. Needs no TensorFlow: a slip is told at once."""
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"MODEL {str(path)!r} does not exist, or is no file")
    if path.suffix != ".keras":
        raise BadFile(f"MODEL {str(path)!r} must be a .keras file: write one by model.save('model.keras')")
    if not zipfile.is_zipfile(path):
        raise BadFile(f"MODEL {str(path)!r} is no Keras archive (no zip file), or is damaged")


def import_modules(names: Iterable[str]) -> None:
    """Import modules that define layers of the user's own.

    Raises
    ------
    BadFile
        There is no such module.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise BadFile(f"--import {name}: {error}; it must be installed, or lie on PYTHONPATH") from error


def load_model(path: str | Path, *, compiled: bool, limit: int = LIMIT) -> Any:
    """Load a Keras model from a ``.keras`` file, in Keras' safe mode.

    Parameters
    ----------
    path : path-like
    compiled : bool
        Whether the loss it was compiled with is needed.
    limit : int
        Bytes that it may claim to hold, unpacked.

    Raises
    ------
    BadFile
        There is no such file, it is no Keras archive, it claims too much, or it needs code that is not in Keras: custom
        layers, custom losses, Lambda layers.
    """
    check_model_file(path)
    _check_claims(path, limit)
    import keras

    try:
        with warnings.catch_warnings():
            # Saved before it was trained: the optimizer's state is of no use here.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.models.load_model(path, safe_mode=True, compile=compiled)
    except Exception as error:
        # Keras raises whatever the failing part raises: TypeError, ValueError, KeyError, OSError, zlib.error.
        raise BadFile(f"MODEL {str(path)!r} cannot be loaded: {_why(error, compiled)}") from error


def _check_claims(path: str | Path, limit: int) -> None:
    """Raise `BadFile` where a model's archive, or the arrays in it, say that they unpack to more than `limit` bytes.

    An archive's members are read up to the size that they claim, and the arrays of HDF5 are packed once more.
    """
    what = f"MODEL {str(path)!r}"
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_claim(sum(member.file_size for member in archive.infolist()), limit, what)
            for name in archive.namelist():
                if name.endswith((".h5", ".hdf5")):
                    _refuse_claim(_claimed_by_arrays(archive.read(name)), limit, f"{what}: {name}")
    except BadFile:
        raise
    except Exception as error:  # zipfile and h5py raise whatever the failing part raises
        raise BadFile(f"{what} is no Keras archive, or is damaged: {error}") from error


def _claimed_by_arrays(content: bytes) -> int:
    """Bytes of all arrays of an HDF5 file; of one that is none, nobody reads any."""
    import h5py

    claimed = 0

    def add(name: str, one: Any) -> None:
        nonlocal claimed
        if isinstance(one, h5py.Dataset):
            claimed += math.prod(one.shape or (0,)) * one.dtype.itemsize

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(add)
    return claimed


def _refuse_claim(claimed: int, limit: int, what: str) -> None:
    if claimed > limit:
        raise BadFile(
            f"{what} claims {_size(claimed)} unpacked; {_size(limit)} are allowed. If you trust it, --max-bytes "
            f"{claimed} lets it in"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count:,} bytes"


def _why(error: Exception, compiled: bool) -> str:
    text = str(error)
    by_hand = "load it in Python and call fdfast.gradcheck(model, x, y)"
    if "ambda" in text and ("unsafe" in text or "safe_mode" in text):
        return f"it holds a Lambda layer, that is Python code, and code from files is not run; {by_hand}"
    missing = re.search(r"Could not locate (class|function) '[^']*'", text)
    if missing:
        other = " (if it is only the loss, give --loss)" if compiled and missing[1] == "function" else ""
        return f"it needs code that is not in Keras{other}: {missing[0][0].lower()}{missing[0][1:]}; {by_hand}"
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


def pick_examples(
    x: npt.NDArray[Any], y: npt.NDArray[Any], ndim: int | None, index: str, *, scale: bool = True
) -> Examples:
    """Pick examples, and turn 8-bit pixels into floats.

    Parameters
    ----------
    x, y : ndarray
        As they are in the file.
    ndim : int or None
        Number of axes of a batch of the model's inputs: an x with one axis less is a single example. None
        if unknown: x is a batch.
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
    if ndim is not None and x.ndim == ndim - 1:
        if index not in ("0", "all"):
            raise ValueError(f"--index {index} does not fit: x is a single example, shape {x.shape}")
        return Examples(x, y, notes, "", False)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x {x.shape} and y {y.shape} must have the same number of examples, along axis 0")
    some, words = _pick(index, len(x))
    return Examples(x[some], y[some], notes, words, isinstance(some, slice))


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
            _refuse_claim(claimed, limit, f"{where}: array{'s' if len(names) > 1 else ''} {_listed(names)}")
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
