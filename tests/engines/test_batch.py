"""The batch engine against rows made by the NumPy oracle: any tile, any chunk, too little memory, Ctrl-C."""

from __future__ import annotations

import math
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import perturbed_rows

import fdfast
from fdfast.engines import chunking
from fdfast.engines.batch import BatchEngine
from fdfast.engines.chunking import CANDIDATES, Chunking, chunking_for
from fdfast.engines.pairs import Pairs
from fdfast.moves.tiling import make_tiling

RNG = np.random.default_rng(0)
K = keras.layers


class Recording:
    """An objective that keeps what it is given; every row's value is computed alone, so that batches do not round."""

    traced = None

    def __init__(self, shape, dtype="float64", row_bytes=None, fits=10**9):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = row_bytes or 8 * math.prod(shape)
        self.fits = fits
        self.rows, self.examples, self.calls = [], [], []

    def value(self, row, example):
        return float(np.dot(np.arange(1, row.size + 1) * (1.0 + example), np.sin(row.ravel().astype(float))))

    def values(self, rows, example, chunk):
        for n in [min(chunk, len(rows) - i) for i in range(0, len(rows), chunk)]:
            if n > self.fits:
                raise tf.errors.ResourceExhaustedError(None, None, f"OOM with {n} rows")
        assert rows.shape[1:] == self.shape
        assert len(rows) == len(example)
        self.calls.append((len(rows), chunk))
        self.rows += [row.copy() for row in rows]
        self.examples += list(example)
        return np.array([self.value(row, i) for row, i in zip(rows, example, strict=True)])

    def select(self, examples):
        return self


def members(tiling):
    return [tiling.members[a:b] for a, b in zip(tiling.offsets[:-1], tiling.offsets[1:], strict=True)]


def random_pairs(rng, points, tiles, count):
    step = rng.uniform(1e-4, 1e-1, (count, 2)) * rng.choice([-1, 1], (count, 2))
    return Pairs(rng.integers(0, points, count), rng.integers(-1, tiles, count), step)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "float64"]),
    max_rows=st.sampled_from([None, 2, 3, 7, 64]),
    channels=st.sampled_from(["together", "apart"]),
)
def test_rows_are_those_of_the_oracle(shape, seed, dtype, max_rows, channels):
    rng = np.random.default_rng(seed)
    spatial = shape[:-1] if len(shape) > 2 else shape
    tiling = make_tiling(shape, tuple(int(rng.integers(1, n + 1)) for n in spatial), channels)
    points = rng.uniform(-2, 2, (3, tiling.size)).astype(dtype)
    before = points.copy()
    pairs = random_pairs(rng, 3, tiling.tiles, int(rng.integers(0, 40)))
    f = Recording(shape, dtype)
    found = BatchEngine(f, tiling, max_rows=max_rows).differences(points, np.array([4, 0, 2], np.int32), pairs)
    owned = [*members(tiling), np.empty(0, np.int64)]
    # The points themselves come first, each twice; -1, no tile, is the empty last one.
    wanted = [row for x in points for row in (x, x)]
    moved = []
    for point, tile, step in zip(*pairs.fields, strict=True):
        rows, far = perturbed_rows(points[point], [owned[tile]], step[None])
        wanted += list(rows)
        moved += list(far)
    np.testing.assert_array_equal(np.reshape(f.rows, (-1, tiling.size)), np.reshape(wanted, (-1, tiling.size)))
    np.testing.assert_array_equal(f.examples, np.repeat(np.array([4, 0, 2])[[0, 1, 2, *pairs.point]], 2))
    np.testing.assert_array_equal(found.moved, np.reshape(moved, (-1, 2)))
    values = [f.value(row, i) for row, i in zip(f.rows, f.examples, strict=True)]
    np.testing.assert_array_equal(found.base, values[0:6:2])
    np.testing.assert_array_equal(found.delta.ravel(), values[6:] - np.repeat(found.base[pairs.point], 2))
    assert found.evaluations == 6 + 2 * len(pairs)
    # Both rows of a pair are in the same chunk: chunks are even, and so is where each begins.
    assert all(rows % 2 == 0 and chunk % 2 == 0 for rows, chunk in f.calls)
    assert max_rows is None or max(chunk for _, chunk in f.calls) <= max_rows
    np.testing.assert_array_equal(points, before)


def cnn():
    keras.utils.set_random_seed(5)
    layers = [keras.Input((8, 8, 1)), K.Conv2D(4, 3, activation="tanh"), K.Flatten(), K.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile(loss="sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("float64", 1e-9),  # 1e-16 of rounding over a step of 1e-5, times a few
        ("float32", 1e-3),  # 1e-7 over 4e-3, times a few
    ],
)
def test_chunks_change_nothing_but_rounding(precision, tolerance):
    model, x = cnn(), RNG.uniform(size=(8, 8, 1)).astype("float32")
    wanted = fdfast.gradient(model, x, y=1, precision=precision)
    assert np.abs(wanted).max() > 100 * tolerance
    for max_rows in (2, 3, 7, 64, np.int64(10), 10**6):
        got = fdfast.gradient(model, x, y=1, precision=precision, max_rows=max_rows)
        np.testing.assert_allclose(got, wanted, atol=tolerance)


@pytest.mark.parametrize("max_rows", [1, 0, -4, 2.0, True, "64"])
def test_max_rows_must_hold_a_pair(max_rows):
    with pytest.raises(
        (TypeError, ValueError), match=r"max_rows must be an int of at least 2 \(a \+h and a -h row\), got"
    ):
        BatchEngine(Recording((2,)), make_tiling((2,)), max_rows=max_rows)


def test_progress_adds_up_to_all_rows():
    seen = []
    engine = BatchEngine(Recording((4,)), make_tiling((4,)), max_rows=4, progress=seen.append)
    found = engine.differences(np.ones((1, 4)), np.zeros(1, np.int32), random_pairs(RNG, 1, 4, 100))
    assert sum(seen) == found.evaluations == 202
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("dtype", "x", "h"), [("float32", 0.75, 1e-8), ("float64", 3.0, 1e-16), ("float32", -3e4, 9e-4)]
)
def test_a_vanishing_step_is_named(dtype, x, h):
    tiling = make_tiling((3, 4, 1), 2)
    points = np.full((2, 12), 1e-3 * abs(x), dtype)
    points[1, 6] = x  # row 1, column 2: the second tile of the grid
    points[1, 10] = 0
    pairs = Pairs(np.array([0, 1]), np.array([3, 1]), np.array([[h, -h], [h, -h]]))
    start = points.copy()
    words = rf"h={h:.3g} vanishes in {dtype} at x\[1, 2, 0\]={x:.6g}: x \+ h == x. Smallest step .*leave h='auto'"
    with pytest.raises(ValueError, match=words):
        BatchEngine(Recording((3, 4, 1), dtype), tiling).differences(points, np.zeros(2, np.int32), pairs)
    np.testing.assert_array_equal(points, start)


# Memory -----------------------------------------------------------------------------------------------------------


def run(f, max_rows=None, pairs=500):
    tiling = make_tiling(f.shape)
    engine = BatchEngine(f, tiling, max_rows=max_rows)
    example, tile = np.zeros(pairs, np.int64), np.arange(pairs) % tiling.tiles
    step = np.full((pairs, 2), 1e-3) * [1, -1]
    return engine.differences(np.linspace(0, 1, tiling.size)[None], np.zeros(1, np.int32), Pairs(example, tile, step))


@pytest.mark.parametrize(
    ("max_rows", "fits", "warned", "settled"),
    [(64, 20, [32, 16], 16), (64, 2, [32, 16, 8, 4, 2], 2), (7, 5, [2], 2), (None, 63, [32], 32)],
)
def test_rows_are_halved_when_memory_runs_out(max_rows, fits, warned, settled):
    wanted = run(Recording((10,)))
    f = Recording((10,), fits=fits)
    with pytest.warns(RuntimeWarning, match="out of memory with") as caught:
        got = run(f, max_rows)
    assert [int(str(w.message).rsplit(" ", 1)[1]) for w in caught] == warned
    assert {chunk for _, chunk in f.calls} == {settled}
    np.testing.assert_array_equal(got.delta, wanted.delta)
    np.testing.assert_array_equal(got.moved, wanted.moved)


def test_memory_too_small_for_one_pair_is_an_error():
    with (
        pytest.warns(RuntimeWarning, match="going on with 2"),
        pytest.raises(MemoryError, match="f ran out of memory on a single pair of rows"),
    ):
        run(Recording((10,), fits=1), 4)


def test_other_errors_pass_through():
    f = Recording((3,))
    f.values = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(f)


def test_blocks_of_rows_stay_within_an_eighth_of_the_budget(monkeypatch):
    monkeypatch.setattr("fdfast.engines.batch.BUDGET", 8 * 1000)
    f = Recording((25,), "float64")  # 200 bytes a row: two pairs
    run(f)
    assert max(rows for rows, _ in f.calls) == 4


# How many rows at a time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row_bytes", "budget", "wanted"),
    [
        (1, 1 << 20, list(CANDIDATES)),
        (1 << 10, 1 << 18, [32, 64, 128]),
        (1 << 10, 50 << 10, [24]),  # half the budget holds 25 rows: whole pairs
        (1 << 10, 2 << 10, [2]),  # a pair must go, whatever it takes
        (1 << 10, 0, [2]),
    ],
)
def test_candidates_fit_half_the_budget(row_bytes, budget, wanted):
    assert Chunking().candidates(row_bytes, budget) == wanted


def test_the_fastest_chunk_is_found_and_kept():
    seconds = dict(zip(CANDIDATES, (2e-3, 1e-3, 4e-3, 3e-3), strict=True))  # per row
    chunks = Chunking()
    assert chunks.next(1, 10**6) == (64, False)  # cold: the first run is not a measurement
    chunks.warm = True
    trials = []
    for _ in range(20):
        chunk, trial = chunks.next(1, 10**6)
        if not trial:
            break
        trials.append(chunk)
        # Noise only ever adds: the first trial of each is slow by chance, of the best most of all.
        noise = 1.0 if trials.count(chunk) > 1 else 5.0 + 5.0 * (chunk == 64)
        chunks.record(chunk, chunk, seconds[chunk] * chunk * noise)
    assert sorted(trials) == sorted(2 * list(CANDIDATES))
    assert chunks.next(1, 10**6) == (64, False)
    assert chunks.next(1, 10) == (64, False)
    assert chunks.halve(64) == 32
    assert chunks.next(1, 10**6) == (32, False)


def test_too_little_work_is_no_trial():
    chunks = Chunking()
    chunks.warm = True
    assert chunks.next(1, 40) == (64, False)


def test_chunks_are_remembered_with_the_function():
    class Traced:
        pass

    one, other = Traced(), Traced()
    assert chunking_for(one) is chunking_for(one)
    assert chunking_for(one) is not chunking_for(other)
    assert chunking_for(None) is not chunking_for(None)
    count = len(chunking._known)
    del one, other
    assert len(chunking._known) == count - 2


def test_trials_that_the_budget_cuts_short_still_count(monkeypatch):
    monkeypatch.setattr("fdfast.engines.batch.BUDGET", 8 * 20 * 24)  # blocks of 20 rows: no candidate is ever filled
    f = Recording((3,))
    f.traced = types.SimpleNamespace()
    monkeypatch.setattr("fdfast.engines.batch.chunking_for", lambda traced: known)
    monkeypatch.setattr("fdfast.engines.batch.accelerator", lambda: None)
    known = Chunking()
    run(f, pairs=2000)
    assert known.next(f.row_bytes, 10**6)[1] is False


# Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [False, True])
def test_ctrl_c_inside_f_leaves_x_alone(batched):
    x = RNG.uniform(size=(6, 7))
    before, calls = x.copy(), []

    def f(rows):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        rows[...] = -1.0
        return np.zeros(len(rows)) if batched else 0.0

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradcheck(f, x, batched=batched, analytic=np.zeros((6, 7)), max_rows=2 if batched else None)
    assert len(calls) == 6
    np.testing.assert_array_equal(x, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
def test_ctrl_c_during_a_run_leaves_everything_alone():
    model = cnn()
    x = RNG.uniform(size=(2000, 8, 8, 1)).astype("float32")
    y = np.zeros(2000, int)
    wanted = fdfast.gradient(model, x[:1], y=y[:1])
    weights, before, policy = model.get_weights(), x.copy(), keras.config.dtype_policy()
    known = signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for seconds in (0.05, 0.31):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with pytest.raises(KeyboardInterrupt):
                fdfast.gradcheck(model, x, y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, known)
    np.testing.assert_array_equal(x, before)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert keras.config.dtype_policy() == policy
    # Nothing half-done is left behind: the next call is right. Chunks may differ, hence rounding over the step.
    np.testing.assert_allclose(fdfast.gradient(model, x[:1], y=y[:1]), wanted, atol=1e-9)
