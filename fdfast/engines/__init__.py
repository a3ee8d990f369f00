"""How the differences f(row) - f(point) are had: rows in batches, differences through layers, displaced weights.

An engine answers pairs (`Pairs` to `Differences`), in chunks that fit, on whatever device. It knows no derivative, no
error bar and no class.
"""

from __future__ import annotations

from fdfast.engines.batch import BatchEngine, Progress
from fdfast.engines.difference import DifferenceEngine
from fdfast.engines.pairs import Differences, Pairs
from fdfast.engines.tape import TapeEngine
from fdfast.engines.trust import Untrusted
from fdfast.engines.weights import PointValues, WeightPaths

__all__ = [
    "BatchEngine",
    "DifferenceEngine",
    "Differences",
    "Pairs",
    "PointValues",
    "Progress",
    "TapeEngine",
    "Untrusted",
    "WeightPaths",
]
