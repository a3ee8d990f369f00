"""Special functions of one number: integrals of what is known, by quadrature where no formula cancels nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.call import Call, below, tiny
from fdfast.operations.elementwise import Function, series, unary
from fdfast.operations.table import difference_rule


def integral(of: Function, z: Any, d: Any, nodes: int) -> Any:
    """Integral of a smooth function from z to z + d, by Gauss and Legendre's rule."""
    total: Any = 0.0
    for node, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
        total += weight / 2 * of(z + d * ((node + 1) / 2))
    return d * total


@unary("Erf")
def erf(z: Any, d: Any) -> Any:
    """2/sqrt(pi) times the integral of e^(-t^2): three terms of its series for short d, eight nodes up to 1/2."""

    def bell(t: Any) -> Any:
        return tf.exp(-tf.square(t)) * (2 / math.sqrt(math.pi))

    if tiny(d):
        return d * bell(z)
    if below(d, 2.0**-20):
        slope = bell(z)
        return series(d, slope, -slope * z, slope * (2 * z * z - 1) / 3)
    near = integral(bell, z, tf.clip_by_value(d, -0.5, 0.5), 8)
    return tf.where(tf.abs(d) <= 0.5, near, tf.math.erf(z + d) - tf.math.erf(z))


@unary("Erfc")
def erfc(z: Any, d: Any) -> Any:
    """1 - erf."""
    return -erf(z, d)


@unary("Erfinv")
def erfinv(z: Any, d: Any) -> Any:
    """From the inverse: by Newton's steps on erf(w + e) - erf(w) = d, w = erfinv(z)."""
    w = tf.math.erfinv(z)

    def slope(t: Any) -> Any:
        return tf.exp(-tf.square(t)) * (2 / math.sqrt(math.pi))

    e = d / slope(w)
    if not below(e, 2.0**-30):
        e = tf.math.erfinv(z + d) - w
    for _ in range(3):
        e -= (erf(w, e) - d) / slope(w + e)
    return e


@unary("Ndtri")
def ndtri(z: Any, d: Any) -> Any:
    """sqrt 2 erfinv(2p - 1)."""
    return math.sqrt(2.0) * erfinv(2 * z - 1, 2 * d)


@unary("Lgamma")
def lgamma(z: Any, d: Any) -> Any:
    """The integral of digamma."""
    near = integral(tf.math.digamma, z, d, 2 if below(d, 2.0**-14) else 8)
    return near if below(d, 2.0**-4) else tf.where(tf.abs(d) < 2.0**-4, near, tf.math.lgamma(z + d) - tf.math.lgamma(z))


@unary("Digamma")
def digamma(z: Any, d: Any) -> Any:
    """The integral of trigamma."""

    def trigamma(t: Any) -> Any:
        return tf.math.polygamma(tf.ones_like(t), t)

    near = integral(trigamma, z, d, 2 if below(d, 2.0**-14) else 8)
    far = tf.math.digamma(z + d) - tf.math.digamma(z)
    return near if below(d, 2.0**-4) else tf.where(tf.abs(d) < 2.0**-4, near, far)


@difference_rule("Polygamma")
def polygamma(c: Call) -> Any:
    """The integral of the next one."""
    if c.d[0] is not None:
        return NotImplemented
    n, z, d = c.z[0], c.z[1], c.aligned(1)
    near = integral(lambda t: tf.math.polygamma(n + tf.ones_like(t), t), z, d, 2 if below(d, 2.0**-14) else 8)
    if below(d, 2.0**-4):
        return c.broad(near)
    far = tf.math.polygamma(n + tf.zeros_like(d), z + d) - c.out[0]
    return c.broad(tf.where(tf.abs(d) < 2.0**-4, near, far))
