"""Examples of a batch whose gradient is next to nothing beside the others': judged on a scale of their own.

Along a direction through the whole batch an element counts by its gradient, down to a share of the largest one. What is
wrong throughout one saturated example would go unseen there, and within a tolerance that is a share of the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves import FLOOR
from fdfast.verdict.directions import Directed
from fdfast.verdict.place import Place
from fdfast.verdict.stage import Stage
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def judge_faint(stage: Stage, places: Sequence[Place], count: int, terms: Terms, *, elsewhere: bool) -> None:
    """Judge again, each band of faint examples by itself, what is free in a stage that has been decided; changes it."""
    for band in _bands(stage, places):
        masks = [free & mask & ~bad for free, mask, bad in zip(stage.free, band, stage.lost, strict=True)]

        def claims(arguments: Any, masks: Sequence[Bool] = masks) -> list[Float64]:
            return [
                np.where(mask, g, 0.0)
                for mask, g in zip(masks, stage.claims(stage.recorded.point(arguments)), strict=True)
            ]

        alone = Stage(stage.recorded, stage.point, places, claims, elsewhere=elsewhere)
        if alone.look(masks, count, terms).ties:
            continue
        alone.decide(terms)
        stage.codes = [np.where(mask, b, a) for a, b, mask in zip(stage.codes, alone.codes, masks, strict=True)]
        stage.suspects += alone.suspects
        stage.rough += alone.rough
        stage.directed = joined(stage.directed, alone.directed)


def joined(a: Directed, b: Directed) -> Directed:
    """What directions told in two parts of the elements."""
    return replace(
        b,
        count=min(a.count, b.count),
        tau=max(a.tau, b.tau),
        excess=max(a.excess, b.excess),
        low=max(a.low, b.low),
        suspects=a.suspects + b.suspects,
        dense=a.dense + b.dense,
        rows=a.rows + b.rows,
        levels=max(a.levels, b.levels),
        each=a.each or b.each,
        cancelled=a.cancelled + b.cancelled,
        turns=a.turns,
        subtracted=sorted({*a.subtracted, *b.subtracted}),
        rounded=sorted({*a.rounded, *b.rounded}),
    )


def _bands(stage: Stage, places: Sequence[Place]) -> Iterator[list[Bool]]:
    """Faint examples of about one size, as masks of every place; none where there is one example, or all are alike."""
    of_batch = [i for i, p in enumerate(places) if p.examples > 1]
    if not of_batch:
        return
    sizes = np.zeros(places[of_batch[0]].examples)
    for i in of_batch:
        g = np.where(stage.free[i] & ~stage.lost[i], np.abs(stage.claimed[i]), 0.0)
        sizes = np.maximum(sizes, g.reshape(len(sizes), -1).max(axis=1))
    top = max(float(np.abs(g[~bad]).max(initial=0.0)) for g, bad in zip(stage.claimed, stage.lost, strict=True))
    waiting = (sizes > 0) & (sizes < FLOOR * top)
    while waiting.any():
        band = waiting & (sizes >= FLOOR * sizes[waiting].max())
        masks = [np.zeros(g.shape, bool) for g in stage.claimed]
        for i in of_batch:
            masks[i][band] = True
        yield masks
        waiting &= ~band
