"""What is asked of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fdfast.moves import Bounds, StepLike, as_number, check_flag, check_number, check_seed, shown


@dataclass(frozen=True)
class Terms:
    """Tolerances, coverage and the way points near x are chosen; see `fdfast.gradcheck` for each.

    Raises
    ------
    TypeError, ValueError
        One is of another kind, or out of its range.
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
        check_number("rtol", self.rtol, 0.0, np.inf)
        check_number("coverage", self.coverage, 0.0, 1.0)
        if not (isinstance(self.atol, str) and self.atol == "auto"):
            check_number("atol", self.atol, 0.0, np.inf, "'auto' or ")
        check_seed(self.seed)
        check_flag("selftest", self.selftest)
        jitter = self.jitter
        word = jitter is None or (isinstance(jitter, str) and jitter == "auto")
        width = None if word else as_number(jitter)
        if not word and (width is None or not 0 < width < np.inf):
            raise ValueError(f"jitter must be 'auto', None or a positive width in the units of x, got {shown(jitter)}")

    @property
    def floor(self) -> float | None:
        """Absolute error that is tolerated; None for the rounding of the analytic side."""
        return None if self.atol == "auto" else float(self.atol)

    def settings(self) -> dict[str, Any]:
        """What the report says was asked for."""
        names = ("rtol", "atol", "coverage", "jitter", "seed", "h", "bounds")
        return {name: getattr(self, name) for name in names}
