"""Calls taken in turn, their ratios, and lines held against goals."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench import timing
from bench.timing import Spread


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a call says so, or in a pause."""
    now = SimpleNamespace(seconds=0.0, paused=0.0)

    def sleep(seconds):
        now.paused += seconds

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now.seconds, sleep=sleep))
    return now


def taking(clock, name, log, *seconds):
    """A call that takes these times, and the last of them for ever."""
    left = list(seconds)

    def call():
        log.append(name)
        clock.seconds += left.pop(0) if len(left) > 1 else left[0]

    return call


def test_median_and_quartiles():
    found = Spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert str(found.times(1e-3)) == "3 ms [2 ms .. 4 ms]"


def test_ratio_is_of_neighbours():
    """Both drift; one is always twice as slow."""
    slow, fast = (Spread([k * s for s in (1.0, 5.0, 2.0)]) for k in (2, 1))
    assert slow.over(fast).values.tolist() == [2.0, 2.0, 2.0]


def test_calls_take_turns_forwards_and_backwards(clock):
    log = []
    found = timing.side_by_side({n: taking(clock, n, log, 0.3) for n in "ab"}, rounds=3, pause=0.03)
    # Once to trace and once to see how long it takes; then the rounds, which need no warming up.
    assert "".join(log) == "ab" + "ab" + "ab" + "ba" + "ab"
    assert {name: len(spread.values) for name, spread in found.items()} == {"a": 3, "b": 3}
    assert clock.paused == pytest.approx(6 * 0.03)


@pytest.mark.parametrize(
    ("seconds", "counted", "beforehand"),
    [
        (0.001, 50, 50),  # timed together, after as many that find the caches cold
        (0.02, 2, 2),
        (0.2, 1, 1),
        (0.4, 1, 0),  # beside which it is nothing to be cold
    ],
)
def test_short_calls_are_timed_together_and_warm(clock, seconds, counted, beforehand):
    log = []
    found = timing.side_by_side({"a": taking(clock, "a", log, 0.9, seconds)}, rounds=2)  # the first one traces
    assert len(log) == 2 + 2 * (counted + beforehand)
    assert found["a"].values == pytest.approx([seconds, seconds])


def test_what_is_cold_does_not_count(clock):
    found = timing.side_by_side({"a": taking(clock, "a", [], 0.1, 0.1, 7.0, 0.1)}, rounds=2)
    assert found["a"].values == pytest.approx([0.1, 0.1])


def test_a_slow_call_traces_once_and_is_timed_twice_whatever_the_budget(clock):
    log = []
    timing.side_by_side({"a": taking(clock, "a", log, 9.0)}, rounds=5, budget=1.0)
    assert len(log) == 1 + 2


@pytest.mark.parametrize(
    ("value", "goal", "holds"),
    [(1.04, "<= 1.05", True), (1.06, "<= 1.05", False), (0.2, "< 0.3 s", True), (3, ">= 2", True), (1, "= 0", False)],
)
def test_a_row_is_held_against_its_goal(value, goal, holds):
    found = timing.row("what", value, goal)
    assert found.holds is holds
    assert f" {goal} {'yes' if holds else 'NO':>4}  " in str(found)


def test_a_row_without_a_goal_holds_nothing():
    assert timing.row("what", 12.345).holds is None
    assert str(timing.row("what", 12.345)).endswith("12.3")


def test_a_ratio_says_both_times():
    found = timing.ratio("slow / fast", Spread([8.0, 8.0]), Spread([0.004, 0.002]), ">= 2500")
    assert found.measured == "3,000 [2,500 .. 3,500]  (8 s / 3 ms)"
    assert found.holds is True


def test_markdown():
    assert timing.markdown(("", "b"), [("x", 1)]) == "|  | b |\n| --- | --- |\n| x | 1 |"
