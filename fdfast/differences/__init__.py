"""Differences pushed through Keras layers: the graph as steps, the rules, the compiled program, values at points.

What comes out is the difference of the loss for given moves. How many tiles go together, and whether the result can be
trusted, is decided by the engines.
"""

from __future__ import annotations

from fdfast.differences.base_pass import BasePass, Foreseen
from fdfast.differences.compiled import Compiled, NoDifferences, compiled_for
from fdfast.differences.cost import windows_cost
from fdfast.differences.graph import Step
from fdfast.differences.lowering import Map, Node, Where
from fdfast.differences.pushed import PushedObjective
from fdfast.differences.rules import activation_rule, difference_rule, elementwise, find_rule, linear, merging, pooling

__all__ = [
    "BasePass",
    "Compiled",
    "Foreseen",
    "Map",
    "NoDifferences",
    "Node",
    "PushedObjective",
    "Step",
    "Where",
    "activation_rule",
    "compiled_for",
    "difference_rule",
    "elementwise",
    "find_rule",
    "linear",
    "merging",
    "pooling",
    "windows_cost",
]
