"""Rows built on another device, in a process with two logical CPUs: that must be said before TensorFlow starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fdfast.engines.device import RemoteRows
from fdfast.moves.tiling import make_tiling


class Objective:
    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)


@pytest.mark.parametrize(
    ("shape", "tile", "dtype", "builds"),
    [
        # Described: 8 bytes of index and the value for each element of a tile; sent: the whole row.
        ((8, 8), 1, "float32", True),
        ((8, 8), 4, "float32", True),  # 16 of 12 bytes against 64 of 4
        ((8, 8), (8, 5), "float32", False),  # 32 on average, of 12 bytes, against 64 of 4
        ((6, 6), (4, 5), "float32", True),  # 9 on average, of 12 bytes, against 36 of 4
        ((6, 6), (4, 6), "float64", False),  # 18 on average, of 16 bytes: as many as 36 of 8
        ((6, 6), 6, "float64", False),
    ],
)
def test_rows_are_described_where_that_is_less(shape, tile, dtype, builds):
    tiling = make_tiling(shape, tile)
    described = tiling.counts.mean() * (8 + np.dtype(dtype).itemsize)
    sent = tiling.size * np.dtype(dtype).itemsize
    assert RemoteRows(Objective(dtype), tiling, "CPU:0").builds is bool(described < sent) is builds


def test_two_devices():
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONWARNINGS": "error",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["rows", "values", "public", "vanishing"]


def on_two_devices():
    import keras
    import tensorflow as tf
    from reference import perturbed_rows

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    from fdfast.engines.batch import BatchEngine, RowBuffer
    from fdfast.engines.pairs import Pairs
    from fdfast.functions.callables import callable_objective
    from fdfast.functions.model import model_objective

    rng = np.random.default_rng(0)
    shape = (6, 5, 2)
    for dtype in ("float32", "float64"):
        for tile, builds in ((1, True), ((2, 3, 2), True), ((5, 5, 2), False), ((3, 5, 1), None), ((3, 4, 2), "mixed")):
            tiling = make_tiling(shape, tile)
            if builds == "mixed":
                tiling, builds = tiling.mixed(0), None
            points = rng.uniform(-2, 2, (3, tiling.size)).astype(dtype)
            pairs = Pairs(rng.integers(0, 3, 50), rng.integers(-1, tiling.tiles, 50), rng.uniform(-0.1, 0.1, (50, 2)))
            moved, far = np.empty((50, 2)), np.empty((50, 2))
            kernel, stuck = RowBuffer(points, tiling).fill(pairs, moved)
            remote = RemoteRows(Objective(dtype), tiling, "CPU:1")
            assert builds in (None, remote.builds), (tile, dtype)
            both = []
            for remote.builds in (True, False):  # both ways, whichever is less traffic
                remote.load(points)
                rows, unmoved = remote.describe(points, pairs, far)
                assert rows.device.endswith("CPU:1"), rows.device
                assert (rows.dtype, unmoved, stuck) == (dtype, -1, -1)
                np.testing.assert_array_equal(rows.numpy(), kernel)
                np.testing.assert_array_equal(far, moved)
                both.append(rows)
            owned = [tiling.members[a:b] for a, b in zip(tiling.offsets[:-1], tiling.offsets[1:], strict=True)]
            for i, (point, t, step) in enumerate(zip(*pairs.fields, strict=True)):
                tile_members = [owned[t] if t >= 0 else []]
                weights = (
                    None if tiling.weights is None or t < 0 else [tiling.weights[slice(*tiling.offsets[t : t + 2])]]
                )
                wanted, _ = perturbed_rows(points[point], [np.array(tile_members[0], int)], step[None], weights)
                np.testing.assert_array_equal(both[0].numpy().reshape(100, -1)[2 * i : 2 * i + 2], wanted)
    print("rows")

    keras.utils.set_random_seed(0)
    layers = [
        keras.Input(shape),
        keras.layers.Conv2D(3, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
    ]
    model = keras.Sequential(layers)
    where = []

    def loss(y, prediction):
        where.append(prediction.device)
        return tf.reduce_sum((y - prediction) ** 2, axis=1)

    x, y = rng.uniform(size=(3, *shape)), rng.uniform(size=(3, 4))
    for precision in ("float32", "float64"):
        objective = model_objective(model, y, loss, shape, 3, batched=True, precision=precision)
        points = x.reshape(3, -1).astype(objective.dtype)
        for tile in (1, 5):
            tiling = make_tiling(shape, tile)
            pairs = Pairs(rng.integers(0, 3, 70), rng.integers(0, tiling.tiles, 70), rng.uniform(0.01, 0.1, (70, 2)))
            example = np.array([2, 0, 1], np.int32)
            near = BatchEngine(objective, tiling, max_rows=16).differences(points, example, pairs)
            far = BatchEngine(objective, tiling, max_rows=16, device="CPU:1").differences(points, example, pairs)
            some = BatchEngine(objective, tiling, max_rows=16, device="CPU:1").of(np.array([2, 0, 1]))
            again = some.differences(points, np.arange(3, dtype=np.int32), pairs)
            # The same rows through the same kernels in the same chunks.
            for name in ("delta", "moved", "base"):
                np.testing.assert_array_equal(getattr(near, name), getattr(far, name))
                np.testing.assert_array_equal(getattr(near, name), getattr(again, name))
            assert np.abs(near.delta).min() > 0
    print("values")

    import fdfast
    from fdfast.engines import batch

    before = fdfast.gradient(model, x, y=y, loss="mse")
    batch.accelerator = lambda: "CPU:1"  # what a GPU would be
    np.testing.assert_array_equal(fdfast.gradient(model, x, y=y, loss="mse"), before)
    assert fdfast.gradcheck(model, x[:1], y[:1], loss="mse")
    print("public")

    f = callable_objective(lambda rows: tf.reduce_sum(rows, 1), {}, np.ones((1, 4)), (4,), batched=True)
    engine = BatchEngine(f, make_tiling((4,)), device="CPU:1")
    pairs = Pairs(np.zeros(2, int), np.array([1, 2]), np.array([[1e-3, -1e-3], [1e-3, 1e-17]]))
    with pytest.raises(ValueError, match=r"h=1e-17 vanishes in float64 at x\[2\]=1: x \+ h == x"):
        engine.differences(np.ones((1, 4)), np.zeros(1, np.int32), pairs)
    print("vanishing")


if __name__ == "__main__":
    on_two_devices()
