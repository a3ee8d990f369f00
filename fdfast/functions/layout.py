"""Which axis of an example holds its channels."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from fdfast.moves import Layout

_NAMES: dict[str, Layout] = {"channels_first": "first", "channels_last": "last"}


def layout_of(layers: Sequence[keras.Layer]) -> Layout:
    """Where the channels are, as the first layer says that has a `data_format`; ``"last"`` where none has."""
    inside = (one for layer in layers for one in layer._flatten_layers())
    said = (_NAMES.get(getattr(one, "data_format", None) or "") for one in inside)
    return next((layout for layout in said if layout is not None), "last")
