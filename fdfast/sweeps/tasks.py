"""What is done with one shard: a pure function of model, examples and options, wherever it runs."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fdfast.attack import masking, pgd
from fdfast.check import gradcheck, gradient
from fdfast.moves import check_choice
from fdfast.sweeps.rows import (
    ATTACKED,
    CHECKED,
    COMMON,
    MASKED,
    SLOPES,
    error_row,
    row_of_attack,
    row_of_gradient,
    row_of_masking,
    row_of_report,
    table_of,
)
from fdfast.sweeps.shards import Array, Shard
from fdfast.tape import steady

if TYPE_CHECKING:
    import pyarrow as pa

    from fdfast.report import Report

Task = Literal["gradcheck", "gradient", "attack", "masking"]
Keep = Literal["summary", "maps"]
#: Of a report's part, what is kept with keep="maps".
MAPS = ("numeric", "analytic", "error_bar", "right", "left", "codes", "near")
#: Options that no sweep can pass on, with the reason.
_NOT_PASSED = {
    "progress": "progress= of fdfast.sweep counts examples",
    "label": "a row has its own",
    "analytic": "a gradient of your own belongs to one point; give the model a custom gradient, or loop over gradcheck",
    "targeted": "targets come with the data, and are those that it leads away from",
    "y": "targets come with the data",
}


@dataclass(frozen=True, eq=False)
class Result:
    """What came out of one shard.

    Attributes
    ----------
    table : pyarrow.Table
        One row for each example.
    maps : bytes or None
        An ``.npz`` archive.
    """

    table: pa.Table
    maps: bytes | None


def check_options(task: str, options: Mapping[str, Any]) -> None:
    """Raise unless a task takes the options."""
    check_choice("task", task, get_args(Task))
    if task in ("attack", "masking") and "epsilon" not in options:
        raise TypeError(f"task={task!r} needs epsilon=, how far each element may move, in the units of x")
    for name in options:
        if name in _NOT_PASSED:
            raise TypeError(f"{name} cannot be given to a sweep: {_NOT_PASSED[name]}")
    if options.get("wrt", "input") not in ("auto", "input"):
        raise ValueError(
            f"wrt={options['wrt']!r} cannot be swept over examples: the gradient by the weights is that of all "
            "examples "
            "together, fdfast.gradcheck(model, x, y, wrt='weights')"
        )


class Work:
    """One task with its options, to be done with many shards.

    Parameters
    ----------
    model : keras.Model
    task : {"gradcheck", "gradient"}
    options : dict
        Of the task's function.
    keep : {"summary", "maps"}
    checkpoint : str or None
        Goes into every row.
    """

    def __init__(
        self, model: Any, task: Task, options: Mapping[str, Any], keep: Keep, checkpoint: str | None = None
    ) -> None:
        self.model, self._task, self._options = model, task, dict(options)
        self._keep, self.checkpoint = keep, checkpoint
        self._alone: bool | None = None

    @property
    def asked(self) -> tuple[Any, ...]:
        """What it was made of, besides the model."""
        return self._task, self._options, self._keep, self.checkpoint

    def __call__(self, shard: Shard) -> Result:
        """Return rows and maps of a shard."""
        started = time.perf_counter()
        with steady():  # or the bits would depend on what the process has done before
            rows, maps = _TASKS[self._task][0](self, shard)
        seconds = (time.perf_counter() - started) / len(shard)
        for i, row in enumerate(rows):
            row |= {
                "index": shard.first + i,
                "file": shard.file,
                "key": shard.keys[i] if shard.keys else None,
                "checkpoint": self.checkpoint,
                "seconds": seconds,
            }
        return Result(
            table_of(rows, COMMON | _TASKS[self._task][1]), _archive(maps, shard) if self._keep == "maps" else None
        )

    def reports(self, shard: Shard) -> list[Report | ValueError]:
        """One report for each example, or what is wrong with it.

        They are checked together, or each on its own where directions check it: those tell of a batch as a whole.
        What decides between the two is the same in every process: the shapes, and whether one of the shard is refused.
        """
        if self._alone is None and not isinstance(first := self._one(shard, 0), ValueError):
            self._alone = first.check == "directions"
        if self._alone is False:
            with contextlib.suppress(ValueError):
                whole = gradcheck(self.model, shard.x, shard.y, **self._options)
                return [whole[i] for i in range(len(shard))]
        return [self._one(shard, i) for i in range(len(shard))]

    def again(self, shard: Shard, i: int, row: Mapping[str, Any]) -> Report | ValueError:
        """Return the report that a row of a shard was made of."""
        with steady():
            found = self._one(shard, i)
            # Alone, an example has other random points near it: where that shows, all of the shard are checked.
            same = not isinstance(found, ValueError) and all(row[name] == n for name, n in found.counts.items())
            report = found if same else self.reports(shard)[i]
        if isinstance(report, ValueError):
            return report
        # It was the first of its call, and is called by its number in the shard's file.
        name = (report.label or "").rpartition(", example ")[0] or report.label
        named: Report = replace(report, label=f"{name}, example {shard.first + i}")
        return named

    def _one(self, shard: Shard, i: int) -> Report | ValueError:
        some = slice(i, i + 1)
        try:
            report: Report = gradcheck(self.model, shard.x[some], shard.y[some], **self._options)[0]
            return report
        except ValueError as error:
            return error

    def _checked(self, shard: Shard) -> tuple[list[dict[str, Any]], list[Mapping[str, Array]]]:
        reports = self.reports(shard)
        _refuse_if_all(shard, reports)
        rows = [error_row(one) if isinstance(one, ValueError) else row_of_report(one) for one in reports]
        maps: list[Mapping[str, Array]] = [
            {} if isinstance(one, ValueError) else {name: getattr(one.parts[0], name) for name in MAPS}
            for one in reports
        ]
        return rows, maps

    def _gradients(self, shard: Shard) -> tuple[list[dict[str, Any]], list[Mapping[str, Array]]]:
        def of(some: slice) -> Any:
            return gradient(self.model, shard.x[some], y=shard.y[some], **self._options)

        try:
            found = list(of(slice(None)))
        except ValueError:
            found = [_tried(of, i) for i in range(len(shard))]
            _refuse_if_all(shard, found)
        rows = [error_row(one) if isinstance(one, ValueError) else row_of_gradient(one) for one in found]
        return rows, [{} if isinstance(one, ValueError) else {"gradient": one} for one in found]

    def _attacked(self, shard: Shard) -> tuple[list[dict[str, Any]], list[Mapping[str, Array]]]:
        each = self._together_or_alone(shard, pgd)
        rows = [error_row(one) if isinstance(one, ValueError) else row_of_attack(*one) for one in each]
        maps: list[Mapping[str, Array]] = [
            {} if isinstance(one, ValueError) else {"adversarial": one[0].adversarial[one[1]]} for one in each
        ]
        return rows, maps

    def _masked(self, shard: Shard) -> tuple[list[dict[str, Any]], list[Mapping[str, Array]]]:
        each = self._together_or_alone(shard, masking)
        rows = [error_row(one) if isinstance(one, ValueError) else row_of_masking(*one) for one in each]
        return rows, [{} for _ in rows]

    def _together_or_alone(self, shard: Shard, do: Callable[..., Any]) -> list[Any]:
        """A result and the place in it for each example; one by one where one of them is refused, or what it says."""
        with contextlib.suppress(ValueError):
            found = do(self.model, shard.x, shard.y, **self._options)
            return [(found, i) for i in range(len(shard))]

        def of(some: slice) -> Any:
            return [(do(self.model, shard.x[some], shard.y[some], **self._options), 0)]

        each = [_tried(of, i) for i in range(len(shard))]
        _refuse_if_all(shard, each)
        return each


#: What does a task, and what its rows have besides `COMMON`.
_TASKS: dict[str, tuple[Callable[[Work, Shard], tuple[list[dict[str, Any]], list[Mapping[str, Array]]]], Any]] = {
    "gradcheck": (Work._checked, CHECKED),
    "gradient": (Work._gradients, SLOPES),
    "attack": (Work._attacked, ATTACKED),
    "masking": (Work._masked, MASKED),
}


def _tried(of: Callable[[slice], Any], i: int) -> Any:
    try:
        return of(slice(i, i + 1))[0]
    except ValueError as error:
        return error


def _refuse_if_all(shard: Shard, found: list[Any]) -> None:
    """One example may be of no use; that all of a shard are so is a mistake in the call."""
    errors = [one for one in found if isinstance(one, ValueError)]
    if len(errors) == len(found):
        raise type(errors[0])(f"{shard.where} cannot be used: {errors[0]}") from errors[0]


def _archive(maps: list[Mapping[str, Array]], shard: Shard) -> bytes:
    """Maps of a shard, with an axis of examples in front; NaN, or code -1, for examples without."""
    like = next((one for one in maps if one), {})
    stacked = {name: np.stack([one.get(name, _nothing(array)) for one in maps]) for name, array in like.items()}
    stream = io.BytesIO()
    index = np.arange(shard.first, shard.first + len(shard))
    arrays: dict[str, Any] = {"index": index, "x": shard.x, **stacked}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _nothing(like: Array) -> Array:
    return np.full_like(like, np.nan if like.dtype.kind == "f" else -1 if like.dtype.kind == "i" else False)
