"""W1 as plain arrays: one real digit, the weights, the true gradient, and where the loss is smooth."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.difference_reference import Reference

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

SHAPE = (28, 28, 1)
SIZE = 784
#: A digit with a loss of 0.14: on most others p_y is so near 1 that every float32 difference is zero.
DIGIT = 3
#: No unit changes branch between x - REACH e and x + REACH e at a smooth pixel: the step usual in float64.
REACH = 2.0**-17
#: Best steps of a central difference in plain arithmetic, found by trying powers of two on this digit.
STEP = {"float32": 2.0**-8, "float64": 2.0**-17}
_CHUNK = 112
_TIE = 1e-12  # cells nearer than this to the largest are equal but for rounding


@dataclass(frozen=True, eq=False)
class Fault:
    """A linear way to spoil a gradient of shape `SHAPE`: move it down by `shift` rows, then multiply by `factor`."""

    name: str
    factor: Float64
    shift: int = 0

    def __call__(self, gradient: Float64) -> Float64:
        """Spoil a gradient of 784 numbers."""
        spoilt: Float64 = (np.roll(gradient.reshape(SHAPE), self.shift, axis=0) * self.factor).ravel()
        return spoilt


@dataclass(frozen=True, eq=False)
class Problem:
    """What every process reads; arrays of the network are float32, as they are shipped.

    Attributes
    ----------
    x : ndarray of float64, shape (28, 28, 1)
        The digit; float32 holds it exactly.
    weights : list of ndarray
        Kernel and bias of both convolutions and of the dense layer.
    truth : ndarray of float64, shape (784,)
        Gradient of the cross-entropy, from a backward pass in extended precision.
    smooth : ndarray of bool, shape (784,)
        Pixels along which no ReLU and no max pool changes branch within `REACH`.
    generic, generic_truth : ndarray of float64
        The digit plus uniform noise in [0, 1/255), what 8-bit rounding took away: there nothing ties.
    digits, labels, probabilities : ndarray
        Some digits, and what Keras makes of them in float64: every port of the network must agree.
    """

    x: Float64
    label: int
    weights: list[Array]
    truth: Float64
    smooth: Bool
    generic: Float64
    generic_truth: Float64
    digits: Array
    labels: Ints
    probabilities: Float64

    @property
    def target(self) -> Float64:
        """One-hot, shape (10,)."""
        return np.eye(10)[self.label]

    @functools.cached_property
    def faults(self) -> tuple[Fault, ...]:
        """What a check must find."""
        ones, alone = np.ones(SHAPE), np.ones(SHAPE)
        size = np.where(self.smooth, np.abs(self.truth), 0)
        order = np.argsort(size)[np.count_nonzero(size == 0) :]
        # The smooth pixel with the median gradient: neither the largest nor one that nobody would miss.
        alone.reshape(-1)[order[len(order) // 2]] = 2.0
        return (
            Fault("twice", 2 * ones),
            Fault("1 % off", 1.01 * ones),
            Fault("one pixel twice", alone),
            Fault("one row down", ones, shift=1),
        )

    def save(self, path: Path) -> None:
        """Write one .npz."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "weights"}
        np.savez(path, **kept, **{f"weight_{k}": w for k, w in enumerate(self.weights)})

    @staticmethod
    def load(path: Path) -> Problem:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            kept = dict(stored)
        weights = [kept.pop(f"weight_{k}") for k in range(6)]
        return Problem(weights=weights, label=int(kept.pop("label")), **kept)


def make(digits: Array, labels: Ints, weights: list[Array], probabilities: Float64) -> Problem:
    """Work the truth out, in NumPy alone."""
    x, label = digits[DIGIT].astype(np.float64), int(labels[DIGIT])
    # In float32, so that all precisions look at the same point.
    generic = (x + np.random.default_rng(0).uniform(0, 1 / 255, SHAPE)).astype(np.float32).astype(np.float64)
    reference, target = Reference(weights), np.eye(10)[label]
    truth, generic_truth = (reference.gradient(at, target).astype(np.float64).ravel() for at in (x, generic))
    smooth = smooth_pixels(x, weights, REACH)
    return Problem(x, label, weights, truth, smooth, generic, generic_truth, digits, labels, probabilities)


def smooth_pixels(x: Float64, weights: list[Array], reach: float) -> Bool:
    """Pixels along which no unit changes branch within `reach` of x, or ties at x.

    Up to the first change of branch every value is linear in the distance, so the two ends tell of all between.
    """
    (base,) = _branches(x[None], weights)
    found = np.ones(SIZE, bool)
    for start in range(0, SIZE, _CHUNK):
        some = np.arange(start, start + _CHUNK)
        for side in (reach, -reach):
            rows = np.repeat(x[None], _CHUNK, axis=0)
            rows.reshape(_CHUNK, -1)[np.arange(_CHUNK), some] += side
            found[some] &= [_same(base, other) for other in _branches(rows, weights)]
    return found


def _same(a: list[Bool], b: list[Bool]) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def _branches(rows: Float64, weights: list[Array]) -> list[list[Bool]]:
    """For every row: which cells of each pool window are its largest; all of them where the ReLU before is at zero."""
    found: list[list[Bool]] = [[] for _ in rows]
    for kernel, bias in (weights[0:2], weights[2:4]):
        z = convolution(rows, kernel.astype(np.float64)) + bias
        cells = pool_cells(z)
        largest = cells.max(axis=-1, keepdims=True)
        winners = np.where(largest > 0, cells >= largest - _TIE, True)
        on = largest[..., 0] > 0
        for branches, one, two in zip(found, winners, on, strict=True):
            branches += [one, two]
        rows = np.maximum(largest[..., 0], 0)
    return found


def convolution(rows: Float64, kernel: Array) -> Float64:
    """3x3, no padding, channels last, as one matrix product."""
    h, w = rows.shape[1] - 2, rows.shape[2] - 2
    cells = np.concatenate([rows[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)
    found: Float64 = cells @ kernel.reshape(-1, kernel.shape[-1])
    return found


def pool_cells(z: Float64) -> Float64:
    """The four cells of every 2x2 window, last axis; what does not fill a window is dropped."""
    n, h, w, c = z.shape[0], z.shape[1] // 2, z.shape[2] // 2, z.shape[3]
    cells = z[:, : 2 * h, : 2 * w].reshape(n, h, 2, w, 2, c).transpose(0, 1, 3, 5, 2, 4)
    return cells.reshape(n, h, w, c, 4)
