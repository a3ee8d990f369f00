"""From estimate and gradient to classes: each tile as a whole, and where it has several elements, these among it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import first_line
from fdfast.moves import Tiling, plan_steps
from fdfast.verdict.compare import AGREE, WRONG
from fdfast.verdict.generic import Generic
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.terms import Terms
from fdfast.verdict.tested import Analytic, Tested
from fdfast.verdict.trial import Trial


class Judge:
    """Holds what a check asks for, and applies it to one group of examples after the other.

    A tile is called wrong only on two looks: at x and again at a generic point near it, or at two such points. A wrong
    formula is wrong at both. What is wrong at x alone is a branch that autodiff takes where f has a kink, and is not
    held against it; but only where f has one. Without a kink it is a fault that shows at x alone, and so is a gradient
    that is NaN or infinite at x where f has slopes. Neither does a slope on one side alone, at bounds, tell a wrong
    formula from a kink at x: it is no look.
    Where nothing can be learnt near x, the look at x decides: without jitter, for a gradient given as an array, which
    has no value elsewhere, and where f is not defined or too noisy at every point tried. In the first two cases an
    accusation still needs a difference that does not change at the slightest move away from x.

    A tile of several elements is looked at twice: all elements move alike, then by random signs and amplitudes. The
    first alone would see the sum of their errors. It agrees if both looks do, and is wrong if either says so.
    """

    def __init__(self, tiling: Tiling, terms: Terms) -> None:
        self._tiling, self._terms = tiling, terms

    def __call__(self, engine: Any, objective: Any, points: npt.NDArray[Any], analytic: Analytic) -> Judgement:
        """Judge every tile of every point."""
        terms = self._terms
        steps = plan_steps(points, self._tiling, terms.h, terms.bounds, engine.step)
        generic = Generic(points, terms)
        first = None if terms.jitter is None else generic.at(0)
        tested = Tested(objective, points, analytic, first)
        tested.foresee(engine)

        def trial(tiling: Tiling, engine: Any) -> Judgement:
            return Trial(tiling, terms, engine, tested, points, steps, generic, first)()

        found = trial(self._tiling, engine)
        if self._tiling.tiles < self._tiling.size:
            # Where bounds allow one side only, all elements have to go there.
            mixed = self._tiling.mixed(terms.seed, signed=terms.bounds is None)
            try:
                found = within(found, trial(mixed, engine.by(mixed)))
            except ValueError as error:
                found = replace(found, sums_only=first_line(error))
        found.timings["autodiff"] = tested.seconds
        return found


def within(whole: Judgement, mixed: Judgement) -> Judgement:
    """Put the look at tiles as wholes and the one at their elements together: the worse of the two counts."""
    wrong = (mixed.codes == WRONG) & (whole.codes != WRONG)
    undecided = (mixed.codes != AGREE) & (whole.codes == AGREE)
    changed = wrong | undecided
    shown = {
        name: np.where(changed, getattr(mixed, name), getattr(whole, name))
        for name in ("codes", "near", "checked_numeric", "checked_analytic", "checked_error", "only_here", "cleared")
    }
    sums = {name: getattr(whole, name) + getattr(mixed, name) for name in ("evaluations", "refined")}
    timings = {name: seconds + mixed.timings[name] for name, seconds in whole.timings.items()}
    return replace(whole, **shown, **sums, timings=timings, within=changed)
