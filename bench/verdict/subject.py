"""A model with its inputs, its true gradient, and all that the usual rules know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import fdfast
from bench.verdict.cases import PER_MODEL, Parts, Spec, build, draw, inputs_of, targets_of
from bench.verdict.faults import DISTORTIONS, DiagonalSoftmax, fits_array, place_of
from bench.verdict.rules import Numerics
from fdfast.functions.model import model_objective

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Made = tuple[keras.Model, Any]  # with its loss

EFFECT = 1e-3  # relative change that must be found, on a tile with at least this share of the largest gradient
FAULTY_DIGITS = 3  # digits of each faulty subject: one takes as long as forty small models


@dataclass(frozen=True)
class Plan:
    """What a subject is made of: a random model, or the shipped CNN where there is no spec."""

    name: str
    number: int
    seed: int
    count: int
    spec: Spec | None

    @staticmethod
    def of(name: str, seed: int, count: int | None = None) -> Plan:
        """m017: random model 17. d001: digits 8 to 15. f001: digits 3 to 5, for faults."""
        number = int(name[1:])
        usual = FAULTY_DIGITS if name[0] == "f" else PER_MODEL
        return Plan(name, number, seed, count or usual, draw(seed, number) if name[0] == "m" else None)

    def fits(self, fault: str) -> bool:
        """Whether a distortion of the whole gradient does something to inputs of this shape."""
        return fits_array(self.spec.shape if self.spec else (28, 28, 1), fault)

    def place(self, fault: str) -> tuple[int, ...]:
        """The pixel and channel that a fault hits; in a digit, one of the strokes' neighbourhood."""
        return place_of(self.spec, fault) if self.spec else (12 + self.number % 5, 14, 0)

    def subject(self) -> Subject:
        """Build the model and look at it without a fault."""
        if self.spec:
            spec = self.spec
            x, made = inputs_of(spec, self.count), build(spec)
            return Subject(self, lambda parts: build(spec, parts), made, x, targets_of(spec, made[0], x))
        first = self.number * self.count
        x, labels = fdfast.datasets.mnist_sample(first + self.count)
        return Subject(self, _shipped_cnn, _shipped_cnn(Parts()), x[first:], np.eye(10)[labels[first:]])


def _shipped_cnn(parts: Parts) -> tuple[keras.Model, str]:
    layers = fdfast.datasets.mnist_cnn().layers
    if parts.softmax is DiagonalSoftmax:
        layers[-1].activation = keras.activations.linear
        layers = [*layers, DiagonalSoftmax()]
    entry = [parts.entry()] if parts.entry else []
    return keras.Sequential([keras.Input((28, 28, 1)), *entry, *layers]), "categorical_crossentropy"


class Subject:
    """The model, evaluated without a fault.

    `truth`, `truth32`: autodiff in float64 and as deployed, shape (examples, size); `smooth`: tiles at which f is
    smooth by plain differences in float64, shape (examples, tiles).
    """

    def __init__(self, plan: Plan, make: Callable[[Parts], Made], made: Made, x: Array, y: Array) -> None:
        self.plan, self.name, self.make, self.x, self.y = plan, plan.name, make, x, y
        self.model, self.loss = made
        self.points = x.reshape(len(x), -1).astype(np.float64)
        self.double, single = self.objectives(self.model, self.loss)
        self.truth, self.truth32 = self.gradients(self.double)
        self.numerics = Numerics.of(self.double, single, self.points, self.direction)
        self.readable = self._readable()
        self.smooth = self.tiles(self.numerics.smooth(self.truth), np.all) & self.readable

    def _readable(self) -> Array:
        """Examples whose float64 autodiff can show an effect at all, shape (examples, 1).

        Behind a softmax it keeps eps / loss of relative precision: with a loss of 1e-40 it is nothing but rounding. And
        a slope that moves f by less than its last place over the whole range of x shows in no difference of f.
        """
        rows = tf.constant(self.points.reshape(-1, *self.x.shape[1:]))
        loss = self.double.tensor_values(rows, np.arange(len(self.x), dtype=np.int32), len(self.x))
        eps, sharp = np.finfo(float).eps, self.double.traced.is_sharp
        slope = np.abs(self.truth).max(axis=1) * np.abs(self.points).max(axis=1)
        seen = (slope > 2**10 * eps * np.abs(loss)) & ((loss >= 4 * eps / EFFECT) | (not sharp))
        return seen[:, None]

    @property
    def direction(self) -> np.random.Generator:
        """A stream for the random direction."""
        return np.random.default_rng([self.plan.seed, self.plan.number])

    def objectives(self, model: keras.Model, loss: Any) -> tuple[Any, Any]:
        """The model in float64 and in float32; what `gradcheck` traces is shared."""

        def objective(precision: Any) -> Any:
            shape, many = self.x.shape[1:], len(self.x)
            return model_objective(model, self.y, loss, shape, many, batched=True, precision=precision)

        return objective("float64"), objective("float32")

    def gradients(self, double: Any) -> tuple[Float64, Float64]:
        """Autodiff in float64 and in float32, shape (examples, size)."""
        shape = self.points.shape
        return double.gradient(self.points).reshape(shape), double.deployed_gradient(self.points)[0].reshape(shape)

    def tiles(self, values: Array, reduce: Callable[..., Any] = np.sum) -> Array:
        """A tile is a pixel with all its channels."""
        maps = values.reshape(self.x.shape)
        return (reduce(maps, axis=-1) if maps.ndim == 4 else maps).reshape(len(maps), -1)

    def effect(self, faulty: Float64, truth: Float64, smooth: Array) -> Float64:
        """Largest relative change on a smooth tile that counts, per example."""
        true, wrong = self.tiles(truth), self.tiles(faulty)
        size = np.maximum(np.abs(true), np.abs(wrong))
        counts = smooth & (size > 0) & (size >= EFFECT * size.max(axis=1, keepdims=True))
        with np.errstate(all="ignore"):
            return np.where(counts, np.abs(wrong - true) / np.abs(true), 0.0).max(axis=1)

    def spot(self, i: int, fault: str) -> tuple[int, ...]:
        """Draw a pixel of one example, among those that are smooth and not negligible."""
        size = np.abs(self.tiles(self.truth)[i])
        counts = np.flatnonzero(self.smooth[i] & (size > 0) & (size >= EFFECT * size.max()))
        rng = np.random.default_rng([self.plan.seed, self.plan.number, i, len(fault)])
        flat = rng.choice(counts) if counts.size else 0
        shape = self.x.shape[1:3] if self.x.ndim == 4 else self.x.shape[1:]
        return tuple(int(n) for n in np.unravel_index(flat, shape))

    def distorted(self, fault: str, places: list[tuple[int, ...]]) -> tuple[Float64, Float64]:
        """Spoil the true gradients, float64 and float32, example by example."""

        def spoil(g: Float64) -> Float64:
            maps = g.reshape(self.x.shape)
            parts = [np.asarray(DISTORTIONS[fault](maps[i : i + 1], places[i])) for i in range(len(maps))]
            return np.concatenate(parts).reshape(g.shape)

        return spoil(self.truth), spoil(self.truth32)
