"""Values with their differences, for rules of operations that are made of several: nothing cancels on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fdfast.operations import elementwise
from fdfast.operations.products import product


class Moved:
    """A value z and its difference d, with the rows in front of axes that align with z's; None: does not move."""

    def __init__(self, z: Any, d: Any = None) -> None:
        self.z, self.d = z, d

    def __add__(self, other: Moved | float) -> Moved:
        if not isinstance(other, Moved):
            return Moved(self.z + other, self.d)
        d = other.d if self.d is None else self.d if other.d is None else self.d + other.d
        return Moved(self.z + other.z, d)

    def __neg__(self) -> Moved:
        return Moved(-self.z, None if self.d is None else -self.d)

    def __sub__(self, other: Moved) -> Moved:
        return self + -other

    def __mul__(self, other: Moved | float) -> Moved:
        if not isinstance(other, Moved):
            return Moved(self.z * other, None if self.d is None else self.d * other)
        still = self.d is None and other.d is None
        return Moved(self.z * other.z, None if still else product(self.z, self.d, other.z, other.d))

    def mean(self, axes: Sequence[int]) -> Moved:
        """Over some axes of z, which are kept."""
        return self._over(tf.reduce_mean, axes)

    def sum(self, axes: Sequence[int]) -> Moved:
        """Over some axes of z, which are kept."""
        return self._over(tf.reduce_sum, axes)

    def at(self, matrix: Any) -> Moved:
        """Times a matrix that does not move, along the last axis."""
        return Moved(self.z @ matrix, None if self.d is None else self.d @ matrix)

    def rsqrt(self) -> Moved:
        """1 / sqrt."""
        return self._through(tf.math.rsqrt, elementwise.rsqrt)

    def log(self) -> Moved:
        """Natural logarithm."""
        return self._through(tf.math.log, elementwise.log)

    def exp(self) -> Moved:
        """Exponential."""
        return self._through(tf.exp, elementwise.exponential)

    def _through(self, value: Any, difference: Any) -> Moved:
        return Moved(value(self.z), None if self.d is None else difference(self.z, self.d))

    def _over(self, reduce: Any, axes: Sequence[int]) -> Moved:
        d = None if self.d is None else reduce(self.d, [a + 1 for a in axes], keepdims=True)
        return Moved(reduce(self.z, list(axes), keepdims=True), d)
