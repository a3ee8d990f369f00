"""What moves and how far: tiles, steps, bounds, which inputs, samples of weights.

Arrays and plain data only. Nothing here knows a function, TensorFlow or a verdict.
"""

from __future__ import annotations

from fdfast.moves.asked import (
    Bounds,
    as_bounds,
    as_number,
    check_analytic,
    check_fits,
    check_flag,
    check_max_rows,
    check_number,
    check_progress,
    check_seed,
    check_text,
    check_whole,
    check_wrt,
    shown,
)
from fdfast.moves.directions import FLOOR, Directions, Group
from fdfast.moves.displaced import displace
from fdfast.moves.inputs import Precision, as_array, as_floats, as_gradient, as_points, grain, whole_numbers
from fdfast.moves.sampling import ROWS, Budget, Draw
from fdfast.moves.scheme import (
    CENTRAL,
    SCHEMES,
    StepLike,
    Steps,
    auto_step,
    check_step,
    plan_steps,
    three_point,
    vanishing_step_error,
)
from fdfast.moves.selection import Selection, Wrt, as_argument, select
from fdfast.moves.tiling import Channels, Layout, Reduction, TileLike, Tiling, as_tile, check_choice, make_tiling

__all__ = [
    "CENTRAL",
    "FLOOR",
    "ROWS",
    "SCHEMES",
    "Bounds",
    "Budget",
    "Channels",
    "Directions",
    "Draw",
    "Group",
    "Layout",
    "Precision",
    "Reduction",
    "Selection",
    "StepLike",
    "Steps",
    "TileLike",
    "Tiling",
    "Wrt",
    "all_beside",
    "as_argument",
    "as_array",
    "as_bounds",
    "as_floats",
    "as_gradient",
    "as_number",
    "as_points",
    "as_tile",
    "auto_step",
    "beside",
    "check_analytic",
    "check_choice",
    "check_fits",
    "check_flag",
    "check_max_rows",
    "check_number",
    "check_progress",
    "check_seed",
    "check_step",
    "check_text",
    "check_whole",
    "check_wrt",
    "displace",
    "grain",
    "make_tiling",
    "plan_steps",
    "select",
    "shown",
    "three_point",
    "vanishing_step_error",
    "whole_numbers",
]
