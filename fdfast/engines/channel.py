"""The part of a program behind one channel of one node: what a single weight moves is carried, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.differences import Map, Node

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_LARGE = 1 << 20  # values from which threads are worth waking
_APART = {"depthwise", "average", "maximum", "ramp", "smooth", "scale", "shift", "repeat"}  # channel by channel


@dataclass(eq=False)
class ChannelProgram:
    """A program whose input is the difference of one channel.

    Attributes
    ----------
    program : fdfast._core.Program
    origin : list of (int, ndarray of int64 or None)
        For each of its nodes: the node of the whole program, and which of the channels there; None for all.
    """

    program: _core.Program
    origin: list[tuple[int, Int64 | None]] = field(default_factory=list)

    def prepare(self, nodes: list[Node], values: dict[int, Float64], targets: Float64, threads: int) -> _core.Prepared:
        """Pick this program's values from those of the whole one, by node."""
        size = sum(int(values[self.origin[n][0]].size) for n in self.program.needed)
        threads = threads if size > _LARGE else 1
        picked = []
        for number in self.program.needed:
            old, index = self.origin[number]
            value = values[old].reshape(-1, *nodes[old].shape)
            picked.append(np.ascontiguousarray(value if index is None else value[..., index]))
        return self.program.prepare(picked, targets, threads=threads)


def channel_program(nodes: list[Node], start: int, channel: int, dtype: np.dtype[Any]) -> ChannelProgram | None:
    """Cut out what lies behind one channel of node `start`; None where that meets what does not move, in a product.

    Operations that keep channels apart stay on the one; a convolution keeps its weights for it; from there on, and
    where channels mix in another way, all channels are carried.
    """
    making = _Making(nodes, start, channel, dtype)
    for number in range(start + 1, len(nodes)):
        if not making.take(number):
            return None
    return making.made


class _Making:
    def __init__(self, nodes: list[Node], start: int, channel: int, dtype: np.dtype[Any]) -> None:
        h, w, _ = nodes[start].shape
        self.nodes = nodes
        self.made = ChannelProgram(_core.Program((h, w, 1), dtype))
        self.here: dict[int, tuple[int, Int64 | None]] = {}
        self._note(0, start, np.array([channel]))

    def take(self, number: int) -> bool:
        """Append what is left of one node; False if it cannot be."""
        node = self.nodes[number]
        live = [s for s in node.sources if s in self.here]
        if not live:
            return True
        options = dict(node.options)
        source, index = self.here[live[0]]
        if index is not None and node.op in _APART:
            if "weights" in options:
                options["weights"] = np.ascontiguousarray(options["weights"][..., index])
            self._append(number, [source], (*node.shape[:2], len(index)), index, options)
        elif index is not None and node.op == "conv" and options.get("groups", 1) == 1:
            options["weights"] = np.ascontiguousarray(options["weights"][:, :, index])
            self._append(number, [source], node.shape, None, options)
        elif index is not None and node.op == "reshape":
            h, w, c = self.nodes[live[0]].shape
            index = (np.arange(h * w)[:, None] * c + index).ravel()
            self._append(number, [source], (1, 1, len(index)), index, options)
        elif node.op == "add":
            factors = options.get("coefficients", [])
            options["coefficients"] = [k for s, k in zip(node.sources, factors, strict=True) if s in self.here]
            self._append(number, [self._whole(s) for s in live], node.shape, None, options)
        elif len(live) == len(node.sources):
            self._append(number, [self._whole(s) for s in node.sources], node.shape, None, options)
        else:
            return False
        return True

    def _append(self, old: int, sources: list[int], shape: Map, index: Int64 | None, options: dict[str, Any]) -> None:
        number = self.made.program.append(self.nodes[old].op, sources, shape, **options)
        self._note(number, old, index)

    def _note(self, number: int, old: int, index: Int64 | None) -> None:
        self.made.origin.append((old, index))
        self.here[old] = number, index

    def _whole(self, old: int) -> int:
        """Put the channels that are carried back among those that do not move."""
        number, index = self.here[old]
        if index is None:
            return number
        shape = self.nodes[old].shape
        weights = np.zeros((1, 1, len(index), shape[2]))
        weights[0, 0, np.arange(len(index)), index] = 1.0
        made = self.made.program.append("conv", [number], shape, weights=weights)
        self._note(made, old, None)
        return made
