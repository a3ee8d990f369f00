"""A call beside a neighbour, in pieces where the call rests."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from bench import rounds


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when somebody says so."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: None)
    return now


@pytest.fixture
def shares(monkeypatch):
    """What the host takes: nothing, unless a test puts something in front."""
    found: list[float] = []
    monkeypatch.setattr(rounds, "Mark", lambda: SimpleNamespace(share=lambda: found.pop(0) if found else 0.0))
    return found


def taking(clock, *seconds):
    """A call, or a neighbour, that takes these times in turn."""
    each = itertools.cycle(seconds)

    def call():
        spent = next(each)
        clock.seconds += spent
        return spent

    return call


def pace(neighbour):
    """The same as a neighbour of rounds, which has taken a second at the least."""
    return lambda: rounds.Pace(neighbour(), 1.0)


def test_a_round_is_beside_the_mean_of_its_neighbours(clock, shares):
    found = rounds.Rounds(pace(taking(clock, 1.0, 3.0)))
    found.add(taking(clock, 8.0))
    assert (found.seconds, found.beside, found.ratios) == ([8.0], [2.0], [4.0])
    found.add(taking(clock, 1.0, 2.0), times=4)  # 6 s; the neighbour after one round is that before the next
    assert (found.seconds[1], found.beside[1]) == (1.5, 2.0)


def test_a_call_that_rests_is_the_sum_of_its_pieces(clock, shares):
    """The machine is half as fast in the second half, for the call and its neighbour: the ratio is as without that."""
    found = rounds.Rounds(pace(taking(clock, 1.0, 1.0, 2.0, 2.0)))
    evaluate = taking(clock, 4.0, 8.0)

    def call():
        evaluate()
        found.rest()
        evaluate()

    found.add(call)
    # 4 s beside 1 s; then 8 s beside (1 + 2) / 2 s.
    assert found.seconds == [12.0]
    assert found.ratios == [pytest.approx(4.0 + 8.0 / 1.5)]


def test_rest_is_nothing_outside_of_a_round_and_early_in_it(clock, shares):
    neighbours = []
    found = rounds.Rounds(pace(lambda: neighbours.append(0) or 1.0))
    found.rest()
    assert not neighbours

    def call():
        clock.seconds += 0.2
        found.rest()

    found.add(call)
    assert len(neighbours) == 2


def test_a_failed_call_adds_no_round_and_stops_the_clock(clock, shares):
    neighbours = []
    found = rounds.Rounds(pace(lambda: neighbours.append(0) or 1.0))

    def call():
        clock.seconds += 1.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        found.add(call)
    found.rest()
    assert (found.seconds, len(neighbours)) == ([], 1)


def test_what_the_host_took_is_weighted_by_time(clock, shares):
    shares += [0.4, 0.1]
    found = rounds.Rounds(pace(lambda: 1.0))

    def call():
        clock.seconds += 1.0
        found.rest()
        clock.seconds += 3.0

    found.add(call)
    assert found.stolen == [pytest.approx((0.4 * 1 + 0.1 * 3) / 4)]


def test_disturbed_rounds_go_as_far_as_enough_are_left(clock, shares):
    shares += [0.3, 0.0, 0.2, 0.1]
    found = rounds.Rounds(pace(lambda: 1.0))
    for seconds in (1.0, 2.0, 3.0, 4.0):
        found.add(taking(clock, seconds))
    found.keep_calm(least=3)
    assert found.seconds == [2.0, 3.0, 4.0]
    assert found.stolen == pytest.approx([0.0, 0.2, 0.1])


@pytest.mark.parametrize(
    ("seconds", "times", "warm"),
    [
        (0.001, 50, 50),
        (0.01, 5, 5),
        (0.2, 1, 1),  # MobileNetV2's rows take a quarter longer when the neighbour has just been on
        (1.9, 1, 0),  # of which that is a thirtieth
    ],
)
def test_what_is_cold_beside_its_neighbour_warms_up(seconds, times, warm):
    assert rounds.repeats(seconds) == (times, warm)
