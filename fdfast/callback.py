"""A Keras callback that checks the gradient of a model while it is trained."""

from __future__ import annotations

import inspect
import warnings
from typing import Any, Literal

import keras
import numpy as np

from fdfast.check import gradcheck
from fdfast.moves import check_choice
from fdfast.report import Report

_KEYS = ("gradcheck_pass", "gradcheck_coverage", "gradcheck_wrong", "gradcheck_median_rel_error")


class GradientCheck(keras.callbacks.Callback):  # type: ignore[misc]
    """`fdfast.gradcheck` of the model at the end of every k-th epoch, into the logs.

    Weights, statistics, optimizer and random generators are left as they were: training goes on as if nothing had
    been checked.

    Parameters
    ----------
    x : array_like of float, shape (examples, *shape) or (*shape)
        Where the gradient is checked; a few examples are enough. Never written.
    y : array_like
        Target of the loss, one per example.
    every : int
        Check after epochs `every`, 2 `every`, and so on, counted from 1.
    on_fail : {"warn", "raise"}
        What to do about a wrong gradient: a RuntimeWarning with the report, or an AssertionError with it.
    **options
        Further arguments of `fdfast.gradcheck`; without `loss` the compiled one is taken.

    Attributes
    ----------
    reports : dict of int to Report
        By number of the epoch, from 1.

    Raises
    ------
    TypeError
        An option is none of `gradcheck`, or `every` is not an int.
    ValueError
        `every` is below 1, or `on_fail` is none of the two words.
    AssertionError
        In training: the verdict is "fail" and ``on_fail="raise"``.

    Notes
    -----
    Logs hold ``gradcheck_pass`` (1 for the verdict "pass", else 0), ``gradcheck_coverage``, ``gradcheck_wrong`` (tiles)
    and ``gradcheck_median_rel_error`` (over the tiles that are smooth at x); NaN in epochs without a check, so that
    every list in the history has one entry per epoch. One line is printed per check unless ``fit(verbose=0)``. An
    inconclusive check is printed, logged and never raised: saturated losses come and go in training.

    Examples
    --------
    >>> model.fit(x, y, epochs=9, callbacks=[fdfast.GradientCheck(x[:2], y[:2], every=3)])  # doctest: +SKIP
    """

    def __init__(
        self, x: Any, y: Any, every: int = 1, *, on_fail: Literal["warn", "raise"] = "warn", **options: Any
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int | np.integer):
            raise TypeError(f"every must be an int, the number of epochs between checks, got {every!r}")
        if every < 1:
            raise ValueError(f"every={every} must be at least 1")
        check_choice("on_fail", on_fail, ("warn", "raise"))
        known = {name for name, p in inspect.signature(gradcheck).parameters.items() if p.kind is p.KEYWORD_ONLY}
        unknown = sorted(set(options) - known)
        if unknown:
            raise TypeError(f"gradcheck has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        self.reports: dict[int, Report] = {}
        self._x, self._y, self._every, self._on_fail, self._options = x, y, int(every), on_fail, options

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check, log, print; warn or raise if a gradient is wrong."""
        logs = {} if logs is None else logs
        logs.update(dict.fromkeys(_KEYS, float("nan")))
        number = epoch + 1
        if number % self._every:
            return
        report = gradcheck(self.model, self._x, self._y, **self._options)
        self.reports[number] = report
        found = (
            float(bool(report)),
            report.coverage,
            float(report.counts["wrong"]),
            report.metrics_smooth["median_rel_error"],
        )
        logs.update(zip(_KEYS, found, strict=True))
        if self.params.get("verbose", 1):
            print(f"\n{_line(report, number)}")
        if report.verdict == "fail":
            if self._on_fail == "raise":
                raise AssertionError(f"epoch {number}:\n{report}")
            warnings.warn(f"epoch {number}: the gradient is wrong\n{report}", RuntimeWarning, stacklevel=2)


def _line(report: Report, number: int) -> str:
    wrong = report.counts["wrong"]
    why = f": {report.reasons[0]}" if report.verdict == "inconclusive" and report.reasons else ""
    return (
        f"gradcheck after epoch {number}: {report.verdict.upper()}, coverage {100 * report.coverage:.4g} %, "
        f"{wrong} wrong of {report.codes.size} tiles, {report.timings['total']:.2g} s{why}"
    )
