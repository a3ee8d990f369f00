"""Operations of backward graphs: what TensorFlow's own gradients are made of, for functions that hold a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fdfast.operations.branches import exceeds
from fdfast.operations.call import Call
from fdfast.operations.elementwise import sigmoid
from fdfast.operations.products import product, square
from fdfast.operations.table import difference_rule, smooth_rule

Factor = Callable[..., tuple[Any, Any]]


def _scaled(*kinds: str, incoming: int) -> Callable[[Factor], Factor]:
    """Register the rule of incoming gradient times a factor of the other input.

    ``factor(call, value, difference or None)`` returns the factor and its difference.
    """

    def enter(factor: Factor) -> Factor:
        other = 1 - incoming

        def rule(c: Call) -> Any:
            value, moved = factor(c, c.z[other], c.aligned(other))
            return c.broad(product(c.z[incoming], c.aligned(incoming), value, moved))

        rule.__wrapped__ = factor  # type: ignore[attr-defined]
        difference_rule(*kinds)(rule)
        return factor

    return enter


@_scaled("TanhGrad", incoming=1)
def of_tanh(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """1 - y^2."""
    return 1 - y * y, None if d is None else -square(y, d)


@_scaled("SigmoidGrad", incoming=1)
def of_sigmoid(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """y (1 - y)."""
    return y * (1 - y), None if d is None else d * (1 - 2 * y - d)


@_scaled("SqrtGrad", incoming=1)
def of_sqrt(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """1 / 2y."""
    return 0.5 / y, None if d is None else -0.5 * d / (y * (y + d))


@_scaled("RsqrtGrad", incoming=1)
def of_rsqrt(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """-y^3 / 2."""
    return -0.5 * y * y * y, None if d is None else -0.5 * d * (3 * y * (y + d) + d * d)


@_scaled("ReciprocalGrad", "InvGrad", incoming=1)
def of_reciprocal(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """-y^2."""
    return -y * y, None if d is None else -square(y, d)


@_scaled("SoftplusGrad", incoming=0)
def of_softplus(c: Call, x: Any, d: Any) -> tuple[Any, Any]:
    """The sigmoid of x."""
    return tf.sigmoid(x), None if d is None else sigmoid(x, d)


@_scaled("SoftsignGrad", incoming=0)
def of_softsign(c: Call, x: Any, d: Any) -> tuple[Any, Any]:
    """1 / (1 + |x|)^2."""
    a = 1 + tf.abs(x)
    if d is None:
        return 1 / (a * a), None
    grown = tf.where(x * (x + d) >= 0, d * tf.sign(x + d), tf.abs(x + d) - tf.abs(x))
    _crossed(c, x, d)
    return 1 / (a * a), -square(a, grown) / (a * a * (a + grown) * (a + grown))


def _crossed(c: Call, x: Any, d: Any) -> None:
    """Note what ties and what crosses a kink at zero."""
    moved = x + d
    c.ties((x == 0) & (d != 0), ((x > 0) & (moved <= 0)) | ((x < 0) & (moved > 0)))


def _switched(x: Any, d: Any, above: Any, below: Any) -> tuple[Any, Any]:
    """One constant above zero, another below, and what moving across adds."""
    value = tf.where(x > 0, above * tf.ones_like(x), below * tf.ones_like(x))
    if d is None:
        return value, None
    return value, tf.where(x + d > 0, above * tf.ones_like(d), below * tf.ones_like(d)) - value


@_scaled("ReluGrad", incoming=0)
def of_relu(c: Call, x: Any, d: Any) -> tuple[Any, Any]:
    """1 above, 0 below."""
    if d is not None:
        _crossed(c, x, d)
    return _switched(x, d, 1.0, 0.0)


@_scaled("LeakyReluGrad", incoming=0)
def of_leaky_relu(c: Call, x: Any, d: Any) -> tuple[Any, Any]:
    """1 above, alpha below."""
    if d is not None:
        _crossed(c, x, d)
    return _switched(x, d, 1.0, float(c.kernel.attributes["alpha"]))


@smooth_rule("ReluGrad", "LeakyReluGrad")
def ramp_grad_smooth(c: Call) -> Any:
    """Linear in the gradient that comes in, while no unit comes to its kink."""
    x, slope = c.z[1], float(c.kernel.attributes.get("alpha", 0.0))
    special = tf.constant(False) if c.d[1] is None else exceeds(c.d[1], tf.abs(x))
    return None if c.d[0] is None else c.d[0] * tf.where(x > 0, tf.ones_like(x), slope * tf.ones_like(x)), special


@_scaled("Relu6Grad", incoming=0)
def of_relu6(c: Call, x: Any, d: Any) -> tuple[Any, Any]:
    """1 between 0 and 6, and at neither: TensorFlow passes what came out of the ramp, which is 6 all above."""
    if d is not None:
        _crossed(c, x, d)
        _crossed(c, 6 - x, -d)
    over, moved = _switched(x, d, 1.0, 0.0)
    under, other = _switched(6 - x, None if d is None else -d, 1.0, 0.0)
    return over + under - 1, None if d is None else moved + other


@_scaled("EluGrad", incoming=0)
def of_elu(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """1 above, y + 1 below, in terms of the output y."""
    if d is None:
        return tf.minimum(y, 0) + 1, None
    _crossed(c, y, d)
    return tf.minimum(y, 0) + 1, tf.where(y < 0, tf.minimum(d, -y), tf.minimum(y + d, 0))


@_scaled("SeluGrad", incoming=0)
def of_selu(c: Call, y: Any, d: Any) -> tuple[Any, Any]:
    """A constant above, y plus another below, in terms of the output y."""
    scale, alpha = 1.0507009873554804934193349852946, 1.7580993408473768599402175208123
    value = tf.where(y < 0, y + alpha, scale * tf.ones_like(y))
    if d is None:
        return value, None
    _crossed(c, y, d)
    moved = tf.where(y + d < 0, y + d + alpha, scale * tf.ones_like(d))
    return value, tf.where((y < 0) == (y + d < 0), tf.where(y < 0, d, tf.zeros_like(d)), moved - value)
