"""W2 to W4 and growth, by fdfast and the best peers: ``python -m bench.peers.sections FILE NAME``.

All calls of one cell take turns in one process. A dense pass costs the same for every tile, so that some tell of all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

import fdfast
from bench.peers.registry import CHUNKS, SHAPE, Build, check_port, fastest, keras_model, problem
from bench.peers.split import rows as split
from bench.peers.tensorflow_peers import builder
from bench.rig import PRECISIONS, STEP, Precision, compiled_gradient, middle, moves, quotients, relative
from bench.timing import side_by_side
from fdfast.functions import model_objective
from fdfast.moves import Tiling, make_tiling

TILES, IMAGES = (1, 2, 4, 5, 7, 14), (1, 10, 100, 1000)
NETWORKS = (("MobileNetV2", 96), ("MobileNetV2", 224), ("ResNet50", 224), ("VGG16", 224))
SIDES, DEPTHS, SIDE, DEPTH, CHANNELS = (16, 32, 64, 128), (1, 2, 4, 8, 16), 32, 4, 16
SAMPLE = 16  # tiles of which the peers evaluate the rows, where there are many
Cell = list[dict[str, Any]]


class Call(NamedTuple):
    """One side of a cell: by whom; `scale` makes its time one of all tiles of one image."""

    by: str
    precision: str
    run: Callable[[], Any]
    scale: float = 1.0
    error: float | None = None


def cell(section: str, case: str, n: float, calls: Sequence[Call], budget: float = 3.0) -> Cell:
    """What everybody takes, and how many times what fdfast takes, which is the first."""
    took = side_by_side({f"{call.by} {call.precision}": call.run for call in calls}, 9, budget, pause=0.03)
    seconds, found = [took[f"{one.by} {one.precision}"].times(one.scale) for one in calls], []
    for one, s in zip(calls, seconds, strict=True):
        times = {"seconds": s.values.tolist(), "ratios": s.over(seconds[0]).values.tolist()}
        found.append({"section": section, "case": case, "n": n, **one._asdict(), "run": None, **times})
    return found


def theirs(
    builders: dict[str, Build], tiling: Tiling, x: Any, y: Any, exact: Any, chunks: Any = CHUNKS, sample: int = 0
) -> list[Call]:
    """Rows batched by hand, of all tiles or of a sample, in the dtype of x; errors against the sums of a gradient."""
    some = np.sort(np.random.default_rng(0).choice(tiling.tiles, sample or tiling.tiles, replace=False))
    calls, precision = [], x.dtype.name
    for by, build in builders.items():
        losses, _ = fastest(build, moves(tiling, precision, some), x, y, chunks)
        run = partial(losses, x, y, STEP[precision])
        error = middle(relative(quotients(run(), STEP[precision]), exact[some]))
        calls.append(Call(by, precision, run, tiling.tiles / len(some), error))
    return calls


def _error(tiling: Tiling, found: Any, exact: Any) -> float:
    # What stands at the first member of every tile, whose members are all alike.
    return middle(relative(found.ravel()[tiling.members[tiling.offsets[:-1]]], exact))


def small(precision: Precision, tiles: Sequence[int] = TILES, jax: bool = False) -> Iterator[Cell]:
    """W2 and W3: the shipped CNN on many digits, and in larger tiles."""
    p, model, wide = problem(), keras_model("float32"), keras_model(precision)
    builders = {"TensorFlow": builder(wide)}
    if jax:
        from bench.peers import jax_peers

        builders["JAX"] = jax_peers.builder(jax_peers.network(p, precision))
    for tile in tiles:
        tiling, ours = make_tiling(SHAPE, tile), partial(fdfast.gradient, model, tile=tile, precision=precision)
        exact = tiling.sums(p.near_truth.reshape(SHAPE))
        error = _error(tiling, ours(p.near, y=p.target, reduction="sum"), exact)
        calls = [Call("fdfast", precision, partial(ours, p.digits, y=p.targets), 1 / len(p.digits), error)]
        calls += theirs(builders, tiling, p.near.astype(precision), p.target.astype(precision), exact)
        if tile == 1:
            autodiff = compiled_gradient(wide, "categorical_crossentropy", precision)
            calls.append(Call("autodiff", precision, partial(autodiff, p.digits[:1], p.targets[:1])))
        yield cell(*(("W2", f"{len(p.digits)} digits") if tile == 1 else ("W3", f"tile {tile}")), tiling.tiles, calls)


def large(networks: Sequence[tuple[str, int]] = NETWORKS, jax: bool = False) -> Iterator[Cell]:
    """W4: random weights, batch norm as it is for fdfast, folded into the convolutions for the peers."""
    y = np.eye(1000)[3]
    for name, side in networks:
        model, x = network(name, side), image(side)
        objective = model_objective(model, y[None], None, x.shape[1:], 1, batched=True, precision="float64")
        gradient, twin = objective.gradient(x.reshape(1, -1)), folded(model)
        builders = {"TensorFlow": builder(twin)}
        if jax:
            from bench.peers import jax_peers

            logits = jax_peers.functional(twin, "float32")
            check_port(twin(x), keras.ops.softmax(np.asarray(logits(x))))
            builders["JAX"] = jax_peers.builder(logits)
        else:
            builders["TensorFlow, batch norm as it is"] = builder(model)
        for tile in (8, 16):
            tiling, how = make_tiling(x.shape[1:], tile, "together"), {"tile": tile, "channels": "together"}
            exact, calls = tiling.sums(gradient)[0], []
            for precision in PRECISIONS:
                run = partial(fdfast.gradient, model, x[0], y=y, precision=precision, reduction="sum", **how)
                calls.append(Call("fdfast", precision, run, error=_error(tiling, run(), exact)))
            calls += theirs(builders, tiling, x[0], y.astype("float32"), exact, (8, 32), SAMPLE)
            yield cell("W4", f"{name} {side}, tile {tile}", side, calls, budget=15.0)


def growth(precision: Precision) -> Iterator[Cell]:
    """How time grows with the number of images, the side of the image and the depth of the network, tile 1."""
    for n in IMAGES:
        x, labels = fdfast.datasets.mnist_sample(n)
        ours = partial(fdfast.gradient, keras_model("float32"), x, y=np.eye(10)[labels], precision=precision)
        yield cell("images", f"{n} images", n, [Call("fdfast", precision, ours)], budget=1.0)
    plan = [("side", side, side, DEPTH) for side in SIDES] + [("depth", depth, SIDE, depth) for depth in DEPTHS]
    for section, n, side, depth in plan:
        keras.utils.set_random_seed(0)
        body = [layers.Conv2D(CHANNELS, 3, padding="same", activation="relu") for _ in range(depth)]
        ending = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
        model = keras.Sequential([keras.Input((side, side, 1)), *body, *ending])
        model.compile(loss="categorical_crossentropy")
        x, y = np.random.default_rng(0).random((side, side, 1)).astype(precision), np.eye(10, dtype=precision)[0]
        twin = model_objective(model, y[None], None, x.shape, 1, batched=True, precision=precision).model
        calls = [Call("fdfast", precision, partial(fdfast.gradient, model, x, y=y, precision=precision))]
        tiling = make_tiling(x.shape)
        calls += theirs({"TensorFlow": builder(twin)}, tiling, x, y, np.ones(tiling.tiles), (16, 64), SAMPLE)
        yield cell(section, f"{section} {n}", n, calls, budget=1.0)


def network(name: str, side: int) -> keras.Model:
    """Random weights, seeded; batch norm's statistics are means over a few batches of noise, each in training mode."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3))
    model.compile(loss="categorical_crossentropy")
    norms = [one for one in model.layers if isinstance(one, layers.BatchNormalization)]
    for turn in range(4 if norms else 0):
        for one in norms:
            one.momentum = turn / (turn + 1)  # the plain mean of all batches so far
        model(image(side, 8, seed=turn + 1), training=True)
    return model


def image(side: int, count: int = 1, seed: int = 0) -> Any:
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
    for old in (one for one in model.layers if one.name not in gone and one.weights):
        new = twin.get_layer(old.name)
        if old.name not in pairs:
            new.set_weights(old.get_weights())
            continue
        norm, kernel = pairs[old.name], old.get_weights()[0]
        factor = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        bias = old.get_weights()[1] if old.use_bias else 0.0
        scaled = kernel * (factor[:, None] if isinstance(old, layers.DepthwiseConv2D) else factor)
        new.set_weights([scaled, (bias - norm.moving_mean.numpy()) * factor + norm.beta.numpy()])
    x = image(model.inputs[0].shape[1])
    check_port(twin(x), model(x, training=False), 1e-5)  # fifty layers round in float32
    return twin


#: In the order in which they run, each in a process of its own.
SECTIONS: dict[str, Callable[[], Iterator[Cell]]] = {
    **{f"small-{name}": partial(small, name, jax=True) for name in PRECISIONS},
    "large": partial(large, NETWORKS[:2], jax=True),
    **{f"growth-{name}": partial(growth, name) for name in PRECISIONS},
    "split": lambda: iter([list(split())]),
}


if __name__ == "__main__":
    _found: Cell = []
    for _some in SECTIONS[sys.argv[2]]():
        _found += _some
        Path(sys.argv[1]).write_text(json.dumps(_found))  # for the case that the next cell takes too long
