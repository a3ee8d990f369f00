"""Tilings of any shape against sets built element by element, and every refusal."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdfast.moves.tiling import Tiling, check_choice, make_tiling


def oracle(shape: tuple[int, ...], tile: tuple[int, ...]) -> list[list[int]]:
    """Flat indices of every tile, in C order of the grid: the definition, one element at a time."""
    grid = [range(-(-n // t)) for n, t in zip(shape, tile, strict=True)]
    tiles: dict[tuple[int, ...], list[int]] = {at: [] for at in itertools.product(*grid)}
    for flat, index in enumerate(itertools.product(*map(range, shape))):
        tiles[tuple(i // t for i, t in zip(index, tile, strict=True))].append(flat)
    return list(tiles.values())


def parts(tiling: Tiling) -> list[list[int]]:
    return [tiling.members[a:b].tolist() for a, b in itertools.pairwise(tiling.offsets)]


@st.composite
def tilings(draw: st.DrawFn) -> tuple[Tiling, tuple[int, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 7), max_size=4)))
    tile = tuple(draw(st.integers(1, n)) for n in shape)
    return make_tiling(shape, tile), tile


# shape, tile, channels, extents, grid; channels last
CASES: list[tuple[tuple[int, ...], Any, str, tuple[int, ...], tuple[int, ...]]] = [
    ((), 1, "together", (), ()),
    ((), (), "together", (), ()),
    ((5,), 1, "together", (1,), (5,)),
    ((5,), 2, "together", (2,), (3,)),
    ((5,), 5, "apart", (5,), (1,)),
    ((28, 28), 5, "together", (5, 5), (6, 6)),
    ((4, 6), (2, 3), "apart", (2, 3), (2, 2)),
    ((28, 28, 1), 1, "together", (1, 1, 1), (28, 28, 1)),
    ((4, 4, 3), 2, "together", (2, 2, 3), (2, 2, 1)),
    ((4, 4, 3), 2, "apart", (2, 2, 1), (2, 2, 3)),
    ((4, 4, 3), (2, 4), "apart", (2, 4, 1), (2, 1, 3)),
    ((4, 4, 3), (2, 2, 2), "apart", (2, 2, 2), (2, 2, 2)),
    ((3, 5, 4, 2), (3, 2, 4), "together", (3, 2, 4, 2), (1, 3, 1, 1)),
    ((4, 4, 3), np.array([2, 2]), "together", (2, 2, 3), (2, 2, 1)),
    ((4, 4), np.int32(3), "together", (3, 3), (2, 2)),
    ((4, 4), [np.int64(3), 1], "together", (3, 1), (2, 4)),
]


@pytest.mark.parametrize(("shape", "tile", "channels", "extents", "grid"), CASES)
def test_cut(shape: Any, tile: Any, channels: Any, extents: Any, grid: Any) -> None:
    tiling = make_tiling(shape, tile, channels)
    assert (tiling.shape, tiling.tile, tiling.grid) == (shape, extents, grid)
    assert parts(tiling) == oracle(shape, extents)


# The same with channels first: shape, tile, channels, extents, axis of the channels
FIRST: list[tuple[tuple[int, ...], Any, str, tuple[int, ...], int | None]] = [
    ((5,), 2, "apart", (2,), None),
    ((4, 6), 2, "together", (2, 2), None),
    ((3, 4, 6), 2, "apart", (1, 2, 2), 0),
    ((3, 4, 6), 2, "together", (3, 2, 2), 0),
    ((3, 4, 6), (4, 3), "apart", (1, 4, 3), 0),
    ((3, 4, 6), (2, 4, 3), "together", (2, 4, 3), 0),
    ((2, 3, 4, 5), 3, "together", (2, 3, 3, 3), 0),
]


@pytest.mark.parametrize(("shape", "tile", "channels", "extents", "axis"), FIRST)
def test_channels_first(shape: Any, tile: Any, channels: Any, extents: Any, axis: Any) -> None:
    tiling = make_tiling(shape, tile, channels, "first")
    assert (tiling.tile, tiling.channel_axis) == (extents, axis)
    assert parts(tiling) == oracle(shape, extents)
    last = make_tiling(shape, extents, channels, "last").channel_axis
    assert last == (None if axis is None else len(shape) - 1)


@pytest.mark.parametrize("signed", [True, False])
def test_elements_of_a_mixed_tiling_move_by_weights_of_their_own(signed: bool) -> None:
    tiling = make_tiling((5, 4, 3), 2, "together")
    mixed = tiling.mixed(7, signed=signed)
    assert mixed.weights is not None
    assert (mixed.members is tiling.members, mixed.grid) == (True, tiling.grid)
    size = np.abs(mixed.weights)
    assert size.min() >= 0.5
    assert size.max() <= 1
    assert ((mixed.weights < 0).any(), (mixed.weights > 0).any()) == (signed, True)
    assert (mixed.weights * 256 == np.round(mixed.weights * 256)).all(), "more than eight bits"
    np.testing.assert_array_equal(mixed.weights, tiling.mixed(7, signed=signed).weights)
    assert not np.array_equal(mixed.weights, tiling.mixed(8, signed=signed).weights)
    values = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    sums = [
        (values.reshape(2, -1)[:, tiling.members[a:b]] * mixed.weights[a:b]).sum(axis=1)
        for a, b in zip(tiling.offsets[:-1], tiling.offsets[1:], strict=True)
    ]
    np.testing.assert_allclose(mixed.sums(values), np.transpose(sums), rtol=1e-14, atol=1e-14)  # another order of sums


@given(tilings())
def test_partition(drawn: tuple[Tiling, tuple[int, ...]]) -> None:
    tiling, tile = drawn
    assert parts(tiling) == oracle(tiling.shape, tile)
    assert sorted(tiling.members) == list(range(tiling.size))
    assert tiling.counts.min() >= 1
    assert tiling.counts.sum() == tiling.size == int(np.prod(tiling.shape))
    assert tiling.tiles == int(np.prod(tiling.grid)) == len(tiling.counts)


@settings(max_examples=50)
@given(tilings(), st.lists(st.integers(1, 3), max_size=2), st.integers(0, 99))
def test_sums_and_expand(drawn: tuple[Tiling, tuple[int, ...]], leading: list[int], seed: int) -> None:
    tiling, tile = drawn
    # Integers: sums in any order are exact.
    maps = np.random.default_rng(seed).integers(-99, 99, (*leading, *tiling.shape)).astype(np.float32)
    sums = tiling.sums(maps)
    flat = maps.reshape(*leading, -1)
    assert sums.dtype == np.float64
    np.testing.assert_array_equal(sums, np.stack([flat[..., m].sum(-1) for m in oracle(tiling.shape, tile)], -1))
    whole, share = tiling.expand(sums, "sum"), tiling.expand(sums)
    assert whole.shape == share.shape == maps.shape
    for t, members in enumerate(oracle(tiling.shape, tile)):
        expected = np.repeat(sums[..., t, None], len(members), axis=-1)
        np.testing.assert_array_equal(whole.reshape(*leading, -1)[..., members], expected)
        np.testing.assert_array_equal(share.reshape(*leading, -1)[..., members], expected / len(members))
    # At most 7^4 shares of a sum below 7^4 * 99: n roundings of 2^-53 each.
    np.testing.assert_allclose(tiling.sums(share), sums, rtol=0, atol=7**8 * 99 * 2.0**-52)
    if tiling.tiles == tiling.size:
        np.testing.assert_array_equal(share, maps)


@given(tilings())
def test_grid_and_place(drawn: tuple[Tiling, tuple[int, ...]]) -> None:
    tiling, tile = drawn
    values = np.arange(2 * tiling.tiles).reshape(2, tiling.tiles)
    on_grid = tiling.on_grid(values)
    assert on_grid.shape == (2, *tiling.grid)
    for t in range(tiling.tiles):
        at = np.unravel_index(t, tiling.grid)
        assert on_grid[(1, *at)] == values[1, t]
        assert tiling.where(t) == tuple(int(i) * n for i, n in zip(at, tile, strict=True))


def test_shared_between_calls_and_read_only() -> None:
    tiling = make_tiling((6, 4, 3), 2, "together")
    assert make_tiling([6, 4, 3], (2, 2), "together") is tiling
    assert make_tiling((6, 4, 3), 2) is not tiling
    for array in (tiling.members, tiling.offsets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    tiling.counts[0] = 0
    assert tiling.counts[0] == 12


def test_arguments_stay_untouched() -> None:
    tiling = make_tiling((4, 4), 2)
    maps, values = np.arange(16.0).reshape(4, 4), np.arange(4.0)
    for array in (maps, values):
        array.flags.writeable = False
    tiling.sums(maps)
    tiling.expand(values)


# shape, tile, channels, exception, message
REFUSALS: list[tuple[Any, Any, str, type[Exception], str]] = [
    ((0,), 1, "together", ValueError, "x is empty: one example has shape (0,); there is nothing to differentiate"),
    ((3, 0, 2), 1, "together", ValueError, "one example has shape (3, 0, 2)"),
    ((4, 4), 1.0, "together", TypeError, "tile must be an int or a sequence of ints, got 1.0"),
    ((4, 4), True, "together", TypeError, "got True"),
    ((4, 4), "1", "together", TypeError, "got '1'"),
    ((4, 4), (2, 2.0), "together", TypeError, "got (2, 2.0)"),
    ((4, 4), None, "together", TypeError, "got None"),
    ((4, 4), 0, "together", ValueError, "tile extent 0 does not fit axis 0 of shape (4, 4): it must be between 1"),
    ((4, 3), 4, "together", ValueError, "tile extent 4 does not fit axis 1 of shape (4, 3): it must be between 1"),
    ((4, 4), (2, -1), "together", ValueError, "axis 1 of shape (4, 4): it must be between 1 and 4"),
    ((4, 4), (2,), "together", ValueError, "tile (2,) has 1 entries; for shape (4, 4) it needs 2"),
    ((4, 4), (2, 2, 1), "together", ValueError, "tile (2, 2, 1) has 3 entries; for shape (4, 4) it needs 2"),
    ((4, 4, 3), (2,), "together", ValueError, "for shape (4, 4, 3) it needs 2 (spatial axes) or 3 (all axes)"),
    ((4, 4, 3), (2, 2, 4), "together", ValueError, "tile extent 4 does not fit axis 2"),
    ((), (1,), "together", ValueError, "tile (1,) has 1 entries; for shape () it needs 0"),
    ((4, 4, 3), 2, "both", ValueError, "channels must be one of 'together', 'apart', got 'both'"),
]


@pytest.mark.parametrize(("shape", "tile", "channels", "error", "message"), REFUSALS)
def test_refusals(shape: Any, tile: Any, channels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make_tiling(shape, tile, channels)


def test_refuses_another_reduction() -> None:
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', got 'max'"):
        make_tiling((4,)).expand(np.zeros(4), "max")  # type: ignore[arg-type]


def test_check_choice() -> None:
    check_choice("engine", "batch", ("auto", "batch"))
    with pytest.raises(ValueError, match="engine must be one of 'auto', 'batch', got None"):
        check_choice("engine", None, ("auto", "batch"))
