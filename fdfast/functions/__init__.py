"""What is differentiated: models, losses and callables as functions of rows, traced once and kept.

Also what a function reads besides its arguments, its float64 copy, whether it is fit for a check, and how a function of
one example is run at many. Nothing here knows steps, differences or tolerances.
"""

from __future__ import annotations

from fdfast.functions.added import penalised, terms_added, weights_of
from fdfast.functions.along_gradient import gradient_along, not_twice, random_vector
from fdfast.functions.arguments import Argument
from fdfast.functions.behind import layers_among, layers_of, reached_by, state_kept
from fdfast.functions.callables import callable_objective, said_of, takes_tensors
from fdfast.functions.fitness import connected, preflight
from fdfast.functions.flat import Flat, flat_callable, flat_layer
from fdfast.functions.interrupts import interruptible, tell_interrupt
from fdfast.functions.layout import layout_of
from fdfast.functions.losses import is_stock, resolve_loss, settings_of
from fdfast.functions.model import model_objective
from fdfast.functions.model_loss import flat_model
from fdfast.functions.naming import namer
from fdfast.functions.objective import TracedObjective
from fdfast.functions.over_rows import (
    BUDGET,
    Mapped,
    OverRows,
    agreement,
    as_array,
    dense,
    first_line,
    forget,
    known,
    quietly,
    refuse,
    remember,
    rows_at_once,
    same_values,
)
from fdfast.functions.process import check_fork, check_process, check_scope
from fdfast.functions.recordings import recorded, trusted
from fdfast.functions.returned import NotOneNumber, check_callable
from fdfast.functions.row_function import RowFunction
from fdfast.functions.rowwise import RowValues
from fdfast.functions.scored import MARGIN, Scored, Scores
from fdfast.functions.shadow import NoShadow, shadow_of
from fdfast.functions.shares import Gap, gaps
from fdfast.functions.single import BATCHED_ROW, PROBED, SINGLE_ROW, STACKED_ROW, Cost, Single, cheapest, pays
from fdfast.functions.sources import BatchedSource, SingleSource
from fdfast.functions.stacked import Stacked
from fdfast.functions.taped import TapedObjective
from fdfast.functions.unchanged import Present, present
from fdfast.functions.units import Unit
from fdfast.functions.variables import Snapshot
from fdfast.functions.weights import WeightObjective

__all__ = [
    "BATCHED_ROW",
    "BUDGET",
    "MARGIN",
    "PROBED",
    "SINGLE_ROW",
    "STACKED_ROW",
    "Argument",
    "BatchedSource",
    "Cost",
    "Flat",
    "Gap",
    "Mapped",
    "NoShadow",
    "NotOneNumber",
    "OverRows",
    "Present",
    "RowFunction",
    "RowValues",
    "Scored",
    "Scores",
    "Single",
    "SingleSource",
    "Snapshot",
    "Stacked",
    "TapedObjective",
    "TracedObjective",
    "Unit",
    "WeightObjective",
    "agreement",
    "as_array",
    "callable_objective",
    "cheapest",
    "check_callable",
    "check_fork",
    "check_process",
    "check_scope",
    "connected",
    "dense",
    "first_line",
    "flat_callable",
    "flat_layer",
    "flat_model",
    "forget",
    "gaps",
    "gradient_along",
    "interruptible",
    "is_stock",
    "known",
    "layers_among",
    "layers_of",
    "layout_of",
    "model_objective",
    "namer",
    "not_twice",
    "pays",
    "penalised",
    "preflight",
    "present",
    "quietly",
    "random_vector",
    "reached_by",
    "recorded",
    "refuse",
    "remember",
    "resolve_loss",
    "rows_at_once",
    "said_of",
    "same_values",
    "settings_of",
    "shadow_of",
    "state_kept",
    "takes_tensors",
    "tell_interrupt",
    "terms_added",
    "trusted",
    "weights_of",
]
