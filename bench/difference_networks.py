"""W4: large networks of keras.applications with random weights; a random sample of tiles, extrapolated to all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from bench.difference_rig import NAMES, USUAL, Rig, Size, best_chunk, derivatives, middle, relative
from bench.difference_speed import against
from bench.timing import Row, format_seconds, side_by_side

layers = keras.layers
CHUNKS = (2, 8, 32)
#: Network, side of the image, goal by tile for differences in either precision against the batch in float32.
CASES: tuple[tuple[str, int, dict[int, float]], ...] = (
    ("MobileNetV2", 96, {8: 2, 16: 2}),
    ("MobileNetV2", 224, {8: 2, 16: 2}),
    ("ResNet50", 224, {8: 1, 16: 1}),
    ("VGG16", 224, {8: 1, 16: 8}),
)


def network(name: str, side: int, calibrated: bool = True) -> keras.Model:
    """Random weights, seeded; batch norm's statistics are means over a few batches of noise, each in training mode."""
    keras.utils.set_random_seed(0)
    arguments = {"alpha": 1.0} if name == "MobileNetV2" else {}
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), **arguments)
    model.compile(loss="categorical_crossentropy")
    norms = [one for one in model.layers if isinstance(one, layers.BatchNormalization)]
    momenta = [one.momentum for one in norms]
    for turn in range(4 if norms and calibrated else 0):
        for one in norms:
            one.momentum = turn / (turn + 1)  # the plain mean of all batches so far
        model(image(side, 8, seed=turn + 1), training=True)
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum
    return model


def image(side: int, count: int, seed: int = 0) -> Any:
    """Uniform noise in [-1, 1), in float32."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def folded(model: keras.Model) -> keras.Model:
    """The same function with batch norm folded into the convolutions before it: the fastest batch that one can have."""
    pairs = {}
    for one in model.layers:
        if isinstance(one, layers.BatchNormalization):
            before = one._inbound_nodes[0].parent_nodes[0].operation
            if isinstance(before, layers.Conv2D | layers.DepthwiseConv2D):
                pairs[before.name] = one
    gone = {norm.name for norm in pairs.values()}

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config({**config, "use_bias": True} if layer.name in pairs else config)

    def call(layer: Any, *arguments: Any, **named: Any) -> Any:
        return arguments[0] if layer.name in gone else layer(*arguments, **named)

    twin = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for old, new in ((one, twin.get_layer(one.name)) for one in model.layers if one.name not in gone and one.weights):
        if old.name not in pairs:
            new.set_weights(old.get_weights())
            continue
        norm, kernel = pairs[old.name], old.get_weights()[0]
        factor = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        bias = old.get_weights()[1] if old.use_bias else 0.0
        deep = isinstance(old, layers.DepthwiseConv2D)
        scaled = kernel * (factor[:, None] if deep else factor)
        new.set_weights([scaled, (bias - norm.moving_mean.numpy()) * factor + norm.beta.numpy()])
    twin.compile(loss=model.loss)
    return twin


def rows(size: Size) -> Iterator[Row | str]:
    """All networks, sizes and tiles."""
    yield (
        f"W4: {size.sample} random tiles by the engine, {size.rows} of them by the batch, for which one tile is like "
        "another; times are of all tiles of one image, on both sides extrapolated"
    )
    for name, side, goals in CASES:
        model = network(name, side)
        x, y = image(side, 1), np.eye(1000)[[int(np.random.default_rng(1).integers(1000))]]
        twin = folded(model) if name != "VGG16" else None
        for tile, goal in goals.items():
            yield from _case(f"W4: {name} {side}, tile {tile}", Rig(model, x, y, tile), twin, x, y, goal, size)
        del model, twin
        gc.collect()
        keras.backend.clear_session()


def _case(
    what: str, rig: Rig, twin: keras.Model | None, x: Any, y: Any, goal: float, size: Size
) -> Iterator[Row | str]:
    tiling = rig.tiling
    count = min(size.sample, tiling.tiles)
    tiles = np.sort(np.random.default_rng(2).choice(tiling.tiles, count, replace=False))
    compiled = rig.compiled("float64")
    if tiling.tile[0] == 8:
        why = compiled.lowered.why or "nothing: all of it is compiled"
        yield f"    what ends the compiled part: {why}; its share of the multiplications: {compiled.share:.3f}"
    few = tiles[np.random.default_rng(3).permutation(count)[: size.rows]]
    bare = rig.existing("float32", few)
    chunks = tuple(c for c in CHUNKS if c <= 2 * len(few))
    candidates: dict[str, Callable[[], object]] = {
        "float32": lambda: rig.difference("float32", tiles=tiles),
        "float64": lambda: rig.difference("float64", tiles=tiles),
        "base": lambda: rig.base_only("float64"),
    }
    batches: dict[str, tuple[Callable[[int], Any], int]] = {"batch": (bare, best_chunk(bare, chunks, 1))}
    if twin is not None:
        forward = _forward(twin, rig, x, y, few)
        batches["folded batch"] = (forward, best_chunk(forward, chunks, 1))
    for name, (forward, chunk) in batches.items():
        candidates[name] = partial(forward, chunk)
    found = {name: timing.median for name, timing in side_by_side(candidates, max(2, size.rounds // 2)).items()}
    share, base = tiling.tiles / count, found["base"]
    for name in batches:
        slow = found[name] * tiling.tiles / len(few)
        for precision in ("float32", "float64"):
            fast = base + max(0.0, found[precision] - base) * share
            held = goal if name == "batch" else None
            yield against(f"{what}: engine {precision} / float32 {name}, chunk {batches[name][1]}", fast, slow, held)
    yield Row(
        f"{what}: base pass; tiles in the sample, of all", "", f"{format_seconds(base)}; {count} of {tiling.tiles}"
    )
    yield from _accuracy(what, rig, tiles, few, bare(batches["batch"][1]))


def _forward(twin: keras.Model, rig: Rig, x: Any, y: Any, tiles: Any) -> Callable[[int], Any]:
    """Bare forward of another model over the same rows."""
    other = Rig(twin, x, y, rig.tiling.tile[0])
    forward, plain = other.existing("float32", tiles), rig.existing("float32", tiles)
    gap = float(np.abs(forward(2) - plain(2)).max())
    if gap > 1e-3:
        raise RuntimeError(f"the folded network is another function: losses differ by {gap:.2g}")
    return forward


def _accuracy(what: str, rig: Rig, tiles: Any, few: Any, losses: Any) -> Iterator[Row]:
    """Median relative errors on the sample against float64 autodiff."""
    gradient = rig.wide.gradient(rig.points)
    assert gradient is not None
    sums = rig.tiling.sums(gradient)[0]
    exact = sums[tiles]
    by: dict[str, Any] = {}
    loose = np.ones(len(tiles), bool)
    crossed = 0
    for name in NAMES:
        value, tie, cross = derivatives(rig.difference(name, tiles=tiles))
        by[name], loose, crossed = value, loose & (tie < 0), int((cross >= 0).sum())
    errors = {name: middle(relative(value[loose], exact[loose])) for name, value in by.items()}
    # Of the batch on its own tiles, which need not be in order.
    batch = (losses[0::2] - losses[1::2]) / (2 * USUAL["float32"])
    some = loose[np.searchsorted(tiles, few)]
    errors["batch"] = middle(relative(batch[some], sums[few][some]))
    yield Row(
        f"{what}: median error: engine float32, float64; float32 batch",
        "",
        f"{errors['float32']:.1e}, {errors['float64']:.1e}; {errors['batch']:.1e}",
    )
    yield Row(f"{what}: tiles without a tie; with a branch change", "", f"{loose.sum()} of {len(tiles)}; {crossed}")
