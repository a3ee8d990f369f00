"""What became of channels: another order, a mix, one that holds all; and nothing where it is something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fdfast.verdict.channels import of_channels
from fdfast.verdict.compare import AGREE, WRONG
from fdfast.verdict.diagnosis import hints

Array = Any
SHAPE = (9, 8, 3)
RIGHT = np.random.default_rng(0).normal(size=SHAPE)
TOTAL = RIGHT.sum(axis=-1)


def zeros_but(channel: int, values: Array) -> Array:
    out = np.zeros(SHAPE)
    out[..., channel] = values
    return out


# A gradient made of the right one, and what is said of it; "" for nothing.
CASES: dict[str, tuple[Array, str]] = {
    "right": (RIGHT, ""),
    "BGR": (RIGHT[..., ::-1], "in another order: 2, 1, 0"),
    "moved on by one": (np.roll(RIGHT, 1, axis=-1), "in another order: 2, 0, 1"),
    "mean": (np.repeat(TOTAL[..., None] / 3, 3, axis=-1), "is the mean of the finite difference's channels"),
    "all in one": (zeros_but(1, TOTAL), "Channel 1 of the analytic gradient holds the sum"),
    "all in each": (np.repeat(TOTAL[..., None], 3, axis=-1), ""),
    "one lost": (RIGHT * [1, 1, 0], ""),
    "one twice": (RIGHT[..., [0, 0, 2]], ""),
    "another": (np.random.default_rng(1).normal(size=SHAPE), ""),
    "zero": (0 * RIGHT, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_channels(case: str) -> None:
    analytic, text = CASES[case]
    found = list(of_channels(RIGHT.reshape(1, -1), analytic.reshape(1, -1), np.ones((1, RIGHT.size), bool), SHAPE))
    assert len(found) == bool(text)
    assert text in "".join(found)


@pytest.mark.parametrize("shape", [(24, 9), (72, 3), (9, 8, 1, 3), (216,), (9, 24, 1), (1, 8, 27)])
def test_of_other_shapes_nothing_untrue_is_said(shape: tuple[int, ...]) -> None:
    # No channels, or too few values in each.
    flat = RIGHT.reshape(1, -1)
    said = "".join(of_channels(flat, RIGHT[..., ::-1].reshape(1, -1), np.ones((1, RIGHT.size), bool), shape))
    assert (shape == (9, 8, 1, 3)) == ("2, 1, 0" in said)


def first(values: Array) -> Array:
    return np.moveaxis(values, -1, 0)


AXES: dict[str, tuple[Callable[[Array], Array], int]] = {"last": (np.asarray, 2), "first": (first, 0)}


@pytest.mark.parametrize("layout", AXES)
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (RIGHT[..., ::-1], "in another order: 2, 1, 0"),
        (RIGHT * [1, 1.5, 1], "Only channel 1 of 3 is wrong"),
        (np.roll(RIGHT, 1, axis=0) * (np.arange(9) > 0)[:, None, None], "shifted down by one"),
    ],
)
def test_hints_know_where_the_channels_are(layout: str, wrong: Array, text: str) -> None:
    move, axis = AXES[layout]
    n, a = move(RIGHT), move(wrong)
    codes = np.where(np.isclose(n, a, rtol=1e-4), AGREE, WRONG).astype(np.int8)
    assert text in "".join(hints(n.reshape(1, -1), a.reshape(1, -1), codes.reshape(1, -1), n.shape, axis))


@pytest.mark.parametrize(("layout", "place"), [("last", "(4, 5, 1)"), ("first", "(1, 4, 5)")])
def test_a_single_tile_is_named_as_x_has_it(layout: str, place: str) -> None:
    move, axis = AXES[layout]
    wrong = RIGHT.copy()
    wrong[4, 5, 1] += 1
    n, a = move(RIGHT), move(wrong)
    codes = np.where(n == a, AGREE, WRONG).astype(np.int8)
    assert f"at {place} of the grid" in "".join(
        hints(n.reshape(1, -1), a.reshape(1, -1), codes.reshape(1, -1), n.shape, axis)
    )
