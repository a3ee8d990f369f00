"""Before a check starts: is f a function at all, row by row? If not, which layer is to blame."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.behind import layers_among, name_of, snapshot
from fdfast.functions.lifted import LiftedRows
from fdfast.functions.objective import CUT
from fdfast.functions.over_rows import agreement, rounding_unit
from fdfast.functions.variables import same_bits

Float64 = npt.NDArray[np.float64]

_NOISE = "Differences of f would be noise"


class PreflightError(ValueError):
    """f cannot be differentiated row by row; the message names the cause and the remedy."""


_passed: weakref.WeakSet[Any] = weakref.WeakSet()


def preflight(objective: Any, points: npt.NDArray[Any], reached: Sequence[Any], *, always: bool = True) -> None:
    """Evaluate a few rows and see that f is deterministic, keeps rows apart and changes no state.

    The first point goes through f twice in one batch, between two rows that differ from it, and once alone.

    Parameters
    ----------
    objective : fdfast.functions.objective.Objective
    points : ndarray, shape (examples, size)
    reached : sequence of keras.Layer, keras.Variable or tf.Variable
        What f is made of (see `fdfast.functions.behind.reached_by`), to watch and to name.
    always : bool
        False skips the test for a traced function that has passed it before.

    Raises
    ------
    PreflightError
    """
    if not always and objective.traced is not None and objective.traced in _passed:
        return
    x = points[:1]
    # Whoever looks at the first or the last row of a batch must not find x there.
    rows = np.concatenate([_another(x), x, x, _another(x)]).reshape(4, *objective.shape)
    before, layers = snapshot(reached), layers_among(reached)
    try:
        together = _values(objective, rows)
    except Exception:
        # The other row may lie outside the domain of f; if x does, the same error comes again.
        rows = np.concatenate([x] * 4).reshape(4, *objective.shape)
        together = _values(objective, rows)
    changed = before.changed()
    drawing = _drawing(layers, changed)
    scale = float(np.abs(together[np.isfinite(together)]).max(initial=np.finfo(float).tiny))
    # Rounding depends on a row's place in the batch, by some units in the last place of the largest terms.
    own = getattr(objective.traced, "own", objective.dtype)
    limit, single = (1e4 * rounding_unit(dtype) * scale for dtype in (own, np.float32))
    gap = _gap(together[1], together[2])
    if gap > limit:
        twice = f"the same row twice in one batch gives {together[1]:.9g} and {together[2]:.9g}"
        blame = _named(drawing) if drawing else _guilty(layers, rows, random=True)
        if drawing or not same_bits(_values(objective, rows), together):
            raise PreflightError(f"f is not deterministic: {twice}{blame}. {_NOISE}")
        # An f that rounds to float32 somewhere inside does so by place, but each time in the same way.
        if gap > single:
            raise PreflightError(
                f"rows influence each other, or noise has a fixed seed: {twice}, each time again{blame}. {_NOISE}"
            )
    _refuse(changed, drawing, layers)
    alone = _values(objective, rows[1:2])[0]
    gap = _gap(together[1], alone)
    if gap > limit:
        then = max((_values(objective, rows[1:2])[0] for _ in range(4)), key=lambda value: _gap(alone, value))
        if _gap(alone, then) > limit:
            blame = _guilty(layers, rows, random=True)
            raise PreflightError(
                f"f is not deterministic: the same row gives {alone:.9g}, and then {then:.9g}{blame}. {_NOISE}"
            )
        if gap > single or _gap(together[1], _values(objective, rows[[1, 1, 1, 1]])[1]) > limit:
            blame = _guilty(layers, rows, random=False)
            raise PreflightError(
                f"rows influence each other: the same row gives {alone:.9g} alone and {together[1]:.9g} next to "
                f"another row{blame}. Perturbed rows cannot share a batch: normalise with stored statistics, or "
                "pass the function per example with batched=False"
            )
    if objective.traced is not None:
        _passed.add(objective.traced)


def preflight_whole(flat: Any, value: float, reached: Sequence[Any], narrow: Any, *, draws: bool) -> str:
    """Evaluate f itself at the point: it must be deterministic, change no state, and be what was recorded.

    It runs a second time where its value is not that of the recording, which is an evaluation as well.

    Parameters
    ----------
    flat : Flat
    value : float
        Of the recording.
    reached : sequence of keras.Layer, keras.Variable or tf.Variable
        See `fdfast.functions.behind.reached_by`.
    narrow : dtype
        The narrowest that f computes in.
    draws : bool
        Whether it has operations that draw random numbers or keep state, which may do the same at their first run.

    Returns
    -------
    str
        How the recording parts from f, "" if it does not.

    Raises
    ------
    PreflightError
    """
    points, before, layers = flat.points(), snapshot(reached), layers_among(reached)
    first = flat.own(points)
    changed = before.changed()
    _refuse(changed, _drawing(layers, changed), layers)
    scale = max(abs(first), abs(value), flat.scale)
    is_recorded = agreement(np.array([value]), np.array([first]), scale, narrow)
    if is_recorded and not draws:
        return ""
    second = flat.own(points)
    if not agreement(np.array([first]), np.array([second]), scale, narrow):
        suspects = [one for one in _inside(layers) if _draws(one)]
        raise PreflightError(
            f"f is not deterministic: the same x gives {first:.9g}, and then {second:.9g}{_named(suspects)}. {_NOISE}"
        )
    # A small loss, as log(1 + s), is rounded where it is near one.
    if is_recorded or abs(value - first) <= 4 * rounding_unit(narrow):
        return ""
    return f"f is {first:.9g} at x, and what was recorded of it {value:.9g}"


def _drawing(layers: Sequence[keras.Layer], changed: Sequence[Any]) -> list[keras.Layer]:
    """Layers whose generators of random numbers are among the variables that changed."""
    return [layer for layer in layers_holding(layers, changed) if _draws(layer)]


def _refuse(changed: Sequence[Any], drawing: Sequence[keras.Layer], layers: Sequence[keras.Layer]) -> None:
    """Raise PreflightError where one evaluation changed variables."""
    if drawing:
        raise PreflightError(f"f is not deterministic: evaluating it draws random numbers{_named(drawing)}. {_NOISE}")
    if changed:
        raise PreflightError(
            f"evaluating f changes its state: {_paths(changed)} differ after one forward pass"
            f"{_named(layers_holding(layers, changed))}. Keep state out of the forward pass, or check in inference mode"
        )


def connected(objective: Any, points: npt.NDArray[Any]) -> None:
    """See, before anything that takes long, that there is a gradient to check: a function of Python code may have none.

    Raises
    ------
    TypeError
        The message says why, and what to do.
    """
    if objective.traced is None:
        if objective.gradient(points[:1]) is None:
            raise TypeError(
                f"{objective.without_gradient}, so there is no autodiff gradient: pass analytic=, an array or a "
                "function "
                "of x"
            )
    elif objective.model is None and objective.traced.cut(points[:1], objective.context):
        raise TypeError(CUT)


def layers_holding(layers: Sequence[keras.Layer], variables: Sequence[Any]) -> list[keras.Layer]:
    """Innermost layer that each of the variables belongs to."""
    inside = _inside(layers)
    found = [[layer for layer in inside if any(v is variable for v in layer.variables)] for variable in variables]
    holders = [min(some, key=lambda layer: len(layer._flatten_layers())) for some in found if some]
    return list({id(layer): layer for layer in holders}.values())


def _another(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A row that is not x, nor alike in mean or variance, with values between those of x: f is likely defined there."""
    other = (x[:, ::-1] + x.max()) / 2
    return other if (other != x).any() else x / 2 if x.any() else x + np.asarray(2.0**-8, x.dtype)


def _gap(a: float, b: float) -> float:
    """Distance of two values of f; not finite ones are somebody else's error."""
    return abs(float(a) - float(b)) if np.isfinite(a) and np.isfinite(b) else 0.0


def _values(objective: Any, rows: npt.NDArray[Any]) -> Float64:
    example = np.zeros(len(rows), np.int32)
    if isinstance(objective.traced, LiftedRows):  # the function as it is: its tape changes no state
        found = objective.traced.own_values(tf.constant(rows), tf.constant(example), objective.context)
        return np.asarray(found, np.float64)
    with np.errstate(all="ignore"):
        if objective.traced is None:
            return np.asarray(objective.values(rows, example, len(rows)), np.float64)
        return np.asarray(objective.tensor_values(tf.constant(rows), example, len(rows)), np.float64)


def _inside(layers: Sequence[keras.Layer]) -> list[keras.Layer]:
    return list({id(one): one for layer in layers for one in layer._flatten_layers()}.values())


def _paths(variables: Sequence[Any]) -> str:
    shown = ", ".join(map(name_of, variables[:4]))
    return shown if len(variables) <= 4 else f"{shown} and {len(variables) - 4} more"


def _guilty(layers: Sequence[keras.Layer], rows: npt.NDArray[Any], *, random: bool) -> str:
    """Name the first layer whose output for the first row is not the same; else those that might be."""
    suspects = [one for one in _inside(layers) if (_may_draw if random else _may_mix)(one)]
    try:
        first = (
            _first_to_differ(layers[0], rows, random=random)
            if len(layers) == 1 and getattr(layers[0], "inputs", None)
            else None
        )
    except Exception:  # f does not hand its rows to the model as they are, or a layer occurs twice: no naming, no harm
        first = None
    if first is None:
        return _named(suspects) if len(suspects) == 1 else (suspects and f"; look at one of {_listed(suspects)}") or ""
    held = [one for one in _inside([first]) if one is not first and one in suspects]
    within = f", which holds {_listed(held)}" if held else ""
    return f"; the first layer to differ is {_listed([first])}{within}: {_remedy((held or [first])[0])}"


def _first_to_differ(model: keras.Model, rows: npt.NDArray[Any], *, random: bool) -> keras.Layer | None:
    inside = [layer for layer in model.layers if layer._inbound_nodes and tf.nest.flatten(layer.output)]
    probe = keras.Model(model.inputs, [tf.nest.flatten(layer.output)[0] for layer in inside])
    whole = tf.nest.flatten(probe(tf.constant(rows), training=False))
    other = whole if random else tf.nest.flatten(probe(tf.constant(rows[1:2]), training=False))
    for layer, a, b in zip(inside, whole, other, strict=True):
        first, second = a[1].numpy(), (a[2] if random else b[0]).numpy()
        if not np.allclose(first, second, rtol=1e-6, atol=1e-6 * float(np.abs(first).max(initial=0.0))):
            return layer
    return None


def _named(layers: Sequence[keras.Layer]) -> str:
    return f"; look at {_listed(layers)}: {_remedy(layers[0])}" if layers else ""


def _listed(layers: Sequence[keras.Layer]) -> str:
    return ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in layers[:4])


def _may_draw(layer: keras.Layer) -> bool:
    return _draws(layer) or _is_own(layer)


def _may_mix(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) or _is_own(layer)


def _is_own(layer: keras.Layer) -> bool:
    """Whether a layer runs code of the user's, which may do anything."""
    return isinstance(layer, keras.layers.Lambda) or not type(layer).__module__.startswith("keras")


def _draws(layer: keras.Layer) -> bool:
    return bool(getattr(layer, "_seed_generators", None)) or getattr(layer, "seed_generator", None) is not None


def _remedy(layer: keras.Layer) -> str:
    if isinstance(layer, keras.layers.BatchNormalization):
        return "in training mode it normalises by the batch; call it with training=False"
    if getattr(layer, "stateful", False) is True:
        return (
            "it keeps its state from call to call; check a model that is built with stateful=False and has its weights"
        )
    if _draws(layer):
        return "in training mode it draws random numbers; call it with training=False"
    return "make its output depend on its own row only, and on nothing that changes"
