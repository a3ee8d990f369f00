"""The white box for weights: a step of one enters at its layer's pre-activation and goes on as a difference."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.differences import BasePass, Compiled
from fdfast.engines.channel import ChannelProgram, channel_program
from fdfast.engines.chunking import BUDGET
from fdfast.engines.difference import TINY
from fdfast.engines.pairs import Differences, Pairs
from fdfast.engines.places import Place, places_of
from fdfast.engines.trust import check_loss
from fdfast.windows import cores

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

# Pairs on one channel from which a program of its own is worth making.
_ENOUGH = 16
_ROW_BYTES = BUDGET // 8
_NO_TILES = np.array([0, 1]), np.array([0])


class WeightPaths:
    """Which variables of a compiled model have an exact way through it, and where it begins.

    Parameters
    ----------
    compiled : fdfast.differences.compiled.Compiled
        Complete: the kernels see every unit up to the loss.
    variables : list of keras.Variable
        Of the model that was compiled.
    objective : fdfast.functions.objective.TracedObjective

    Attributes
    ----------
    places : dict of int to Place
        By number of the variable.
    """

    def __init__(self, compiled: Compiled, variables: list[Any], objective: Any) -> None:
        self.compiled = compiled
        self.places: dict[int, Place] = places_of(compiled, variables)
        self.sources = sorted({p.source for p in self.places.values() if p.source is not None})
        self._pass = _pass_of(compiled, self.sources, objective)

    def at(self, points: Float64, targets: Any, share: float, threads: int | None = None) -> PointValues:
        """Values of the network at a batch of inputs."""
        return PointValues(self, points, targets, share, cores() if threads is None else threads)

    def values(self, points: Float64, targets: Any) -> tuple[list[Float64], Float64, Float64]:
        """Values that the program needs, then those of the sources; and the losses, by layers and by the model."""
        return self._pass(points, targets)

    def program(self, node: int, channel: int) -> ChannelProgram | None:
        """Program behind one channel of a node."""
        nodes = self.compiled.lowered.nodes
        return channel_program(nodes, node, channel, self.compiled.dtype)


class PointValues:
    """What differences of weights need to know of the network at a batch of inputs."""

    def __init__(self, paths: WeightPaths, points: Float64, targets: Any, share: float, threads: int) -> None:
        self.paths, self.share, self.threads = paths, share, threads
        compiled = paths.compiled
        found, layered, own = paths.values(points, targets)
        if np.isfinite(own).all():
            check_loss(layered, own)
        self.examples = len(points)
        self.base = float(own.sum() * share)
        needed = compiled.program.needed
        self.values = dict(zip(needed, found, strict=False))
        self.sources = dict(zip(paths.sources, found[len(needed) :], strict=True))
        self.targets = compiled.target_rows(targets.numpy())
        self.prepared = compiled.prepare(found, targets.numpy(), threads)

    def engine(self, variable: int) -> WeightEngine:
        """Engine for the weights of one variable."""
        return WeightEngine(self, self.paths.places[variable])


class WeightEngine:
    """Evaluates displaced weights of one variable by difference arithmetic, as `fdfast.estimates.estimate.Engine`.

    A tile is a weight, the one point is the variable as it is, and the loss is that of the whole batch. For each weight
    the move of one channel of its layer's pre-activation is known exactly: the step times a map. It goes through the
    part of the program that lies behind that channel.

    The variable itself is never written.
    """

    name = "difference"
    exact = True
    step: float | None = TINY

    def __init__(self, held: PointValues, place: Place) -> None:
        self._held, self._place = held, place
        self.eps = float(np.finfo(held.paths.compiled.dtype).eps)

    def of(self, examples: Any) -> WeightEngine:
        """Return this engine: the examples are one batch."""
        return self

    def by(self, tiling: Any) -> WeightEngine:
        """Return this engine: a weight is a tile of its own."""
        return self

    def differences(self, points: npt.NDArray[Any], example: Int32, pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`."""
        self._check_steps(pairs)
        held, place = self._held, self._place
        count = len(pairs)
        delta = np.zeros((count, 2))
        tie, crossed = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
        channel = place.channel(pairs.tile)
        order = np.argsort(channel, kind="stable")
        ends = np.flatnonzero(np.diff(channel[order])) + 1
        groups = np.split(order, ends) if count else []
        few = [g for g in groups if len(g) < _ENOUGH]
        source = None if place.source is None else held.sources[place.source]
        ready = [place.ready(None if source is None else source[n]) for n in range(held.examples)]

        def take(which: Int64, found: tuple[Any, Int32, Int32], origin: Int32 | None) -> None:
            values, tied, over = found
            delta[which] += values * held.share
            for mine, theirs in ((tie, tied), (crossed, over)):
                at = theirs if origin is None else np.where(theirs >= 0, origin[theirs], -1)
                mine[which] = np.maximum(mine[which], at)

        for group in groups:
            if len(group) < _ENOUGH:
                continue
            made = held.paths.program(place.node, int(channel[group[0]]))
            if made is None:
                few.append(group)
                continue
            nodes = held.paths.compiled.lowered.nodes
            prepared = made.prepare(nodes, held.values, held.targets, held.threads)
            origin = np.array([old for old, _ in made.origin], np.int32)
            for n in range(held.examples):
                for some in self._chunks(group, 1):
                    maps = place.maps(ready[n], pairs.tile[some])
                    rows = pairs.step[some][:, :, None] * maps[:, None, :]
                    take(some, self._push(prepared, n, pairs.step[some], rows, 0), origin)
        if few:
            rest = np.concatenate(few)
            channels = held.paths.compiled.lowered.nodes[place.node].shape[2]
            for n in range(held.examples):
                for some in self._chunks(rest, channels):
                    maps = place.maps(ready[n], pairs.tile[some])
                    rows = np.zeros((len(some), 2, maps.shape[1], channels))
                    rows[np.arange(len(some)), :, :, channel[some]] = pairs.step[some][:, :, None] * maps[:, None, :]
                    rows = rows.reshape(len(some), 2, -1)
                    take(some, self._push(held.prepared, n, pairs.step[some], rows, place.node), None)
        return Differences(delta, pairs.step.copy(), np.array([held.base]), 2 * count, tie, crossed)

    def _push(self, prepared: Any, n: int, step: Float64, rows: Float64, start: int) -> tuple[Any, Int32, Int32]:
        image, tile = np.full(len(rows), n), np.zeros(len(rows), np.int64)
        step = np.ascontiguousarray(step)
        return _core.push(prepared, *_NO_TILES, image, tile, step, rows=rows, start=start, threads=self._held.threads)

    def _chunks(self, which: Int64, channels: int) -> list[Int64]:
        """Shares of pairs whose rows fit into the memory budget."""
        h, w, _ = self._held.paths.compiled.lowered.nodes[self._place.node].shape
        many = max(1, _ROW_BYTES // (2 * h * w * channels * 8))
        return [which[i : i + many] for i in range(0, len(which), many)]

    def _check_steps(self, pairs: Pairs) -> None:
        smallest = float(np.sqrt(np.finfo(np.float64).tiny))
        size = np.abs(pairs.step).max(initial=0.0)
        if len(pairs) and size < smallest:
            raise ValueError(
                f"h={size:.3g} vanishes on its way through the layers: smallest step that keeps its digits: "
                f"{smallest:.3g}; for a useful gradient leave h='auto'"
            )


_passes: weakref.WeakKeyDictionary[Compiled, dict[tuple[Any, ...], BasePass]] = weakref.WeakKeyDictionary()


def _pass_of(compiled: Compiled, sources: list[Any], objective: Any) -> BasePass:
    """The base pass that gives the inputs of the layers with weights too, traced once while `compiled` lives."""
    wanted = (*compiled.wanted, *sources)
    known = _passes.setdefault(compiled, {})
    if wanted not in known:
        known[wanted] = BasePass(compiled.graph, list(wanted), objective)
    return known[wanted]
