"""What is compared: every peer is a function that makes itself ready to be timed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from bench.peers.problem import Fault, Float64, Ints, Problem

Precision = Literal["float32", "float64"]
Kind = Literal["estimator", "checker", "autodiff", "limit"]
CellId = tuple[str, str, str]  # section, case and precision
PRECISIONS: tuple[Precision, ...] = ("float32", "float64")
#: Modules whose import fills `PEERS`. None of them imports a peer before it is asked to be ready.
FAMILIES = ("limits", "ours", "tensorflow_peers", "jax_peers", "torch_peers", "loops", "scipy_peers", "random_peers")


def _go_on() -> None:
    """Nobody looks at the clock."""


@dataclass(frozen=True)
class Effort:
    """How much time may be spent on a peer."""

    budget: float = 1.5  # seconds of timed calls, and of the calls beside them, on each visit
    patience: float = 3.0  # seconds of the same until there are `least` calm rounds; spells last longer than any wait
    least: int = 3  # rounds of a visit
    limit: float = 240.0  # seconds that its process may live
    pixels: int = 56  # that a slow loop walks through, in full rows; the time is extrapolated to all
    quick: bool = False
    choice: Mapping[str, int] = field(default_factory=dict)  # what an earlier visit found best; not sought again
    rest: Callable[[], None] = _go_on  # called between evaluations of a long call: the clock may stop there
    cells: Mapping[CellId, int] | None = None  # of W2 to W4 that are due, and their chunk; None: all, and unknown

    def due(self, cell: CellId) -> bool:
        """Whether this cell is to be measured."""
        return self.cells is None or cell in self.cells

    def chunks(self, cell: CellId, some: Sequence[int]) -> Sequence[int]:
        """Rows of one forward pass among which the best is sought; what an earlier visit found best is kept."""
        return some if self.cells is None else [self.cells[cell]]

    def resting(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, before whose evaluation the clock may stop."""

        @functools.wraps(f)
        def after_rest(*arguments: Any, **named: Any) -> Any:
            self.rest()
            return f(*arguments, **named)

        return after_rest


FULL = Effort()
QUICK = Effort(budget=0.6, patience=0.6, least=2, limit=120.0, quick=True)


@dataclass(frozen=True, eq=False)
class Ready:
    """A peer, warmed up in its best setting.

    Attributes
    ----------
    run : callable
        One whole call at a point of shape (28, 28, 1), float64. Returns the gradient, 784 numbers, or those of
        `pixels`; None for a peer that has none.
    evaluations : int
        Forward passes of the network, counted in images, in one call.
    setting : str
        What was chosen, and among what.
    check : callable, optional
        With a point, and a planted fault or None for the correct model: whether the peer calls the gradient wrong.
        Without it, the gradient is judged by the rule of `metrics.alarm`.
    pixels : ndarray of int, optional
        The sample that was walked through; the time is extrapolated to all pixels.
    work : float
        Multiplications and additions of one call, for peers that measure the machine.
    choice : dict of int
        What was sought and found best, for the next visit.
    """

    run: Callable[[Float64], Any]
    evaluations: int
    setting: str = ""
    check: Callable[[Float64, Fault | None], bool] | None = None
    pixels: Ints | None = None
    work: float = 0.0
    choice: Mapping[str, int] = field(default_factory=dict)


Make = Callable[[Problem, Precision, Effort], Ready]


@dataclass(frozen=True)
class Peer:
    """Something that is timed, in one precision."""

    key: str
    name: str
    family: str
    precision: Precision
    kind: Kind
    needs: str
    make: Make

    @property
    def installed(self) -> bool:
        """Whether the module that it needs is there."""
        return find_spec(self.needs.partition(".")[0]) is not None


PEERS: dict[str, Peer] = {}


def peer(
    key: str,
    name: str,
    family: str,
    needs: str,
    kind: Kind = "estimator",
    precisions: tuple[Precision, ...] = PRECISIONS,
) -> Callable[[Make], Make]:
    """Register a function that makes a peer ready, once for each precision."""

    def register(make: Make) -> Make:
        for precision in precisions:
            whole = f"{key}-{precision}"
            if whole in PEERS:
                raise ValueError(f"peer {whole!r} is already registered, by {PEERS[whole].make.__module__}")
            PEERS[whole] = Peer(whole, name, family, precision, kind, needs, make)
        return make

    return register


def load() -> dict[str, Peer]:
    """All peers, in the order of the families."""
    for family in FAMILIES:
        import_module(f"bench.peers.{family}")
    return PEERS
