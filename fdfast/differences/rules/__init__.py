"""Difference rules: how a difference d of a layer's input becomes the difference of its output."""

from __future__ import annotations

from fdfast.differences.rules import elementwise, linear, merging, pooling
from fdfast.differences.rules.registry import activation_rule, difference_rule, find_rule

__all__ = ["activation_rule", "difference_rule", "elementwise", "find_rule", "linear", "merging", "pooling"]
