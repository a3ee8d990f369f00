"""Products and quotients of what moves."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fdfast.operations.call import Call, at_rows
from fdfast.operations.linear import axes_of, linear
from fdfast.operations.table import Difference, difference_rule


def product(a: Any, da: Any, b: Any, db: Any) -> Any:
    """(a + da)(b + db) - ab = a db + da (b + db)."""
    if da is None:
        return a * db
    return da * b if db is None else a * db + da * (b + db)


@difference_rule("Mul", "MulNoNan")
def multiply(c: Call) -> Any:
    """See `product`."""
    return c.broad(product(c.z[0], c.aligned(0), c.z[1], c.aligned(1)))


@difference_rule("RealDiv", "Div", "DivNoNan", "Xdivy")
def divide(c: Call) -> Any:
    """(a + da) / (b + db) - q = (da - q db) / (b + db), q = a / b."""
    da, db = c.aligned(0), c.aligned(1)
    over = tf.math.divide_no_nan if c.kernel.kind == "DivNoNan" else tf.divide
    if db is None:
        return c.broad(over(da, c.z[1]))
    top = -c.out[0] * db if da is None else da - c.out[0] * db
    return c.broad(over(top, c.z[1] + db))


def bilinear(i: int, j: int, *, alone: bool = False) -> Difference:
    """The rule of an operation that is linear in input i and in input j: op(a, db) + op(da, b + db).

    With `alone`, rows go one after the other where input j moves: copies of a large filter side by side cost more.
    """

    def rule(c: Call) -> Any:
        def given(x: Any, y: Any) -> list[Any]:
            return [x if k == i else y if k == j else None for k in range(len(c.z))]

        if any(d is not None for k, d in enumerate(c.d) if k not in (i, j)):
            return NotImplemented
        parts = []
        if c.d[j] is not None:
            parts.append(at_rows(c, given(None, c.d[j]), alone=alone)[0])
        if c.d[i] is not None:
            b = None if c.d[j] is None else c.z[j] + c.d[j]
            parts.append(at_rows(c, given(c.d[i], b), alone=alone and b is not None)[0])
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    return rule


difference_rule("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")(bilinear(0, 1))
difference_rule("SparseTensorDenseMatMul")(bilinear(1, 3))
difference_rule("Cross")(bilinear(0, 1))
difference_rule("Conv2D", "Conv3D", "Conv", "DepthwiseConv2dNative")(bilinear(0, 1, alone=True))
difference_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNativeBackpropInput")(
    bilinear(2, 1, alone=True)
)
difference_rule("Conv2DBackpropFilter", "Conv3DBackpropFilterV2", "DepthwiseConv2dNativeBackpropFilter")(
    bilinear(0, 2, alone=True)
)


@difference_rule("Einsum")
def einsum(c: Call) -> Any:
    """Linear in each of its inputs."""
    return linear(c) if len(c.z) == 1 else bilinear(0, 1)(c) if len(c.z) == 2 else NotImplemented


def square(z: Any, d: Any) -> Any:
    """(z + d)^2 - z^2 = d (2z + d)."""
    return d * (2 * z + d)


@difference_rule("Square")
def squared(c: Call) -> Any:
    """See `square`."""
    return square(c.z[0], c.d[0])


@difference_rule("SquaredDifference")
def squared_difference(c: Call) -> Any:
    """The square of what the difference moves by."""
    a, b = c.aligned(0), c.aligned(1)
    e = a if b is None else -b if a is None else a - b
    return c.broad(square(c.z[0] - c.z[1], e))


@difference_rule("L2Loss")
def l2_loss(c: Call) -> Any:
    """Half the sum of squares."""
    return tf.reduce_sum(square(c.z[0], c.d[0]), list(range(1, c.d[0].shape.rank))) / 2


@difference_rule("EuclideanNorm")
def norm(c: Call) -> Any:
    """The root of the sum of squares; at zero the norm of the difference."""
    axes = [axis + 1 for axis in axes_of(c.z[1], c.z[0].shape.rank)]
    grown = tf.reduce_sum(square(c.z[0], c.d[0]), axes, keepdims=c.kernel.attributes["keep_dims"])
    z = tf.square(c.out[0])
    c.ties((z == 0) & (grown != 0), tf.zeros_like(grown, tf.bool))
    return tf.math.divide_no_nan(grown, c.out[0] + tf.sqrt(z + grown))


@difference_rule("Prod")
def prod(c: Call) -> Any:
    """The sum over i of (factors before i, moved) d_i (factors behind i, as they were)."""
    z, d, rank = c.z[0], c.d[0], c.z[0].shape.rank
    axes = axes_of(c.z[1], rank)
    if not axes:
        return tf.reshape(d, [c.count, *c.out[0].shape])
    order = [a for a in range(rank) if a not in axes] + axes
    flat = tf.reshape(tf.transpose(z, order), [*[z.shape[a] for a in range(rank) if a not in axes], -1])
    moved = tf.reshape(tf.transpose(d, [0, *[a + 1 for a in order]]), [c.count, *flat.shape])
    before = tf.math.cumprod(flat + moved, -1, exclusive=True)
    behind = tf.math.cumprod(flat, -1, exclusive=True, reverse=True)
    return tf.reshape(tf.reduce_sum(before * moved * behind, -1), [c.count, *c.out[0].shape])


@difference_rule("Cumprod")
def cumprod(c: Call) -> Any:
    """Each partial product by the rule of `prod`, one factor after the other: P' - P = (P' - P) (z + d) + P d."""
    if c.d[1] is not None:
        return NotImplemented
    axis = int(c.z[1]) % c.z[0].shape.rank
    backwards, exclusive = c.kernel.attributes["reverse"], c.kernel.attributes["exclusive"]
    zs, ds = tf.unstack(c.z[0], axis=axis), tf.unstack(c.d[0], axis=axis + 1)
    pairs = list(zip(zs, ds, strict=True))
    grown, whole = tf.zeros_like(ds[0]), tf.ones_like(zs[0])
    found = []
    for z, d in reversed(pairs) if backwards else pairs:
        before = grown
        grown, whole = grown * (z + d) + whole * d, whole * z
        found.append(before if exclusive else grown)
    return tf.stack(found[::-1] if backwards else found, axis + 1)
