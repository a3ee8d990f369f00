"""The engine that needs nothing: one shard after the other in this process, whose kernels use all cores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fdfast.sweeps.shards import Shard
from fdfast.sweeps.tasks import Result, Work


def results_here(work: Work, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Result]]:
    """Yield shards with what came out of them."""
    for shard in shards:
        yield shard, work(shard)
