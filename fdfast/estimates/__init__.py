"""From differences to derivatives: value, error bar, one-sided slopes and kind of every tile.

The measured noise of f and the choice of further steps are here; what the analytic side says is not.
"""

from __future__ import annotations

from fdfast.estimates.estimate import KINK, SMOOTH, Engine, Estimate
from fdfast.estimates.tiles import estimate_tiles, slopes

__all__ = ["KINK", "SMOOTH", "Engine", "Estimate", "estimate_tiles", "slopes"]
