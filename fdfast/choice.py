"""Which way a check goes where the caller leaves it open: every element by itself, or all together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from fdfast.differences import windows_cost
from fdfast.functions import layout_of, penalised, terms_added, weights_of
from fdfast.moves import as_array, make_tiling
from fdfast.problem import Request, examples_of
from fdfast.verdict import Terms

#: Elements that are looked at by themselves: that gives a map, and costs next to nothing, but for recurrent layers.
FEW = 128
#: Multiplications of one example that windows may take: what ten gradients take, or about a second.
_GRADIENTS, _WORK = 10, 1e9
_GRADIENT = 3  # passes


def by_directions(request: Request, terms: Terms, *, wrt: str, budget: Any, omitted: Callable[[], list[str]]) -> bool:
    """Whether a check that is left open goes by directions; `omitted` gives what `left_out` does.

    What layers and weights add to the loss is in it only there. Every element is looked at by itself where the caller
    asks for what only that has (tiles, a step, an engine, a budget, an array of bounds), where there are few and no
    recurrent layers, and where windows cost less than ten gradients, or about a second.
    """
    if wrt not in ("input", "weights"):
        return True
    if budget is not None or asks_for_tiles(request, terms):
        return False
    f = request.f
    if not can_be_tiled(request, wrt) or omitted():
        return True
    if wrt == "weights":
        return sum(int(math.prod(v.shape)) for v in getattr(f, "trainable_variables", [])) > FEW
    array = as_array(request.x)
    if array.dtype.kind != "f" or not array.size:
        return False  # which says what is wrong with it
    if not isinstance(f, keras.Model):
        return array.size > FEW
    shape = _shape_of(request, array)
    if shape is None:
        return False
    cost = windows_cost(f, request.loss, shape)
    if cost is None:
        return math.prod(shape) > FEW or _has_loops(f)
    tiles = make_tiling(shape, 1, "apart", layout_of([f])).tiles
    return 2 * tiles * cost.window > max(_GRADIENTS * _GRADIENT * cost.whole, _WORK)


def _has_loops(model: keras.Model) -> bool:
    """Whether it has recurrent layers: their thousands of operations take long to trace for many rows at once."""
    return any(isinstance(layer, keras.layers.RNN) for layer in model._flatten_layers())


def left_out(request: Request, wrt: str) -> list[str]:
    """What belongs to the loss that is trained, and is not in that of a check of every element: sentences."""
    f = request.f
    if not isinstance(f, keras.Model) or isinstance(request.x, list | tuple | dict) or wrt not in ("input", "weights"):
        return []
    said = []
    array = as_array(request.x)
    shape = _shape_of(request, array) if array.dtype.kind in "fiu" and array.ndim and array.size else None
    if shape is not None:
        terms = terms_added(f, array.reshape(-1, *shape)[:1])
        if terms:
            what = "1 term that a layer adds" if terms == 1 else f"{terms} terms that layers add"
            said.append(f"{what} to the loss (add_loss, activity regularizers)")
    if wrt == "weights" and penalised(f):
        said.append(f"the penalty of {len(penalised(f))} regularized variables")
    if not said:
        return []
    out = " and ".join(said)
    return [f"{out[0].upper()}{out[1:]} is not part of what was checked: check='directions' takes it in."]


def _shape_of(request: Request, array: Any) -> tuple[int, ...] | None:
    """Shape of one example; None where the model does not take such, which is for others to say."""
    f = request.f
    shape, _, _ = examples_of(request, array)
    wanted = f.inputs[0].shape[1:] if getattr(f, "inputs", None) else (None,) * len(shape)
    fits = len(wanted) == len(shape) and all(w in (None, n) for w, n in zip(wanted, shape, strict=True))
    return shape if fits else None


def not_checked(request: Request, wrt: str) -> list[str]:
    """What a model also has a gradient by: a sentence."""
    f = request.f
    many = weights_of(f) if isinstance(f, keras.Model) else 0
    if wrt == "input" and many:
        return [f"Checked by x; the gradient by the {many:,} weights was not (wrt='weights')."]
    return ["Checked by the weights; the gradient by x was not (wrt='input')."] if wrt == "weights" else []


def what_moves(f: Any) -> str:
    """What a check is about if the caller leaves it open: x, and of a layer its weights, too."""
    return "all" if _is_layer(f) else "input"


def _is_layer(f: Any) -> bool:
    return isinstance(f, keras.Layer) and not isinstance(f, keras.Model)


def asks_for_tiles(request: Request, terms: Terms) -> bool:
    """Whether the caller asks for what only a check of every element has."""
    asked = (request.tile, request.channels, request.h, request.engine, request.precision, request.max_rows)
    return bool(asked != (1, "apart", "auto", "auto", "auto", None) or terms.selftest)


def can_be_tiled(request: Request, wrt: str) -> bool:
    """Whether every element can be looked at by itself: of one input, or of the weights of a model."""
    if wrt not in ("input", "weights") or _is_layer(request.f):
        return False
    sides = (len(getattr(request.f, side, None) or [0]) for side in ("inputs", "outputs"))
    x = request.x
    several = isinstance(x, dict) or (isinstance(x, list | tuple) and any(hasattr(one, "shape") for one in x))
    return max(sides) == 1 and not several


def no_directions(error: Exception, f: Any) -> str:
    """Why there is no check of f by directions, and what else there is."""
    other = "check='every' looks at every element of a single input by itself, or at every weight"
    if isinstance(f, keras.Layer) and not isinstance(f, keras.Model):
        other = (
            "A layer is checked by itself in no other way: put it into a keras.Sequential, and check that with a loss "
            "and check='every'"
        )
    return f"a check by directions cannot be made: {error}. {other}"
