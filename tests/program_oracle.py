"""What a program of differences must give, in plain NumPy and decimal arithmetic. Imports nothing of fdfast.

`values` takes a network forward on whole maps, in the dtype of its input; a difference is f(z + d) - f(z). Where that
cancels, `exactly`, `softmax_difference` and `cross_entropy_difference` do the same with `DIGITS` digits.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]
# Of the largest term: a tail of e^-220 beside 1 still leaves more than float64 has.
DIGITS = 120


@dataclass(frozen=True)
class Node:
    op: str
    sources: tuple[int, ...]
    shape: Shape
    weights: Array | None = None
    window: tuple[int, int, int, int, int, int, int, int] = (1, 1, 1, 1, 1, 1, 0, 0)
    groups: int = 1
    whole_count: bool = False
    function: str = ""
    slope: float = 0.0
    cap: float = math.inf
    alpha: float = 1.0
    coefficients: tuple[float, ...] = ()


def cells(node: Node, z: Array, fill: float) -> tuple[Array, Array]:
    """What every window sees, (oh, ow, kh, kw, c) with `fill` outside of the map; and whether it is inside."""
    kh, kw, sh, sw, dh, dw, top, left = node.window
    oh, ow, _ = node.shape
    y = np.arange(oh)[:, None] * sh - top + np.arange(kh) * dh
    x = np.arange(ow)[:, None] * sw - left + np.arange(kw) * dw
    inside = ((y >= 0) & (y < z.shape[0]))[:, None, :, None] & ((x >= 0) & (x < z.shape[1]))[None, :, None, :]
    seen = z[np.clip(y, 0, z.shape[0] - 1)[:, None, :, None], np.clip(x, 0, z.shape[1] - 1)[None, :, None, :]]
    return np.where(inside[..., None], seen, z.dtype.type(fill)), inside


def correlate(node: Node, z: Array) -> Array:
    seen, _ = cells(node, z, 0)
    assert node.weights is not None
    weights = node.weights.astype(z.dtype)
    each_in, each_out = z.shape[2] // node.groups, node.shape[2] // node.groups
    out = []
    for g in range(node.groups):
        of_group = seen[..., g * each_in : (g + 1) * each_in].reshape(*node.shape[:2], -1)
        out.append(of_group @ weights[..., g * each_out : (g + 1) * each_out].reshape(-1, each_out))
    return np.concatenate(out, axis=-1)


def logistic(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def erfc(z: Array) -> Array:
    return np.vectorize(math.erfc, otypes=[z.dtype])(z.astype(np.float64))


ROOT = float(np.float32(math.sqrt(0.5)))  # the root of a half that TensorFlow's gelu multiplies by

#: Functions of positive numbers.
POSITIVE: dict[str, Callable[[Array, float], Array]] = {
    "root": lambda z, _: np.sqrt(z),
    "inverse_root": lambda z, _: 1 / np.sqrt(z),
    "reciprocal": lambda z, _: 1 / z,
    "logarithm": lambda z, _: np.log(z),
}
FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "sigmoid": lambda z, _: logistic(z),
    "tanh": lambda z, _: np.tanh(z),
    "softplus": lambda z, _: np.logaddexp(z, z.dtype.type(0)),
    "softsign": lambda z, _: z / (1 + np.abs(z)),
    "exponential": lambda z, _: np.exp(z),
    "elu": lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
    "silu": lambda z, _: z * logistic(z),
    "gelu": lambda z, _: z / 2 * erfc(-z * ROOT),
    "erf": lambda z, _: 1 - erfc(z),
    **POSITIVE,
}


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    return e / e.sum()


def shifted(node: Node, z: Array) -> Array:
    top, left = node.window[6:]
    out = np.zeros(node.shape, z.dtype)
    for y in range(node.shape[0]):
        for x in range(node.shape[1]):
            if 0 <= y - top < z.shape[0] and 0 <= x - left < z.shape[1]:
                out[y, x] = z[y - top, x - left]
    return out


def value(node: Node, given: Sequence[Array], targets: Array | None = None) -> Array:
    """The node's value from those of its sources."""
    z = given[0]
    match node.op:
        case "conv":
            return correlate(node, z)
        case "depthwise":
            return (cells(node, z, 0)[0] * node.weights).sum(axis=(2, 3))
        case "average":
            seen, inside = cells(node, z, 0)
            count = inside[0, 0].size if node.whole_count else inside.sum(axis=(2, 3))[..., None]
            return seen.sum(axis=(2, 3)) / count
        case "maximum":
            return cells(node, z, -np.inf)[0].max(axis=(2, 3))
        case "ramp":
            return np.where(z < 0, node.slope * z, np.minimum(z, node.cap))
        case "smooth":
            return FUNCTIONS[node.function](z, node.alpha)
        case "scale":
            return z * node.weights
        case "add":
            return sum((c * v for c, v in zip(node.coefficients, given, strict=True)), np.zeros_like(z))
        case "multiply":
            return given[0] * given[1]
        case "concat":
            return np.concatenate(given, axis=-1)
        case "shift":
            return shifted(node, z)
        case "hold":
            return z
        case "repeat":
            return z.repeat(node.window[0], axis=0).repeat(node.window[1], axis=1)
        case "resample":
            assert node.weights is not None
            rows, columns = np.split(node.weights.astype(z.dtype), [node.shape[0] * z.shape[0]])
            rows = rows.reshape(node.shape[0], -1)
            return np.einsum("yh,hwc,xw->yxc", rows, z, columns.reshape(node.shape[1], -1))
        case "dilate":
            out = np.zeros(node.shape, z.dtype)
            out[:: node.window[0], :: node.window[1]] = z
            return out
        case "part":
            return z[..., node.window[7] : node.window[7] + node.shape[2]]
        case "reshape":
            return z.reshape(node.shape)
        case "softmax":
            return softmax(z)
        case "cross_entropy":
            assert targets is not None
            z = z.ravel()
            return (targets * (z.max() + np.log(np.exp(z - z.max()).sum()) - z)).sum().reshape(1, 1, 1)
        case "squared_error":
            return ((z.ravel() - targets) ** 2).mean().reshape(1, 1, 1)
    raise AssertionError(node.op)


def values(
    nodes: Sequence[Node], x: Array, targets: Array | None = None, held: Sequence[Array] | None = None
) -> list[Array]:
    """The value of every node at the input x, (h, w, c); those of "hold" as they are in `held`, if that is given."""
    out = [x]
    for number, node in enumerate(nodes[1:], 1):
        stays = held is not None and node.op == "hold"
        out.append(held[number] if stays else value(node, [out[s] for s in node.sources], targets))
        assert out[-1].shape == node.shape, (node.op, out[-1].shape, node.shape)
    return out


def events(nodes: Sequence[Node], base: list[Array], moved: Sequence[list[Array]]) -> tuple[int, int]:
    """First node with a unit that sits on a kink and is moved, first with one that changes branch; -1 for none.

    `moved` has the values at each displaced point. All comparisons are exact: for numbers that do not round.
    """
    tie = crossed = -1
    for n, node in enumerate(nodes):
        if node.op == "ramp":
            z, f = base[node.sources[0]], base[n]
            d = [m[node.sources[0]] - z for m in moved]
            ties = ((z == 0) | (z == node.cap)) & np.any([v != 0 for v in d], axis=0)
            slope = np.where(z < 0, node.slope, np.where(z < node.cap, 1.0, 0.0))
            crosses = ~ties & np.any([m[n] - f != slope * v for m, v in zip(moved, d, strict=True)], axis=0)
        elif node.op == "maximum":
            z, f = base[node.sources[0]], base[n]
            top = cells(node, z, -np.inf)[0] == f[:, :, None, None]
            ties, crosses = np.zeros(node.shape, bool), np.zeros(node.shape, bool)
            for m in moved:
                d, _ = cells(node, m[node.sources[0]] - z, 0)
                high = np.where(top, d, -np.inf).max(axis=(2, 3))
                ties |= high != np.where(top, d, np.inf).min(axis=(2, 3))
                crosses |= m[n] - f != high
        else:
            continue
        tie = n if tie < 0 and ties.any() else tie
        crossed = n if crossed < 0 and crosses.any() else crossed
    return tie, crossed


def decimal_erfc(z: Decimal) -> Decimal:
    """1 - 2/sqrt(pi) e^(-z^2) sum_n 2^n z^(2n+1) / (2n+1)!!, whose terms do not cancel."""
    term, total, n = z, z, 0
    while abs(term) > abs(total) * Decimal(10) ** -DIGITS:
        n += 1
        term = term * 2 * z * z / (2 * n + 1)
        total += term
    return 1 - 2 / decimal_pi().sqrt() * (-z * z).exp() * total


@functools.cache
def decimal_pi() -> Decimal:
    """pi = 16 arctan(1/5) - 4 arctan(1/239), Machin 1706."""

    def arctan_of_inverse(q: int) -> Decimal:
        power, total, n = Decimal(1) / q, Decimal(0), 0
        while power > Decimal(10) ** -(DIGITS + 5):
            total += power / (2 * n + 1) * (-1) ** n
            power, n = power / (q * q), n + 1
        return total

    return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


EXACT: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "sigmoid": lambda z, _: 1 / (1 + (-z).exp()),
    "tanh": lambda z, _: ((2 * z).exp() - 1) / ((2 * z).exp() + 1),
    "softplus": lambda z, _: (1 + z.exp()).ln(),
    "softsign": lambda z, _: z / (1 + abs(z)),
    "exponential": lambda z, _: z.exp(),
    "elu": lambda z, alpha: z if z > 0 else alpha * (z.exp() - 1),
    "silu": lambda z, _: z / (1 + (-z).exp()),
    "gelu": lambda z, _: z / 2 * decimal_erfc(-z * Decimal(ROOT)),
    "root": lambda z, _: z.sqrt(),
    "inverse_root": lambda z, _: 1 / z.sqrt(),
    "reciprocal": lambda z, _: 1 / z,
    "logarithm": lambda z, _: z.ln(),
    "erf": lambda z, _: 1 - decimal_erfc(z),
    "normal": lambda z, _: decimal_erfc(-z * Decimal(ROOT)) / 2,  # what gelu multiplies by
}


@functools.cache
def exactly(function: str, z: float, d: float, alpha: float = 1.0) -> float:
    """f(z + d) - f(z), rounded once."""
    with decimal.localcontext() as context:
        context.prec = DIGITS
        f = EXACT[function]
        return float(f(Decimal(z) + Decimal(d), Decimal(alpha)) - f(Decimal(z), Decimal(alpha)))


def exact_softmax(z: Sequence[Decimal]) -> list[Decimal]:
    e = [v.exp() for v in z]
    return [v / sum(e) for v in e]


def softmax_difference(z: Array, d: Array) -> Array:
    with decimal.localcontext() as context:
        context.prec = DIGITS
        before = [Decimal(float(v)) for v in z]
        after = [v + Decimal(float(u)) for v, u in zip(before, d, strict=True)]
        return np.array([float(b - a) for a, b in zip(exact_softmax(before), exact_softmax(after), strict=True)])


def cross_entropy_difference(z: Array, d: Array, y: Array) -> float:
    with decimal.localcontext() as context:
        context.prec = DIGITS
        before = [Decimal(float(v)) for v in z]
        after = [v + Decimal(float(u)) for v, u in zip(before, d, strict=True)]

        def loss(v: list[Decimal]) -> Decimal:
            log_sum = sum((u.exp() for u in v), Decimal(0)).ln()
            return sum((Decimal(float(t)) * (log_sum - u) for t, u in zip(y, v, strict=True)), Decimal(0))

        return float(loss(after) - loss(before))
