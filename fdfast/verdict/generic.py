"""Generic points near x: seeded, inside the bounds, and further from x or nearer to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves import auto_step, grain
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]


def near_by(
    arguments: Sequence[npt.NDArray[Any]], moving: Collection[int], terms: Terms, turn: int, *, batched: bool
) -> list[npt.NDArray[Any]]:
    """Several arguments at a generic point: these that may move with noise of their own, the others as they are.

    `batched` says whether they have a leading axis of examples.
    """
    return [
        Generic(a.reshape(len(a) if batched else 1, -1), terms).at(turn).reshape(a.shape) if i in moving else a
        for i, a in enumerate(arguments)
    ]


class Generic:
    """Points near a group of examples, shape (examples, size): x and uniform noise of a width that the terms say.

    The noise is the same for every example, so that it does not matter which are looked at together.
    """

    def __init__(self, points: npt.NDArray[Any], terms: Terms) -> None:
        self._points, self._terms = points, terms

    def width(self, rows: Any = slice(None)) -> Float64:
        """Width of the noise for each example, shape (examples, 1)."""
        found: Float64 = self._widths[rows]
        return found

    @cached_property
    def _widths(self) -> Float64:
        jitter = self._terms.jitter
        chosen = None if jitter is None or isinstance(jitter, str) else float(jitter)
        return np.array([[grain(p) if chosen is None else chosen] for p in self._points], np.float64)

    def scale(self, rows: Any = slice(None)) -> Float64:
        """Largest magnitude of each example, 1 where all is zero; shape (examples, 1)."""
        peak = np.abs(self._points[rows]).max(axis=1, keepdims=True).astype(np.float64)
        return np.where(peak > 0, peak, 1.0)

    def at(
        self, turn: int, rows: Any = slice(None), closeness: float | None = None, *, signed: bool = False
    ) -> npt.NDArray[Any]:
        """Draw number `turn` for some examples.

        Parameters
        ----------
        turn : int
        rows : index
            Of the examples.
        closeness : float, optional
            Width of the noise in units of the scale of x, in the place of the usual one.
        signed : bool
            Move to both sides of x, where there are no bounds.
        """
        points = self._points[rows]
        share = np.random.default_rng((self._terms.seed, turn)).uniform(0, 1, points.shape[1])
        width = self.width(rows) if closeness is None else closeness * self.scale(rows)
        if self._terms.bounds is None:
            away = 2 * share - 1 if signed else share
            moved: npt.NDArray[Any] = (points + width * away).astype(points.dtype)
            return moved
        low, high = self._terms.bounds
        # Room for a central difference on both sides, so that both slopes can be had.
        h = self._terms.h
        step = auto_step(points.dtype) * max(abs(low), abs(high)) if isinstance(h, str) else float(h)
        margin = min(4 * step, (high - low) / 8)
        start = np.clip(points.astype(np.float64), low + margin, high - margin)
        away = np.minimum(width, (high - low) / 4) * share
        # Down where there is no room upwards. Never clipped after the draw: equal values would be ties again.
        moved = np.where(start + away <= high - margin, start + away, start - away).astype(points.dtype)
        return moved
