"""Which layer is to blame for a gradient that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fdfast.functions import Gap, Unit
from fdfast.verdict.compare import UNRESOLVED, WRONG
from fdfast.verdict.whole import Whole

_ROUNDING = 1e-11  # of what a part's inputs and outputs are worth, added up
_MINOR = 1e-3  # of the largest gap: less is not to blame
_NEAR_ONE = 64 * 2.0**-52  # of what `Gap.reach` says
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
        Parts that part by no more than what a slope made of numbers near 1 rounds by.
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
    near_one = {id(gap.unit) for gap in gaps if np.all(np.abs(gap.value) <= _NEAR_ONE * gap.reach)}
    rounding = [unit for unit in wrong if id(unit) in near_one]
    wrong = [unit for unit in wrong if id(unit) not in near_one]
    return Culprits(wrong, len(gaps) - len(wrong), rounding)


def excuse(found: Whole, guilty: Culprits | None) -> Culprits | None:
    """Leave open what is wrong by rounding alone; returns who is to blame for the rest."""
    if guilty is None or guilty.wrong or not guilty.rounding:
        return guilty
    found.codes = [np.where(one == WRONG, np.int8(UNRESOLVED), one) for one in found.codes]
    found.blurred = list(dict.fromkeys(unit.name for unit in guilty.rounding))
    return None
