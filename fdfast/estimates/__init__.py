"""From differences to derivatives: value, error bar, one-sided slopes and kind of every tile.

The measured noise of f and the choice of further steps are here; what the analytic side says is not.
"""

from __future__ import annotations

from fdfast.estimates.estimate import KINK, SINGULAR, SMOOTH, UNRESOLVED, Engine, Estimate
from fdfast.estimates.tiles import estimate_tiles, slopes
from fdfast.estimates.without_slope import JUMP, NOTHING, STEEP, UNDEFINED, Breaks, breaks

__all__ = [
    "JUMP",
    "KINK",
    "NOTHING",
    "SINGULAR",
    "SMOOTH",
    "STEEP",
    "UNDEFINED",
    "UNRESOLVED",
    "Breaks",
    "Engine",
    "Estimate",
    "breaks",
    "estimate_tiles",
    "slopes",
]
