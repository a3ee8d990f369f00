"""What precision a traced graph computes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def narrowest(graph: Any) -> np.dtype[Any]:
    """The narrowest floating-point type that any operation of a graph names, those of functions it calls included."""
    whole = graph.as_graph_def()
    nodes = [*whole.node, *(node for function in whole.library.function for node in function.node_def)]
    # A constant by itself says nothing: batched graphs hold empty ones that nobody reads.
    named = {t for node in nodes if node.op != "Const" for a in node.attr.values() for t in (a.type, *a.list.type) if t}
    floats = [tf.as_dtype(t).real_dtype for t in named if tf.as_dtype(t).is_floating or tf.as_dtype(t).is_complex]
    found: np.dtype[Any] = np.dtype(min(floats, key=lambda t: (t.size, t.name), default=tf.float64).as_numpy_dtype)
    return found
