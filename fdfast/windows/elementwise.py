"""Operations element by element, with what does not move or between two that do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.tape import Entry
from fdfast.windows.broadcasting import factors, together
from fdfast.windows.linear import scaled
from fdfast.windows.program import Making, NotLowered, Value, lowers

Float64 = npt.NDArray[np.float64]

SMOOTH = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Exp": "exponential",
    "Elu": "elu",
    "Sqrt": "root",
    "Rsqrt": "inverse_root",
    "Reciprocal": "reciprocal",
    "Inv": "reciprocal",
    "Log": "logarithm",
    "Erf": "erf",
}
#: Of SELU: TensorFlow's own constants.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@lowers(*SMOOTH)
def smooth(m: Making, entry: Entry, moving: list[int]) -> None:
    """A function of one number."""
    node, out = m.node_of[moving[0]], entry.outputs[0]
    m.keep(out, m.add("smooth", [node], m.nodes[node].shape, Value(out), function=SMOOTH[entry.kernel.kind]))


@lowers("Selu")
def selu(m: Making, entry: Entry, moving: list[int]) -> None:
    """A multiple of ELU."""
    node, out = m.node_of[moving[0]], entry.outputs[0]
    shape = m.nodes[node].shape
    node = m.add("smooth", [node], shape, None, function="elu", alpha=_SELU_ALPHA)
    m.keep(out, m.add("scale", [node], shape, Value(out), weights=np.full(shape[2], _SELU_SCALE)))


@lowers("Relu", "Relu6", "LeakyRelu", "Abs")
def ramp(m: Making, entry: Entry, moving: list[int]) -> None:
    """Straight on both sides of zero."""
    kind, given = entry.kernel.kind, entry.kernel.attributes
    slope = {"LeakyRelu": given.get("alpha"), "Abs": -1.0}.get(kind, 0.0)
    node, out, cap = m.node_of[moving[0]], entry.outputs[0], 6.0 if kind == "Relu6" else math.inf
    m.keep(out, m.add("ramp", [node], m.nodes[node].shape, Value(out), slope=float(slope or 0.0), cap=cap))


@lowers("Maximum", "Minimum")
def extreme(m: Making, entry: Entry, moving: list[int]) -> None:
    """With one number c: max(x, c) moves as the ramp of x - c, min(x, c) as the negative one of c - x."""
    if len(moving) > 1:
        raise NotLowered("both of its inputs move")
    source, out = moving[0], entry.outputs[0]
    other = m.constant(next(number for number in entry.inputs if number != source))
    if other.size != 1 or m.shape(out) != m.shape(source):
        raise NotLowered("it compares with several numbers")
    bound, sign = float(other.reshape(-1)[0]), 1.0 if entry.kernel.kind == "Maximum" else -1.0
    node = m.node_of[source]
    shape = m.nodes[node].shape
    turned = np.full(shape[2], sign)
    if not (sign == 1.0 and bound == 0.0):
        node = m.add("scale", [node], shape, Value(source, lambda z: sign * (z - bound)), weights=turned)
    node = m.add("ramp", [node], shape, Value(out))
    m.keep(out, node if sign > 0 else m.add("scale", [node], shape, Value(out), weights=turned))


@lowers("Neg")
def negative(m: Making, entry: Entry, moving: list[int]) -> None:
    """A factor of -1."""
    scaled(m, entry.outputs[0], moving[0], np.full(m.nodes[m.node_of[moving[0]]].shape[2], -1.0))


@lowers("AddV2", "Add", "Sub", "BiasAdd", "AddN")
def plus(m: Making, entry: Entry, moving: list[int]) -> None:
    """Sums: what does not move only changes the value."""
    out = entry.outputs[0]
    signs = [-1.0 if entry.kernel.kind == "Sub" and i == 1 else 1.0 for i in range(len(entry.inputs))]
    parts = [(number, sign) for number, sign in zip(entry.inputs, signs, strict=True) if m.moves(number)]
    if entry.kernel.attributes.get("data_format", b"NHWC") != b"NHWC":
        raise NotLowered("its channels come first")
    if len(parts) > 1:
        nodes, shape = together(m, [number for number, _ in parts], out)
        m.keep(out, m.add("add", nodes, shape, Value(out), coefficients=[sign for _, sign in parts]))
        return
    source, sign = parts[0]
    _same_size(m, out, source)
    node = m.node_of[source]
    if sign > 0 and m.alone(node):
        m.nodes[node].value = Value(out)
        m.keep(out, node)
        return
    shape = m.nodes[node].shape
    m.keep(out, m.add("scale", [node], shape, Value(out), weights=np.full(shape[2], sign)))


@lowers("Mul", "RealDiv", "DivNoNan")
def times(m: Making, entry: Entry, moving: list[int]) -> None:
    """Products, and quotients by what does not move."""
    a, b = entry.inputs
    out, divides = entry.outputs[0], entry.kernel.kind != "Mul"
    if m.moves(a) and m.moves(b):
        nodes, shape = together(m, [a, b], out, inverse=divides)
        m.keep(out, m.add("multiply", nodes, shape, Value(out)))
        return
    if divides and m.moves(b):
        raise NotLowered("it divides a constant by what moves")
    source, other = (a, b) if m.moves(a) else (b, a)
    factor = m.constant(other)
    if divides:
        with np.errstate(divide="ignore"):
            factor = np.where(factor == 0, 0.0, 1 / factor) if entry.kernel.kind == "DivNoNan" else 1 / factor
    if not np.isfinite(factor).all():
        raise NotLowered("it divides by zero")
    factors(m, out, source, factor)


def _same_size(m: Making, out: int, source: int) -> None:
    if math.prod(m.shape(out)) != math.prod(m.shape(source)):
        raise NotLowered("it repeats what moves")


@lowers("Square")
def square(m: Making, entry: Entry, moving: list[int]) -> None:
    """A product with itself."""
    node, out = m.node_of[moving[0]], entry.outputs[0]
    m.keep(out, m.add("multiply", [node, node], m.nodes[node].shape, Value(out)))


#: Powers that are functions of one number.
_POWERS = {0.5: "root", -0.5: "inverse_root", -1.0: "reciprocal"}


@lowers("Pow")
def power(m: Making, entry: Entry, moving: list[int]) -> None:
    """Whole powers up to four as products; roots and reciprocals."""
    if moving != [entry.inputs[0]]:
        raise NotLowered("its exponent moves")
    exponents = np.unique(m.constant(entry.inputs[1]))
    out, source = entry.outputs[0], moving[0]
    _same_size(m, out, source)
    if len(exponents) != 1 or exponents[0] not in {1.0, 2.0, 3.0, 4.0, *_POWERS}:
        raise NotLowered("its exponent is not 1, 2, 3, 4, -1, or half of 1 or -1")
    exponent, node = float(exponents[0]), m.node_of[source]
    shape = m.nodes[node].shape
    if exponent in _POWERS:
        m.keep(out, m.add("smooth", [node], shape, Value(out), function=_POWERS[exponent]))
        return
    made, reached = node, 1
    while reached < exponent:
        other = made if exponent == 4 and reached == 2 else node
        reached += 2 if other != node else 1
        made = m.add("multiply", [made, other], shape, Value(source, _raised(reached)))
    m.keep(out, made)


def _raised(exponent: int) -> Any:
    return lambda z: z**exponent


@lowers("SquaredDifference")
def squared_difference(m: Making, entry: Entry, moving: list[int]) -> None:
    """From what does not move."""
    out, source = entry.outputs[0], moving[0]
    if len(moving) > 1:
        nodes, shape = together(m, list(entry.inputs), out)
        a, b = entry.inputs
        value = Value(a, lambda z, other: z - other, b)
        node = m.add("add", nodes, shape, value, coefficients=[1.0, -1.0])
        m.keep(out, m.add("multiply", [node, node], shape, Value(out)))
        return
    _same_size(m, out, source)
    other = m.constant(next(number for number in entry.inputs if number != source))
    node = m.node_of[source]
    shape = m.nodes[node].shape
    value = Value(source, lambda z: z - other)
    node = m.add("scale", [node], shape, value, weights=np.ones(shape[2]))
    m.keep(out, m.add("multiply", [node, node], shape, Value(out)))


@lowers("Softmax")
def softmax(m: Making, entry: Entry, moving: list[int]) -> None:
    """Of a vector."""
    node, out = m.by_channel(moving[0]), entry.outputs[0]
    if m.nodes[node].shape[:2] != (1, 1):
        raise NotLowered("it takes the softmax of a map")
    m.keep(out, m.add("softmax", [node], m.nodes[node].shape, Value(out)))


@lowers("Erfc")
def erfc(m: Making, entry: Entry, moving: list[int]) -> None:
    """1 - erf."""
    node, out = m.node_of[moving[0]], entry.outputs[0]
    shape = m.nodes[node].shape
    node = m.add("smooth", [node], shape, None, function="erf")
    m.keep(out, m.add("scale", [node], shape, Value(out), weights=np.full(shape[2], -1.0)))
