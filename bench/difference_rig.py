"""What the measurements of the difference engine share: a model at some points, and what can be asked of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import fdfast
from bench.timing import side_by_side
from fdfast.differences.compiled import Compiled, compiled_for
from fdfast.engines.batch import BatchEngine, RowBuffer
from fdfast.engines.difference import TINY, DifferenceEngine
from fdfast.engines.pairs import Differences, Pairs
from fdfast.functions.model import model_objective
from fdfast.moves.scheme import Steps, plan_steps, three_point
from fdfast.moves.tiling import make_tiling
from fdfast.problem import groups_of

Float64 = npt.NDArray[np.float64]
Name = Literal["float32", "float64"]
NAMES: tuple[Name, ...] = ("float32", "float64")
#: Steps of the batch, its own `h="auto"`.
USUAL: dict[Name, float] = {"float32": 2.0**-8, "float64": 2.0**-17}

#: Rows of a forward pass that are tried for the batch.
CHUNKS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    images: int = 100
    rounds: int = 7
    digits: int = 20  # accuracy
    kinks: int = 100
    sample: int = 64  # tiles of a large network, by the engine
    rows: int = 16  # tiles of it that the batch evaluates: for a dense pass one tile is like another
    growth: tuple[int, ...] = (1, 10, 100, 1000)


FULL = Size()
#: To see that everything runs. The figures mean nothing.
QUICK = Size(images=4, rounds=2, digits=2, kinks=6, sample=8, rows=4, growth=(1, 10))


def digits(count: int) -> tuple[keras.Model, Any, Float64]:
    """The shipped CNN, real digits (cyclically beyond what is shipped) and their one-hot targets."""
    x, labels = fdfast.datasets.mnist_sample()
    which = np.arange(count) % len(x)
    return fdfast.datasets.mnist_cnn(), x[which], np.eye(10)[labels[which]]


def compiled_gradient(model: keras.Model, x: Any, y: Any, loss: Any, dtype: Name) -> Callable[[int], Any]:
    """Autodiff as one would deploy it: one traced function, batch 1; number of an example in, gradient out.

    `model` computes in `dtype`.
    """
    loss = keras.losses.get(loss)

    @tf.function(reduce_retracing=True)
    def gradient(row: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(row)
            value = loss(target, model(row, training=False))
        return tape.gradient(value, row)

    rows, targets = tf.constant(x, dtype), tf.constant(y, dtype)
    singles = [(rows[i : i + 1], targets[i : i + 1]) for i in range(len(x))]
    return lambda i: gradient(*singles[i % len(singles)]).numpy()


class Rig:
    """A model compiled with a loss, at points x with targets y, cut into tiles."""

    def __init__(self, model: keras.Model, x: Any, y: Any, tile: int = 1) -> None:
        shape = x.shape[1:]
        self.tiling = make_tiling(shape, tile)
        self.wide, self.narrow = (
            model_objective(model, y, None, shape, len(x), batched=True, precision=name) for name in reversed(NAMES)
        )
        self.points = np.ascontiguousarray(x.reshape(len(x), -1), np.float64)

    def only(self, image: int) -> Rig:
        """The same for one of the images."""
        one, some = copy.copy(self), slice(image, image + 1)
        one.wide, one.narrow, one.points = self.wide.select(some), self.narrow.select(some), self.points[some]
        return one

    def objective(self, name: Name) -> Any:
        return self.wide if name == "float64" else self.narrow

    def compiled(self, name: Name) -> Compiled:
        return compiled_for(self.wide, np.dtype(name))

    def steps(self, some: slice, h: float | Literal["auto"]) -> Steps:
        return plan_steps(self.points[some], self.tiling, h, None, TINY)

    def difference(
        self, name: Name, h: float | Literal["auto"] = "auto", tiles: Any = None, images: int | None = None
    ) -> list[Differences]:
        """All tiles, or some, of all images by fresh engines, in groups, as fdfast.check does: base pass included."""
        compiled = self.compiled(name)
        found = []
        for some in groups_of(len(self.points) if images is None else images, self.tiling.tiles):
            engine = DifferenceEngine(self.wide.select(some), self.tiling, compiled)
            pairs = self._pairs(self.steps(some, h), tiles)
            points = self.points[some]
            found.append(engine.differences(points, np.arange(len(points), dtype=np.int32), pairs))
        return found

    def _pairs(self, steps: Steps, tiles: Any) -> Pairs:
        some = np.arange(self.tiling.tiles) if tiles is None else np.asarray(tiles, np.int64)
        count = len(steps.h)
        offsets = steps.offsets()[:, some].reshape(-1, 2)
        return Pairs(np.repeat(np.arange(count), len(some)), np.tile(some, count), offsets)

    def base_only(self, name: Name) -> None:
        """The base pass of all images and nothing after it."""
        self.difference(name, tiles=np.empty(0, np.int64))

    def existing(self, name: Name, tiles: Any = None) -> Callable[[int], Float64]:
        """Bare forward over the rows of the first image, which exist already; takes the chunk."""
        objective = self.objective(name).select(slice(0, 1))
        points = np.ascontiguousarray(self.points[:1], objective.dtype)
        pairs = self._pairs(self.steps(slice(0, 1), USUAL[name]), tiles)
        buffer = RowBuffer(points, self.tiling)
        rows, _ = buffer.fill(pairs, np.empty((len(pairs), 2)))
        tensor = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
        who = np.zeros(len(rows), np.int32)

        def forward(chunk: int) -> Float64:
            assert buffer is not None  # it owns the memory
            return np.asarray(objective.tensor_values(tensor, who, chunk))

        return forward

    def batch(self, name: Name) -> Callable[[], Differences]:
        """The batch engine on the first image; warmed up until it has settled on a chunk."""
        objective = self.objective(name).select(slice(0, 1))
        points = np.ascontiguousarray(self.points[:1], objective.dtype)
        pairs = self._pairs(self.steps(slice(0, 1), USUAL[name]), None)
        engine = BatchEngine(objective, self.tiling)

        def differences() -> Differences:
            return engine.differences(points, np.zeros(1, np.int32), pairs)

        for _ in range(3):
            differences()
        return differences


def best_chunk(forward: Callable[[int], object], chunks: tuple[int, ...] = CHUNKS, rounds: int = 3) -> int:
    """The number of rows per forward pass that is fastest here."""
    found = side_by_side({str(c): partial(forward, c) for c in chunks}, rounds=rounds)
    return int(min(found, key=lambda name: found[name].low))


def derivatives(found: list[Differences]) -> tuple[Float64, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Central differences, nodes on a kink, and nodes that change branch; over all groups, flat."""
    value = np.concatenate([three_point(f.delta[:, 0], f.delta[:, 1], f.moved[:, 0], f.moved[:, 1]) for f in found])
    tie, crossed = (np.concatenate([np.asarray(getattr(f, name)) for f in found]) for name in ("tie", "crossed"))
    return value, tie, crossed


def relative(found: Any, exact: Any) -> Float64:
    """Relative errors where the gradient is not zero."""
    some = exact != 0
    return np.asarray(np.abs(found[some] - exact[some]) / np.abs(exact[some]), np.float64)


def middle(errors: Any) -> float:
    """Median; NaN for none."""
    return float(np.median(errors)) if len(errors) else float("nan")
