"""From the verdict on a gradient as a whole to a report."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import Flat
from fdfast.moves import make_tiling
from fdfast.report.part import Part
from fdfast.report.report import Report, WeightReport
from fdfast.tape import STEP
from fdfast.verdict import NO_PATTERN, Allowed, Culprits, Directed, Whole, as_sentence, hints, sentences_on_whole

Float64 = npt.NDArray[np.float64]


def whole_report(
    found: Whole,
    flat: Flat,
    wrt: str,
    settings: dict[str, Any],
    timings: dict[str, float],
    label: str,
    blamed: Culprits | None = None,
    *,
    order: int = 1,
) -> Report:
    """Put together what directions told.

    Parameters
    ----------
    found : Whole
    flat : Flat
        What was checked.
    wrt : str
    settings : dict
        With the coverage that was asked for.
    timings : dict of str to float
    label : str
    blamed : Culprits, optional
    order : int
        2 where f is a derivative itself, along a vector.
    """
    parts = [_part(found, flat, i) for i in range(len(found.places))]
    kind = WeightReport if wrt == "weights" else Report
    return kind(
        parts=parts,
        wrt=wrt,
        coverage_asked=settings["coverage"],
        reasons=[*sentences_on_whole(found, settings, order), *map(as_sentence, flat.notes)],
        hints=_hints(found, parts, blamed) + (blamed.on_purpose if blamed is not None else []),
        engine="tape",
        dtype="float64",
        step=STEP,
        evaluations=found.directed.rows,
        refined=0,
        noise=found.directed.tau,
        timings=timings,
        settings=settings,
        examples=len(flat.arguments[0].value) if flat.arguments[0].batched and flat.model is not None else 1,
        base=found.value,
        label=label,
        directed=found.directed,
        culprits=blamed,
        order=order,
    )


def _part(found: Whole, flat: Flat, i: int) -> Part:
    place, claimed = found.places[i], found.claimed[i]
    argument = flat.arguments[place.number] if place.number < len(flat.arguments) else None
    # One example of a model goes in with an axis for it, which the caller did not give.
    alone = argument is not None and not argument.batched
    batched = argument is not None and argument.batched and flat.model is not None
    near = found.near[i]
    nothing = np.broadcast_to(np.nan, claimed.shape)
    numeric = nothing
    if any(one.place == i for one in found.suspects):
        numeric = np.full(claimed.shape, np.nan)
        for one in found.suspects:
            if one.place == i:
                numeric.reshape(-1)[one.index] = one.numeric
    maps = {
        "numeric": np.where(near, np.nan, numeric) if near.any() else numeric,
        "analytic": found.analytic[i],
        "error_bar": nothing,
        "right": nothing,
        "left": nothing,
        "codes": found.codes[i],
        "near": near & found.judged_near,
        "checked_numeric": numeric,
        "checked_analytic": claimed,
        "checked_error": np.broadcast_to(found.directed.tau, claimed.shape),
    }
    shape = claimed.shape[1:] if (alone and flat.model is not None) or batched else claimed.shape
    if alone and flat.model is not None:
        maps = {name: one[0] for name, one in maps.items()}
        claimed = claimed[0]
    tiling = make_tiling(shape) if argument is not None else None
    return Part(
        name=place.name,
        kind="input" if argument is not None else "variable",
        engine="tape",
        **maps,
        seen_from=partial(_detectable, found.directed, found.allowed, claimed),
        shape=shape,
        tile=(1,) * len(shape),
        grid=shape,
        batched=batched,
        x=None if argument is None else argument.given,
        channel_axis=None if tiling is None else tiling.channel_axis,
    )


def _detectable(directed: Directed, allowed: Allowed | None, claimed: Float64) -> Float64:
    """Relative error of each element that would never have been missed by itself."""
    with np.errstate(all="ignore"):
        known: Float64 = np.asarray(np.abs(claimed))
        np.divide(4 * directed.tau * directed.low, known, out=known)
        np.maximum(known, 4 * directed.tau, out=known)
        if allowed is not None:
            known = known + allowed.rtol + allowed.floor / np.abs(claimed)
    return known


def _hints(found: Whole, parts: list[Part], blamed: Culprits | None) -> list[str]:
    """Patterns among the elements that were differenced by themselves."""
    said: dict[str, list[str]] = {}
    for i, part in enumerate(parts):
        mine = [one for one in found.suspects if one.place == i]
        if not any(part.codes.reshape(-1)[one.index] == 1 for one in mine):
            continue
        codes = np.full(part.codes.shape, 3, np.int8).reshape(-1)
        index = [one.index for one in mine if np.isfinite(one.analytic)]
        codes[index] = part.codes.reshape(-1)[index]
        grid = part.shape or (1,)
        flat: list[Any] = [np.asarray(a).reshape(1, -1) for a in (part.checked_numeric, part.checked_analytic, codes)]
        if part.batched:
            flat = [a.reshape(-1, int(np.prod(part.shape))) for a in flat]
        for text in hints(flat[0], flat[1], flat[2], grid, part.channel_axis):
            if part.kind == "variable":
                text = text.replace("of the grid", "of the variable").replace("tile", "weight")
            if blamed is None or not blamed.wrong or not text.startswith(NO_PATTERN):
                said.setdefault(text, []).append(part.name)
    return [text if len(parts) == 1 else f"{', '.join(names)}: {text}" for text, names in said.items()]
