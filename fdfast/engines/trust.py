"""Whether the differences that were pushed are those of the model: its own loss, and a sample by the batch engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines.batch import BatchEngine
from fdfast.engines.pairs import Pairs
from fdfast.moves import Tiling

Float64 = npt.NDArray[np.float64]

_TILES = 16
# A step at which a subtraction of losses has digits to spare: both sides take the same one, however crooked f is.
_STEP = 2.0**-8


class Untrusted(RuntimeError):
    """What was pushed through the layers is not what the model computes; `found` says where they part."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(f"{found}. engine='batch' evaluates f itself")


def check_loss(base: Float64, own: Float64) -> None:
    """Compare the losses at points, layer by layer, with the model's own.

    Raises
    ------
    Untrusted
    """
    # 1e-10 of the value, and below that the last places of probabilities that a loss near zero is made of.
    off = np.flatnonzero(~((np.abs(own - base) <= 1e-10 * np.abs(own) + 1e-14) | (own == base)))
    if off.size:
        i = int(off[0])
        raise Untrusted(
            f"layer by layer the loss is {base[i]:.12g}, as a whole the model's is {own[i]:.12g}: some layer's call "
            "does more than its class says"
        )


def check_sample(
    objective: Any,
    tiling: Tiling,
    points: Float64,
    pairs: Pairs,
    compiled: Any,
    push: Callable[[Pairs], Float64],
) -> None:
    """Compare some of the tiles with the batch engine, at a step large enough for a subtraction.

    Raises
    ------
    Untrusted
    """
    rng = np.random.default_rng(0)
    some = rng.choice(len(pairs), min(_TILES, len(pairs)), replace=False)
    scale = np.abs(points).max(initial=0.0)
    step = _STEP * (2.0 ** np.floor(np.log2(scale)) if scale > 0 else 1.0)
    sample = Pairs(pairs.point[some], pairs.tile[some], np.tile([step, -step], (len(some), 1)))
    engine = BatchEngine(objective, tiling, max_rows=64)
    found = engine.differences(points, np.arange(len(points), dtype=np.int32), sample)
    pushed = push(sample)
    # The batch subtracts losses: some last places of them, or of the probabilities they are made of, are lost.
    lost = 2.0**-42 * np.maximum(np.abs(found.base[sample.point]), 1.0)[:, None]
    rough = 2.0**-14 if compiled.dtype == np.float32 else 2.0**-36
    gap = np.abs(pushed - found.delta)
    largest = np.abs(found.delta).max(initial=0.0)
    if not (gap <= rough * np.maximum(np.abs(found.delta), largest / 16) + lost).all():
        worst = int(np.argmax(np.max(gap, axis=1)))
        raise Untrusted(
            f"pushed through the layers, tile {tiling.where(int(sample.tile[worst]))} moves the loss by "
            f"{pushed[worst, 0]:.12g}, evaluated by {found.delta[worst, 0]:.12g} (step {step:.3g}): "
            f"{compiled.blame(points[int(sample.point[worst])])}"
        )
