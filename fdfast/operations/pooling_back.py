"""Gradients of maxima over windows, and gradients of these: which place is the largest may change as x moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.call import Call, at_rows
from fdfast.operations.pooling import Windows, channels_last, picked, spread
from fdfast.operations.table import difference_rule, smooth_rule

_BACK, _TWICE = ("MaxPoolGrad", "MaxPool3DGrad"), ("MaxPoolGradGrad", "MaxPool3DGradGrad")


def _places(c: Call, windows: Windows) -> Iterator[tuple[Any, Any]]:
    """For each place of a window whether it held the maximum, and whether it does after the move: the first that does.

    A place comes to z_i + d_i, compared with the others by d_i - gap_i, gap_i = max z - z_i >= 0.
    """
    x, out, d = c.z[0], c.z[1], c.d[0]
    gaps = [out - z for z in windows.seen(x, -np.inf, 1)]
    scores: list[Any] = []
    best: Any = None
    top: Any = None
    low: Any = None
    for gap, one in zip(gaps, windows.seen(d, 0.0, 2), strict=True):
        score = one - gap
        up = tf.where(gap == 0, one, -np.inf * tf.ones_like(one))
        down = tf.where(gap == 0, one, np.inf * tf.ones_like(one))
        scores.append(score)
        best, top, low = (
            (score, up, down) if best is None else (tf.maximum(best, score), tf.maximum(top, up), tf.minimum(low, down))
        )
    c.ties(top != low, best > top)
    taken: Any = None
    for was, score in zip(picked(windows, x, out), scores, strict=True):
        now = score == best
        if taken is not None:
            now &= ~taken
        taken = now if taken is None else taken | now
        yield was, now


def _switched(was: Any, now: Any, z: Any, d: Any) -> Any:
    """What passes before and after: z + d through `now`, less z through `was`."""
    zero = tf.zeros_like(z)
    d = tf.zeros_like(now, z.dtype) if d is None else d
    return tf.where(now, tf.where(was, d, z + d), tf.where(was, -z, zero))


@difference_rule(*_BACK)
def max_pool_grad(c: Call) -> Any:
    """Linear in the gradient that comes in, sent to where the maximum has moved."""
    if not channels_last(c.kernel):
        return NotImplemented
    windows = Windows(c.kernel, c.z[0], c.z[2])
    if c.d[0] is None:
        parts = (tf.where(was, c.d[2], tf.zeros_like(c.d[2])) for was in picked(windows, c.z[0], c.z[1]))
        return None if c.d[2] is None else spread(windows, parts, c.z[0], 2)
    moved = (_switched(was, now, c.z[2], c.d[2]) for was, now in _places(c, windows))
    return spread(windows, moved, c.z[0], 2)


@difference_rule(*_TWICE)
def max_pool_grad_grad(c: Call) -> Any:
    """What is seen of the third input where the maximum is."""
    if not channels_last(c.kernel):
        return NotImplemented
    windows = Windows(c.kernel, c.z[0], c.z[1])
    ds: Iterator[Any] = iter([None] * len(windows.taps)) if c.d[2] is None else windows.seen(c.d[2], 0.0, 2)
    if c.d[0] is None:
        masks = picked(windows, c.z[0], c.z[1])
        return sum(tf.where(was, d, tf.zeros_like(d)) for was, d in zip(masks, ds, strict=True))
    seen = zip(_places(c, windows), windows.seen(c.z[2], 0.0, 1), ds, strict=True)
    return sum(_switched(was, now, z, d) for (was, now), z, d in seen)


@smooth_rule(*_BACK, *_TWICE)
def linear_in_the_last(c: Call) -> Any:
    """The kernel on the difference of what comes in; holds while no place comes near the largest of its window."""
    if not channels_last(c.kernel):
        return NotImplemented, tf.constant(True)
    found = None if c.d[2] is None else at_rows(c, [None, None, c.d[2]])[0]
    if c.d[0] is None:
        return found, tf.constant(False)
    windows, d = Windows(c.kernel, c.z[0], c.z[1]), c.d[0]
    reach = 2 * tf.reduce_max(tf.abs(d))
    near: Any = None
    stir: Any = None
    for z, one in zip(windows.seen(c.z[0], -np.inf, 1), windows.seen(d, 0.0, 2), strict=True):
        mask = tf.cast(c.z[1] - z <= reach, d.dtype)
        part = tf.abs(one) * mask
        near, stir = (mask, part) if near is None else (near + mask, stir + part)
    return found, tf.reduce_any((near > 1) & (stir > 0))
