"""Examples in shards: none lost, none twice, whatever the data are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdfast.sweeps.shards import Arrays, DataError, Done, Stream, batch_for, cuts, digest_of, rebatched
from fdfast.sweeps.sources import source_of

pair = tuple[Any, Any]


def numbered(sizes: list[int]) -> Iterator[pair]:
    """Batches of these sizes, whose elements count through."""
    first = 0
    for size in sizes:
        x = np.arange(first, first + size, dtype=float)
        yield x[:, None], 10 * x
        first += size


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 40)))
def test_batches_are_cut_anew_in_order(sizes: list[int], batch: int, limit: int | None) -> None:
    found = list(rebatched(numbered(sizes), batch, limit))
    total = min(sum(sizes), sum(sizes) if limit is None else limit)
    x = np.concatenate([x[:, 0] for x, _ in found]) if found else np.empty(0)
    np.testing.assert_array_equal(x, np.arange(total))
    assert all(np.array_equal(10 * x[:, 0], y) for x, y in found)
    assert [len(x) for x, _ in found] == [count for _, count in cuts(total, batch, None)]


@pytest.mark.parametrize(("size", "batch"), [(784, 100), (20_000, 100), (150_528, 13), (10**8, 1), (0, 100)])
def test_a_shard_is_no_larger_than_memory_likes(size: int, batch: int) -> None:
    assert batch_for(size) == batch


def test_what_is_done_is_not_read_again() -> None:
    source = Arrays(np.zeros((10, 2)), np.zeros(10))
    done = {"000000000": Done(4, ""), "000000008": Done(1, "")}  # the last was cut short by a limit
    assert [(one.first, len(one)) for one in source.shards(4, None, done)] == [(4, 4), (8, 2)]
    assert [(one.first, len(one)) for one in source.shards(4, 6, {})] == [(0, 4), (4, 2)]


def test_a_digest_knows_values_shape_and_dtype() -> None:
    like = [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6), np.zeros((2, 3), np.int64), -np.zeros((2, 3))]
    assert len({digest_of(one) for one in like}) == len(like)
    assert digest_of(like[0].T) == digest_of(np.ascontiguousarray(like[0].T))


class Model:
    inputs = (np.empty((1, 2)),)


ROWS = [(np.full(2, float(i)), i) for i in range(5)]
STREAMS = {
    "a list of examples": ROWS,
    "a list of batches": [
        (np.stack([x for x, _ in ROWS[:3]]), [0, 1, 2]),
        (np.stack([ROWS[3][0], ROWS[4][0]]), [3, 4]),
    ],
    "an iterator": lambda: iter(ROWS),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_gives_its_examples(kind: str) -> None:
    data = STREAMS[kind]
    source = source_of(data() if callable(data) else data, Model(), "x", "y", scale=True)
    found = list(source.shards(2, None, {}))
    assert [(one.name, one.first, one.y.tolist()) for one in found] == [
        ("000000000", 0, [0, 1]),
        ("000000002", 2, [2, 3]),
        ("000000004", 4, [4]),
    ]
    assert source.size == 2


def test_a_dataset_is_a_stream_whose_length_is_known() -> None:
    import tensorflow as tf

    x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    for data, total in ((tf.data.Dataset.from_tensor_slices((x, y)), 5), (None, None)):
        data = data or tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
        source = source_of(data, Model(), "x", "y", scale=True)
        assert source.total == total
        for _ in range(2):  # it can be gone through again
            np.testing.assert_array_equal(np.concatenate([one.x for one in source.shards(2, None, {})]), x)


def test_a_stream_that_changed_is_refused_and_what_is_done_is_skipped() -> None:
    def shards(rows: list[Any], done: dict[str, Done]) -> list[int]:
        return [one.first for one in Stream(lambda: rows, 2, None, again=True, kind="iterable").shards(2, None, done)]

    done = {one.name: Done(2, one.digest) for one in Stream(lambda: ROWS, 2, 5, again=True, kind="").shards(2, 4, {})}
    assert shards(ROWS, done) == [4]
    with pytest.raises(DataError, match=r"examples 2 to 3 are not what they were.*no shuffling"):
        shards([*ROWS[:3], ROWS[4], ROWS[3]], done)


def test_a_generator_is_read_once() -> None:
    source = source_of(iter(ROWS), Model(), "x", "y", scale=True)
    list(source.shards(2, None, {}))
    with pytest.raises(ValueError, match="a generator can be gone through only once"):
        list(source.shards(2, None, {}))


BAD = [
    ([], ValueError, "the data are empty"),
    ([1], TypeError, r"must yield pairs \(x, y\), got int"),
    ([(np.zeros((2, 2)), [0])], ValueError, "a batch has as many of one as of the other"),
    (3, TypeError, "data must be arrays"),
    ({"x": np.zeros((2, 2))}, ValueError, "data must have 'x' and 'y'"),
    ((np.zeros((3, 2)), np.zeros(2)), ValueError, "must have the same number of examples"),
]


@pytest.mark.parametrize(("data", "kind", "message"), BAD)
def test_what_cannot_be_swept_over_is_named(data: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        list(source_of(data, Model(), "x", "y", scale=True).shards(2, None, {}))
