"""Why the verdict on weights is what it is, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fdfast.estimates import JUMP, STEEP, UNDEFINED
from fdfast.verdict.compare import AGREE, KINKED, SINGULAR, UNRESOLVED, WRONG
from fdfast.verdict.diagnosis import hints
from fdfast.verdict.special import at_x_alone, noisy, sides, without_slope
from fdfast.verdict.weight_judge import Found

_NAMED = 3


def sentences(names: list[str], found: list[Found], coverage: float) -> list[str]:
    """Say what was found wrong, on kinks, and left open; `names` are those of the variables."""
    return [
        *_faults(names, found),
        *_kinks(names, found),
        *_special(names, found),
        *_gaps(names, found, coverage),
    ]


def _where(names: list[str], found: list[Found], which: list[int]) -> str:
    """Number of weights and the variables that they are in."""
    inside = [name for name, n in zip(names, which, strict=True) if n]
    more = f" and {len(inside) - _NAMED} more variables" if len(inside) > _NAMED else ""
    total = sum(which)
    return f"{total} weight{'s' if total != 1 else ''} of {', '.join(inside[:_NAMED])}{more}"


def _faults(names: list[str], found: list[Found]) -> Iterator[str]:
    wrong = [int(((f.codes == WRONG) & f.asked).sum()) for f in found]
    if sum(wrong):
        yield (
            f"{_where(names, found, wrong)}: the gradient differs from the finite difference by more than the error "
            "bar and the tolerance allow, so the formula (or an operation's gradient) is wrong there."
        )
    asked = [f.asked for f in found]
    analytic = [f.checked_analytic[a] for f, a in zip(found, asked, strict=True)]
    numeric = [f.checked_numeric[a] for f, a in zip(found, asked, strict=True)]
    if not any(np.any(a) for a in analytic) and not any(np.any(n[np.isfinite(n)]) for n in numeric):
        yield (
            "Every derivative is exactly zero on both sides, so nothing was checked: the loss is saturated or clipped "
            "at x, or does not depend on the weights. Check at inputs where it does."
        )


def _kinks(names: list[str], found: list[Found]) -> Iterator[str]:
    kinks = [int(f.kinked.sum()) for f in found]
    if sum(kinks):
        near = sum(int((f.kinked & f.near & (f.codes == AGREE)).sum()) for f in found)
        yield (
            f"{_where(names, found, kinks)} sit exactly on a kink at x (a ReLU at zero, or equal cells in a max pool): "
            "the loss has another slope on either side. "
            + (f"{near} were checked at inputs near x." if near else "")
            + (
                " For the others x makes no difference: weights that are zero or equal hold the kink; check after a "
                "step of training."
                if any(((f.codes == KINKED) & f.kinked).any() for f in found)
                else ""
            )
        )


def _special(names: list[str], found: list[Found]) -> Iterator[str]:
    """Weights at which the inputs or the weights themselves are a special point."""

    def named(marked: list[npt.NDArray[np.bool_]]) -> str:
        counts = [int((m & f.asked).sum()) for m, f in zip(marked, found, strict=True)]
        return _where(names, found, counts) if any(counts) else ""

    open_ = [f.cleared & (f.codes == UNRESOLVED) for f in found]
    only, branch = [f.only_here for f in found], [f.branch for f in found]
    yield from at_x_alone(named(only), named(branch), named(open_), "inputs near x")
    undefined, steep, jumps = (
        [(f.codes == SINGULAR) & (f.breaks == reason) for f in found] for reason in (UNDEFINED, STEEP, JUMP)
    )
    jump = max(float(np.where(m, f.jump, 0.0).max(initial=0.0)) for m, f in zip(jumps, found, strict=True))
    beside = [
        (name, (int(i),), int(f.side[i]))
        for name, f, mask in zip(names, found, undefined, strict=True)
        for i in np.flatnonzero(mask & f.asked)
    ]
    rough = [f.wider > 0 for f in found]
    noise, step = (max(float(getattr(f, name).max(initial=0.0)) for f in found) for name in ("roughness", "wider"))
    agree = sum(int((m & (f.codes == AGREE)).sum()) for m, f in zip(rough, found, strict=True))
    said = f"{agree} agree to the tolerance over those steps, the others as far as the noise lets see"
    yield from noisy(named(rough), noise, step, said)
    yield from without_slope(named(undefined), named(steep), named(jumps), jump, beside=sides(beside))


def _gaps(names: list[str], found: list[Found], coverage: float) -> Iterator[str]:
    blank = [f.blank for f in found]
    if any(blank) and not all(blank):
        inside = [name for name, nothing in zip(names, blank, strict=True) if nothing]
        more = f" and {len(inside) - _NAMED} more variables" if len(inside) > _NAMED else ""
        yield (
            f"Every derivative of {', '.join(inside[:_NAMED])}{more} is exactly zero on both sides, so nothing was "
            "learnt about it: dead units, or values that the loss does not depend on. Check at another point."
        )
    unresolved = [
        int(((f.codes == UNRESOLVED) & ~f.cleared & ~(f.wider > 0) & f.asked).sum()) * (not f.blank) for f in found
    ]
    if sum(unresolved):
        noise = max(f.noise for f in found)
        yield (
            f"{_where(names, found, unresolved)} stayed unresolved: the error bar is wider than the tolerance at every "
            f"step tried. The measured rounding noise of the loss is {noise:.1e}; remedies: "
            "(a) check='directions', whose differences do not round, (b) a larger rtol, (c) another batch."
        )
    total = sum(int(f.asked.sum()) for f in found)
    agree = sum(int(((f.codes == AGREE) & f.asked).sum()) for f in found)
    if not any(((f.codes == WRONG) & f.asked).any() for f in found) and agree < coverage * total:
        yield (
            f"Only {100 * agree / max(1, total):.2f} % of the weights to be checked agree, {100 * coverage:g} % were "
            "asked for."
        )


def patterns(names: list[str], shapes: list[tuple[int, ...]], found: list[Found]) -> list[str]:
    """Patterns of the mismatch by variable (see `fdfast.verdict.diagnosis.hints`); the same one is said once."""
    said: dict[str, list[str]] = {}
    for name, shape, f in zip(names, shapes, found, strict=True):
        codes = np.where(f.asked, f.codes, UNRESOLVED)[None]
        for text in hints(f.checked_numeric[None], f.checked_analytic[None], codes, shape or (1,)):
            said.setdefault(text.replace("of the grid", "of the variable").replace("tile", "weight"), []).append(name)
    return [
        f"{', '.join(where[:_NAMED])}{f' and {len(where) - _NAMED} more' if len(where) > _NAMED else ''}: {text}"
        for text, where in said.items()
    ]
