"""Exact differences of a model's loss at one batch of points after the other, as the steps of an attack ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.subject import Subject
from fdfast.check import gradient as finite_difference
from fdfast.engines import Untrusted
from fdfast.every_tile import gradient_of
from fdfast.moves import Channels, Precision, TileLike
from fdfast.problem import Problem, Request, problem_of

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


class ExactSlopes:
    """Gradients of the loss by differences, shape (points, *shape), at points of some examples.

    A model that the compiled kernels know is looked at once, when this is made, and must stay as it is.

    Parameters
    ----------
    subject : Subject
        A model; its state is kept by `fdfast.attack.subject.subject_of`.
    loss, tile, channels
        As of `fdfast.gradient`.
    narrow : bool
        Whether those kernels work in the model's own precision. They start from values in float64 and cancel nothing,
        so that in float32 they are right to 1e-7 of the largest, which is enough for a step.
    """

    def __init__(self, subject: Subject, loss: Any, tile: TileLike, channels: Channels, *, narrow: bool) -> None:
        self._subject, self._loss, self._tile, self._channels = subject, loss, tile, channels
        own: Precision = "float32" if narrow and subject.scored.dtype != np.float64 else "auto"
        found = problem_of(Request(subject.f, subject.x, subject.y, loss, tile, channels, precision=own))
        compiled = found.differences
        self._problem: Problem | None = found if compiled is not None and compiled.complete else None

    def __call__(self, points: Array, some: npt.NDArray[np.int64]) -> Float64:
        """Return the gradients."""
        if self._problem is not None:
            whole = self._problem
            rows = points.reshape(len(points), -1).astype(whole.points.dtype)
            try:
                return gradient_of(replace(whole, points=rows, objective=whole.objective.select(some)))
            except Untrusted:
                self._problem = None  # the usual way finds out what of it can be had
        subject = self._subject
        return finite_difference(
            subject.f, points, y=subject.targets(some), loss=self._loss, tile=self._tile, channels=self._channels
        )
