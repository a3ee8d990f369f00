"""What a budget pays for."""

from __future__ import annotations

import numpy as np
import pytest

from fdfast.moves.sampling import Budget, Draw

READ = [
    (None, Budget()),
    (4, Budget(weights=1)),
    (np.int64(403), Budget(weights=100)),
    ("3s", Budget(seconds=3.0)),
    (" 1.5 min ", Budget(seconds=90.0)),
    ("250ms", Budget(seconds=0.25)),
]


@pytest.mark.parametrize(("given", "budget"), READ, ids=[str(g) for g, _ in READ])
def test_budgets_are_rows_or_times(given: object, budget: Budget) -> None:
    assert Budget.of(given) == budget


@pytest.mark.parametrize("given", [True, 1.5, [1]])
def test_other_types_are_refused(given: object) -> None:
    with pytest.raises(TypeError, match="budget must be an int"):
        Budget.of(given)


@pytest.mark.parametrize("given", ["", "3", "0s", "-1s", "3 hours", 3, 0, -4])
def test_other_values_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="budget"):
        Budget.of(given)


SIZES = [288, 32, 18432, 64, 16000, 10]


@pytest.mark.parametrize("weights", [1, 6, 50, 1000, 34826, 10**6])
def test_every_variable_gets_its_share_and_one_at_least(weights: int) -> None:
    counts = [int(m.sum()) for m in Draw(SIZES, 0).more(weights)]
    assert sum(counts) == min(max(weights, len(SIZES)), sum(SIZES))
    assert all(count >= 1 for count in counts)
    if weights >= 1000:
        exact = np.array(SIZES) * min(1.0, weights / sum(SIZES))
        # Within one of the exact share, and what single weights of small variables cost the large ones.
        assert np.abs(np.array(counts) - np.maximum(exact, 1)).max() <= len(SIZES)


def test_a_larger_budget_continues_a_smaller_one() -> None:
    draw, other = Draw(SIZES, 7), Draw(SIZES, 7)
    rounds = [draw.more(n) for n in (10, 100, 1000)]
    for masks in zip(*rounds, strict=True):
        assert np.sum(masks, axis=0).max() == 1
    both = [np.any(masks, axis=0) for masks in zip(*rounds, strict=True)]
    at_once = other.more(1110)
    assert abs(sum(m.sum() for m in both) - 1110) <= len(SIZES)
    assert all((a <= b).all() or (b <= a).all() for a, b in zip(both, at_once, strict=True))
    assert draw.left == sum(SIZES) - sum(int(m.sum()) for m in both)


def test_the_seed_decides() -> None:
    a, b, c = (Draw(SIZES, seed).more(500) for seed in (1, 1, 2))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))
