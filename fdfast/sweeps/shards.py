"""What a sweep goes through: shards of consecutive examples, and what is known of those that are done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

#: Examples of a shard, and elements of all its examples together, where the caller leaves `batch` open.
_EXAMPLES, _ELEMENTS = 100, 2_000_000

Array = npt.NDArray[Any]


class DataError(ValueError):
    """Data are damaged, or are not what they were; the message names file or examples."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some consecutive examples, what one call of a task is about.

    Attributes
    ----------
    name : str
        Of its part: sorts as the examples do.
    first : int
        Index of the first example, in its file or in all data.
    x, y : ndarray, shape (examples, ...)
    keys : list of str or None
        What the data call each example.
    file : str or None
        Which file they are from.
    """

    name: str
    first: int
    x: Array
    y: Array
    keys: list[str] | None = None
    file: str | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def where(self) -> str:
        """The examples, in words."""
        which = f"example {self.first}" if len(self) == 1 else f"examples {self.first} to {self.first + len(self) - 1}"
        return f"{which} of {self.file}" if self.file else which

    @property
    def digest(self) -> str:
        """Fingerprint of the examples."""
        return digest_of(self.x, self.y)


class Done(NamedTuple):
    """What is known of a shard whose part is written."""

    examples: int
    digest: str


class Source(Protocol):
    """Data of any kind.

    Attributes
    ----------
    about : dict
        What tells these data from others, ready for JSON.
    total : int or None
        Number of examples, if it is known beforehand.
    size : int
        Elements of one example.
    again : bool
        Whether they can be gone through more than once.
    damaged : dict of str to str
        Files that cannot be used, with the reason.
    """

    about: dict[str, Any]
    total: int | None
    size: int
    again: bool
    damaged: dict[str, str]

    def shards(self, batch: int, limit: int | None, done: Mapping[str, Done]) -> Iterator[Shard]:
        """Yield the shards of the first `limit` examples that are not done."""


def batch_for(size: int) -> int:
    """Number of examples of a shard if each has so many elements."""
    return max(1, min(_EXAMPLES, _ELEMENTS // max(1, size)))


def digest_of(*arrays: Array) -> str:
    """Fingerprint of arrays: dtypes, shapes, bytes."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dtype.str}{array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def cuts(total: int, batch: int, limit: int | None) -> Iterator[tuple[int, int]]:
    """First example and number of examples of every shard."""
    end = total if limit is None else min(limit, total)
    for first in range(0, end, batch):
        yield first, min(batch, end - first)


class Arrays:
    """Examples that lie in memory."""

    again = True

    def __init__(self, x: Any, y: Any) -> None:
        self._x, self._y = np.asarray(x), np.asarray(y)
        if self._x.ndim < 2 or not self._y.ndim or len(self._x) != len(self._y):
            raise ValueError(
                f"x {self._x.shape} and y {self._y.shape} must have the same number of examples, along axis 0"
            )
        self.damaged: dict[str, str] = {}
        self.total: int | None = len(self._x)
        self.size = int(np.prod(self._x.shape[1:]))
        shapes = {name: f"{a.dtype} {list(a.shape)}" for name, a in (("x", self._x), ("y", self._y))}
        self.about = {"kind": "arrays", **shapes, "sha256": digest_of(self._x, self._y)}

    def shards(self, batch: int, limit: int | None, done: Mapping[str, Done]) -> Iterator[Shard]:
        """Yield the shards that are not done."""
        for first, count in cuts(len(self._x), batch, limit):
            name = f"{first:09d}"
            if name not in done or done[name].examples != count:
                some = slice(first, first + count)
                yield Shard(name, first, self._x[some], self._y[some])


class Stream:
    """Examples that come one after the other, from a `tf.data.Dataset`, a generator or another iterable.

    Nothing is known of them beforehand: what is done already is gone through once more, and must be what it was.

    Parameters
    ----------
    start : callable
        Returns an iterator over pairs (x, y), each one example or a batch.
    ndim : int or None
        Number of axes of a batch of x; None if unknown: every x is a batch.
    total : int or None
    again : bool
    """

    def __init__(
        self, start: Callable[[], Iterable[Any]], ndim: int | None, total: int | None, *, again: bool, kind: str
    ) -> None:
        self._start, self._ndim, self.total, self.again = start, ndim, total, again
        self.damaged: dict[str, str] = {}
        self._peeked: list[tuple[Array, Array]] = []
        self._running: Iterator[Any] | None = iter(start())
        for pair in self._running:
            self._peeked = [self._as_batch(pair)]
            break
        else:
            raise ValueError("the data are empty: there is no example to sweep over")
        x, y = self._peeked[0]
        self.size = int(np.prod(x.shape[1:]))
        self.about = {"kind": kind, "x": f"{x.dtype} {list(x.shape[1:])}", "y": f"{y.dtype} {list(y.shape[1:])}"}

    def _as_batch(self, pair: Any) -> tuple[Array, Array]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"the data must yield pairs (x, y), got {type(pair).__name__}")
        x, y = (np.asarray(one) for one in pair)
        if self._ndim is not None and x.ndim == self._ndim - 1:
            x, y = x[None], y[None]
        if not x.ndim or not y.ndim or len(x) != len(y):
            raise ValueError(f"the data yield x {x.shape} with y {y.shape}: a batch has as many of one as of the other")
        return x, y

    def _batches(self) -> Iterator[tuple[Array, Array]]:
        yield from self._peeked
        running, self._running = self._running, None
        if running is None:  # a second time
            if not self.again:
                raise ValueError("a generator can be gone through only once: pass a new one")
            running = iter(self._start())
            yield self._as_batch(next(running))
        self._peeked = []
        yield from map(self._as_batch, running)

    def shards(self, batch: int, limit: int | None, done: Mapping[str, Done]) -> Iterator[Shard]:
        """Yield the shards that are not done; raise `DataError` if one that is done was another."""
        first = 0
        for x, y in rebatched(self._batches(), batch, limit):
            shard = Shard(f"{first:09d}", first, x, y)
            known = done.get(shard.name)
            first += len(shard)
            if known is None or known.examples < len(shard):
                yield shard
            elif known.examples == len(shard) and known.digest != shard.digest:
                raise DataError(
                    f"{shard.where} are not what they were when their results were written: the data must come in the "
                    "same order every time (no shuffling, no augmentation). resume=False starts anew"
                )


def rebatched(batches: Iterable[tuple[Array, Array]], batch: int, limit: int | None) -> Iterator[tuple[Array, Array]]:
    """Cut batches of any size into batches of one size, up to `limit` examples; the last may be smaller."""
    held: list[tuple[Array, Array]] = []
    have, left = 0, float("inf") if limit is None else limit

    def joined() -> tuple[Array, Array]:
        return np.concatenate([x for x, _ in held]), np.concatenate([y for _, y in held])

    for x, y in batches:
        held.append((x, y))
        have += len(x)
        while have >= min(batch, left) and left > 0:
            whole_x, whole_y = joined()
            count = int(min(batch, left))
            yield whole_x[:count], whole_y[:count]
            held, have, left = [(whole_x[count:], whole_y[count:])], have - count, left - count
        if left <= 0:
            return
    if have:
        yield joined()
