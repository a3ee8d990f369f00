"""Smooth functions of one number: f(z + d) - f(z), so written that nothing cancels however small d is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call, below, has_value, tiny
from fdfast.operations.products import square
from fdfast.operations.table import difference_rule

Function = Callable[..., Any]


def unary(*kinds: str) -> Callable[[Function], Function]:
    """Register f(z, d), or f(call, z, d), for a function of one tensor."""

    def enter(f: Function) -> Function:
        alone = len(inspect.signature(f).parameters) == 2

        def rule(c: Call) -> Any:
            return f(c.z[0], c.d[0]) if alone else f(c, c.z[0], c.d[0])

        rule.__wrapped__ = f  # type: ignore[attr-defined]
        difference_rule(*kinds)(rule)
        return f

    return enter


def series(d: Any, *terms: Any) -> Any:
    """d (t_0 + d (t_1 + d (t_2 + ...))): terms are functions of z alone, which all rows share."""
    total = terms[-1]
    for term in terms[-2::-1]:
        total = term + d * total
    return d * total


#: Moves up to which three terms of a series are all digits, where each is smaller by the size of the move.
_SHORT = 2.0**-17


@unary("Reciprocal", "Inv")
def reciprocal(z: Any, d: Any) -> Any:
    """-d / (z (z + d))."""
    return -d / (z * (z + d))


@unary("Sqrt")
def root(z: Any, d: Any) -> Any:
    """d / (sqrt z + sqrt(z + d))."""
    return tf.math.divide_no_nan(d, tf.sqrt(z) + tf.sqrt(z + d))


@unary("Rsqrt")
def rsqrt(z: Any, d: Any) -> Any:
    """-d / (a b (a + b)) with the roots a, b of both."""
    a, b = tf.sqrt(z), tf.sqrt(z + d)
    return -d / (a * b * (a + b))


@unary("Exp", "Expm1")
def exponential(z: Any, d: Any) -> Any:
    """e^z (e^d - 1)."""
    if tiny(d):
        return d * tf.exp(z)
    if below(d, _SHORT):
        z = tf.exp(z)
        return series(d, z, z / 2, z / 6)
    return tf.exp(z) * tf.math.expm1(d)


@unary("Log")
def log(z: Any, d: Any) -> Any:
    """log(1 + d / z)."""
    return tf.math.log1p(d / z)


@unary("Log1p")
def log1p(z: Any, d: Any) -> Any:
    """log(1 + d / (1 + z))."""
    return tf.math.log1p(d / (1 + z))


@unary("Sigmoid")
def sigmoid(z: Any, d: Any) -> Any:
    """(1 - e^-d) s(-z) s(z + d); for long steps from the lower to the upper of the two, or e^-d overflows."""
    if tiny(d):
        return d * (tf.sigmoid(z) * tf.sigmoid(-z))
    if below(d, _SHORT):
        s, t = tf.sigmoid(z) * tf.sigmoid(-z), tf.tanh(z / 2)
        return series(d, s, -s * t / 2, s * (1 - 6 * s) / 6)
    low, high = z + tf.minimum(d, 0), z + tf.maximum(d, 0)
    return -tf.sign(d) * tf.math.expm1(-tf.abs(d)) * tf.sigmoid(-low) * tf.sigmoid(high)


@unary("Tanh")
def tanh(z: Any, d: Any) -> Any:
    """tanh z = 2 s(2z) - 1."""
    if tiny(d):
        return d * (4 * tf.sigmoid(2 * z) * tf.sigmoid(-2 * z))
    if below(d, _SHORT):
        t, p = tf.tanh(z), 4 * tf.sigmoid(2 * z) * tf.sigmoid(-2 * z)
        return series(d, p, -t * p, p * (3 * t * t - 1) / 3)
    return 2 * sigmoid(2 * z, 2 * d)


@unary("Softplus")
def softplus(z: Any, d: Any) -> Any:
    """log(1 + s(z) (e^d - 1)); for long steps up, d + log(1 + s(-z) (e^-d - 1))."""
    if tiny(d):
        return d * tf.sigmoid(z)
    if below(d, _SHORT):
        s, one = tf.sigmoid(z), tf.sigmoid(z) * tf.sigmoid(-z)
        return series(d, s, one / 2, -one * tf.tanh(z / 2) / 6)
    s = tf.sigmoid(tf.where(d > 0, -z, z) + tf.zeros_like(d))
    return tf.maximum(d, 0) + tf.math.log1p(s * tf.math.expm1(-tf.abs(d)))


@unary("Softsign")
def softsign(z: Any, d: Any) -> Any:
    """Over a common denominator; on one side of 0 the numerator is d."""
    a = z + d
    crossing = tf.where(a * z < 0, a * tf.abs(z) - z * tf.abs(a), tf.zeros_like(a))
    return (d + crossing) / ((1 + tf.abs(a)) * (1 + tf.abs(z)))


@unary("Sin")
def sine(z: Any, d: Any) -> Any:
    """2 cos(z + d/2) sin(d/2)."""
    if tiny(d):
        return d * tf.cos(z)
    return 2 * tf.cos(z + d / 2) * tf.sin(d / 2)


@unary("Cos")
def cosine(z: Any, d: Any) -> Any:
    """-2 sin(z + d/2) sin(d/2)."""
    if tiny(d):
        return d * -tf.sin(z)
    return -2 * tf.sin(z + d / 2) * tf.sin(d / 2)


@unary("Tan")
def tangent(z: Any, d: Any) -> Any:
    """sin d / (cos z cos(z + d))."""
    return tf.sin(d) / (tf.cos(z) * tf.cos(z + d))


@unary("Sinh")
def sinh(z: Any, d: Any) -> Any:
    """2 cosh(z + d/2) sinh(d/2)."""
    if tiny(d):
        return d * tf.cosh(z)
    return 2 * tf.cosh(z + d / 2) * tf.sinh(d / 2)


@unary("Cosh")
def cosh(z: Any, d: Any) -> Any:
    """2 sinh(z + d/2) sinh(d/2)."""
    if tiny(d):
        return d * tf.sinh(z)
    return 2 * tf.sinh(z + d / 2) * tf.sinh(d / 2)


@unary("Atan")
def arctan(z: Any, d: Any) -> Any:
    """atan(d / (1 + z (z + d))) while that is positive; else the two are far apart."""
    inner = 1 + z * (z + d)
    near = tf.atan(d / tf.where(inner > 0, inner, tf.ones_like(inner)))
    return near if below(d, 0.5) else tf.where(inner > 0, near, tf.atan(z + d) - tf.atan(z))


@unary("Asin")
def arcsin(z: Any, d: Any) -> Any:
    """asin((z + d) c - z c'), with the cosines c, c' of the two, over the sum form that does not cancel."""
    # 1 - z - d, not 1 - (z + d): at z = 1 all of d counts.
    c, moved = tf.sqrt((1 - z) * (1 + z)), tf.sqrt((1 - z - d) * (1 + z + d))
    # (z + d) c - z c' = d c + z (c - c'), c - c' = d (2z + d) / (c + c')
    inner = d * c + z * tf.math.divide_no_nan(square(z, d), c + moved)
    near = tf.asin(tf.clip_by_value(inner, -1.0, 1.0))
    return tf.where(tf.abs(inner) >= 0.7, tf.asin(z + d) - tf.asin(z), near)  # which is NaN where z + d is outside


@unary("Acos")
def arccos(z: Any, d: Any) -> Any:
    """acos z = pi/2 - asin z."""
    return -arcsin(z, d)


@unary("Asinh")
def arsinh(z: Any, d: Any) -> Any:
    """asinh((z + d) c - z c'), with c = sqrt(1 + z^2)."""
    c, moved = tf.sqrt(1 + z * z), tf.sqrt(1 + (z + d) * (z + d))
    return tf.asinh(d * c - z * square(z, d) / (c + moved))


@unary("Acosh")
def arcosh(z: Any, d: Any) -> Any:
    """The logarithm of (z + d + c') / (z + c), with c = sqrt(z^2 - 1)."""
    c, moved = tf.sqrt((z - 1) * (z + 1)), tf.sqrt((z - 1 + d) * (z + 1 + d))
    return tf.math.log1p((d + tf.math.divide_no_nan(square(z, d), c + moved)) / (z + c))


@unary("Atanh")
def artanh(z: Any, d: Any) -> Any:
    """Half the logarithm of (1 + z + d)(1 - z) / ((1 - z - d)(1 + z))."""
    return tf.math.log1p(2 * d / ((1 - z - d) * (1 + z))) / 2


@difference_rule("Pow")
def power(c: Call) -> Any:
    """p (e^(b log1p(da / a) + db log(a + da)) - 1) while da is small beside a; else nothing cancels."""
    a, b, da, db, p = c.z[0], c.z[1], c.aligned(0), c.aligned(1), c.out[0]
    if da is None:
        inner = db * tf.math.log(a)
        # 0^b is 0 for b > 0 on either side.
        return c.broad(tf.where(a == 0, tf.pow(a, b + db) - p, p * tf.math.expm1(inner)))
    constant = db is None and has_value(b) and b.shape.num_elements() == 1
    whole = float(b.numpy().reshape(-1)[0]) if constant else 0.0
    if whole == 2:
        return c.broad(square(a, da))
    if whole == 3:
        return c.broad(da * (3 * a * (a + da) + da * da))
    near = tf.abs(da) < tf.abs(a) / 2
    ratio = tf.where(near, da / tf.where(a == 0, tf.ones_like(a), a), tf.zeros_like(da))
    inner = b * tf.math.log1p(ratio)
    if db is not None:
        inner += db * (tf.math.log(a) + tf.math.log1p(ratio))
    far = tf.pow(a + da, b if db is None else b + db) - p
    return c.broad(tf.where(near, p * tf.math.expm1(inner), far))


@difference_rule("Atan2")
def arctan2(c: Call) -> Any:
    """The angle between (x, y) and where it moves: atan2 of their cross and dot products; at (0, 0) the new one."""
    y, x = c.z
    dy, dx = (0.0 if c.d[i] is None else c.aligned(i) for i in (0, 1))
    turn = tf.atan2(x * dy - y * dx, x * (x + dx) + y * (y + dy))
    turn = tf.where((x == 0) & (y == 0), tf.atan2(y + dy, x + dx) - c.out[0], turn)
    # Across the cut, behind x < 0, the angle itself jumps by a whole turn.
    jump = c.out[0] + turn
    return c.broad(turn + 2 * math.pi * (tf.cast(jump <= -math.pi, turn.dtype) - tf.cast(jump > math.pi, turn.dtype)))


@difference_rule("Xlogy", "Xlog1py")
def x_log_y(c: Call) -> Any:
    """a log b: a (log b' - log b) + da log b', zero where a is and stays zero."""
    a, b, da, db = c.z[0], c.z[1], c.aligned(0), c.aligned(1)
    step, of = (log, tf.math.xlogy) if c.kernel.kind == "Xlogy" else (log1p, tf.math.xlog1py)
    held = tf.ones_like(a) if db is None else a
    grown = 0.0 if db is None else tf.where(a == 0, tf.zeros_like(db), held * step(b, db))
    return c.broad(grown if da is None else grown + of(da, b if db is None else b + db))


@unary("ComplexAbs")
def modulus(c: Call, z: Any, d: Any) -> Any:
    """(2 Re(conj(z) d) + |d|^2) / (|z + d| + |z|)."""
    grown = tf.math.real(tf.math.conj(2 * z + d) * d)
    c.ties((tf.abs(z) == 0) & (tf.abs(d) != 0), tf.zeros(d.shape, tf.bool))
    return tf.math.divide_no_nan(grown, tf.abs(z) + tf.abs(z + d))


@unary("Angle")
def angle(z: Any, d: Any) -> Any:
    """The angle of 1 + d / z."""
    turn = d * tf.math.conj(z)
    return tf.atan2(tf.math.imag(turn), tf.square(tf.abs(z)) + tf.math.real(turn))
