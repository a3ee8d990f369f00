"""Difference rules for layers of one's own, by their public name (see `fdfast.differences.rules`)."""

from __future__ import annotations

from fdfast.differences import activation_rule, difference_rule, elementwise, find_rule, linear, merging, pooling

__all__ = ["activation_rule", "difference_rule", "elementwise", "find_rule", "linear", "merging", "pooling"]
