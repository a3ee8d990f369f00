"""Where a weight of a layer enters a compiled program: a step of it moves one channel of one node, exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from fdfast.differences import Compiled, Map, Node, Step, Where

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

layers = keras.layers
_WHOLE = (layers.Conv1D, layers.Conv2D, layers.Dense)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


class Place(Protocol):
    """How a step dw of one weight moves the pre-activation of its layer: by dw times a map, on one channel."""

    @property
    def node(self) -> int:
        """Node of the program that moves: the pre-activation."""

    @property
    def source(self) -> Where | None:
        """Value of the graph that the maps are made of; None if they do not depend on the point."""

    def channel(self, which: Int64) -> Int64:
        """Channel that each of the weights moves."""

    def ready(self, value: Float64 | None) -> Any:
        """Bring the source's value at one point into the form that `maps` reads."""

    def maps(self, ready: Any, which: Int64) -> Float64:
        """Move of that channel per unit of each of the weights, shape (weights, cells)."""


@dataclass(frozen=True, eq=False)
class Taps:
    """A kernel: what moves is the input as its tap sees it.

    Attributes
    ----------
    shape, out : (int, int, int)
        Of the input, and of the node.
    window : tuple of 8 int
        See `fdfast._core.Program.append`.
    groups : int
        A depthwise kernel has one for each channel.
    factor : ndarray of float64, shape (channels out,)
        What a normalisation that is folded into the weights multiplies the output by.
    before : (Taps, ndarray) or None
        Depthwise step that the input goes through first, and its kernel.
    """

    node: int
    source: Where | None
    shape: Map
    out: Map
    window: tuple[int, ...]
    groups: int
    factor: Float64
    before: tuple[Taps, Float64] | None = None

    def channel(self, which: Int64) -> Int64:
        """See `Place`: kernels are stored with the channels out last."""
        return which % self.out[2]

    def ready(self, value: Float64 | None) -> Any:
        """Pad with zeros as far as any tap reaches."""
        assert value is not None
        if self.before is not None:
            taps, kernel = self.before
            value = taps.apply(taps.ready(value), kernel)
        z = value.reshape(self.shape if self.before is None else self.before[0].out)
        kh, kw, sh, sw, dh, dw, top, left = self.window
        sizes = [
            (n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(self.out[:2], (sh, sw), (kh, kw), (dh, dw), strict=True)
        ]
        padded = np.zeros((max(sizes[0], z.shape[0] + top), max(sizes[1], z.shape[1] + left), z.shape[2]))
        padded[top : top + z.shape[0], left : left + z.shape[1]] = z
        return padded

    def maps(self, ready: Any, which: Int64) -> Float64:
        """See `Place`."""
        _, wide, channels = ready.shape
        kw, sh, sw, dh, dw = self.window[1:6]
        each = channels // self.groups
        tap, to = np.divmod(which, self.out[2])
        at, source = np.divmod(tap, each)
        source += to // (self.out[2] // self.groups) * each
        ky, kx = np.divmod(at, kw)
        first = ((ky * dh) * wide + kx * dw) * channels + source
        cells = (np.arange(self.out[0])[:, None] * sh * wide + np.arange(self.out[1]) * sw).ravel() * channels
        seen: Float64 = ready.reshape(-1)[first[:, None] + cells] * self.factor[to][:, None]
        return seen

    def apply(self, ready: Any, kernel: Float64) -> Float64:
        """Depthwise convolution itself; `kernel` is flat."""
        count, (h, w, c) = kernel.size // self.out[2], self.out
        total = np.zeros((c, h * w))
        for tap in range(count):
            which = np.arange(tap * c, (tap + 1) * c)
            total += self.maps(ready, which) * kernel[which, None]
        return np.ascontiguousarray(total.T).reshape(h, w, c)


@dataclass(frozen=True, eq=False)
class Channelwise:
    """A bias, or the scale of a normalisation: what moves is the whole channel, or the normalised input.

    Attributes
    ----------
    out : (int, int, int)
        Shape of the node.
    factor, mean : ndarray of float64, shape (channels,)
        The map is `factor` where `source` is None, else `factor` times (source - `mean`).
    """

    node: int
    source: Where | None
    out: Map
    factor: Float64
    mean: Float64 | float = 0.0

    def channel(self, which: Int64) -> Int64:
        """See `Place`."""
        return which

    def ready(self, value: Float64 | None) -> Any:
        """Normalise the input, channels first."""
        cells = self.out[0] * self.out[1]
        if value is None:
            return np.broadcast_to(self.factor[:, None], (self.out[2], cells))
        z = value.reshape(cells, self.out[2])
        return np.ascontiguousarray(((z - self.mean) * self.factor).T)

    def maps(self, ready: Any, which: Int64) -> Float64:
        """See `Place`."""
        found: Float64 = ready[which]
        return found


def places_of(compiled: Compiled, variables: list[Any]) -> dict[int, Place]:
    """Find the places of those variables, by number, whose effect on the program is known exactly.

    Left out are variables of layers that are used more than once or have no kernel or bias of their own, and those
    shared between layers: they move several nodes at once.
    """
    lowered = compiled.lowered
    steps = compiled.graph.steps[: len(compiled.graph.steps) - len(lowered.rest)]
    everyone = compiled.graph.steps
    calls = Counter(id(step.operation) for step in everyone)
    unique = {id(step.operation): step.operation for step in everyone}.values()
    owners = Counter(id(w) for one in unique for w in _own(one))
    found: dict[int, Place] = {}
    for step in steps:
        if calls[id(step.operation)] != 1:
            continue
        for variable, place in _places(lowered.nodes, step, everyone):
            for i, mine in enumerate(variables):
                if mine is variable and owners[id(variable)] == 1:
                    found[i] = place
    return found


def _own(layer: Any) -> list[Any]:
    return list({id(w): w for w in getattr(layer, "weights", [])}.values())


def _places(nodes: list[Node], step: Step, steps: list[Step]) -> list[tuple[Any, Place]]:
    layer, value = step.operation, step.outputs[0]
    if type(layer) is layers.BatchNormalization:
        node = _node(nodes, value, ("conv", "depthwise", "scale"))
        return [] if node is None else _normalisation(nodes, node, layer, (step.inputs[0], "out"))
    if type(layer) not in (*_WHOLE, *_DEPTHWISE, *_SEPARABLE):
        return []
    node = _node(nodes, value, ("conv", "depthwise"))
    factor: Float64 | float = 1.0
    if node is None:  # folded: the normalisation behind it has taken the node over
        for later in steps:
            if later.inputs == [value] and type(later.operation) is layers.BatchNormalization:
                node = _node(nodes, later.outputs[0], ("conv", "depthwise"))
                factor = _scale(later.operation)
    if node is None:
        return []
    out = nodes[node].shape
    factors = np.broadcast_to(np.asarray(factor, np.float64), (out[2],))
    found: list[tuple[Any, Place]] = []
    if getattr(layer, "bias", None) is not None:
        found.append((layer.bias, Channelwise(node, None, out, factors)))
    taps = _taps(nodes, node, (step.inputs[0], "out"), factors)
    if type(layer) not in _SEPARABLE:
        return [*found, (layer.kernel, taps)]
    first = nodes[node].sources[0]
    depthwise = _taps(nodes, first, (step.inputs[0], "out"), np.ones(nodes[first].shape[2]))
    kernel = np.asarray(layer.depthwise_kernel, np.float64).reshape(-1)
    pointwise = replace(taps, before=(depthwise, kernel))
    return [*found, (layer.depthwise_kernel, depthwise), (layer.pointwise_kernel, pointwise)]


def _taps(nodes: list[Node], node: int, source: Where, factor: Float64) -> Taps:
    one = nodes[node]
    shape = nodes[one.sources[0]].shape
    window = tuple(one.options.get("window", (1, 1, 1, 1, 1, 1, 0, 0)))
    groups = shape[2] if one.op == "depthwise" else one.options.get("groups", 1)
    return Taps(node, source, shape, one.shape, window, groups, factor)


def _normalisation(nodes: list[Node], node: int, layer: Any, source: Where) -> list[tuple[Any, Place]]:
    out = nodes[node].shape
    found: list[tuple[Any, Place]] = []
    if layer.center:
        found.append((layer.beta, Channelwise(node, None, out, np.ones(out[2]))))
    if layer.scale:
        mean = np.asarray(layer.moving_mean, np.float64)
        found.append((layer.gamma, Channelwise(node, source, out, _spread(layer), mean)))
    return found


def _spread(layer: Any) -> Float64:
    inverse: Float64 = 1 / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    return inverse


def _scale(layer: Any) -> Float64:
    return _spread(layer) * (np.asarray(layer.gamma, np.float64) if layer.scale else 1.0)


def _node(nodes: list[Node], value: int, ops: tuple[str, ...]) -> int | None:
    for number, node in enumerate(nodes):
        if node.where[0] == value and node.op in ops:
            return number
    return None
