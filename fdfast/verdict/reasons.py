"""Why the verdict is what it is, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from fdfast.estimates import JUMP, KINK, STEEP, UNDEFINED
from fdfast.verdict.compare import AGREE, CLASSES, SINGULAR, UNRESOLVED, WRONG
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.special import at_x_alone, noisy, sides, without_slope

#: Example and tile -> index of the tile's first element in x.
Where = Callable[[int, int], tuple[int, ...]]
_SMALL_LOSS = 0.05  # -log p of a p of 0.95
_SATURATED = (
    "The loss at x is only {:.2g}: the usual cause is a saturated softmax, as {} cannot tell a probability near 1 "
    "from 1. Logits alone do not help, Keras finds them already; the loss log1p(sum exp(z_k - z_y)) over the other "
    "classes keeps the digits."
)
_COARSE = (
    "Likely causes: (a) mixed precision, (b) large terms that nearly cancel, as in a saturated or badly scaled layer."
)
_REMEDIES = "(a) a larger rtol, (b) a point x further from kinks"
_REMEDIES_WIDER = "(a) precision='auto', which runs f in float64, (b) a larger rtol, (c) a point x further from kinks"
_NOT_NEAR = (
    "None of them was checked near x: jitter is off, or the gradient is an array, which has no value there, or no "
    "smooth point was found."
)


def reasons_of(found: Judgement, coverage: float, notes: list[str], where: Where, *, wider: bool = False) -> list[str]:
    """Sentences on faults, kinks, open tiles and precision; `notes` of the objective come last.

    `where` gives the index of an example's tile, and `wider` says that f could be computed in float64, and was not.
    """
    total = found.codes.size
    count = np.bincount(found.codes.ravel(), minlength=len(CLASSES)).tolist()
    sentences = []
    if count[WRONG]:
        sentences.append(
            f"{_tiles(count[WRONG])} of {total}: the gradient differs from the finite difference by more than the "
            "error bar and "
            "the tolerance allow, so the formula (or an operation's gradient) is wrong there."
        )
    sentences += _inside_tiles(found)
    kinked = found.kind == KINK
    kinks = _count(kinked)
    if kinks:
        near = _count(kinked & found.near & (found.codes == AGREE))
        inside = _count(kinked & found.between)
        sentences.append(
            f"{_tiles(kinks)} {'sits' if kinks == 1 else 'sit'} exactly on a kink at x (a ReLU at zero, or equal "
            "cells in a max pool): the "
            "right and the left slope differ, autodiff returns one branch and a central difference the mean of both, "
            "so no step size makes "
            f"them agree. {_tied(found.ties)}The gradient lies between the two slopes on {inside} of them. "
            + (f"{near} were checked at a generic point near x, where f is smooth." if near else _NOT_NEAR)
        )
    sentences += _special(found, where)
    edge = _count(found.edge)
    if edge:
        near = _count(found.edge & found.near & (found.codes == AGREE))
        sentences.append(
            f"{_tiles(edge)} at the bounds: only one side of x can be looked at, and the slope there is not the "
            "gradient. A kink at x "
            f"does that as well as a fault, so x does not decide; {near} agree at a generic point near x. bounds=None "
            "looks at both sides."
        )
    unresolved = _count((found.codes == UNRESOLVED) & ~found.edge & ~found.cleared & ~(found.wider > 0))
    if unresolved:
        sentences.append(
            f"{_tiles(unresolved)} stayed unresolved: the error bar is wider than the tolerance at every step tried. "
            f"The measured rounding noise of f is {found.noise.max():.1e}; remedies: "
            f"{_REMEDIES_WIDER if wider else _REMEDIES}."
        )
    if not (np.any(found.numeric[np.isfinite(found.numeric)]) or np.any(found.analytic)):
        sentences.append(
            "Every derivative is exactly zero on both sides, so nothing was checked: the loss is saturated or clipped "
            "at x, or does "
            "not depend on x. Check at a point where it does."
        )
    elif count[WRONG] and not (np.any(found.analytic) or np.any(found.checked_analytic)):
        sentences.append(
            "The gradient is zero everywhere, the finite difference is not. If it is autodiff's: TensorFlow sees no "
            "path from x to the "
            "loss (a stop_gradient, a rounding, an integer cast or NumPy code in between)."
        )
    elif not count[WRONG] and count[AGREE] < coverage * total:
        sentences.append(
            f"Only {100 * count[AGREE] / total:.2f} % of the tiles could be checked, {100 * coverage:g} % were asked "
            "for."
        )
    figure = found.deployed_figure
    if figure is not None and figure["digits"] < 4:
        loss = float(np.median(found.base))
        sentences.append(
            f"The gradient as deployed, in {figure['dtype']}, keeps about {figure['digits']:.1f} digits here (median "
            "relative error "
            f"{figure['median_rel_error']:.1e} against float64). That is rounding, not a wrong formula: the formula "
            "is judged in float64. "
            + (_SATURATED.format(loss, figure["dtype"]) if abs(loss) < _SMALL_LOSS else _COARSE)
        )
    return [*sentences, *map(as_sentence, notes)]


def _inside_tiles(found: Judgement) -> Iterator[str]:
    """Tiles that are right as a whole, but not among their elements."""
    wrong = _count(found.within & (found.codes == WRONG))
    if wrong:
        yield (
            f"{_tiles(wrong)} {'is' if wrong == 1 else 'are'} right as a whole and wrong inside: the errors of the "
            "elements sum to zero. Moved by random signs and amplitudes, f changes otherwise than the gradient says. "
            "tile=1 with channels='apart' names the elements."
        )
    undecided = _count(found.within & (found.codes != WRONG))
    if undecided:
        yield (
            f"{_tiles(undecided)} {'agrees' if undecided == 1 else 'agree'} as a whole, but could not be decided when "
            "the elements moved by random signs and amplitudes."
        )


def _special(found: Judgement, where: Where) -> Iterator[str]:
    """Tiles at which x is a special point."""

    def named(which: npt.NDArray[np.bool_]) -> str:
        return _tiles(_count(which)) if which.any() else ""

    open_ = found.cleared & (found.codes == UNRESOLVED)
    yield from at_x_alone(named(found.only_here), named(found.branch), named(open_), "the points near x")
    yield from _without_slope(found, where, named)
    rough = found.wider > 0
    if rough.any():
        agree = _count(rough & (found.codes == AGREE))
        said = f"{agree} agree to the tolerance over those steps, the others as far as the noise lets see"
        yield from noisy(named(rough), float(found.roughness.max()), float(found.wider.max()), said)


def _without_slope(found: Judgement, where: Where, named: Callable[[npt.NDArray[np.bool_]], str]) -> Iterator[str]:
    singular = found.codes == SINGULAR
    if not singular.any():
        return
    undefined, steep, jumps = (singular & (found.breaks == reason) for reason in (UNDEFINED, STEEP, JUMP))
    jump = float(np.where(jumps, found.jump, 0.0).max(initial=0.0))
    beside = [("x", where(*at), int(found.side[at])) for at in zip(*np.nonzero(undefined), strict=True)]
    yield from without_slope(named(undefined), named(steep), named(jumps), jump, beside=sides(beside))


def selftest_figure(found: Judgement) -> tuple[str | None, bool]:
    """What became of the planted faults, in a sentence, and whether all were seen."""
    if found.selftest is None:
        return None, True
    planted, seen = len(found.selftest), _count(found.selftest)
    if seen == planted:
        return f"A 1 % error planted on one tile of each example was found in {seen} of {planted}.", True
    return (
        f"A 1 % error planted on one tile of each example was found in only {seen} of {planted}: this run could not "
        "have seen such a "
        "fault, so it proves less than it seems."
    ), False


def _count(tiles: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(tiles))


def _tied(ties: dict[str, int]) -> str:
    if not ties:
        return ""
    shown = [f"{name} on {count}" for name, count in list(ties.items())[:4]]
    return f"The first layer to tie is {', '.join(shown)}. "


def _tiles(n: int) -> str:
    return f"{n} tile" if n == 1 else f"{n} tiles"


def as_sentence(note: str) -> str:
    """A note with a capital and a full stop; f stays small."""
    return f"{note if note.startswith('f ') else note[0].upper() + note[1:]}."
