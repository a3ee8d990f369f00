"""From derivatives and the gradient under test to classes, the verdict's reasons and patterns of a mismatch.

Comparison, looks at points near x, diagnosis, and the loops over metrics that Numba compiles. Nothing is drawn or
written here.
"""

from __future__ import annotations

from fdfast.verdict.blame import Culprits, culprits, excuse
from fdfast.verdict.compare import AGREE, CLASSES, METRICS, UNRESOLVED, WRONG, error_summary
from fdfast.verdict.diagnosis import NO_PATTERN, hints
from fdfast.verdict.directions import Directed, Suspect
from fdfast.verdict.generic import near_by
from fdfast.verdict.held import (
    BEYOND,
    held_against,
    hold_branches,
    is_certain,
    leave_to_autodiff,
    left_to_rounding,
    may_be_rounding,
    rounding_of,
    weigh_rounding,
)
from fdfast.verdict.judge import Judge
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.place import Place
from fdfast.verdict.reasons import as_sentence, reasons_of, selftest_figure
from fdfast.verdict.terms import Terms
from fdfast.verdict.weight_judge import Found, Given, WeightJudge
from fdfast.verdict.weight_reasons import patterns, sentences
from fdfast.verdict.weight_rounds import judged, paths_for
from fdfast.verdict.whole import Allowed, Whole, judge_whole, linear_agrees
from fdfast.verdict.whole_reasons import sentences_on_whole

__all__ = [
    "AGREE",
    "BEYOND",
    "CLASSES",
    "METRICS",
    "NO_PATTERN",
    "UNRESOLVED",
    "WRONG",
    "Allowed",
    "Culprits",
    "Directed",
    "Found",
    "Given",
    "Judge",
    "Judgement",
    "Place",
    "Suspect",
    "Terms",
    "WeightJudge",
    "Whole",
    "as_sentence",
    "culprits",
    "error_summary",
    "excuse",
    "held_against",
    "hints",
    "hold_branches",
    "is_certain",
    "judge_whole",
    "judged",
    "leave_to_autodiff",
    "left_to_rounding",
    "linear_agrees",
    "may_be_rounding",
    "near_by",
    "paths_for",
    "patterns",
    "reasons_of",
    "rounding_of",
    "selftest_figure",
    "sentences",
    "sentences_on_whole",
    "weigh_rounding",
]
