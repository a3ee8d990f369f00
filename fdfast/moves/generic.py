"""A generic point near x, where nothing ties that ties at x."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.moves.inputs import grain
from fdfast.moves.scheme import Bounds


def all_beside(
    arguments: Sequence[npt.NDArray[Any]],
    moving: Collection[int],
    *,
    batched: bool,
    jitter: float | Literal["auto"],
    bounds: Bounds | None,
    seed: int,
    turn: int,
) -> list[npt.NDArray[Any]]:
    """Several arguments, of which some move: these as `beside` has them, the others as they are."""
    return [
        beside(a, batched=batched, jitter=jitter, bounds=bounds, seed=seed, turn=turn) if i in moving else a
        for i, a in enumerate(arguments)
    ]


def beside(
    x: npt.NDArray[Any],
    *,
    batched: bool,
    jitter: float | Literal["auto"],
    bounds: Bounds | None,
    seed: int,
    turn: int,
    held: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[Any]:
    """x and uniform noise, the same for every example.

    Parameters
    ----------
    x : ndarray, shape (*shape) or (examples, *shape)
    batched : bool
        Whether there is an axis of examples.
    jitter : float or "auto"
        Width of the noise; ``"auto"``: see `fdfast.moves.grain`.
    bounds : (float, float), optional
        Interval that is not left: noise goes down where there is no room upwards.
    seed, turn : int
        What the noise is drawn from.
    held : ndarray of bool, shape of x, optional
        Elements that stay.
    """
    examples = x.reshape(len(x) if batched else 1, -1)
    share = np.random.default_rng((seed, turn)).uniform(0.5, 1, examples.shape[1])
    width = np.array([[grain(one) if jitter == "auto" else float(jitter)] for one in examples])
    if bounds is not None:
        width = np.minimum(width, (bounds[1] - bounds[0]) / 4)
    away = (width * share).reshape(x.shape)
    moved = x + away
    if bounds is not None:
        moved = np.where(moved > bounds[1], x - away, moved)
    if held is not None:
        moved = np.where(held, x, moved)
    return moved.astype(x.dtype)
