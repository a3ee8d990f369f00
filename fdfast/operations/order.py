"""Operations that choose by order or by segment: sorting, the largest k, extremes of segments."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call, has_value
from fdfast.operations.table import difference_rule


def _crowded(c: Call, sorted_z: Any, d: Any) -> Any:
    """Whether two neighbours in order lie no further apart than the moves reach."""
    gap = tf.abs(sorted_z[..., 1:] - sorted_z[..., :-1])
    return tf.reduce_any(gap <= 2 * tf.reduce_max(tf.abs(d)))


@difference_rule("TopKV2", "TopK")
def top_k(c: Call) -> Any:
    """What the chosen ones move by, as long as the order stays; else the order is made anew."""
    if len(c.d) > 1 and c.d[1] is not None:
        return NotImplemented
    z, d, places = c.z[0], c.d[0], c.out[1]
    whole = tf.sort(z, direction="DESCENDING")
    crowded = _crowded(c, whole, d)
    if not has_value(crowded):
        c.notes.special.append((c.number, crowded))
    elif bool(crowded):
        return _by_moves(c) if _only_ties(z, d) else _anew(c)
    rows = tf.broadcast_to(places, [c.count, *places.shape])
    return [tf.gather(d, rows, batch_dims=d.shape.rank - 1), None]


def _only_ties(z: Any, d: Any) -> bool:
    """Whether those that are near each other are equal, so that the moves alone decide."""
    whole = tf.sort(z)
    gap = whole[..., 1:] - whole[..., :-1]
    return not bool(tf.reduce_any((gap > 0) & (gap <= 2 * tf.reduce_max(tf.abs(d)))))


def _anew(c: Call) -> Any:
    """Order by the sums; what comes to a place differs from what was there by its value and its move."""
    z, d, (values, places) = c.z[0], c.d[0], c.out
    order = tf.argsort(z + d, direction="DESCENDING", stable=True)[..., : values.shape[-1]]
    c.ties(tf.zeros([c.count, 1], tf.bool), order != tf.cast(places, order.dtype))
    spread = tf.gather(tf.broadcast_to(z, d.shape), order, batch_dims=d.shape.rank - 1)
    return [spread - values + tf.gather(d, order, batch_dims=d.shape.rank - 1), tf.cast(order, places.dtype)]


def _by_moves(c: Call) -> Any:
    """Order by value, then by move."""
    z, d, (values, _) = c.z[0], c.d[0], c.out
    k = values.shape[-1]
    spread = tf.broadcast_to(z, d.shape)
    second = tf.argsort(d, direction="DESCENDING", stable=True)
    first = tf.argsort(tf.gather(spread, second, batch_dims=d.shape.rank - 1), direction="DESCENDING", stable=True)
    order = tf.gather(second, first, batch_dims=d.shape.rank - 1)[..., :k]
    at_point = tf.broadcast_to(tf.argsort(z, direction="DESCENDING", stable=True), d.shape)
    whole, moves = tf.sort(z, direction="DESCENDING"), tf.gather(d, at_point, batch_dims=d.shape.rank - 1)
    tied = (whole[..., 1:] == whole[..., :-1]) & (whole[..., 1:] >= values[..., -1:])
    c.ties(tf.reshape(tied & (moves[..., 1:] != moves[..., :-1]), [c.count, -1]), tf.zeros([c.count, 1], tf.bool))
    return [tf.gather(d, order, batch_dims=d.shape.rank - 1), tf.cast(order, c.out[1].dtype)]


@difference_rule("SegmentMax", "SegmentMin", "UnsortedSegmentMax", "UnsortedSegmentMin")
def segment_extreme(c: Call) -> Any:
    """The move of the extreme of each segment; among equal ones that of the furthest."""
    if any(d is not None for d in c.d[1:]):
        return NotImplemented
    way = -1 if c.kernel.kind.endswith("Min") else 1
    z, d, ids = c.z[0], way * c.d[0], c.z[1]
    flat = d.shape.rank - 1 - z.shape.rank + ids.shape.rank
    count = int(c.out[0].shape[0])
    gap = way * (tf.gather(c.out[0], tf.maximum(ids, 0)) - z)
    moved = d - gap
    data = tf.reshape(moved, [c.count, -1, *z.shape[flat:]])
    best = tf.stack([tf.math.unsorted_segment_max(row, tf.reshape(ids, [-1]), count) for row in tf.unstack(data)])
    tied = tf.where(gap == 0, d, tf.constant(float("-inf"), d.dtype))
    top, low = (
        tf.stack(
            [
                way_ * tf.math.unsorted_segment_max(way_ * row, tf.reshape(ids, [-1]), count)
                for row in tf.unstack(tf.reshape(part, [c.count, -1, *z.shape[flat:]]))
            ]
        )
        for way_, part in ((1, tied), (-1, tf.where(gap == 0, d, tf.constant(float("inf"), d.dtype))))
    )
    filled = (
        tf.math.unsorted_segment_sum(tf.ones_like(tf.reshape(ids, [-1]), tf.int32), tf.reshape(ids, [-1]), count) > 0
    )
    here = tf.reshape(filled, [count, *[1] * (best.shape.rank - 2)])
    c.ties(here & (top != low), here & (best > top))
    return way * tf.where(here, best, tf.zeros_like(best))


@difference_rule("SegmentProd", "UnsortedSegmentProd")
def segment_product(c: Call) -> Any:
    """Factor by factor: P' - P = (P' - P)(z + d) + P d."""
    if any(d is not None for d in c.d[1:]):
        return NotImplemented
    z, d, ids = c.z[0], c.d[0], c.z[1]
    if ids.shape.rank != 1:
        return NotImplemented
    count = int(c.out[0].shape[0])
    whole = [tf.ones(z.shape[1:], z.dtype)] * count
    grown = [tf.zeros([c.count, *z.shape[1:]], z.dtype)] * count
    for i, segment in enumerate(ids.numpy().tolist()):
        if segment >= 0:
            grown[segment] = grown[segment] * (z[i] + d[:, i]) + whole[segment] * d[:, i]
            whole[segment] = whole[segment] * z[i]
    return tf.stack(grown, 1)
