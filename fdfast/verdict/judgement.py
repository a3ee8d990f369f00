"""What was found out about examples, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found out about a group of examples; every map has shape (examples, tiles).

    The names are those of `fdfast.report.Report`. `between` marks kinked tiles whose gradient lies between the
    one-sided slopes; `cleared` those where the gradient at x differs, but not at the generic points near x: of these,
    `branch` those where kinks meet at x, and `only_here` those where they do not; `edge` those where it differs from a
    slope that bounds allow on one side only. `breaks` says why f has no finite slope (see
    `fdfast.estimates.Breaks`), `jump` how far f jumps, and `side` on which
    sides it is not finite. Where f is noise
    below a step `wider`, `roughness` is its standard deviation, and the slope over that step was compared; both are 0
    elsewhere. `within` marks tiles that agree as a whole, but not
    when their elements move by random signs and amplitudes; `sums_only` says why there was no such look. `ties` counts
    the kinked tiles by the first layer that sits on a kink, where the engine sees the layers.
    """

    numeric: Float64
    analytic: Float64
    error_bar: Float64
    right: Float64
    left: Float64
    kind: npt.NDArray[np.int8]
    codes: npt.NDArray[np.int8]
    near: Bool
    between: Bool
    branch: Bool
    cleared: Bool
    only_here: Bool
    edge: Bool
    breaks: npt.NDArray[np.int8]
    jump: Float64
    side: npt.NDArray[np.int8]
    roughness: Float64
    wider: Float64
    within: Bool
    checked_numeric: Float64
    checked_analytic: Float64
    checked_error: Float64
    detectable: Float64
    step: Float64
    base: Float64
    noise: Float64
    deployed: Float64 | None
    deployed_dtype: str | None
    selftest: Bool | None
    evaluations: int
    refined: int
    timings: dict[str, float]
    ties: dict[str, int]
    sums_only: str

    @cached_property
    def deployed_figure(self) -> dict[str, Any] | None:
        """How far the gradient in the model's own dtype is from the float64 one: median relative error, digits kept."""
        if self.deployed is None:
            return None
        with np.errstate(all="ignore"):
            relative = np.abs(self.deployed - self.analytic) / np.abs(self.analytic)
        relative = relative[np.isfinite(relative)]
        if not relative.size:  # all zeros have no digits
            return None
        middle = float(np.median(relative))  # not by Numba, which takes half a second to load
        digits = float(-np.log10(middle)) if middle > 0 else 16.0
        return {"dtype": self.deployed_dtype, "median_rel_error": middle, "digits": digits}

    @staticmethod
    def join(parts: Sequence[Judgement]) -> Judgement:
        """Put groups of examples back together."""
        if len(parts) == 1:
            return parts[0]
        whole: dict[str, Any] = {}
        for field in fields(Judgement):
            values = [getattr(p, field.name) for p in parts]
            if isinstance(values[0], np.ndarray):
                whole[field.name] = np.concatenate(values)
            elif isinstance(values[0], dict):
                names = dict.fromkeys(name for value in values for name in value)
                whole[field.name] = {name: sum(value.get(name, 0) for value in values) for name in names}
            elif isinstance(values[0], int):
                whole[field.name] = sum(values)
            elif isinstance(values[0], str):
                whole[field.name] = max(values)  # one that says something
            else:
                whole[field.name] = values[0]
        return Judgement(**whole)
