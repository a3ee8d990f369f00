"""Layers with several inputs: sums, products, concatenation."""

from __future__ import annotations

from typing import Any

import keras

from fdfast.differences.rules.registry import difference_rule

layers = keras.layers


@difference_rule(layers.Add, layers.Subtract, layers.Average, layers.Concatenate)
def linear(layer: Any, z: Any, d: Any) -> Any:
    """Linear in all inputs together: apply the layer to the differences."""
    return layer(d)


@difference_rule(layers.Multiply)
def multiply(layer: Any, z: Any, d: Any) -> Any:
    """ab moves by a db + b da + da db; more factors one after the other."""
    product, moved = z[0], d[0]
    for factor, change in zip(z[1:], d[1:], strict=True):
        moved = product * change + factor * moved + moved * change
        product = product * factor
    return moved
