"""Examples in Parquet tables: numbers, lists of numbers, nested lists, tensors of one shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdfast.files import BadFile
from fdfast.sweeps.folder import arrow
from fdfast.sweeps.shards import Array

_ROWS = 64  # read at a time


class TableRows:
    """Rows of columns of a Parquet table, read forward; going back begins anew.

    Raises
    ------
    BadFile
        A column is missing, or the file is damaged.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._pa = arrow()
        self._where = f"DATA {str(path)!r}"
        try:
            self._file = self._pa.parquet.ParquetFile(path, page_checksum_verification=True)
        except (self._pa.ArrowException, OSError) as error:
            raise BadFile(f"{self._where} is no Parquet table or is damaged: {error}") from error
        held = self._file.schema_arrow.names
        missing = [name for name in names if name not in held]
        if missing:
            self._file.close()
            raise BadFile(
                f"{self._where} has no column {' and no column '.join(map(repr, missing))}; it has "
                f"{', '.join(held[:8])}. Name them by x_key and y_key (--x-key, --y-key)"
            )
        self.names = (*names, *(["key"] if "key" in held and "key" not in names else []))
        self.total: int = self._file.metadata.num_rows
        self._batches: Iterator[Any] = iter(())
        self._held: list[Any] = []
        self._at = self.total + 1

    def _start(self, first: int) -> None:
        """Begin at the group of rows that holds the first one."""
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        skip, at = 0, 0
        while skip < len(groups) and at + groups[skip] <= first:
            at += groups[skip]
            skip += 1
        self._batches = self._file.iter_batches(
            _ROWS, row_groups=list(range(skip, len(groups))), columns=list(self.names)
        )
        self._held, self._at = [], at

    def read(self, first: int, count: int) -> dict[str, Array]:
        """Rows [first, first + count) by name of the column."""
        try:
            if self._at > first:
                self._start(first)
            while sum(map(len, self._held)) < first + count - self._at:
                batch = next(self._batches)
                if not self._held and self._at + len(batch) <= first:
                    self._at += len(batch)
                else:
                    self._held.append(batch)
            table = self._pa.Table.from_batches(self._held)
        except (self._pa.ArrowException, OSError, StopIteration) as error:
            raise BadFile(f"{self._where} is damaged: {error or 'it is cut off'}") from error
        found = table.slice(first - self._at, count)
        self._held = table.slice(first - self._at + count).to_batches()
        self._at = first + count
        return {name: self._array(found.column(name).combine_chunks(), name) for name in self.names}

    def verify(self) -> None:
        """Read everything once; raise `BadFile` if it is damaged, or rows differ in shape."""
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            for batch in self._file.iter_batches(_ROWS, columns=list(self.names)):
                for name in self.names:
                    shape = self._array(batch.column(name), name).shape[1:]
                    if shapes.setdefault(name, shape) != shape:
                        what = f"{self._where}: column {name!r}"
                        raise BadFile(f"{what} has rows of different shapes, {shapes[name]} and {shape}")
        except (self._pa.ArrowException, OSError) as error:
            raise BadFile(f"{self._where} is damaged: {' '.join(str(error).split())}") from error

    def close(self) -> None:
        """Close the file."""
        self._batches = iter(())
        self._file.close()

    def _array(self, column: Any, name: str) -> Array:
        if name == "key":
            return np.array([str(one) for one in column.to_pylist()])
        what = f"{self._where}: column {name!r}"
        types = self._pa.types
        if isinstance(column, self._pa.ChunkedArray):
            column = self._pa.concat_arrays(column.chunks)
        if isinstance(column, self._pa.FixedShapeTensorArray):
            return np.asarray(column.to_numpy_ndarray())
        shape = [len(column)]
        while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
            if column.null_count:
                raise BadFile(f"{what} has empty cells")
            lengths = {len(column.flatten()) // max(1, len(column))}
            if not types.is_fixed_size_list(column.type):
                lengths = set(np.diff(np.asarray(column.offsets)).tolist())
            if len(lengths) > 1:
                raise BadFile(f"{what} has lists of different lengths, {min(lengths)} to {max(lengths)}")
            shape.append(lengths.pop() if lengths else 0)
            column = column.flatten()
        if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
            raise BadFile(
                f"{what} holds {column.type}; numbers, lists of numbers and tensors are read. Decode pictures in a "
                "tf.data.Dataset and pass that"
            )
        if column.null_count:
            raise BadFile(f"{what} has empty cells")
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)
