"""Whole data sets: one row for each example, on one machine or many, and nothing lost when something dies."""

from __future__ import annotations

from fdfast.sweeps.call import sweep
from fdfast.sweeps.found import Sweep
from fdfast.sweeps.manifest import Mismatch
from fdfast.sweeps.run import Interrupted
from fdfast.sweeps.shards import DataError

__all__ = ["DataError", "Interrupted", "Mismatch", "Sweep", "sweep"]
