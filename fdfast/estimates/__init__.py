"""From differences to derivatives: value, error bar, one-sided slopes and kind of every tile.

The measured noise of f and the choice of further steps are here; what the analytic side says is not.
"""

from __future__ import annotations

from fdfast.estimates.estimate import KINK, SINGULAR, SMOOTH, UNRESOLVED, Engine, Estimate
from fdfast.estimates.tiles import estimate_tiles, slopes
from fdfast.estimates.wider import Wider, look_wider, rough_tiles, widest
from fdfast.estimates.without_slope import ABOVE, BELOW, JUMP, NOTHING, STEEP, UNDEFINED, Breaks, breaks

__all__ = [
    "ABOVE",
    "BELOW",
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
    "Wider",
    "breaks",
    "estimate_tiles",
    "look_wider",
    "rough_tiles",
    "slopes",
    "widest",
]
