"""One model over one source: the folder, the engine, and what is missing of the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdfast.functions import interruptible
from fdfast.progress import Progress
from fdfast.sweeps.folder import Folder
from fdfast.sweeps.found import Sweep
from fdfast.sweeps.here import results_here
from fdfast.sweeps.manifest import hold_against, identity, manifest_of
from fdfast.sweeps.models import threads_of
from fdfast.sweeps.shards import DataError, Shard, Source, batch_for
from fdfast.sweeps.tasks import Keep, Result, Task, Work


class Interrupted(KeyboardInterrupt):
    """A sweep was interrupted; its folder is whole, and the message says how far it is."""


@dataclass(frozen=True)
class Asked:
    """The arguments of a sweep but for model and data; see `sweep` for each."""

    task: Task
    batch: int | None
    ray: str | Mapping[str, Any] | None
    resume: bool
    keep: Keep
    limit: int | None
    progress: Progress
    imports: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def compiled(self) -> bool:
        """Whether the loss that a model was compiled with is needed."""
        return self.options.get("loss") is None


def run(model: Any, source: Source, out: Path, asked: Asked, checkpoint: tuple[int, str] | None = None) -> Sweep:
    """Sweep a loaded model over a source; `checkpoint` is its place and name among others."""
    many, threads = asked.batch or batch_for(source.size), threads_of()
    place, name = checkpoint or (None, None)
    manifest = manifest_of(
        task=asked.task, model=model, data=source.about, options=asked.options, batch=many, keep=asked.keep,
        threads=threads,
    )  # fmt: skip
    manifest |= {"place": place, "checkpoint": name}
    work = Work(model, asked.task, asked.options, asked.keep, name)
    folder, which = Folder(out), identity(manifest)
    progress, limit = asked.progress, asked.limit
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        notes = _prepared(folder, manifest, resume=asked.resume)
        done, spoilt = folder.done(which, maps=asked.keep == "maps")
        notes += spoilt
        expected = source.total if limit is None or source.total is None else min(limit, source.total)
        have = sum(one.examples for one in done.values())
        if callable(progress):
            progress(have, expected)
        missing = source.shards(many, limit, done)
        try:
            with interruptible():
                for shard, result in _engine(work, missing, asked, threads, stack):
                    about = {"identity": which, "examples": len(shard), "digest": shard.digest}
                    folder.write(shard.name, result.table, about, result.maps)
                    have += len(shard) - (done[shard.name].examples if shard.name in done else 0)
                    if callable(progress):
                        progress(have, expected)
        except KeyboardInterrupt:
            told = f"{have} of {expected or 'the'} examples are in {out}; the same call goes on from there"
            raise Interrupted(told) from None
        if not source.damaged:
            folder.write_manifest(manifest | {"finished": True, "examples": have, "notes": notes})
    if source.damaged:
        told = "; ".join(f"{name}: {why}" for name, why in source.damaged.items())
        raise DataError(f"everything but these was done, mend them and make the same call again: {told}")
    return Sweep(out, notes=notes, pictures=pictures_of(work, source, many))


def _engine(
    work: Work, shards: Iterator[Shard], asked: Asked, threads: int, stack: ExitStack
) -> Iterator[tuple[Shard, Result]]:
    if asked.ray is None:
        return results_here(work, shards)
    from fdfast.sweeps.on_ray import results_on_ray, settings_of

    return results_on_ray(work, shards, settings_of(asked.ray), asked.imports, threads, stack)


def _prepared(folder: Folder, manifest: dict[str, Any], *, resume: bool) -> list[str]:
    """Put the manifest in place, unless there is one that fits; return what to know of that."""
    if not resume:
        folder.clear()
    # A sweep that ended before its first part, by a wrong option, stands in nobody's way.
    old = folder.manifest() if folder.parts() else None
    notes: list[str] = []
    if old is None:
        if folder.parts():
            raise ValueError(
                f"{folder.path} holds part-*.parquet files without a manifest, which are not ours to touch: take "
                "another "
                "folder"
            )
    else:
        hold_against(old, manifest, str(folder.path))
        notes = list(old.get("notes", []))
        if old["threads"] != manifest["threads"]:
            notes.append(
                f"made in parts by {old['threads']} and by {manifest['threads']} threads: autodiff in TensorFlow "
                "adds in "
                "another order then, and the last digits of its gradient may differ"
            )
        for name, facts in old["data"].get("files", {}).items():  # damaged now: it must still become what it was
            if "damaged" in manifest["data"]["files"][name]:
                manifest["data"]["files"][name] = facts
    folder.write_manifest(manifest | {"finished": False, "notes": notes})
    return notes


def pictures_of(work: Work, source: Source, batch: int) -> Any:
    """What returns the reports of some rows, made again."""
    if not source.again:
        return None

    def reports(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
        found: dict[tuple[Any, ...], Any] = {}
        checkpoint = work.checkpoint
        wanted = {(row["file"], row["index"]): row for row in rows if row["checkpoint"] == checkpoint}
        for shard in source.shards(batch, None, {}) if wanted else ():
            for i in range(len(shard)):
                row = wanted.pop((shard.file, shard.first + i), None)
                if row is not None:
                    found[checkpoint, shard.file, shard.first + i] = work.again(shard, i, row)
            if not wanted:
                break
        return found

    return reports
