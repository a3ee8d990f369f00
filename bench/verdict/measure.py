"""One subject: checked without a fault, then with one fault after the other, by three routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fdfast
from bench.verdict.faults import DISTORTIONS, FAULTS
from bench.verdict.rules import Numerics, losses
from bench.verdict.subject import EFFECT, Float64, Subject

_ROUNDING = 1 - 1e-6  # 1.001 - 1 is a little less than 1e-3


@dataclass(frozen=True)
class Record:
    """What came of one check.

    `effect` is the largest relative change of the gradient that a fault makes on a smooth tile that counts;
    `located` is None unless the fault is one pixel; `rules` tells who else accused.
    """

    case: str
    route: str
    fault: str
    verdict: str
    coverage: float = 0.0
    wrong: int = 0
    tiles: int = 0
    effect: float = 0.0
    located: bool | None = None
    rules: dict[str, bool] = field(default_factory=dict)
    note: str = ""

    @property
    def correct(self) -> bool:
        return self.fault == "none"

    @property
    def to_be_found(self) -> bool:
        return self.effect >= EFFECT * _ROUNDING

    @property
    def found(self) -> bool:
        return self.verdict == "fail"


Show = Callable[[str, Any], None]


class Bench:
    """Checks a subject; every report goes through `show` together with the name of its case."""

    def __init__(self, subject: Subject, show: Show | None = None) -> None:
        self._subject, self._show = subject, show

    def run(self, route: str, fault: str) -> list[Record]:
        """All examples of the subject with one fault; what raises is a record too."""
        routes = {
            "autodiff": self._correct,
            "layer": self._by_layer,
            "array": self._by_array,
            "callable": self._by_callable,
        }
        try:
            return list(routes[route](fault))
        except Exception as error:
            return [raised(f"{self._subject.name}/0/{route}:{fault}", route, fault, error)]

    def _correct(self, fault: str) -> Iterator[Record]:
        s = self._subject
        report = fdfast.gradcheck(s.model, s.x, s.y, loss=s.loss)
        accused = s.numerics.accusations(s.truth, s.truth32)
        yield from self._records("autodiff", fault, lambda i: report[i], rules=accused)

    def _by_layer(self, fault: str) -> Iterator[Record]:
        """Autodiff of the model and of its float64 copy are wrong alike."""
        s, place = self._subject, self._subject.plan.place(fault)
        parts = FAULTS[fault].parts(place, s.plan.spec.loss if s.plan.spec else "")
        model, loss = s.make(parts)
        double, single = s.objectives(model, loss)
        faulty, faulty32 = s.gradients(double)
        numerics, truth, smooth = s.numerics, s.truth, s.smooth
        if fault.startswith("straight-through"):
            # Rounding makes f another function: flat wherever it is smooth.
            numerics = Numerics.of(double, single, s.points, s.direction)
            truth, smooth = np.zeros_like(truth), s.tiles((numerics.right == 0) & (numerics.left == 0), np.all)
            smooth = smooth & s.readable
        report = fdfast.gradcheck(model, s.x, s.y, loss=loss)
        # Keras does not see logits behind a softmax of ours and clips the loss: where it does, f is not the same.
        same = np.isclose(losses(double, s.points, 0 * s.points[:1])[:, 0], numerics.base, rtol=1e-6, atol=0)
        effect = np.where(same, s.effect(faulty, truth, smooth), 0.0)
        accused = numerics.accusations(faulty, faulty32)
        places = [place] * len(s.x) if fault in DISTORTIONS else None
        yield from self._records("layer", fault, lambda i: report[i], effect, accused, places)

    def _by_array(self, fault: str) -> Iterator[Record]:
        """Without a fault this is the control: the true gradient, but no second look near x."""
        s = self._subject
        places = [s.spot(i, fault) if "pixel" in fault else s.plan.place(fault) for i in range(len(s.x))]
        faulty, faulty32 = (s.truth, s.truth32) if fault == "none" else s.distorted(fault, places)
        report = fdfast.gradcheck(s.model, s.x, s.y, loss=s.loss, analytic=faulty.reshape(s.x.shape))
        effect, accused = s.effect(faulty, s.truth, s.smooth), s.numerics.accusations(faulty, faulty32)
        yield from self._records("array", fault, lambda i: report[i], effect, accused, places)

    def _by_callable(self, fault: str) -> Iterator[Record]:
        """A backward pass as a function of x, for one example of the subject: the function does not see y."""
        s, place = self._subject, self._subject.plan.place(fault)
        which = s.plan.number % len(s.x)
        faulty, faulty32 = s.distorted(fault, [place] * len(s.x))
        own = s.double.select([which])

        def backward(x: Any) -> Any:
            g = own.gradient(np.reshape(x, (1, -1)).astype(np.float64))
            return np.asarray(DISTORTIONS[fault](g.reshape(1, *s.x.shape[1:]), place))[0]

        def check(i: int) -> Any:
            return fdfast.gradcheck(s.model, s.x[i], s.y[i], loss=s.loss, analytic=backward)

        effect = s.effect(faulty, s.truth, s.smooth)
        accused = s.numerics.accusations(faulty, faulty32)
        yield from self._records("callable", fault, check, effect, accused, [place] * len(s.x), [which])

    def _records(
        self,
        route: str,
        fault: str,
        report_of: Callable[[int], Any],
        effect: Float64 | None = None,
        rules: dict[str, Any] | None = None,
        places: list[tuple[int, ...]] | None = None,
        which: list[int] | None = None,
    ) -> Iterator[Record]:
        s = self._subject
        for i in range(len(s.x)) if which is None else which:
            report = report_of(i)
            case = f"{s.name}/{i}/{route}:{fault}"
            if self._show:
                self._show(case, report)
            yield Record(
                case,
                route,
                fault,
                report.verdict,
                report.coverage,
                report.counts["wrong"],
                report.codes.size,
                0.0 if effect is None else float(effect[i]),
                _located(report, places[i]) if places and "pixel" in fault else None,
                {rule: bool(accused[i]) for rule, accused in (rules or {}).items()},
            )


def raised(case: str, route: str, fault: str, error: Exception) -> Record:
    """A check that did not come to a verdict."""
    # TensorFlow puts the whole call stack into its messages.
    lines = [line for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith("File ")]
    return Record(case, route, fault, "error", note=f"{type(error).__name__}: {' '.join(lines)[:400]}")


def _located(report: Any, place: tuple[int, ...]) -> bool:
    worst = report.worst(1)[0]
    spatial = len(report.shape) - 1 if len(report.shape) > 1 else 1
    return worst["class"] == "wrong" and report.counts["wrong"] == 1 and worst["index"][:spatial] == place[:spatial]
