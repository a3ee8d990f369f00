"""Error of the difference engine on real digits, saturated ones included, against a reference in extended precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from bench.difference_reference import DIGITS, Reference
from bench.difference_rig import NAMES, Name, Rig, Size, derivatives, digits, middle, relative
from bench.timing import Row

GOALS: dict[Name, float] = {"float32": 1e-6, "float64": 1e-12}


def rows(size: Size) -> Iterator[Row | str]:
    """Median relative error over the pixels without a tie whose gradient is not zero, by precision and step."""
    model, x, y = digits(size.digits)
    rig, reference = Rig(model, x, y), Reference(model.get_weights())
    exact = np.stack([reference.gradient(image, target) for image, target in zip(x, y, strict=True)]).reshape(
        len(x), -1
    )
    yield f"reference: long double, {DIGITS:.0f} digits; {len(x)} digits, losses {_losses(rig)}"
    loose = np.zeros(exact.shape, bool)
    for name in reversed(NAMES):
        for h in ("auto", 1e-6):
            value, tie, crossed = (v.reshape(exact.shape) for v in derivatives(rig.difference(name, h)))
            if name == "float64" and h == "auto":
                loose = tie < 0
                some = loose & (exact != 0)
                yield f"pixels without a tie: {loose.sum()} of {loose.size}, gradient not zero: {some.sum()}"
            yield _row(name, h, value, exact, loose, crossed)
    for name, found in _autodiff(rig).items():
        errors = [middle(relative(found[i][loose[i]], exact[i][loose[i]])) for i in range(len(x))]
        yield Row(
            f"accuracy: {name} autodiff itself, median over digits / worst digit",
            "",
            f"{middle(errors):.1e} / {np.nanmax(errors):.1e}",
        )


def _row(name: Name, h: float | Literal["auto"], value: Any, exact: Any, loose: Any, crossed: Any) -> Row:
    by_digit = [middle(relative(value[i][loose[i]], exact[i][loose[i]])) for i in range(len(exact))]
    errors = relative(value[loose], exact[loose])
    median = middle(errors)
    return Row(
        f"accuracy: {name}, h={h}: median / 99 % / worst digit's median; branch changes",
        f"<= {GOALS[name]:g}",
        f"{median:.1e} / {np.quantile(errors, 0.99):.1e} / {np.nanmax(by_digit):.1e}; {(crossed >= 0)[loose].sum()}",
        median <= GOALS[name],
    )


def _autodiff(rig: Rig) -> dict[Name, Any]:
    found: dict[Name, Any] = {}
    for name in reversed(NAMES):
        objective = rig.objective(name)
        found[name] = objective.gradient(rig.points.astype(objective.dtype)).reshape(rig.points.shape)
    return found


def _losses(rig: Rig) -> str:
    base = np.concatenate([found.base for found in rig.difference("float64", tiles=np.empty(0, np.int64))])
    return f"{base.min():.1e} to {base.max():.1e}"
