"""Stand-ins for the tests of the numerics: an engine that is plain NumPy, and functions whose slopes are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines.pairs import Differences, Pairs
from fdfast.moves.tiling import Tiling

Array = npt.NDArray[Any]
Rows = Callable[[Array], Array]


class RowEngine:
    """Evaluates a function of rows, (rows, size) -> (rows,), in the dtype of the points; rows are built one by one.

    Refuses rows outside of `bounds`, and remembers how many it has built.
    """

    name = "numpy"
    exact = False
    step: float | None = None

    def __init__(self, f: Rows, tiling: Tiling, bounds: tuple[float, float] | None = None) -> None:
        self.f, self.tiling, self.bounds = f, tiling, bounds
        self.rows = 0

    def of(self, examples: Any) -> RowEngine:
        return self

    def by(self, tiling: Tiling) -> RowEngine:
        return RowEngine(self.f, tiling, self.bounds)

    def differences(self, points: Array, example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        assert example.shape == (len(points),)
        assert pairs.point.shape == pairs.tile.shape == (len(pairs),)
        assert pairs.step.shape == (len(pairs), 2)
        rows = np.repeat(points[pairs.point], 2, axis=0)
        moved = np.zeros((len(pairs), 2))
        for i, (tile, steps) in enumerate(zip(pairs.tile, pairs.step, strict=True)):
            some = slice(*self.tiling.offsets[tile : tile + 2])
            members = self.tiling.members[some]
            weights = np.ones(len(members)) if self.tiling.weights is None else self.tiling.weights[some]
            x = points[pairs.point[i]][members]
            for side, step in enumerate(steps):
                row = x + (step * weights).astype(points.dtype)
                assert (row != x).all(), f"the step {step} vanishes"
                rows[2 * i + side, members] = row
                moved[i, side] = np.mean((row.astype(np.float64) - x.astype(np.float64)) / weights)
        if self.bounds is not None:
            assert rows.min() >= self.bounds[0]
            assert rows.max() <= self.bounds[1]
        with np.errstate(all="ignore"):
            base, values = self.f(points), self.f(rows)
        assert base.dtype == values.dtype == points.dtype
        delta = values.astype(np.float64).reshape(-1, 2) - base.astype(np.float64)[pairs.point, None]
        self.rows += 2 * (len(points) + len(pairs))
        return Differences(delta, moved, base.astype(np.float64), 2 * (len(points) + len(pairs)))


def hashed(rows: Array) -> Array:
    """Uniform in [-1, 1), different for any two rows that differ in a bit, the same for equal rows."""
    bits = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}").astype(np.uint64)
    mixed = np.zeros(len(rows), np.uint64)
    for column in bits.T:  # the finaliser of SplitMix64
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    return uniform.astype(rows.dtype)


ACTIVATIONS: dict[str, tuple[Rows, Rows]] = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sin": (np.sin, np.cos),
    "relu": (lambda z: np.maximum(z, z.dtype.type(0)), lambda z: (z > 0).astype(np.float64)),
}


class Network:
    """A random dense network with one output, evaluated in the dtype of its rows; its gradient in float64.

    Weights are rounded to `dtype`, so that the function is the same in every precision.
    """

    def __init__(self, seed: int, activation: str, dtype: npt.DTypeLike, size: int, width: int = 16, depth: int = 3):
        rng = np.random.default_rng(seed)
        dims = [size, *[width] * depth, 1]
        pairs = list(itertools.pairwise(dims))
        self.weights = [rng.normal(0, np.sqrt(2 / a), (a, b)).astype(dtype) for a, b in pairs]
        self.biases = [rng.normal(0, 0.1, b).astype(dtype) for _, b in pairs]
        self.activation, self.derivative = ACTIVATIONS[activation]

    def __call__(self, rows: Array) -> Array:
        z = rows
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = (self.activation(z) if i else z) @ w.astype(rows.dtype) + b.astype(rows.dtype)
        return z[:, 0]

    def gradient(self, x: Array) -> npt.NDArray[np.float64]:
        z, before = x.astype(np.float64), []
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            before.append(z @ w.astype(np.float64) + b.astype(np.float64))
            z = self.activation(before[-1])
        slope = self.weights[-1][:, 0].astype(np.float64)
        for z, w in zip(reversed(before), reversed(self.weights[:-1]), strict=True):
            slope = w.astype(np.float64) @ (slope * self.derivative(z))
        return slope
