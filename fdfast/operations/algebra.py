"""Batch normalisation and linear algebra."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call, below
from fdfast.operations.elementwise import rsqrt
from fdfast.operations.products import product
from fdfast.operations.table import difference_rule


@difference_rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(c: Call) -> Any:
    """y = (x - m) (s / sqrt(v + e)) + o, as a chain of products; in training m and v are those of the batch."""
    if c.kernel.attributes["data_format"] != b"NHWC":
        return NotImplemented
    (x, s, _, m, v), (dx, ds, do, dm, dv) = c.z, [c.aligned(i, 4) for i in range(5)]
    over = [1, 2, 3]
    if c.kernel.attributes["is_training"]:
        m, dm = tf.reduce_mean(x, [0, 1, 2]), None if dx is None else tf.reduce_mean(dx, over, keepdims=True)
        centred = x - m
        v = tf.reduce_mean(tf.square(centred), [0, 1, 2])
        if dx is not None:
            e = dx - dm
            dv = tf.reduce_mean(e * (2 * centred + e), over, keepdims=True)
    v = v + float(c.kernel.attributes["epsilon"])
    r, dr = tf.math.rsqrt(v), None if dv is None else rsqrt(v, dv)
    factor = s * r
    moved = None if ds is None and dr is None else product(s, ds, r, dr)
    apart = dx if dm is None else -dm if dx is None else dx - dm
    d = 0.0 if apart is None and moved is None else product(x - m, apart, factor, moved)
    whole = c.broad(d if do is None else d + do)
    if not c.kernel.attributes["is_training"]:
        return [whole]
    squeezed = [None if one is None else tf.reshape(one, [c.count, -1]) for one in (dm, dv)]
    return [whole, *squeezed, *squeezed]


def _triangle(c: Call, matrix: Any) -> Any:
    lower = c.kernel.attributes.get("lower")
    return matrix if lower is None else tf.linalg.band_part(matrix, *((-1, 0) if lower else (0, -1)))


@difference_rule("MatrixSolve", "MatrixTriangularSolve")
def solve(c: Call) -> Any:
    """A'^-1 (db - dA x), with A' = A + dA."""
    right = c.full(1)
    if c.d[0] is not None:
        x = tf.broadcast_to(c.out[0], [c.count, *c.out[0].shape])
        step = tf.linalg.matmul(_triangle(c, c.d[0]), x, adjoint_a=c.kernel.attributes["adjoint"])
        right = right - step
    return c.kernel(c.moved(0), right)[0]


@difference_rule("MatrixInverse")
def inverse(c: Call) -> Any:
    """-A'^-1 dA A^-1."""
    d = tf.linalg.adjoint(c.d[0]) if c.kernel.attributes["adjoint"] else c.d[0]
    moved = c.moved(0)
    moved = tf.linalg.adjoint(moved) if c.kernel.attributes["adjoint"] else moved
    return -tf.linalg.matmul(tf.linalg.inv(moved), d @ c.out[0])


def _determinant(m: Any) -> Any:
    """det(I + M) - 1, by elimination: sums of products of what is small, so that nothing is lost beside 1."""
    grown = tf.zeros(m.shape[:-2], m.dtype)
    for k in range(m.shape[-1]):
        pivot = m[..., k, k]
        grown = grown + pivot + grown * pivot
        row, column = m[..., k, k + 1 :], m[..., k + 1 :, k]
        rest = m[..., k + 1 :, k + 1 :] - column[..., :, None] * row[..., None, :] / (1 + pivot)[..., None, None]
        m = tf.pad(rest, [*[[0, 0]] * (m.shape.rank - 2), [k + 1, 0], [k + 1, 0]])
    return grown


@difference_rule("MatrixDeterminant")
def determinant(c: Call) -> Any:
    """det A (det(I + A^-1 dA) - 1)."""
    m = tf.linalg.solve(tf.broadcast_to(c.z[0], c.d[0].shape), c.d[0])
    return c.out[0] * _determinant(m) if below(m, 0.25) else NotImplemented


@difference_rule("LogMatrixDeterminant")
def log_determinant(c: Call) -> Any:
    """log det(I + A^-1 dA); the sign stays while that is positive."""
    m = tf.linalg.solve(tf.broadcast_to(c.z[0], c.d[0].shape), c.d[0])
    if not below(m, 0.25):
        return NotImplemented
    return [None, tf.math.log1p(_determinant(m))]


@difference_rule("Cholesky")
def cholesky(c: Call) -> Any:
    """L F, where (I + F)(I + F)^T = I + M, M = L^-1 dA L^-T; F is found by iteration, as M is small."""
    lower = tf.broadcast_to(c.out[0], [c.count, *c.out[0].shape])
    # Only the lower half of A is read.
    half = tf.linalg.band_part(c.d[0], -1, 0)
    d = half + tf.linalg.adjoint(half - tf.linalg.band_part(c.d[0], 0, 0))
    side = tf.linalg.triangular_solve(lower, d)
    m = tf.linalg.triangular_solve(lower, tf.linalg.adjoint(side))
    if not below(m, 1e-3):
        return NotImplemented
    f = tf.zeros_like(m)
    for _ in range(6):
        g = m - f @ tf.linalg.adjoint(f)
        f = tf.linalg.band_part(g, -1, 0) - tf.linalg.band_part(g, 0, 0) / 2
    return lower @ f


@difference_rule("SelfAdjointEigV2")
def eigen(c: Call) -> Any:
    """Values w and vectors V of A + dA: V^T dA V, diagonalised by steps that square the error; w must be apart.

    With E = V^T dA V, I + S carries W + E into its new eigenbasis. Each round takes S_ij = E_ij / (w_j - w_i), turns by
    the rotation that it approximates, and adds up the moves of w, which are never formed by subtraction.
    """
    w, v = c.out
    if not c.kernel.attributes["compute_v"]:
        w, v = c.kernel.raw(c.z[0], compute_v=True)
    half = tf.linalg.band_part(c.d[0], -1, 0)
    d = half + tf.linalg.adjoint(half - tf.linalg.band_part(c.d[0], 0, 0))
    basis = tf.broadcast_to(v, d.shape)
    e = tf.linalg.matmul(basis, d @ basis, adjoint_a=True)
    gaps = w[..., None, :] - w[..., :, None]
    apart = tf.where(gaps == 0, tf.ones_like(gaps), gaps)
    if not below(tf.where(gaps == 0, tf.zeros_like(e), e / apart), 1e-3):
        return NotImplemented
    n = e.shape[-1]
    off = 1 - tf.eye(n, dtype=e.dtype)
    moved, turned = tf.zeros([c.count, *w.shape], e.dtype), tf.zeros_like(e)  # of w; basis' = basis (I + turned)
    for _ in range(4):
        now = gaps + moved[..., None, :] - moved[..., :, None]
        now = tf.where(gaps == 0, tf.ones_like(now), now)
        s = off * e / now
        # A rotation close to I + s: Q = (I - s/2)^-1 (I + s/2), Q - I = (I - s/2)^-1 s.
        step = tf.linalg.solve(tf.eye(n, dtype=e.dtype) - s / 2, s)
        turned = turned + step + turned @ step
        whole = tf.linalg.diag(moved) + e
        # Q^T (W + whole) Q - W, without W itself where it does not change: W Q - Q W is -gaps times the step.
        skew = gaps * step
        grown = whole + whole @ step + tf.linalg.matmul(step, whole + whole @ step - skew, adjoint_a=True) - skew
        moved = tf.linalg.diag_part(grown)
        e = off * grown
    return [moved, basis @ turned] if c.kernel.attributes["compute_v"] else [moved, None]
