"""W4: MobileNetV2 with random weights, by fdfast as it is, by the peers with batch norm folded into the convolutions.

A dense forward pass costs the same for every tile, so a sample of rows tells of all. The run of fdfast writes the
folded network to a file, which peers read: Keras on top of TensorFlow, and of JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.batched import Build, Losses, Tiles, best_chunk, quotients, sensible
from bench.peers.beside import Beside
from bench.peers.cells import Cell, Stopwatch, cell, middle
from bench.peers.problem import STEP
from bench.peers.registry import PRECISIONS, CellId, Effort

SIDES, TILES = (96, 224), (8, 16)
CHUNKS = (8, 32)
_CLASS = 3


def rows(engine: str, folder: Path, effort: Effort) -> Iterator[Cell]:
    """All cells of one engine; the run of fdfast writes what the others read."""
    watch = Stopwatch(effort)
    for side in SIDES[:1] if effort.quick else SIDES:
        tiles = [tile for tile in TILES if effort.due(_cell(side, tile))]
        if not tiles:
            continue
        if engine == "fdfast":
            yield from _ours(side, folder, watch)
            continue
        import keras

        twin = keras.models.load_model(_file(folder, side, "keras"), compile=False)
        with np.load(_file(folder, side, "npz")) as stored:
            x, exact = stored["x"], stored["exact"]
        build = _by_tensorflow(twin) if engine == "tensorflow" else _by_jax(twin)
        yield from _sampled(engine, build, x, exact, tiles, effort, watch)


def _file(folder: Path, side: int, ending: str) -> Path:
    return folder / f"folded-{side}.{ending}"


def _cell(side: int, tile: int) -> CellId:
    return "W4", f"MobileNetV2 {side}, tile {tile}", "float32"


def _target() -> Any:
    return np.eye(1000)[_CLASS]


def _truth(model: Any, x: Any) -> Any:
    """Gradient of the loss by autodiff in float64."""
    from fdfast.functions.model import model_objective

    objective = model_objective(model, _target()[None], None, x.shape[1:], 1, batched=True, precision="float64")
    return objective.gradient(x.reshape(1, -1).astype("float64")).reshape(x.shape[1:])


@functools.lru_cache(1)
def _network(side: int) -> Any:
    from bench.difference_networks import network

    return network("MobileNetV2", side)


def our_call(side: int, tile: int, precision: str) -> Callable[[], Any]:
    """All tiles of one image, on the network as it is; sums over each tile."""
    import fdfast
    from bench.difference_networks import image

    model, x = _network(side), image(side, 1)
    return lambda: fdfast.gradient(model, x[0], y=_target(), tile=tile, precision=precision, reduction="sum")


def _ours(side: int, folder: Path, watch: Stopwatch) -> Iterator[Cell]:
    from bench.difference_networks import folded, image

    model, x = _network(side), image(side, 1)
    exact = _truth(model, x)
    folded(model).save(_file(folder, side, "keras"))
    np.savez(_file(folder, side, "npz"), x=x, exact=exact)
    for tile in TILES:
        sides = Tiles(tile, x.shape[1:])
        first = np.unique(sides.owner, return_index=True)[1]
        for precision in PRECISIONS:
            call = our_call(side, tile, precision)
            took = watch.once(call) if precision == "float32" else watch(call, budget=4.0, rounds=3)  # no peer of it
            error = middle(took.found[..., 0].ravel()[first], sides.sums(exact))
            yield cell(*_cell(side, tile)[:2], "fdfast", precision, side, took, 1.0, error=error)


def _sample(sides: Tiles, effort: Effort) -> Any:
    count = 4 if effort.quick else 16
    return np.sort(np.random.default_rng(0).choice(sides.count, count, replace=False))


def _by_tensorflow(twin: Any) -> Build:
    from bench.peers.tensorflow_peers import cross_entropy, traced

    return lambda moves, chunk: traced(
        lambda rows, target: cross_entropy(twin, rows, target), moves, chunk, compiled=False
    )


def _by_jax(twin: Any) -> Build:
    """Needs KERAS_BACKEND=jax in the environment."""
    import jax
    import jax.numpy as jnp
    import keras
    from jax import lax

    if keras.backend.backend() != "jax":
        raise RuntimeError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax")
    fixed = [v.value for v in twin.trainable_variables], [v.value for v in twin.non_trainable_variables]

    @jax.jit  # once for both tiles, whose rows have the same shape
    def all_losses(x: Any, target: Any, h: Any, parts: Any, fixed: Any) -> Any:
        def some(part: Any) -> Any:
            found, _ = twin.stateless_call(*fixed, x + h * part, training=False)
            return -(jnp.log(found) * target).sum(axis=1)

        return lax.map(some, parts).reshape(-1)

    def build(moves: Any, chunk: int) -> Losses:
        parts = jnp.asarray(moves).reshape(-1, chunk, *moves.shape[1:])
        return lambda x, target, h: np.asarray(all_losses(x, target, x.dtype.type(h), parts, fixed))

    return build


def _sampled(
    engine: str, build: Build, x: Any, exact: Any, tiles: Sequence[int], effort: Effort, watch: Stopwatch
) -> Iterator[Cell]:
    target, h = _target().astype("float32"), STEP["float32"]
    beside, side = Beside(), x.shape[1]
    chunk = 0  # found for the first tile: the network, and so the cost of a row, is the same for all
    for tile in tiles:
        sides = Tiles(tile, x.shape[1:])
        some = _sample(sides, effort)
        moves = sides.moves("float32", some)
        if not chunk:
            chunks = effort.chunks(_cell(side, tile), sensible(CHUNKS, len(moves))[: 1 if effort.quick else None])
            chunk = best_chunk(build, moves, chunks, x[0], target, h).chunk
        losses = build(moves, chunk)
        near = partial(beside.ask, f"network {side} {tile} float32")
        took = watch(lambda losses=losses: losses(x[0], target, h), budget=2.0, rounds=5, beside=near)
        error = middle(quotients(took.found, h), sides.sums(exact)[some])
        section, case, precision = _cell(side, tile)
        more = {"error": error, "sample": f"{len(some)} of {sides.count} tiles", "chunk": chunk}
        yield cell(section, case, engine, precision, side, took, sides.count / len(some), **more)
