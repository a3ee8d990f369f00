"""What precision a traced graph computes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf


def narrowest(graph: Any, outputs: Iterable[Any] | None = None) -> np.dtype[Any]:
    """The narrowest floating-point type that any operation of a graph names, those of functions it calls included.

    Parameters
    ----------
    graph : tf.Graph
    outputs : iterable of tensor, optional
        Only what these depend on.
    """
    types = _types(graph, outputs)
    found: np.dtype[Any] = np.dtype(min(types, key=lambda t: (t.size, t.name), default=tf.float64).as_numpy_dtype)
    return found


def half_types(graph: Any, outputs: Iterable[Any] | None = None) -> set[Any]:
    """Types of half precision that a graph computes in, or what some outputs depend on.

    A gradient that is cast to one which does not occur in its value is rounded by whoever wrote it.
    """
    return {tf.float16, tf.bfloat16} & _types(graph, outputs)


def _types(graph: Any, outputs: Iterable[Any] | None) -> set[Any]:
    whole = graph.as_graph_def()
    functions = {one.signature.name: one for one in whole.library.function}
    nodes = list(whole.node)
    called = set(functions)
    if outputs is not None:
        reached = _reached(outputs)
        nodes = [node for node in nodes if node.name in reached]
        called = _called(nodes, functions)
    nodes += [node for name in called for node in functions[name].node_def]
    # A constant by itself says nothing: batched graphs hold empty ones that nobody reads.
    named = {t for node in nodes if node.op != "Const" for a in node.attr.values() for t in (a.type, *a.list.type) if t}
    return {t.real_dtype for t in map(tf.as_dtype, named) if t.is_floating or t.is_complex}


def _reached(outputs: Iterable[Any]) -> set[str]:
    """Names of the operations that tensors depend on."""
    waiting, found = [one.op for one in outputs], set()
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting += [*(one.op for one in op.inputs), *op.control_inputs]
    return found


def _called(nodes: Iterable[Any], functions: dict[str, Any]) -> set[str]:
    """Names of the functions that nodes call, and that these call."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        for attribute in node.attr.values():
            for name in (attribute.func.name, *(one.name for one in attribute.list.func)):
                if name in functions and name not in found:
                    found.add(name)
                    waiting += functions[name].node_def
    return found
