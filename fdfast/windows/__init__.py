"""Windows: what of a tape the compiled kernels do, and differences of tiles by them.

A tile of x moves a window of each value behind it. The kernels compute the differences of these windows alone; what
they do not know follows on whole maps, by the rules of `operations`.
"""

from __future__ import annotations

# The families fill the table.
import fdfast.windows.elementwise
import fdfast.windows.linear
import fdfast.windows.resampling
import fdfast.windows.shapes
import fdfast.windows.volumes  # noqa: F401
from fdfast.windows.at_point import slopes_at, windows_at
from fdfast.windows.lowered import Lowered, lower
from fdfast.windows.program import NotLowered
from fdfast.windows.threads import cores
from fdfast.windows.windows import Windows

__all__ = ["Lowered", "NotLowered", "Windows", "cores", "lower", "slopes_at", "windows_at"]
