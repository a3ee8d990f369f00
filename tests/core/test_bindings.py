"""The compiled module by itself: fill_rows against a NumPy oracle, and every refusal."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import perturbed_rows

from fdfast._core import ALIGNMENT, aligned_empty, fill_rows

DTYPES = ["float32", "float64"]
Args = dict[str, Any]


def arguments(
    x: np.ndarray,
    tiles: list[list[int]],
    example: list[int],
    tile: list[int],
    step: Any = (0.25, -0.25),
    capacity: int | None = None,
) -> Args:
    pairs = len(example)
    rows = aligned_empty((2 * pairs if capacity is None else capacity, x.shape[1]), x.dtype)
    rows[:] = -7
    return {
        "x": x,
        "offsets": np.cumsum([0, *map(len, tiles)], dtype=np.int64),
        "members": np.array([m for members in tiles for m in members], dtype=np.int64),
        "example": np.array(example, dtype=np.int64),
        "tile": np.array(tile, dtype=np.int64),
        "step": np.broadcast_to(np.array(step, dtype=np.float64), (pairs, 2)).copy(),
        "rows": rows,
        "held_example": np.full(len(rows) // 2, -1, dtype=np.int64),
        "held_tile": np.full(len(rows) // 2, -1, dtype=np.int64),
        "moved": np.full((pairs, 2), np.nan),
    }


def points(dtype: str, examples: int = 2, n: int = 6) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 1, (examples, n)).astype(dtype)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], int, list[Any]]:
    """Points, a partition into tiles of any shape, a capacity, and several calls into one buffer."""
    dtype = draw(st.sampled_from(DTYPES))
    examples, n = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    width = 32 if dtype == "float32" else 64
    element = st.floats(-1e3, 1e3, width=width)
    x = np.array(draw(st.lists(element, min_size=examples * n, max_size=examples * n)), dtype=dtype)
    order = draw(st.permutations(range(n)))
    cuts = sorted(draw(st.sets(st.integers(1, n - 1)))) if n > 1 else []
    tiles = [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    capacity = draw(st.integers(1, 9))
    # Opposite, one-sided, zero, and steps so small that they vanish for most points.
    steps = st.sampled_from([(0.5, -0.5), (2**-6, 2**-5), (-(2**-6), -(2**-5)), (0.0, 1.0), (1e-14, -1e-14)])
    pair = st.tuples(st.integers(0, examples - 1), st.integers(-1, len(tiles) - 1), steps)
    calls = draw(st.lists(st.lists(pair, max_size=capacity // 2), min_size=1, max_size=5))
    return x.reshape(examples, n), tiles, capacity, calls


@given(problems(), st.sampled_from([None, (1.0, -1.0), (0.5, -0.75, 1.0)]))
def test_calls_into_one_buffer_equal_the_oracle_bit_for_bit(problem: Any, factors: Any) -> None:
    x, tiles, capacity, calls = problem
    x.flags.writeable = False
    before = x.copy()
    args = arguments(x, tiles, [], [], capacity=capacity)
    weights = [np.resize(factors or 1.0, len(tile)) for tile in tiles]
    if factors:
        args["weights"] = np.concatenate(weights)
    rows = args["rows"]
    for call in calls:
        untouched = rows[2 * len(call) :].copy()
        args["example"] = np.array([e for e, _, _ in call], dtype=np.int64)
        args["tile"] = np.array([t for _, t, _ in call], dtype=np.int64)
        args["step"] = np.array([h for _, _, h in call], dtype=np.float64).reshape(-1, 2)
        args["moved"] = np.full((len(call), 2), np.nan)
        first = fill_rows(**args)

        vanished = []
        for i, (e, t, h) in enumerate(call):
            members = np.array(tiles[t] if t >= 0 else [], dtype=np.int64)
            expected, moved = perturbed_rows(x[e], [members], np.array([h]), [weights[t] if t >= 0 else np.empty(0)])
            assert rows[2 * i : 2 * i + 2].tobytes() == expected.tobytes()
            assert np.array_equal(args["moved"][i], moved[0])  # the same sums in the same order: no tolerance
            still = (expected[:, members] == x[e, members]).any(axis=1)
            vanished += [2 * i + side for side in range(2) if h[side] != 0 and still[side]]
        assert first == min(vanished, default=-1)
        assert args["held_example"][: len(call)].tolist() == args["example"].tolist()
        assert args["held_tile"][: len(call)].tolist() == args["tile"].tolist()
        assert rows[2 * len(call) :].tobytes() == untouched.tobytes()
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_restored_row_is_the_point_bit_for_bit(dtype: str) -> None:
    # x + h - h would not come back to these; a copy does, also for -0, the smallest number, NaN and infinity.
    x = np.array([[0.1, -0.0, np.finfo(dtype).smallest_subnormal, 1e30, np.nan, np.inf]], dtype=dtype)
    args = arguments(x, [[0, 1, 2], [3, 4, 5]], [0], [0], step=(3.7, -0.3))
    fill_rows(**args)
    args["tile"][0] = -1
    assert fill_rows(**args) == -1
    assert args["rows"][0].tobytes() == args["rows"][1].tobytes() == x.tobytes()
    assert args["moved"].tolist() == [[0, 0]]


def test_another_example_is_copied_whole() -> None:
    x = points("float32")
    args = arguments(x, [[0], [1], [2, 3], [4, 5]], [0], [2])
    fill_rows(**args)
    args["example"][0], args["tile"][0] = 1, -1
    fill_rows(**args)
    assert np.array_equal(args["rows"], x[[1, 1]])


def test_only_what_changes_is_written() -> None:
    # The contract that makes the kernel cheap: a held row is trusted outside its tile.
    args = arguments(points("float32"), [[0], [1], [2, 3, 4, 5]], [0], [0])
    fill_rows(**args)
    args["rows"][:, 5] = 99
    args["tile"][0] = 1
    fill_rows(**args)
    assert args["rows"][:, 5].tolist() == [99, 99]
    args["held_example"][0] = -1
    fill_rows(**args)
    assert args["rows"][:, 5].tolist() == [args["x"][0, 5]] * 2


def test_moved_is_the_distance_in_the_dtype_of_x() -> None:
    x = np.array([[1.0, 1.0]], dtype=np.float32)
    args = arguments(x, [[0], [1]], [0], [0], step=(1e-3, -1e-3))
    fill_rows(**args)
    plus, minus = args["moved"][0]
    assert plus == float(np.float32(1) + np.float32(1e-3)) - 1 != 1e-3
    assert minus == float(np.float32(1) - np.float32(1e-3)) - 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_that_the_dtype_cannot_hold_is_rounded_first(dtype: str, scale: float) -> None:
    # x + 1/3 in float64, rounded, is now and then another float32 than x + float32(1/3); and row - x in
    # float32 is not exact where x is much smaller than the step.
    n = 200
    x = (scale * points(dtype, 1, n)).astype(dtype)
    args = arguments(x, [[m] for m in range(n)], [0] * n, list(range(n)), step=(1 / 3, -0.1))
    assert fill_rows(**args) == -1
    rows, moved = perturbed_rows(x[0], [np.array([m]) for m in range(n)], args["step"])
    assert np.array_equal(args["rows"], rows)
    assert np.array_equal(args["moved"], moved)


def test_one_vanished_element_of_a_tile_is_enough() -> None:
    x = np.array([[0.5, 2.0**24]], dtype=np.float32)
    args = arguments(x, [[0, 1]], [0], [0], step=(0.5, -0.25))
    assert fill_rows(**args) == 0  # 2**24 + 0.5 == 2**24 in float32
    assert args["rows"].tolist() == [[1.0, 2.0**24], [0.25, 2.0**24]]
    assert args["moved"].tolist() == [[0.25, -0.125]]


def replaced(name: str, value: Any) -> Callable[[Args], Args]:
    return lambda a: a | {name: value(a[name]) if callable(value) else value}


def unaligned(a: np.ndarray, by: int) -> np.ndarray:
    raw = np.zeros(a.nbytes + 2 * ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + by
    return raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)


def read_only(a: np.ndarray) -> np.ndarray:
    a = a[:]
    a.flags.writeable = False
    return a


def fortran(a: np.ndarray) -> np.ndarray:
    return np.asfortranarray(a)


def swapped(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder())


INT64 = ["offsets", "members", "example", "tile", "held_example", "held_tile"]
FLAT = INT64
WRITTEN = ["rows", "held_example", "held_tile", "moved"]

REFUSALS = [
    *((n, replaced(n, lambda a: a.tolist()), TypeError, "incompatible function arguments") for n in ["x", "rows"]),
    (
        "x",
        replaced("x", lambda a: a.astype(np.float16)),
        TypeError,
        "x must be float32 or float64, got float16",
    ),
    ("x", replaced("x", swapped), TypeError, "x must be float32 or float64, got >f4"),
    ("x", replaced("x", lambda a: a.astype(np.float64)), TypeError, "rows must be float64, got float32"),
    *((n, replaced(n, lambda a: a.astype(np.int32)), TypeError, f"{n} must be int64, got int32") for n in INT64),
    *((n, replaced(n, swapped), TypeError, f"{n} must be int64, got >i8") for n in INT64),
    *(
        (n, replaced(n, lambda a: a.astype(np.float32)), TypeError, f"{n} must be float64, got float32")
        for n in ["step", "moved"]
    ),
    *((n, replaced(n, lambda a: a[None]), ValueError, f"{n} must have 1 axes, got shape (1, ") for n in FLAT),
    *(
        (n, replaced(n, np.ravel), ValueError, f"{n} must have 2 axes, got shape (")
        for n in ["x", "step", "rows", "moved"]
    ),
    *(
        (n, replaced(n, fortran), ValueError, f"{n} must be C-contiguous, got strides (")
        for n in ["x", "step", "rows", "moved"]
    ),
    *((n, replaced(n, lambda a: np.repeat(a, 2)[::2]), ValueError, f"pass numpy.ascontiguousarray({n})") for n in FLAT),
    *(
        (n, replaced(n, lambda a: unaligned(a, 2)), ValueError, f"{n} must be aligned to its ")
        for n in ["x", "rows", "step", "moved", *INT64]
    ),
    *((n, replaced(n, read_only), ValueError, f"{n} must be writable, got a read-only array") for n in WRITTEN),
    (
        "rows",
        replaced("rows", lambda a: unaligned(a, 32)),
        ValueError,
        "rows must start on a 64-byte boundary",
    ),
    (
        "rows",
        replaced("rows", lambda a: a[:2].copy()),
        ValueError,
        "at least 2 * pairs = 4 rows, got shape (2, 6)",
    ),
    (
        "rows",
        replaced("rows", lambda a: aligned_empty((4, 5), a.dtype)),
        ValueError,
        "Columns of rows (5) must match columns of x (6)",
    ),
    (
        "offsets",
        replaced("offsets", lambda a: a[:0]),
        ValueError,
        "offsets must have tiles + 1 elements, got shape (0,)",
    ),
    (
        "tile",
        replaced("tile", lambda a: a[:1]),
        ValueError,
        "Length of tile (1) must match the number of pairs, the length of example (2)",
    ),
    *(
        (n, replaced(n, lambda a: a[:1]), ValueError, f"{n} must have shape (pairs, 2) = (2, 2), got (1, 2)")
        for n in ["step", "moved"]
    ),
    *(
        (
            n,
            replaced(n, lambda a: a[:1]),
            ValueError,
            f"Length of {n} (1) must match half the number of rows (2)",
        )
        for n in ["held_example", "held_tile"]
    ),
    *(
        (
            "example",
            replaced("example", np.array([0, e])),
            ValueError,
            f"example[1]={e} must be a row of x, below 2",
        )
        for e in [-1, 2]
    ),
    *(
        ("tile", replaced("tile", np.array([t, 0])), ValueError, f"tile[0]={t} must be -1 or a tile below 3")
        for t in [-2, 3]
    ),
    (
        "held_tile",
        lambda a: a | {"held_example": a["example"].copy(), "held_tile": np.array([-1, 3])},
        ValueError,
        "held_tile[1]=3 must be -1 or a tile below 3",
    ),
    *(
        (
            "members",
            replaced("members", np.array([0, 1, 2, 3, 4, m])),
            ValueError,
            f"members[5]={m} must be an element of a row, below 6",
        )
        for m in [-1, 6]
    ),
    *(
        (
            "offsets",
            replaced("offsets", np.array(offsets)),
            ValueError,
            f"offsets give tile {t} the members [{span})",
        )
        for offsets, t, span in [
            ([0, 1, 3, 7], 2, "3, 7"),
            ([-1, 1, 3, 6], 0, "-1, 1"),
            ([0, 1, 6, 6], 2, "6, 6"),
            ([0, 1, 5, 3], 2, "5, 3"),
        ]
    ),
    *(
        ("step", replaced("step", np.array([[0.1, 0.1], [0.1, h]])), ValueError, f"step[1, 1]={h}")
        for h in [np.nan, np.inf, -np.inf]
    ),
    ("step", replaced("step", np.array([[1e39, 0], [0, 0]])), ValueError, "must be finite in the dtype of x"),
    (
        "weights",
        replaced("weights", np.ones(6, np.float32)),
        TypeError,
        "weights must be float64, got float32",
    ),
    (
        "weights",
        replaced("weights", np.ones(5)),
        ValueError,
        "Length of weights (5) must match the number of members (6)",
    ),
    *(
        (
            "weights",
            replaced("weights", np.array([1, 1, 1, 1, 1, w])),
            ValueError,
            f"weights[5]={w:f} must lie in [-1, 1] and not be 0",
        )
        for w in [0.0, 1.5, np.nan]
    ),
    (
        "weights",
        lambda a: a | {"moved": (both := np.ones(6))[:4].reshape(2, 2), "weights": both},
        ValueError,
        "moved shares memory with weights",
    ),
    ("rows", lambda a: a | {"x": a["rows"][:2]}, ValueError, "rows shares memory with x"),
    (
        "held_tile",
        lambda a: a | {"held_tile": a["held_example"]},
        ValueError,
        "held_example shares memory with held_tile",
    ),
    (
        "held_example",
        lambda a: a | {"held_example": a["example"]},
        ValueError,
        "held_example shares memory with example",
    ),
    ("moved", lambda a: a | {"moved": a["step"]}, ValueError, "moved shares memory with step"),
]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [case[1:] for case in REFUSALS],
    ids=[f"{case[0]}-{case[3]}" for case in REFUSALS],
)
def test_refuses_and_writes_nothing(spoil: Any, error: type[Exception], message: str) -> None:
    good = arguments(points("float32"), [[0], [1, 2], [3, 4, 5]], [0, 1], [0, 2])
    args = spoil(good)
    before = {name: np.array(good[name]) for name in WRITTEN}
    with pytest.raises(error, match=re.escape(message)):
        fill_rows(**args)
    for name in WRITTEN:
        assert np.array_equal(good[name], before[name], equal_nan=True)


def test_the_arguments_that_the_refusals_spoil_are_good() -> None:
    assert fill_rows(**arguments(points("float32"), [[0], [1, 2], [3, 4, 5]], [0, 1], [0, 2])) == -1


def test_the_interpreter_runs_on_during_a_fill() -> None:
    # To see some pairs done and others not, Python must run during the call: no clock needed.
    pairs, repeats = 1000, 20_000
    args = arguments(points("float64"), [[0] * repeats], [0] * pairs, [0] * pairs)
    held = args["held_example"]
    for _ in range(20):
        held[:] = -1
        worker = threading.Thread(target=fill_rows, kwargs=args)
        worker.start()
        seen_midway = False
        while worker.is_alive():
            seen_midway |= bool(held[0] == 0 and held[-1] == -1)
        worker.join()
        if seen_midway:
            return
    pytest.fail("20 calls ran with the GIL held")


@pytest.mark.parametrize("dtype", [*DTYPES, np.float32, np.dtype("float64")])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,), (33, 5), (2, 3, 4, 5)])
def test_aligned_empty(shape: tuple[int, ...], dtype: Any) -> None:
    a = aligned_empty(shape, dtype)
    assert a.shape == shape
    assert a.dtype == np.dtype(dtype)
    assert a.ctypes.data % ALIGNMENT == 0
    assert a.flags.c_contiguous
    assert a.flags.writeable
    a[...] = 3
    assert (a == 3).all()


def test_aligned_memory_lives_as_long_as_a_view_and_no_longer() -> None:
    view = aligned_empty((1000,), "float64")
    view[:] = np.arange(1000)
    view = view[10:20]
    gc.collect()
    junk = [aligned_empty((1000,), "float64") for _ in range(50)]
    for a in junk:
        a[:] = -1
    assert view.tolist() == list(range(10, 20))

    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc to read the size of the address space")

    def kilobytes() -> int:
        return int(re.search(r"VmSize:\s+(\d+)", status.read_text())[1])  # type: ignore[index]

    before = kilobytes()
    for _ in range(40):
        aligned_empty((2**25,), "float32")
    assert kilobytes() - before < 2**20  # 40 times 128 MiB would be 5 GiB


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((2,), "float16", TypeError, "dtype must be float32 or float64, got float16"),
        ((2,), "int64", TypeError, "dtype must be float32 or float64, got int64"),
        ((2,), ">f4", TypeError, "dtype must be float32 or float64, got >f4"),
        ((2,), "no such thing", TypeError, "no such thing"),
        ((2, -1), "float32", ValueError, "shape must not be negative, got (2, -1)"),
        ((2**40, 2**40), "float32", ValueError, "shape (1099511627776, 1099511627776) overflows"),
        ((2**62,), "float64", ValueError, "shape (4611686018427387904,) overflows"),
        ((0, 2**40, 2**40), "float64", ValueError, "shape (0, 1099511627776, 1099511627776) overflows"),
        ((2**58,), "float64", MemoryError, "shape (288230376151711744,) needs 2305843009213693952 bytes"),
        ((2.5,), "float32", TypeError, "incompatible function arguments"),
    ],
)
def test_aligned_empty_refuses(shape: Any, dtype: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        aligned_empty(shape, dtype)
