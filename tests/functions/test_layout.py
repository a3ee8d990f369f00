"""Where a model's layers say that the channels are."""

from __future__ import annotations

import keras
import pytest

from fdfast.functions.layout import layout_of

L = keras.layers


def convolution(where: str) -> keras.layers.Layer:
    return L.Conv2D(1, 1, data_format=where)


CASES = {
    "nothing": ([], "last"),
    "no layer that has channels": ([keras.Sequential([keras.Input((3,)), L.Dense(2)])], "last"),
    "first": ([keras.Sequential([L.Rescaling(2.0), convolution("channels_first"), L.Flatten()])], "first"),
    "last": ([keras.Sequential([L.Rescaling(2.0), convolution("channels_last")])], "last"),
    "the first that says so": (
        [keras.Sequential([convolution("channels_first"), convolution("channels_last")])],
        "first",
    ),
    "several models": ([keras.Sequential([L.Dense(2)]), keras.Sequential([convolution("channels_first")])], "first"),
    "nested": ([keras.Sequential([keras.Sequential([convolution("channels_first")])])], "first"),
    "a layer": ([convolution("channels_first")], "first"),
}


@pytest.mark.parametrize("case", CASES)
def test_layout(case: str) -> None:
    layers, layout = CASES[case]
    assert layout_of(layers) == layout
