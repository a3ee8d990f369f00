"""Sentences on points that are special: where the gradient fails at x alone, and where f has no slope.

`where` says how many tiles or weights it is, "" for none; `near` which points near x were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fdfast.estimates import ABOVE, BELOW

_NAMED = 4
_SIGNS = {ABOVE: "+", BELOW: "-", ABOVE + BELOW: "\N{PLUS-MINUS SIGN}"}


@dataclass(frozen=True)
class Words:
    """What is compared, and what it is the derivative of."""

    gradient: str = "gradient"
    f: str = "f"


#: By order.
WORDS = {1: Words(), 2: Words("second derivative", "the gradient")}


def at_x_alone(only: str, branch: str, neither: str, near: str, words: Words = WORDS[1]) -> Iterator[str]:
    """What is wrong at x and right near it: by a fault, by kinks that cancel, or by what noise hides."""
    if only:
        yield (
            f"{only}: wrong at x alone. {_capital(words.f)} is smooth there, no kink meets another, and at {near} the "
            f"{words.gradient} is right: the formula fails at this very point. Likely causes: (a) a product or "
            "quotient with a zero in it "
            "(cumprod, prod, x * y / x), (b) x * log(y) at x = 0, (c) a value that is treated as a special case."
        )
    if branch:
        yield (
            f"{branch}: the gradient differs from the finite difference at x, but agrees at {near}. There autodiff "
            "takes a branch of several kinks that cancel; this is not counted as a fault, nor as agreement."
        )
    if neither:
        yield (
            f"{neither}: the gradient differs from the finite difference at x, but agrees at {near}. The noise of f "
            "hides whether kinks meet at x, so this counts neither as a fault nor as agreement."
        )


def without_slope(
    undefined: str,
    steep: str,
    jumps: str,
    jump: float,
    *,
    beside: str = "on one side of x",
    bounds: str = "bounds=(low, high)",
    words: Words = WORDS[1],
) -> Iterator[str]:
    """Where f has no finite slope at x, by what keeps it from having one.

    `beside` says where it is not finite, `jump` is the largest, and `bounds` a remedy.
    """
    if undefined:
        yield (
            f"{undefined}: {words.f} is not finite {beside}, so it has no slope there to compare with. "
            "Remedies: "
            f"(a) {bounds}, the interval that {words.f} is defined on, which looks at one side only, (b) a point "
            "inside of it."
        )
    if steep:
        yield (
            f"{steep}: the slope of {words.f} grows without bound towards x (as that of a square root at 0), so "
            "there is "
            f"no derivative, whatever the {words.gradient} says. Remedies: (a) a small constant under the root, (b) "
            "another point."
        )
    if jumps:
        yield (
            f"{jumps}: {words.f} jumps at x, by {jump:.3g} at most (a rounding, a comparison, an argmax, an index "
            "computed "
            f"from x), so it has no derivative there, whatever the {words.gradient} says. Check at a point beside "
            "the jump."
        )


def another_value(where: str, jump: float, beside: str, words: Words = WORDS[1]) -> Iterator[str]:
    """Where an exact comparison gives f another value at x alone; `beside` says what became of these."""
    if where:
        yield (
            f"{where}: {words.f} has another value at x itself than right beside it, by {jump:.3g} at most: it "
            "compares with ==, as a mask of padded values does. A slope is only there beside x; "
            f"{beside}."
        )


def noisy(where: str, noise: float, step: float, agree: str, *, words: Words = WORDS[1]) -> Iterator[str]:
    """Where f is noise that depends on x; `noise` and `step` are the largest, `agree` says what wider steps tell."""
    if where:
        yield (
            f"{where}: right at x the slope of {words.f} is noise. Over steps of {step:.1e} {words.f} goes as the "
            f"{words.gradient} says, but about that line it varies by {noise:.1e}, at random or in stairs (a hash or "
            "a random number made of x, a table, fake quantization, a cast to lower precision). So the slope at x was "
            f"not held against the {words.gradient}; {agree}. Remedy: check f without the noise."
        )


def sides(places: Sequence[tuple[str, tuple[int, ...], int]]) -> str:
    """Where f is not finite: name and index of what moves, and its side or sides."""
    shown = [f"{name}[{', '.join(map(str, index))}] {_SIGNS[side]} h" for name, index, side in places[:_NAMED]]
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"at {', '.join(shown)}{more}, however small h is"


def _capital(text: str) -> str:
    return text if text == "f" else f"{text[0].upper()}{text[1:]}"
