"""How time grows with the side of the image and the depth of the network, tile 1; fdfast and TensorFlow by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.peers.batched import Tiles, best_chunk, sensible
from bench.peers.cells import Cell, Stopwatch, cell
from bench.peers.problem import STEP
from bench.peers.registry import PRECISIONS, Effort, Precision

SIDES, DEPTHS = (16, 32, 64, 128), (1, 2, 4, 8, 16)
SIDE, DEPTH, CHANNELS = 32, 4, 16  # of what does not grow
CHUNKS = (16, 64)
_SAMPLE = 32  # tiles that the batch evaluates
_BUDGET = 0.5  # seconds


def rows(engine: str, effort: Effort) -> Iterator[Cell]:
    """All cells of one engine."""
    watch = Stopwatch(effort)
    sides, depths = ((16, 32), (1, 2)) if effort.quick else (SIDES, DEPTHS)
    for precision in PRECISIONS:
        for side in sides:
            yield _one(engine, "side", side, DEPTH, side, precision, watch)
        for depth in depths:
            yield _one(engine, "depth", SIDE, depth, depth, precision, watch)


def network(side: int, depth: int, precision: Precision) -> Any:
    """`depth` convolutions 3x3 of 16 channels with ReLU, their mean over the image, Dense 10 softmax; seeded."""
    import keras

    keras.config.set_dtype_policy(precision)
    keras.config.set_floatx(precision)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu") for _ in range(depth)]
    ending = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((side, side, 1)), *layers, *ending])
    model.compile(loss="categorical_crossentropy")
    return model


def _one(engine: str, section: str, side: int, depth: int, n: int, precision: Precision, watch: Stopwatch) -> Cell:
    x = np.random.default_rng(0).random((side, side, 1)).astype("float32")
    target = np.eye(10)[0]
    if engine == "fdfast":
        import fdfast

        model = network(side, depth, "float32")
        took = watch(lambda: fdfast.gradient(model, x, y=target, precision=precision), _BUDGET)
        return cell(section, str(n), engine, precision, n, took, 1.0)
    from bench.peers.tensorflow_peers import cross_entropy, traced

    losses = partial(cross_entropy, network(side, depth, precision))
    sides = Tiles(1, x.shape)
    some = np.sort(np.random.default_rng(0).choice(sides.count, min(_SAMPLE, sides.count), replace=False))
    at = x.astype(precision), target.astype(precision), STEP[precision]
    chunks = sensible(CHUNKS, 2 * len(some))
    best = best_chunk(partial(traced, losses, compiled=False), sides.moves(precision, some), chunks, *at)
    took = watch(lambda: best(*at), _BUDGET)
    more = {"sample": f"{len(some)} of {sides.count} tiles", "chunk": best.chunk}
    return cell(section, str(n), engine, precision, n, took, sides.count / len(some), **more)
