"""Which layer is to blame for a gradient that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fdfast.functions import Gap, Unit
from fdfast.verdict.compare import UNRESOLVED, WRONG
from fdfast.verdict.whole import Whole

_ROUNDING = 1e-11  # of what a part's inputs and outputs are worth, added up
_MINOR = 1e-3  # of the largest gap: less is not to blame
_NEAR_ONE = 64 * 2.0**-52  # of what `Gap.reach` says
_STEADY = 0.1  # of a gap that is a fault, what it changes by right beside the point
_STAIRS = (
    "values are quantized in the forward pass, and the gradient goes straight through. It is that of the model without "
    "quantization: check that one."
)
#: By kind of operation.
_ON_PURPOSE = {
    "StopGradient": (
        "what passes through it is detached, so the gradient leaves it out (tf.stop_gradient). If that is meant, the "
        "gradient is that of another f, in which it is a constant: compute it outside of f, and pass that."
    ),
    **{f"FakeQuantWithMinMax{which}": _STAIRS for which in ("Args", "Vars", "VarsPerChannel")},
    **{kind: _STAIRS for kind in ("QuantizeAndDequantize", "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3")},
    "QuantizeAndDequantizeV4": _STAIRS,
}


#: tf.nn.moments holds the mean in the variance: the first derivative by it is zero, the second is not.
_DETACHED = (
    "part of it is detached (tf.stop_gradient). A first derivative may be right all the same, where what is held adds "
    "nothing to it; a second derivative then is not. tf.nn.moments does so with the mean, and with it layer and group "
    "normalisation: write out tf.reduce_mean(tf.square(x - tf.reduce_mean(x, ...)), ...) where second derivatives "
    "count."
)


_DROPPED = (
    "TensorFlow has declared {kind} as not differentiable, so second derivatives through it are lost without a word. "
    "fdfast.hvp has them."
)


@dataclass(frozen=True)
class Culprits:
    """What came of looking at every part by itself.

    Attributes
    ----------
    wrong : list of Unit
        Parts whose gradient parts from their differences, the last ones first.
    right : int
        Number of the others.
    rounding : list of Unit
        Parts that part by rounding: by what has another sign from point to point.
    """

    wrong: list[Unit]
    right: int
    rounding: list[Unit] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the wrong ones."""
        return list(dict.fromkeys(unit.name for unit in self.wrong))

    @property
    def on_purpose(self) -> list[str]:
        """What is said of operations whose gradient is not that of what they compute, and is not meant to be."""
        said = [
            f"{unit.name}: {_ON_PURPOSE[unit.outputs[0].op.type]}"
            for unit in self.wrong
            if unit.kind == "operation" and unit.outputs and unit.outputs[0].op.type in _ON_PURPOSE
        ]
        holding = list(dict.fromkeys(u.name for u in self.wrong if u.detaches and u.kind != "operation"))
        said += [f"{', '.join(holding)}: {_DETACHED}"] if holding else []
        lost = {kind: unit.name for unit in reversed(self.wrong) for kind in unit.dropped}
        return said + [f"{name}: {_DROPPED.format(kind=kind)}" for kind, name in lost.items()]


def culprits(gaps: Sequence[Gap]) -> Culprits:
    """Tell whose gap is more than rounding, and more than a trifle beside the largest.

    A part in which units tie has a gap by that alone: it is to blame only where no other is.
    """
    largest = max((float(np.abs(gap.value).max()) for gap in gaps if np.isfinite(gap.value).all()), default=0.0)
    wrong = []
    for gap in reversed(gaps):
        with np.errstate(invalid="ignore"):
            if not np.all(np.abs(gap.value) <= np.maximum(_ROUNDING * gap.size, _MINOR * largest)):
                wrong.append(gap.unit)
    tied = {id(gap.unit) for gap in gaps if gap.tied}
    wrong = [unit for unit in wrong if id(unit) not in tied] or wrong
    return Culprits(wrong, len(gaps) - len(wrong))


def without_rounding(found: Culprits, here: Sequence[Gap], beside: Iterable[Sequence[Gap]]) -> Culprits:
    """Clear parts whose gap is rounding: it is that small, or has this sign and that beside, where a fault's goes on.

    Parameters
    ----------
    found : Culprits
        By the gaps at the point.
    here : sequence of Gap
    beside : iterable of sequence of Gap
        At points beside it. The first is enough where the gaps of all that is to blame hardly change.
    """
    accused = {id(unit) for unit in found.wrong}
    cleared = {id(gap.unit) for gap in here if np.all(np.abs(gap.value) <= _NEAR_ONE * gap.reach)} & accused
    numbers = [i for i, gap in enumerate(here) if id(gap.unit) in accused - cleared]
    gathered = [[here[i].value] for i in numbers]
    for there in beside if numbers else ():
        for mine, i in zip(gathered, numbers, strict=True):
            mine.append(there[i].value)
        if len(gathered[0]) == 2 and all(np.all(abs(b - a) <= _STEADY * abs(a)) for a, b in gathered):
            break
    cleared |= {id(here[i].unit) for i, mine in zip(numbers, gathered, strict=True) if _turns(np.array(mine))}
    return replace(
        found,
        wrong=[unit for unit in found.wrong if id(unit) not in cleared],
        right=found.right + len(cleared),
        rounding=[unit for unit in found.wrong if id(unit) in cleared],
    )


def _turns(values: npt.NDArray[np.float64]) -> bool:
    """Whether what is no trifle has both signs along every direction; shape (points, directions)."""
    if not np.isfinite(values).all():
        return False
    big = np.abs(values) > _MINOR * np.abs(values).max(axis=0)
    return bool(((values > 0) & big).any(axis=0).all() and ((values < 0) & big).any(axis=0).all())


def excuse(found: Whole, guilty: Culprits | None) -> Culprits | None:
    """Leave open what is wrong by rounding alone; returns who is to blame for the rest."""
    if guilty is None or guilty.wrong or not guilty.rounding:
        return guilty
    found.codes = [np.where(one == WRONG, np.int8(UNRESOLVED), one) for one in found.codes]
    found.blurred = list(dict.fromkeys(unit.name for unit in guilty.rounding))
    return None
