"""The gradient under test: at x, and at points near it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
#: None for autodiff, an array of examples, or a function from points (examples, size) to such an array.
Analytic = npt.NDArray[Any] | Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None


class Tested:
    """Gradient maps of a group of examples, each asked for once.

    Parameters
    ----------
    objective : fdfast.functions.objective.Objective
    points : ndarray, shape (examples, size)
    given : Analytic
    near : ndarray, shape (examples, size), or None
        Points near x that will be asked for first.

    Attributes
    ----------
    eps : float
        Rounding unit of what the gradient was computed in.
    seconds : float
        Time that went into gradients at x.
    """

    def __init__(
        self, objective: Any, points: npt.NDArray[Any], given: Analytic, near: npt.NDArray[Any] | None
    ) -> None:
        self._objective, self._points, self._given, self._near = objective, points, given, near
        self._here: npt.NDArray[Any] | None = None
        self._ahead: npt.NDArray[Any] | None = None
        self._deployed: Any = None
        self._foreseen: Any = None
        self.eps = float(np.finfo(objective.dtype).eps)
        self.seconds = 0.0

    @property
    def objective(self) -> Any:
        """What is differentiated."""
        return self._objective

    @property
    def has_values_near(self) -> bool:
        """Whether the gradient can be had at points near x: an array has none."""
        return self._given is None or callable(self._given)

    def foresee(self, engine: Any) -> None:
        """Let one call of the model give the values that differences start from together with the gradients."""
        start = time.perf_counter()
        if engine.exact and self._near is not None and self._given is None:
            self._foreseen = engine.foresee(self._points, self._near)
        if self._foreseen is not None:
            self._here, self._ahead = np.split(self._foreseen.gradients, 2)
        self.seconds += time.perf_counter() - start

    def here(self, *, near: bool) -> npt.NDArray[Any]:
        """Maps at x; with `near`, those at the points that will be asked for next are computed in the same call.

        Both together cost hardly more than one of them.
        """
        if self._here is not None:
            return self._here
        start = time.perf_counter()
        count, traced = len(self._points), self._objective.traced is not None
        if near and traced and self._given is None and self._near is not None:
            twice = self._objective.select(np.tile(np.arange(count), 2))
            maps = self._ask(twice, np.concatenate([self._points, self._near]))
            self._here, self._ahead = maps[:count], maps[count:]
        else:
            self._here = self._ask(self._objective, self._points)
        if self._given is None:
            self._deployed = self._objective.deployed_gradient(self._points)
        self.seconds += time.perf_counter() - start
        return self._here

    def near(self, rows: npt.NDArray[np.int64], at: slice, generic: npt.NDArray[Any], *, first: bool) -> Any:
        """Maps of examples ``rows[at]`` at generic points; `first` says that these are the ones foreseen."""
        if first and self._ahead is not None:
            return self._ahead[rows[at]]
        if callable(self._given):
            everyone = self._points.copy()
            everyone[rows[at]] = generic
            return self._ask(self._objective, everyone)[rows[at]]
        return self._ask(self._objective.select(rows[at]), generic)

    def deployed(self) -> tuple[Float64, np.dtype[Any]] | None:
        """Gradient in the model's own precision, and that; None where it is the one under test or not autodiff's."""
        if self._foreseen is not None:
            self._deployed, self._foreseen = self._foreseen.deployed(), None
        found: tuple[Float64, np.dtype[Any]] | None = self._deployed
        return found

    def _ask(self, objective: Any, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._given is None:
            maps: npt.NDArray[Any] | None = objective.gradient(points)
            if maps is None:
                raise TypeError(
                    f"{objective.without_gradient}, so there is no autodiff gradient: pass analytic=, an array or a "
                    "function of x"
                )
            return maps
        maps = self._given(points) if callable(self._given) else self._given
        self.eps = max(self.eps, float(np.finfo(maps.dtype).eps))
        return maps
