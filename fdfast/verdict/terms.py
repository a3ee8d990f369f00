"""What is asked of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fdfast.moves import Bounds, StepLike


@dataclass(frozen=True)
class Terms:
    """Tolerances, coverage and the way points near x are chosen; see `fdfast.gradcheck` for each.

    Raises
    ------
    ValueError
        One is out of its range.
    """

    h: StepLike = "auto"
    bounds: Bounds | None = None
    rtol: float = 1e-4
    atol: float | Literal["auto"] = "auto"
    coverage: float = 0.99
    jitter: float | Literal["auto"] | None = "auto"
    seed: int = 0
    selftest: bool = False

    def __post_init__(self) -> None:
        for name, value, high in (("rtol", self.rtol, np.inf), ("coverage", self.coverage, 1.0)):
            if not 0.0 <= value <= high:
                raise ValueError(f"{name} must be between 0 and {high:g}, got {value}")
        jitter = self.jitter
        width = isinstance(jitter, int | float) and not isinstance(jitter, bool) and 0 < jitter < np.inf
        if not (jitter is None or jitter == "auto" or width):
            raise ValueError(f"jitter must be 'auto', None or a positive width in the units of x, got {jitter!r}")

    @property
    def floor(self) -> float | None:
        """Absolute error that is tolerated; None for the rounding of the analytic side."""
        return None if self.atol == "auto" else float(self.atol)

    def settings(self) -> dict[str, Any]:
        """What the report says was asked for."""
        names = ("rtol", "atol", "coverage", "jitter", "seed", "h", "bounds")
        return {name: getattr(self, name) for name in names}
