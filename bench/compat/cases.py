"""The checks of the bench: families of operations, and numbers to take them at."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One check: a function, and the arrays that it is checked at."""

    family: str
    name: str
    f: Callable[..., Any]
    x: list[Any]

    @property
    def size(self) -> int:
        """Elements of all arguments together."""
        return sum(one.size for one in self.x)


def normal(*shape: int, dtype: str = "float32") -> Any:
    """Normal numbers, the same in every process; complex ones of complex dtypes."""
    draw = np.random.default_rng(zlib.crc32(repr((shape, dtype)).encode())).normal
    found = draw(size=shape)
    return (found + 1j * draw(size=shape) if dtype.startswith("complex") else found).astype(dtype)


def positive(*shape: int, low: float = 0.2, high: float = 0.8, dtype: str = "float32") -> Any:
    """Numbers between two limits."""
    return np.random.default_rng(len(shape)).uniform(low, high, shape).astype(dtype)


def apart(*shape: int, gap: float = 0.05) -> Any:
    """Numbers no two of which are closer than `gap`, nor closer to 0: nothing changes hands, nothing bends."""
    count = int(np.prod(shape))
    order = np.random.default_rng(3).permutation(count)
    return ((order - count // 2 + 0.5) * gap).astype("float32").reshape(shape)


def square(*shape: int) -> Any:
    """Matrices that are far from singular, in float64."""
    return normal(*shape, dtype="float64") + shape[-1] * np.eye(shape[-1])


def of_family(family: str, *rows: tuple[Any, ...]) -> Iterator[Case]:
    """Cases of rows (name, function, *arrays)."""
    return (Case(family, name, f, list(x)) for name, f, *x in rows)


def chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Cases whose name or family is among these; all, if there are none.

    Raises
    ------
    ValueError
        A name is unknown.
    """
    known = {case.name for case in cases} | {case.family for case in cases}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return [case for case in cases if not names or case.name in names or case.family in names]
