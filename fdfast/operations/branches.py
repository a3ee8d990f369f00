"""Operations with kinks and jumps: ramps, extremes, comparisons. Each has two rules.

The exact one is right for moves of any size, and notes per row which units tie and which cross. The smooth one is a
product with a mask; it holds as long as every move is smaller than the distance to the kink, and says if one is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.call import Call, has_value, is_real
from fdfast.operations.elementwise import exponential, unary
from fdfast.operations.linear import axes_of
from fdfast.operations.table import difference_rule, smooth_rule

#: Relatively: what lies as close to the largest is as large but for rounding.
_TIE = 2.0**-46


def snapped(gap: Any, top: Any) -> Any:
    """Distances to the largest, or least, 0 where they are rounding of it."""
    return tf.where(tf.abs(gap) < _TIE * tf.abs(top), tf.zeros_like(gap), gap)


def exceeds(d: Any, gap: Any) -> Any:
    """Whether any move is longer than the way to the kink; one that is zero crosses nothing."""
    return tf.reduce_any(tf.abs(d) > gap)


def ramp(c: Call, z: Any, d: Any) -> Any:
    """max(z + d, 0) - max(z, 0): max(d, -z) above the kink, max(z + d, 0) below."""
    moved = z + d
    c.ties((z == 0) & (d != 0), ((z > 0) & (moved <= 0)) | ((z < 0) & (moved > 0)))
    return tf.where(z > 0, tf.maximum(d, -z), tf.maximum(moved, 0))


def under(c: Call, z: Any, d: Any) -> Any:
    """min(z + d, 0) - min(z, 0)."""
    return -ramp(c, -z, -d)


unary("Relu")(ramp)


@unary("Relu6")
def relu6(c: Call, z: Any, d: Any) -> Any:
    """Two ramps."""
    return ramp(c, z, d) - ramp(c, z - 6, d)


@unary("LeakyRelu")
def leaky(c: Call, z: Any, d: Any) -> Any:
    """Both sides of the ramp, each with its slope."""
    return ramp(c, z, d) + float(c.kernel.attributes["alpha"]) * under(c, z, d)


@unary("Elu")
def elu(c: Call, z: Any, d: Any) -> Any:
    """A ramp, and e^z - 1 of what lies under it."""
    return ramp(c, z, d) + exponential(tf.minimum(z, 0), under(c, z, d))


_SELU = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)


@unary("Selu")
def selu(c: Call, z: Any, d: Any) -> Any:
    """As `elu`, with two factors."""
    return _SELU[0] * (ramp(c, z, d) + _SELU[1] * exponential(tf.minimum(z, 0), under(c, z, d)))


@unary("Abs")
def absolute(c: Call, z: Any, d: Any) -> Any:
    """Ramps to both sides."""
    return ramp(c, z, d) + ramp(c, -z, -d)


def _masked(*kinds: str) -> Callable[[Any], Any]:
    """Register the slope left and right of a kink at zero as the smooth rule."""

    def enter(slope: Any) -> Any:
        def rule(c: Call) -> Any:
            z, d = c.z[0], c.d[0]
            return d * slope(c, z), exceeds(d, tf.abs(z))

        rule.__wrapped__ = slope  # type: ignore[attr-defined]
        smooth_rule(*kinds)(rule)
        return slope

    return enter


@_masked("Relu")
def relu_mask(c: Call, z: Any) -> Any:
    """1 above the kink, 0 below."""
    return tf.cast(z > 0, z.dtype)


@_masked("LeakyRelu")
def leaky_mask(c: Call, z: Any) -> Any:
    """1 above the kink, alpha below."""
    return tf.where(z > 0, tf.ones_like(z), float(c.kernel.attributes["alpha"]) * tf.ones_like(z))


@_masked("Abs")
def sign(c: Call, z: Any) -> Any:
    """1 above, -1 below."""
    return tf.sign(z)


@smooth_rule("Relu6")
def relu6_smooth(c: Call) -> Any:
    """1 between the kinks, 0 beyond."""
    z, d = c.z[0], c.d[0]
    return d * tf.cast((z > 0) & (z < 6), z.dtype), exceeds(d, tf.minimum(tf.abs(z), tf.abs(z - 6)))


@smooth_rule("Elu", "Selu")
def elu_smooth(c: Call) -> Any:
    """d above the kink, e^z (e^d - 1) below."""
    z, d = c.z[0], c.d[0]
    upper, lower = (1.0, 1.0) if c.kernel.kind == "Elu" else (_SELU[0], _SELU[0] * _SELU[1])
    above = tf.cast(z > 0, z.dtype)
    low = (1 - above) * tf.exp(tf.minimum(z, 0)) * lower
    return d * (above * upper) + tf.math.expm1(d * (1 - above)) * low, exceeds(d, tf.abs(z))


def largest(c: Call, gaps: list[Any], ds: list[Any]) -> Any:
    """max_i (d_i - gap_i) over a list, gap_i = max z - z_i >= 0: exact however much the others move."""
    best: Any = None
    top: Any = None
    low: Any = None
    for gap, d in zip(gaps, ds, strict=True):
        moved = tf.zeros_like(gap)[None] if d is None else d
        one = moved - gap
        best = one if best is None else tf.maximum(best, one)
        # The largest and the least move among those that tie at the point.
        up = tf.where(gap == 0, moved, -np.inf * tf.ones_like(one))
        down = tf.where(gap == 0, moved, np.inf * tf.ones_like(one))
        top, low = (up, down) if top is None else (tf.maximum(top, up), tf.minimum(low, down))
    c.ties(top != low, best > top)
    return best


@difference_rule("Maximum", "Minimum")
def extreme(c: Call) -> Any:
    """See `largest`; a minimum is the maximum of the negatives."""
    way = 1 if c.kernel.kind == "Maximum" else -1
    gaps = [snapped(way * (c.out[0] - z), c.out[0]) for z in c.z]
    return c.broad(way * largest(c, gaps, [None if d is None else way * d for d in (c.aligned(0), c.aligned(1))]))


@smooth_rule("Maximum", "Minimum")
def extreme_smooth(c: Call) -> Any:
    """The move of the larger one."""
    way = 1 if c.kernel.kind == "Maximum" else -1
    gap = snapped(way * (c.z[0] - c.z[1]), c.out[0])
    a, b = c.aligned(0), c.aligned(1)
    first = tf.cast(gap > 0, c.out[0].dtype)
    apart = a if b is None else -b if a is None else a - b
    found = apart * first if b is None else b * (1 - first) if a is None else b + apart * first
    return c.broad(found), exceeds(apart, tf.abs(gap))


@difference_rule("ClipByValue")
def clip(c: Call) -> Any:
    """Two ramps, where the limits stay."""
    if c.d[1] is not None or c.d[2] is not None:
        return NotImplemented
    z, d = c.z[0], c.aligned(0)
    return c.broad(ramp(c, z - c.z[1], d) - ramp(c, z - c.z[2], d))


@difference_rule("Max", "Min")
def extremum(c: Call) -> Any:
    """See `largest`, over the axes that are reduced."""
    way = 1 if c.kernel.kind == "Max" else -1
    axes = axes_of(c.z[1], c.z[0].shape.rank)
    z, d, over = way * c.z[0], way * c.d[0], [a + 1 for a in axes]
    top = tf.reduce_max(z, axes, keepdims=True)
    gap = snapped(top - z, top)
    best = tf.reduce_max(d - gap, over)
    up = tf.reduce_max(tf.where(gap == 0, d, tf.constant(-np.inf, d.dtype)), over)
    low = tf.reduce_min(tf.where(gap == 0, d, tf.constant(np.inf, d.dtype)), over)
    c.ties(tf.reshape(up != low, [c.count, -1]), tf.reshape(best > up, [c.count, -1]))
    return tf.reshape(way * best, [c.count, *c.out[0].shape])


@smooth_rule("Max", "Min")
def extremum_smooth(c: Call) -> Any:
    """The move of the largest one; of several that tie, if it is the same."""
    way = 1 if c.kernel.kind == "Max" else -1
    axes = axes_of(c.z[1], c.z[0].shape.rank)
    z, d = way * c.z[0], way * c.d[0]
    top = tf.reduce_max(z, axes, keepdims=True)
    gap = snapped(top - z, top)
    near, over = gap <= 2 * tf.reduce_max(tf.abs(d)), [a + 1 for a in axes]
    best = tf.reduce_max(tf.where(near, d, tf.constant(-np.inf, d.dtype)), over)
    least = tf.reduce_min(tf.where(near, d, tf.constant(np.inf, d.dtype)), over)
    return tf.reshape(way * best, [c.count, *c.out[0].shape]), tf.reduce_any(best != least)


@difference_rule("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual")
def compare(c: Call) -> Any:
    """Of a - b + (da - db) with 0, which is right however small the differences are."""
    if not is_real(c.z[0]) or c.z[0].dtype.is_complex:
        return NotImplemented
    gap, d = c.z[0] - c.z[1], _apart(c)
    moved = c.broad(getattr(tf.raw_ops, c.kernel.kind)(x=gap + d, y=tf.zeros([], d.dtype)))
    # gap + d is gap where d is much smaller, but then the sign of d does not matter either, unless gap is 0.
    changed = moved != c.out[0]
    c.ties(c.broad((gap == 0) & (d != 0)), changed & (gap != 0))
    return None if has_value(changed) and not bool(tf.reduce_any(changed)) else moved


@smooth_rule("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual")
def compare_smooth(c: Call) -> Any:
    """Nothing changes."""
    return None, exceeds(_apart(c), tf.abs(c.z[0] - c.z[1]))


def _apart(c: Call) -> Any:
    a, b = c.aligned(0), c.aligned(1)
    return a if b is None else -b if a is None else a - b


@difference_rule("Sign", "Floor", "Ceil", "Rint", "Round")
def staircase(c: Call) -> Any:
    """Constant but for jumps: from a unit that sits on one, the side it moves to decides."""
    z, d = c.z[0], c.d[0]
    tie = _to_jump(c.kernel.kind, z) == 0
    moved = _after_jump(c.kernel.kind, z, d)
    c.ties(tie & (d != 0), (moved != c.out[0]) & ~tie)
    return moved - c.out[0]


@smooth_rule("Sign", "Floor", "Ceil", "Rint", "Round")
def staircase_smooth(c: Call) -> Any:
    """Nothing changes."""
    return None, exceeds(c.d[0], _to_jump(c.kernel.kind, c.z[0]))


def _to_jump(kind: str, z: Any) -> Any:
    """Distance to the nearest jump."""
    if kind == "Sign":
        return tf.abs(z)
    shifted = z if kind in ("Floor", "Ceil") else z - 0.5
    return tf.abs(shifted - tf.round(shifted))


def _after_jump(kind: str, z: Any, d: Any) -> Any:
    """The step that z + d is on, also where d is too small to be seen in the sum."""
    moved = z + d
    kernel = {"Sign": tf.sign, "Floor": tf.floor, "Ceil": tf.math.ceil}.get(kind, tf.round)
    lost = (moved == z) & (d != 0) & (_to_jump(kind, z) == 0)
    found = kernel(moved)
    if kind == "Sign":
        return tf.where(lost, tf.sign(d), found)
    if kind in ("Floor", "Ceil"):
        beside = z - 1 if kind == "Floor" else z + 1
        away = d < 0 if kind == "Floor" else d > 0
        return tf.where(lost & away, beside, found)
    return tf.where(lost, z + 0.5 * tf.sign(d), found)


@difference_rule("FloorMod", "FloorDiv", "Mod", "TruncateMod", "TruncateDiv")
def modulo(c: Call) -> Any:
    """Between jumps x - y k with a fixed k: its difference is that of x, where y stays."""
    if c.d[1] is not None or not is_real(c.z[0]):
        return NotImplemented
    floored = c.kernel.kind in ("FloorMod", "FloorDiv")
    turns = c.z[0] / c.z[1]
    moved = turns + c.aligned(0) / c.z[1]
    step = tf.floor if floored else lambda t: tf.sign(t) * tf.floor(tf.abs(t))
    k, after = step(turns), step(moved)
    c.ties(c.broad((turns == tf.round(turns)) & (c.aligned(0) != 0)), c.broad(after != k))
    if c.kernel.kind in ("FloorDiv", "TruncateDiv"):
        return c.broad(after - k)
    return c.broad(c.aligned(0) - c.z[1] * (after - k))


@difference_rule("ArgMax", "ArgMin")
def argmax(c: Call) -> Any:
    """The place of the largest one after the move."""
    if c.d[1] is not None:
        return NotImplemented
    axis = int(c.z[1]) % c.z[0].shape.rank
    way = 1 if c.kernel.kind == "ArgMax" else -1
    gap = tf.reduce_max(way * c.z[0], axis, keepdims=True) - way * c.z[0]
    moved = tf.argmax(way * c.d[0] - gap, axis + 1, output_type=c.out[0].dtype)
    changed = moved != c.out[0]
    c.ties(changed, changed)
    return None if has_value(changed) and not bool(tf.reduce_any(changed)) else moved


@smooth_rule("ArgMax", "ArgMin")
def argmax_smooth(c: Call) -> Any:
    """Nothing changes."""
    way = 1 if c.kernel.kind == "ArgMax" else -1
    axis = int(c.z[1]) % c.z[0].shape.rank
    gap = tf.reduce_max(way * c.z[0], axis, keepdims=True) - way * c.z[0]
    near = tf.cast(gap <= 2 * tf.reduce_max(tf.abs(c.d[0])), gap.dtype)
    return None, tf.reduce_any(tf.reduce_sum(near, axis) > 1)
