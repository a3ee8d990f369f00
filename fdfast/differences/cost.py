"""What windows cost: multiplications, before anything is built."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

from fdfast.differences.graph import NoGraph, unroll
from fdfast.differences.lowering import Lowered, Node, NotCompiled, lower
from fdfast.differences.rules import find_rule
from fdfast.differences.rules.losses import find_loss
from fdfast.functions import Present, present, resolve_loss


@dataclass(frozen=True)
class Cost:
    """Multiplications.

    Attributes
    ----------
    window : float
        For the difference of one element, in the middle of x.
    whole : float
        Of a forward pass.
    """

    window: float
    whole: float


_known: weakref.WeakKeyDictionary[Any, tuple[Present, Any, Cost | None]] = weakref.WeakKeyDictionary()


def windows_cost(model: Any, loss: Any, shape: tuple[int, ...]) -> Cost | None:
    """Return what windows cost for a model and a loss; None where they do not do the whole of it."""
    state, key = present(model), (loss if isinstance(loss, str) else id(loss), shape)
    known = _known.get(model)
    if known is None or known[0] is not state or known[1] != key:
        known = _known[model] = state, key, _cost(model, loss, shape)
    return known[2]


def _cost(model: Any, loss: Any, shape: tuple[int, ...]) -> Cost | None:
    if find_loss(resolve_loss(loss, model).original) is None:
        return None
    try:
        graph = unroll(model)
        if any(find_rule(step.operation) is None for step in graph.steps):
            return None
        lowered = lower(graph, shape)
    except (NoGraph, NotCompiled):
        return None
    return None if lowered.rest and not _cheap(lowered) else _of_nodes(lowered.nodes)


def _cheap(lowered: Lowered) -> bool:
    """Whether what windows leave over is a vector: a head of the network."""
    return lowered.nodes[-1].shape[:2] == (1, 1)


def _of_nodes(nodes: list[Node]) -> Cost:
    window = whole = 0.0
    reach = [(1, 1)]
    for node in nodes[1:]:
        options = node.options.get("window", (1, 1, 1, 1, 1, 1))
        sources = [reach[s] for s in node.sources]
        extent = []
        for axis in (0, 1):
            width, stride, apart = (options[2 * k + axis] if len(options) > 2 * k + axis else 1 for k in range(3))
            moved = max(one[axis] for one in sources)
            moved = moved * width if node.op == "repeat" else (moved + apart * (width - 1) - 1) // stride + 1
            extent.append(min(node.shape[axis], moved))
        reach.append((extent[0], extent[1]))
        weights = node.options.get("weights")
        places = node.shape[2] * (1 if weights is None else math.prod(weights.shape) / node.shape[2])
        window += places * extent[0] * extent[1]
        whole += places * node.shape[0] * node.shape[1]
    return Cost(window, whole)
