"""Values as JSON takes them, and text to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np


def write(path: str | PathLike[str] | None, text: str) -> str:
    """Write text to `path` if there is one, and return it."""
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return text


def times(numbers: Sequence[int]) -> str:
    """Write extents with a cross between them: 28x28x1."""
    return "x".join(map(str, numbers)) or "scalar"


def plain(value: Any) -> Any:
    """Replace arrays by lists, NumPy scalars by Python's, and what JSON has no word for by None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def plain_dict(values: dict[str, Any]) -> dict[str, Any]:
    """The same as JSON takes it (see `plain`)."""
    found: dict[str, Any] = plain(values)
    return found


def json_text(values: dict[str, Any], path: str | PathLike[str] | None = None) -> str:
    """Return values as strict JSON; also written to `path` if given."""
    return write(path, json.dumps(plain(values), indent=1, allow_nan=False))
