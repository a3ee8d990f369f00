"""The engine for many machines: shards go to a pool of Ray actors, each with the model loaded once.

The driver reads the data, hands one shard at a time to each worker, and writes what comes back, so that workers need no
disk in common. A shard whose worker or node dies goes to another one.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any

from fdfast.model_files import import_modules
from fdfast.sweeps.manifest import fingerprint
from fdfast.sweeps.models import Packed, packed, unpacked
from fdfast.sweeps.shards import Shard
from fdfast.sweeps.tasks import Result, Work

#: What is said about the arguments, and would be said again.
_OURS = (ValueError, TypeError, ImportError)
#: Deaths of workers over one shard, or in a row while they start, that are taken for chance.
_TRIES = 5


@dataclass(frozen=True)
class Settings:
    """Where Ray runs, how many workers, and what each of them reserves.

    Attributes
    ----------
    address : str
        As `ray.init` takes it, or ``"local"``.
    workers : int or None
        None: as many as there are cores for.
    cpus, gpus : float
        Of each worker.
    """

    address: str = "local"
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0


def settings_of(ray: str | Mapping[str, Any]) -> Settings:
    """Read the argument `ray` of a sweep.

    Raises
    ------
    ValueError
        It names what there is not.
    """
    if isinstance(ray, str):
        return Settings(ray)
    known = [field.name for field in fields(Settings)]
    unknown = sorted(set(ray) - set(known))
    if unknown:
        raise ValueError(f"ray takes {', '.join(known)}, got {', '.join(unknown)}")
    found = Settings(**ray)
    if found.workers is not None and found.workers < 1:
        raise ValueError(f"workers must be at least 1, got {found.workers}")
    return found


def import_ray() -> Any:
    """Import Ray; raise ImportError with the remedy where it is missing."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "ray= needs Ray, which is not installed: pip install 'fdfast[ray]'. Without ray= the sweep runs in this "
            "process"
        ) from error
    return ray


class Worker:
    """What runs in a worker: one model, many shards."""

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        # Of the driver: autodiff adds in an order that depends on it.
        tf.config.threading.set_intra_op_parallelism_threads(threads)

    def load(
        self, model: Packed, print_of: Mapping[str, str], imports: tuple[str, ...], asked: tuple[Any, ...]
    ) -> bool:
        """Load the model and see that it is the driver's."""
        import_modules(imports)
        loaded = unpacked(model)
        found = fingerprint(loaded)
        if found != print_of:
            differs = ", ".join(name for name, value in found.items() if value != print_of[name])
            raise ValueError(
                f"the model that a worker loaded differs from the driver's in its {differs}: it does not survive "
                "model.save() and load_model()"
            )
        self._work = Work(loaded, *asked)
        return True

    def work(self, shard: Shard) -> Result:
        """Do one shard."""
        return self._work(shard)


def results_on_ray(
    work: Work, shards: Iterable[Shard], settings: Settings, imports: tuple[str, ...], threads: int, stack: ExitStack
) -> Iterator[tuple[Shard, Result]]:
    """Yield shards with what came out of them, as they come; workers end with the stack."""
    ray = import_ray()
    shards = iter(shards)
    first = next(shards, None)
    if first is None:  # nothing is missing: no cluster is needed
        return
    _connect(ray, settings, stack)
    _fits(ray, settings)
    model = ray.put(packed(work.model, ray.cloudpickle))
    start = (model, fingerprint(work.model), imports, work.asked)
    pool = _Pool(ray, settings, start, threads)
    stack.callback(pool.close)
    workers = settings.workers or max(1, int(ray.cluster_resources().get("CPU", 1) // max(threads, settings.cpus)))
    yield from pool.run(itertools.chain([first], shards), workers)


class _Pool:
    """Actors and what each of them is at."""

    def __init__(self, ray: Any, settings: Settings, start: tuple[Any, ...], threads: int) -> None:
        self._ray, self._start, self._threads = ray, start, threads
        reserved = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "scheduling_strategy": "SPREAD"}
        # Shards are handed out again here, to whoever is alive, so Ray restarts nothing.
        self._actor = ray.remote(Worker).options(max_restarts=0, **reserved)
        self._running: dict[Any, tuple[Any, Shard | None]] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def _busy(self) -> bool:
        return any(shard is not None for _, shard in self._running.values())

    def run(self, shards: Iterator[Shard], workers: int) -> Iterator[tuple[Shard, Result]]:
        """Yield what comes out."""
        again: deque[Shard] = deque()
        for _ in range(workers):
            self._hire()
        over = False  # whether the data are at their end
        while self._busy or again or not over:
            (ref,), _ = self._ray.wait(list(self._running), num_returns=1)
            actor, shard = self._running.pop(ref)
            try:
                result = self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                # The worker, its node or the result is gone; or it ran out of something, which another may have.
                cause = getattr(error, "cause", None)
                if isinstance(cause, _OURS):
                    raise cause from None
                self._mourn(shard, cause or error)
                if shard is not None:
                    again.append(shard)
                self._ray.kill(actor)
                self._hire()
                continue
            following = again.popleft() if again else next(shards, None)
            over = over or following is None
            if following is not None:
                self._running[actor.work.remote(following)] = (actor, following)
            if shard is not None:
                self._deaths.pop("start", None)
                yield shard, result

    def _hire(self) -> None:
        actor = self._actor.remote(self._threads)
        self._running[actor.load.remote(*self._start)] = (actor, None)

    def _mourn(self, shard: Shard | None, error: Exception) -> None:
        what = "start" if shard is None else shard.name
        self._deaths[what] += 1
        if self._deaths[what] >= _TRIES:
            doing = "while loading the model" if shard is None else f"at {shard.where}"
            raise RuntimeError(
                f"{self._deaths[what]} workers have died {doing}, the last of: "
                f"{(str(error).splitlines() or [type(error).__name__])[0]}. If it "
                "is for want "
                "of memory, a smaller batch= or fewer workers help; what is written stays"
            ) from error

    def close(self) -> None:
        """End the workers."""
        for actor, _ in self._running.values():
            self._ray.kill(actor)


def _connect(ray: Any, settings: Settings, stack: ExitStack) -> None:
    """Join the cluster, or start one on this machine that ends with the stack; one that is joined already stays."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if settings.address == "local":
        count = max(os.cpu_count() or 1, int(settings.cpus * (settings.workers or 1)))
        ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=settings.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConnectionError(
                f"no Ray cluster answers at {settings.address!r} ({why}): start one by 'ray start --head', or take "
                "'local'"
            ) from error
    stack.callback(ray.shutdown)


def _fits(ray: Any, settings: Settings) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": settings.cpus, "GPU": settings.gpus}
    if not any(all(node.get(kind, 0) >= many for kind, many in wanted.items()) for node in nodes):
        raise ValueError(
            f"no node of the cluster has {settings.cpus:g} CPUs and {settings.gpus:g} GPUs for a worker: ask for "
            "fewer, "
            "ray={'cpus': ..., 'gpus': ...}"
        )
