"""One row of a function through a trace of it: what to take where rows are too few to pay for a batched form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from fdfast.functions.over_rows import first_line, quietly
from fdfast.operations import Unmapped
from fdfast.tape import Traced

#: Time of a row in a batch, and of one alone through a trace: in seconds, and beyond that in plain calls. What
#: TensorFlow's kernels take of a plain call is anything from a thirtieth to all of it, so the second one is timed.
BATCHED_ROW, SINGLE_ROW = (4e-6, 0.06), (4e-5, 0.4)
#: Time of a row where the operations of a trace run at many rows: no buffer is used again, as it is in a graph.
STACKED_ROW = (4e-6, 0.075)
#: Rows that go through a new trace before its time per row is known.
PROBED = 16


class Cost(NamedTuple):
    """Time of a way to evaluate: each number in seconds, and beyond that in plain calls of the function."""

    fixed: tuple[float, float]
    row: tuple[float, float]

    def __call__(self, rows: int, call: float) -> float:
        """Seconds for that many rows, where a plain call takes `call` seconds."""
        return self.fixed[0] + self.fixed[1] * call + rows * (self.row[0] + self.row[1] * call)


class Single:
    """A function of tensors, traced as it is, with no batched form; called at a fifth of what a plain call costs.

    Parameters
    ----------
    f : callable
    specs : sequence of tf.TensorSpec

    Attributes
    ----------
    seconds : float or None
        Of one call, once its user has timed it.
    traced : Traced

    Raises
    ------
    Unmapped
        TensorFlow cannot trace it.
    """

    def __init__(self, f: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> None:
        self.seconds: float | None = None
        function = tf.function(f, input_signature=specs, autograph=False)
        try:
            with quietly():
                self.traced = Traced(function, optimised=False)
        except Exception as error:
            raise Unmapped(f"TensorFlow cannot trace it ({first_line(error)})") from error

    def __call__(self, *tensors: Any) -> Any:
        """Return what the function returns; Unmapped if TensorFlow cannot run what it has traced."""
        try:
            return self.traced(*tensors)
        except tf.errors.OpError as error:
            raise Unmapped(f"TensorFlow cannot run its traced form ({first_line(error)})") from error


def cheapest(
    rows: int, call: float, single: Cost, batched: Cost, form: Single | None, stacked: Cost | None = None
) -> Literal["loop", "single", "batched", "stacked"]:
    """Which way is estimated to be the fastest; `form` is what an earlier evaluation has traced."""
    alone, over = single(rows, call), stacked(rows, call) if stacked else float("inf")
    if form is not None:
        alone = rows * (form.seconds or single.row[0] + single.row[1] * call)
        over -= single.fixed[0] + single.fixed[1] * call  # the trace is the same
    loop, together = rows * call, batched(rows, call)
    if loop <= min(alone, together, over):
        return "loop"
    if over <= min(alone, together):
        return "stacked"
    return "single" if alone <= together else "batched"


def pays(rows: int, form: Single, call: float, batched: Cost) -> bool:
    """Whether to go on one by one, now that a row has been timed, for that many rows."""
    # The estimate of a batched form is a rough one, and what was spent on this one is lost.
    return rows * (form.seconds or 0.0) <= 1.5 * batched(rows, call)
