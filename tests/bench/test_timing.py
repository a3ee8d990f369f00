"""Rounds that count, and time that the host of a virtual machine takes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from bench import steal, timing

STAT = "cpu  100 2 30 4000 5 0 7 250 0 0\ncpu0 50 1 15 2000 2 0 3 125 0 0\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(STAT, 2.5), ("cpu  100 2 30 4000\n", 0.0), (None, 0.0)],  # an old kernel, and a system without the file
)
def test_stolen_is_the_eighth_figure(tmp_path, monkeypatch, text, seconds):
    file = tmp_path / "stat"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(steal, "_STAT", file)
    monkeypatch.setattr(steal.os, "sysconf", lambda name: 100)
    assert steal.stolen() == seconds


def test_share_is_of_all_cores(monkeypatch):
    stolen, seconds = iter([1.0, 1.5]), iter([10.0, 12.0])
    monkeypatch.setattr(steal, "stolen", lambda: next(stolen))
    monkeypatch.setattr(steal.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(steal.os, "cpu_count", lambda: 2)
    assert steal.Mark().share() == pytest.approx(0.125)  # half a second of 2 x 2 s


@pytest.mark.parametrize(
    ("shares", "least", "kept"),
    [
        ([0.0, 0.3, 0.04, 0.1], 2, [0, 2]),
        ([0.0, 0.3, 0.2, 0.1], 3, [0, 2, 3]),  # the calmest three
        ([0.3], 3, [0]),
        ([0.0, 0.05], 1, [0, 1]),
    ],
)
def test_calm_rounds_or_the_calmest(shares, least, kept):
    assert steal.calm(shares, least) == kept


def test_side_by_side_leaves_out_what_the_host_disturbed(monkeypatch):
    """Rounds take 1, 2, 3, 4 s; the host took time in the last two."""
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0, 30.0, 34.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    shares = iter([0.0, 0.0, 0.2, 0.3])
    monkeypatch.setattr(timing, "Mark", lambda: SimpleNamespace(share=lambda: next(shares)))
    found = timing.side_by_side({"call": lambda: None}, rounds=4, warm=0)
    assert found["call"].median == 1.5


def test_ratio_is_of_neighbours():
    """Both drift; one is always twice as slow."""
    slow, fast = (timing.Timing(tuple(k * s for s in (1.0, 5.0, 2.0)), 0, 0, 0) for k in (2, 1))
    assert slow.over(fast) == 2.0


def test_side_by_side_runs_forwards_and_backwards():
    order: list[str] = []
    found = timing.side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, warm=1)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert set(found) == {"a", "b"}


def test_side_by_side_keeps_half_of_the_rounds(monkeypatch):
    clock = itertools.chain.from_iterable((10.0 * i, 10.0 * i + i) for i in range(1, 5))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    shares = iter([0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(timing, "Mark", lambda: SimpleNamespace(share=lambda: next(shares)))
    assert timing.side_by_side({"call": lambda: None}, rounds=4, warm=0)["call"].median == 3.5
