"""Data of any kind, brought into the form that a sweep goes through."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from fdfast.sweeps.models import input_shape
from fdfast.sweeps.shards import Arrays, Source, Stream
from fdfast.sweeps.stored import Files, find_files


def source_of(data: Any, model: Any, x_key: str, y_key: str, *, scale: bool) -> Source:
    """Bring data of any kind into the form that a sweep goes through."""
    shape = input_shape(model)
    ndim = None if shape is None else len(shape) + 1
    if isinstance(data, str | os.PathLike):
        return Files(find_files(data), x_key, y_key, shape, scale=scale)
    if isinstance(data, Mapping):
        if not {x_key, y_key} <= set(data):
            raise ValueError(f"data must have {x_key!r} and {y_key!r}, got {', '.join(map(repr, data))}")
        return Arrays(data[x_key], data[y_key])
    if hasattr(data, "element_spec"):
        count = int(data.cardinality()) if ndim is not None and _single(data, ndim) else -1
        total = count if count >= 0 else None
        return Stream(data.as_numpy_iterator, ndim, total, again=True, kind="tf.data.Dataset")
    if isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(one, "shape") for one in data):
        return Arrays(*data)
    if isinstance(data, Iterable):
        again = iter(data) is not data
        return Stream(lambda: data, ndim, None, again=again, kind="iterable")
    raise TypeError(
        "data must be arrays (x, y), a path of .npz or Parquet files, a tf.data.Dataset or an iterable of pairs (x, "
        "y), "
        f"got {type(data).__name__}"
    )


def _single(data: Any, ndim: int) -> bool:
    spec = data.element_spec
    return isinstance(spec, tuple) and len(spec) == 2 and len(getattr(spec[0], "shape", None) or ()) == ndim - 1
