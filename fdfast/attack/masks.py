"""From measures to a verdict of each example: whether its gradient is to be trusted, and how it is hidden."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.measures import Measures

Float64 = npt.NDArray[np.float64]
VERDICTS = ("faithful", "saturated", "staircase", "shattered", "random", "disconnected", "unresolved")

#: Spread of repeated losses, of what they change by within epsilon, above which f is random.
_REPEATED = 1e-3
#: Cosine of two gradients at the same x below which they are not the same.
_SAME = 0.999
#: Cosine with the gradient that does not saturate below which the loss's own has lost its way to rounding.
_ALIVE = 0.5
#: Share of differences that are exactly zero where the loss is flat.
_FLAT = 0.5
#: Cosines with differences below which the gradient turns within epsilon: at the worst of the steps from a thousandth
#: to a fortieth of it, and at a tenth.
_AT_ONCE, _FURTHER = 0.88, 0.6
#: Cosine with the mean gradient that averaging over samples is to reach.
_AVERAGED = 0.9
_MOST = 64  # samples

_MEANING = {
    "faithful": "autodiff's gradient is that of the loss, and holds over a good part of epsilon",
    "saturated": "the gradient of the loss is lost to rounding, while that of the logits is alive",
    "staircase": "the loss is flat at small steps and moves at large ones, so that its slope says nothing",
    "shattered": "the slope is right, but turns within a fraction of epsilon: kinks or jumps by the hundred",
    "random": "the loss or its gradient differs from call to call",
    "disconnected": "autodiff finds no way from the loss to x, although the loss moves smoothly",
    "unresolved": "neither autodiff nor differences see the loss move within epsilon",
}


def meaning(verdict: str) -> str:
    """What a verdict says, in a clause."""
    return str(_MEANING[verdict])


def verdicts(found: Measures, epsilon: float) -> npt.NDArray[np.str_]:
    """The verdict of each example, shape (examples,)."""
    random = (found.repeats > _REPEATED) | (found.agreement < _SAME)
    stairs = is_flat(found)
    dead = ~(found.zeros < 1)  # NaN where there is no gradient
    moves = found.moves > 0
    told = mean_cosine(found, epsilon)
    with np.errstate(invalid="ignore"):
        lost = found.connected & (found.alive < _ALIVE) & (told > _ALIVE)
        near, far = held(found, epsilon)
        turns = (near < _AT_ONCE) | (far < _FURTHER)
    chosen = np.select(
        [random, ~moves, stairs, lost, dead, turns],
        ["random", "unresolved", "staircase", "saturated", "disconnected", "shattered"],
        "faithful",
    )
    return np.asarray(chosen)


def is_flat(found: Measures) -> npt.NDArray[np.bool_]:
    """Whether an example's loss is flat at the two smallest steps that can be heard, and not at epsilon.

    Few elements move for that, and of high stairs they may meet no edge within epsilon. Where autodiff sees nothing
    either, it is enough that the loss moves when all of them do.
    """
    flat = []
    for row, dead, moves in zip(found.flat, ~(found.zeros < 1), found.moves > 0, strict=True):
        heard = row[~np.isnan(row)]
        flat.append(len(heard) > 2 and heard[-2:].mean() > _FLAT and (heard[0] < _FLAT or (dead and moves)))
    return np.array(flat, bool)


def mean_cosine(found: Measures, epsilon: float) -> Float64:
    """Mean over the steps from a hundredth to a tenth of epsilon; 0 where there is no gradient."""
    near = (found.steps <= 0.1001 * epsilon) & (found.steps >= 0.0099 * epsilon)
    cosine = found.cosine[:, near]
    count = (~np.isnan(cosine)).sum(axis=1)
    return np.asarray(np.nansum(cosine, axis=1) / np.maximum(count, 1))


def held(found: Measures, epsilon: float) -> tuple[Float64, Float64]:
    """How far the slope holds: the least cosine at steps from a thousandth to a fortieth of epsilon; that at a tenth.

    Behind kinks it falls with the step, behind jumps it falls the closer one looks: a jump weighs more in a shorter
    difference.
    """
    share = found.steps / epsilon
    near = found.cosine[:, (share > 0.00099) & (share < 0.02501)]
    far = found.cosine[:, np.argmin(np.abs(share - 0.1))]
    return np.min(near, axis=1, initial=1.0, where=~np.isnan(near)), far


def overall(each: npt.NDArray[np.str_]) -> str:
    """The verdict of most examples; of as many, the one that hides more."""
    counted = Counter(each.tolist())
    return str(max(counted, key=lambda name: (counted[name], name != "faithful")))


def advised(verdict: str, found: Measures, epsilon: float) -> dict[str, Any]:
    """Arguments of `fdfast.attack.pgd` that get past what hides the gradient."""
    if verdict == "saturated":
        return {"gradient": "autodiff", "loss": "margin"}
    if verdict in ("staircase", "disconnected") and found.hidden_by:
        return {"gradient": "straight-through"}
    if verdict == "staircase":
        return {"gradient": "difference", "h": found.spot if found.spot is not None else epsilon}
    if verdict == "disconnected":
        return {"gradient": "difference", "h": found.spot if found.spot is not None else 0.1 * epsilon}
    if verdict == "random":
        return {"gradient": "autodiff", "samples": _samples(found)} if found.connected else {
            "gradient": "spsa", "h": epsilon, "samples": 4,
        }  # fmt: skip
    if verdict == "shattered":
        return {"gradient": "autodiff", "samples": 4, "spread": epsilon / 2}
    return {"gradient": "autodiff"} if verdict == "faithful" else {"gradient": "difference", "h": epsilon}


def advice(verdict: str, found: Measures, settings: dict[str, Any]) -> str:
    """The same as a sentence."""
    call = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value!r}" for name, value in settings.items()
    )
    how = {
        "faithful": "Attack with autodiff's gradient; it may be trusted here",
        "saturated": "Take the logits: the margin between them points the same way and does not saturate",
        "staircase": "Pass the layers that cut it straight through (BPDA)"
        if found.hidden_by
        else "Attack with differences at the smallest step that tells something",
        "shattered": "Average gradients over places within epsilon, which is the slope that counts there",
        "random": "Average over samples (EOT): so many bring the gradient near its mean",
        "disconnected": "Pass the layers that cut it straight through (BPDA)"
        if found.hidden_by
        else "Attack with differences, which need no gradient",
        "unresolved": "Try a larger epsilon, or another loss; nothing was learnt",
    }[verdict]
    return f"{how}: pgd(..., {call})."


def _samples(found: Measures) -> int:
    """How many gradients, of which two have the cosine r, have a mean whose cosine with the true mean is 0.9."""
    r = float(np.clip(np.nanmedian(found.agreement), 0.02, 0.98))
    wanted = _AVERAGED**2
    return int(np.clip(math.ceil(wanted * (1 - r) / (r * (1 - wanted))), 4, _MOST))


def reasons(found: Measures, verdict: str, epsilon: float) -> list[str]:
    """What the verdict rests on, with figures."""
    said = []
    told = float(np.median(mean_cosine(found, epsilon)))
    zeros = found.zeros[~np.isnan(found.zeros)]
    if verdict == "random":
        r = float(np.nanmedian(found.agreement)) if found.connected else float("nan")
        said.append(
            f"Repeated calls at the same x differ by {100 * np.median(found.repeats):.2g} % of what the loss changes "
            "by "
            f"within epsilon" + (f"; two gradients at the same x have the cosine {r:.2f}." if found.connected else ".")
        )
    if not found.connected:
        said.append("Autodiff returns no gradient: something between x and the loss cuts the tape.")
    elif zeros.size and np.median(zeros) > _FLAT:
        said.append(f"{100 * np.median(zeros):.3g} % of autodiff's gradient is exactly zero.")
    if found.hidden_by:
        said.append(f"No gradient passes {', '.join(found.hidden_by)}.")
    if verdict == "saturated":
        said.append(
            f"Its cosine with the gradient of the margin between the logits is {np.median(found.alive):.2f}; that of "
            "the "
            f"margin with differences is {told:.2f}."
        )
    if verdict == "staircase":
        heard = [
            float(np.median(some)) if 2 * (some := one[~np.isnan(one)]).size >= one.size else None
            for one in found.flat.T
        ]
        small = max(k for k, share in enumerate(heard) if share is not None)
        said.append(
            f"At step {found.steps[small]:.1g} {100 * (heard[small] or 0):.0f} % of differences are exactly zero, at "
            "epsilon "
            f"{100 * (heard[0] or 0):.0f} %"
            + (f"; from step {found.spot:.3g} on they tell where the loss goes." if found.spot else ".")
        )
    if verdict in ("faithful", "shattered"):
        near, far = (float(np.nanmedian(one)) for one in held(found, epsilon))
        said.append(
            f"Its cosine with differences at steps up to a fortieth of epsilon is at least {near:.2f} "
            f"({_AT_ONCE:g} and more is faithful), at a tenth {far:.2f} ({_FURTHER:g} and more)."
        )
    return said
