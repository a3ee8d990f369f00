"""A model with its inputs, its gradient, and what the usual rules make of it; checked with a fault or without."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import fdfast
from bench.verdict.cases import PER_MODEL, Parts, Spec, build, inputs_of, named, targets_of
from bench.verdict.faults import DISTORTIONS, FAULTS, Place, fits, place_of
from fdfast.functions import model_objective

Float64 = npt.NDArray[np.float64]

CS231N_STEP, CS231N_LIMIT = 1e-5, 1e-2  # the course's step, and the error from which it suspects the gradient
TF_STEP, TF_LIMIT = 1 / 1024, 1e-3  # tf.test.compute_gradient's delta; the limit usual in TensorFlow's tests
TORCH_STEP, TORCH_ATOL, TORCH_RTOL = 1e-6, 1e-5, 1e-3  # torch.autograd.gradcheck's defaults
NAMES = ("CS231n, float32", "CS231n, float64", "tf.test, 1e-3", "one direction")
EFFECT = 1e-3  # relative change that must be found, on a tile with at least this share of the largest gradient
LAYERS, ARRAYS, CALLABLES = 2, 8, 2  # faults per subject by each route; a layer costs a model and its tracing
_ON_DIGITS = ("one pixel 1 %", "diagonal softmax", "bfloat16", "scale 1.001", "one pixel 10 %")


class Subject:
    """The model, with a fault or without; `truth`, `truth32`: its autodiff in float64 and as deployed."""

    def __init__(self, spec: Spec, parts: Parts | None = None, y: Any = None) -> None:
        self.spec, self.x, (self.model, self.loss) = spec, inputs_of(spec, spec.count), build(spec, parts)
        self.y = targets_of(spec, self.model, self.x) if y is None else y
        self.points, how = self.x.reshape(len(self.x), -1).astype(np.float64), (self.x.shape[1:], len(self.x))
        objective = partial(model_objective, self.model, self.y, self.loss, *how, batched=True)
        self.double, single = (objective(precision=name) for name in ("float64", "float32"))
        self.truth = self.double.gradient(self.points).reshape(self.points.shape)
        self.truth32 = self.double.deployed_gradient(self.points)[0].reshape(self.points.shape)
        h, eye = CS231N_STEP, np.eye(self.points.shape[1])
        self.base = self._losses(self.double, 0 * eye[:1])
        plus, minus = (self._losses(self.double, side * h * eye) for side in (1, -1))
        plus32, minus32 = (self._losses(single, side * h * eye) for side in (1, -1))
        far, near = (self._losses(single, side * TF_STEP * eye).astype(np.float32) for side in (1, -1))
        self.right, self.left = (plus - self.base) / h, (self.base - minus) / h
        self.cs32, self.cs64 = (plus32 - minus32) / (2 * h), (plus - minus) / (2 * h)
        self.tf32 = ((far - near) / np.float32(2 * TF_STEP)).astype(np.float64)
        u = np.random.default_rng([spec.seed, spec.number]).random(len(eye))
        self.direction = u / np.linalg.norm(u)
        ends = self._losses(self.double, TORCH_STEP * np.stack([self.direction, -self.direction]))
        self.along = (ends[:, 0] - ends[:, 1]) / (2 * TORCH_STEP)
        self.readable = self._readable()
        # Right and left slopes agree to 1 %, and their mean is the truth to 0.1 %: behind a softmax saturated beyond
        # float64, autodiff itself is not the truth, and no fault can be due.
        size = np.maximum(np.abs(self.right), np.abs(self.left))
        near = (np.abs(self.right - self.left) <= 0.01 * size) & (np.abs(self.cs64 - self.truth) <= 1e-3 * size)
        self.smooth = near & self.readable

    def _losses(self, objective: Any, offsets: Float64) -> Float64:
        """f at every point displaced by every offset, (examples, offsets); the sums are rounded as x's dtype does."""
        x = self.points.astype(objective.dtype)
        rows = (x[:, None] + offsets.astype(objective.dtype)).reshape(-1, *objective.shape)
        example = np.repeat(np.arange(len(x), dtype=np.int32), len(offsets))
        return np.asarray(objective.tensor_values(tf.constant(rows), example, 256)).reshape(len(x), -1)

    def _readable(self) -> Any:
        """Examples whose float64 autodiff can show an effect at all, shape (examples, 1).

        Behind a softmax it keeps eps / loss of relative precision; and a slope that moves f by less than its last place
        over the whole range of x shows in no difference of f.
        """
        eps, sharp = np.finfo(float).eps, self.double.traced.is_sharp
        slope = np.abs(self.truth).max(axis=1) * np.abs(self.points).max(axis=1)
        seen = slope[:, None] > 2**10 * eps * np.abs(self.base)
        return seen & ((self.base >= 4 * eps / EFFECT) | (not sharp))

    def accusations(self, double: Float64, single: Float64) -> dict[str, Any]:
        """Which examples each rule calls wrong, given the gradient under test in float64 and float32."""
        allowed = TORCH_ATOL * self.direction.sum()  # torch adjusts atol to the direction in this way
        off = np.abs(self.along - double @ self.direction)
        return {
            NAMES[0]: cs231n_error(self.cs32, single) > CS231N_LIMIT,
            NAMES[1]: cs231n_error(self.cs64, double) > CS231N_LIMIT,
            NAMES[2]: np.abs(self.tf32 - single).max(axis=1) >= TF_LIMIT,
            NAMES[3]: off > allowed + TORCH_RTOL * np.abs(self.along),
        }

    def effect(self, faulty: Float64, truth: Float64, smooth: Any) -> Float64:
        """Largest relative change on a smooth tile that counts, per example."""
        size = np.maximum(np.abs(truth), np.abs(faulty))
        counts = smooth & (size > 0) & (size >= EFFECT * size.max(axis=1, keepdims=True))
        with np.errstate(all="ignore"):
            return np.where(counts, np.abs(faulty - truth) / np.abs(truth), 0.0).max(axis=1)

    def spot(self, i: int, fault: str) -> Place:
        """Draw an element of one example, among those that are smooth and not negligible."""
        size = np.abs(self.truth[i])
        counts = np.flatnonzero(self.smooth[i] & (size > 0) & (size >= EFFECT * size.max()))
        rng = np.random.default_rng([self.spec.seed, self.spec.number, i, len(fault)])
        found = np.unravel_index(rng.choice(counts) if counts.size else 0, self.x.shape[1:])
        return tuple(int(n) for n in found)

    def distorted(self, fault: str, places: list[Place]) -> list[Float64]:
        both = [g.reshape(self.x.shape) for g in (self.truth, self.truth32)]
        spoilt = [[DISTORTIONS[fault](g[i : i + 1], place) for i, place in enumerate(places)] for g in both]
        return [np.concatenate(parts).reshape(self.points.shape) for parts in spoilt]


def cs231n_error(a: Float64, b: Float64) -> Float64:
    """max |a - b| / max(1e-8, |a| + |b|) over the coordinates of each example."""
    return np.asarray((np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))).max(axis=-1))


def schedule(pairs: int, seed: int) -> Iterator[tuple[Spec, list[tuple[str, str]]]]:
    """Subjects with the (route, fault) to be run on them: each kind of fault comes about equally often."""
    digits, used = max(1, pairs // 25), Counter[tuple[str, str]]()
    control = [("autodiff", "none"), ("array", "none")]

    def specs(letter: str, count: int) -> Iterator[Spec]:
        for number in range(math.ceil(count / PER_MODEL)):
            yield named(f"{letter}{number:03d}", seed, min(PER_MODEL, count - number * PER_MODEL))

    def least(route: str, faults: Iterable[str], many: int) -> list[tuple[str, str]]:
        chosen = sorted(((route, fault) for fault in faults), key=lambda run: used[run])[:many]
        used.update(chosen)
        return chosen

    def distorted(spec: Spec, arrays: int, callables: int) -> list[tuple[str, str]]:
        fit = [fault for fault in DISTORTIONS if fits(fault, spec)]
        return least("array", fit, arrays) + least("callable", fit, callables)

    for spec in specs("m", pairs - digits):
        by_layer = least("layer", (fault for fault, (suits, _) in FAULTS.items() if suits(spec)), LAYERS)
        yield spec, [*control, *by_layer, *distorted(spec, ARRAYS, CALLABLES)]
    for spec in specs("d", digits):
        yield spec, control
    for number in range(math.ceil(digits / PER_MODEL)):
        spec = named(f"f{number:03d}", seed)
        yield spec, [("layer", _ON_DIGITS[number % len(_ON_DIGITS)]), *distorted(spec, 3, 1)]


class Record(NamedTuple):
    """What came of one check; `located` is None unless the fault is one pixel; `rules` tells who else accused."""

    case: str
    route: str
    fault: str
    verdict: str
    coverage: float = 0.0
    wrong: int = 0
    tiles: int = 0
    effect: float = 0.0
    located: bool | None = None
    rules: Any = None
    note: str = ""

    @property
    def to_be_found(self) -> bool:
        return self.effect >= EFFECT * (1 - 1e-6)  # 1.001 - 1 is a little less than 1e-3

    @property
    def found(self) -> bool:
        return self.verdict == "fail"

    @property
    def odd(self) -> bool:
        """Whether it raised, is a false alarm, or missed a fault."""
        return self.verdict == "error" or (self.found if self.fault == "none" else self.to_be_found and not self.found)

    def __str__(self) -> str:
        seen = f"coverage {self.coverage:.3f}  wrong {self.wrong}/{self.tiles}  effect {self.effect:.2e}"
        return f"{self.case:<44} {self.verdict:<13} {self.note or seen}"


def measure(
    spec: Spec, runs: list[tuple[str, str]], show: Any = lambda case, report: None, by: str = "auto"
) -> Iterator[Record]:
    """All runs of one subject, every report shown with the name of its case; what raises is a record, too."""
    subject: Any = None
    for route, fault in runs:
        try:
            subject = subject or Subject(spec)
            yield from list(check(subject, route, fault, show, by))
        except Exception as error:
            # TensorFlow puts the whole call stack into its messages.
            lines = [line for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith("File ")]
            note = f"{type(error).__name__}: {' '.join(lines)[:400]}"
            yield Record(f"{spec.name}/0/{route}:{fault}", route, fault, "error", note=note)


def check(s: Subject, route: str, fault: str, show: Any, by: str) -> Iterator[Record]:
    """All examples of the subject with one fault, or with none.

    Routes: "autodiff" of the model as it is; a "layer" whose gradient is wrong; an "array", for which there is no
    second look near x; a backward pass as a "callable" of x, for one example, because it does not see y.
    """
    place, t, truth, smooth, same = place_of(s.spec, fault), s, s.truth, s.smooth, np.ones(len(s.x), bool)
    places = [s.spot(i, fault) if route == "array" and "pixel" in fault else place for i in range(len(s.x))]
    if route == "layer":
        t = Subject(s.spec, FAULTS[fault][1](place, s.spec.loss), s.y)
        # Keras does not see logits behind a softmax of ours and clips the loss: where it does, f is not the same.
        same = np.isclose(t.base, s.base, rtol=1e-6, atol=0)[:, 0]
    if fault.startswith("straight-through"):  # rounding makes f another function: flat wherever it is smooth
        truth, same = np.zeros_like(truth), np.ones_like(same)
        smooth = (t.right == 0) & (t.left == 0) & s.readable
    both = (t.truth, t.truth32) if route == "layer" or fault == "none" else s.distorted(fault, places)
    effect, accused = np.where(same, s.effect(both[0], truth, smooth), 0.0), t.accusations(*both)
    given, which = both[0].reshape(s.x.shape) if route == "array" else None, range(len(s.x))
    if route == "callable":
        which = [s.spec.number % len(s.x)]
        how = {"loss": s.loss, "analytic": _backward(s, fault, place, which[0]), "check": by}
        reports = {i: fdfast.gradcheck(s.model, s.x[i], s.y[i], **how) for i in which}
    elif by == "directions":  # of all examples it is one verdict
        how = {"loss": t.loss, "check": by}
        alone = [None] * len(s.x) if given is None else given
        reports = {i: fdfast.gradcheck(t.model, s.x[i], s.y[i], analytic=alone[i], **how) for i in which}
    else:
        reports = fdfast.gradcheck(t.model, s.x, s.y, loss=t.loss, analytic=given)
    for i in which:
        report, case = reports[i], f"{s.spec.name}/{i}/{route}:{fault}"
        show(case, report)
        found = (report.verdict, report.coverage, report.counts["wrong"], report.codes.size, float(effect[i]))
        located = _located(report, places[i]) if "pixel" in fault and fault in DISTORTIONS else None
        yield Record(case, route, fault, *found, located, {rule: bool(some[i]) for rule, some in accused.items()})


def _backward(s: Subject, fault: str, place: Place, i: int) -> Callable[[Any], Any]:
    own = s.double.select([i])

    def backward(x: Any) -> Any:
        g = own.gradient(np.reshape(x, (1, -1)).astype(np.float64))
        return np.asarray(DISTORTIONS[fault](g.reshape(1, *s.x.shape[1:]), place))[0]

    return backward


def _located(report: Any, place: Place) -> bool:
    """Whether what is called wrong is of that pixel, all of it: its channels are tiles of their own."""
    spatial, wrong = len(report.shape) - 1 or 1, report.worst(report.counts["wrong"])
    return bool(wrong) and all(one["index"][:spatial] == place[:spatial] for one in wrong)
