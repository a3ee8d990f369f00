"""The public call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fdfast.files import BadFile
from fdfast.model_files import import_modules
from fdfast.moves import check_choice, check_progress
from fdfast.progress import Progress, with_bar
from fdfast.sweeps.checkpoints import checkpoints_in, loaded, name_of, weights_kept
from fdfast.sweeps.folder import arrow
from fdfast.sweeps.found import Sweep
from fdfast.sweeps.models import model_of
from fdfast.sweeps.run import Asked, pictures_of, run
from fdfast.sweeps.shards import DataError, Source, batch_for
from fdfast.sweeps.sources import source_of
from fdfast.sweeps.tasks import Keep, Task, Work, check_options


@with_bar("sweeping")
def sweep(
    model: Any,
    data: Any,
    out: str | os.PathLike[str],
    *,
    task: Task = "gradcheck",
    batch: int | None = None,
    ray: str | Mapping[str, Any] | None = None,
    resume: bool = True,
    keep: Keep = "summary",
    limit: int | None = None,
    progress: Progress = None,
    x_key: str = "x",
    y_key: str = "y",
    scale: bool = True,
    imports: Iterable[str] = (),
    checkpoints: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Sweep:
    """Check the gradient at every example of a data set, one row of a Parquet table for each.

    What is done is on disk, shard by shard; the same call later does what is missing.

    Parameters
    ----------
    model : keras.Model or path-like
        A model, or a ``.keras`` file, which is read in Keras' safe mode. With `checkpoints`, None or the model that
        files of weights are for.
    data : tuple, dict, path-like, tf.data.Dataset or iterable
        Arrays ``(x, y)`` or ``{"x": x, "y": y}``; an ``.npz`` file or a Parquet table, a folder or a pattern of them; a
        dataset or an iterable of pairs (x, y), each one example or a batch, in the same order every time.
    out : path-like
        Folder of the results, which is made.
    task : {"gradcheck", "gradient", "attack", "masking"}
        `fdfast.gradcheck`, `fdfast.gradient`, `fdfast.attack.pgd` or `fdfast.attack.masking`.
    batch : int, optional
        Examples of a shard: what is computed together, and one Parquet file. By default 100, less for large examples.
    ray : str or dict, optional
        Address of a Ray cluster, ``"local"`` for one on this machine, or a dict of address, workers, cpus and gpus (the
        last two for each worker). None: this process.
    resume : bool
        Go on with what lies in `out`; False removes that first.
    keep : {"summary", "maps"}
        ``"maps"`` also writes the maps of every shard, ``out/_maps/part-*.npz``.
    limit : int, optional
        Only so many examples, from the first on.
    progress : callable or bool
        Called as ``progress(examples done, examples in all or None)``; True shows a bar.
    x_key, y_key : str
        Arrays or columns of files.
    scale : bool
        Divide 8-bit pixels by 255.
    imports : iterable of str
        Modules that define layers of your own, imported before a model is loaded, here and by workers.
    checkpoints : path-like, optional
        Folder of ``.keras`` or ``.weights.h5`` files: the data are swept over at each, into a folder of its name below
        `out`. Those that come later are done by a later call.
    **options
        Of that function: loss, tile, rtol, seed, epsilon ...

    Returns
    -------
    Sweep

    Raises
    ------
    Mismatch
        `out` holds the results of another sweep; the message says in what it differs.
    DataError
        Files were damaged: named, with everything else done. Or examples are not what they were.
    Interrupted
        By Ctrl-C; the same call goes on.
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.
    """
    arrow()
    check_options(task, options)
    check_choice("keep", keep, ("summary", "maps"))
    _check_count("batch", batch)
    _check_count("limit", limit)
    check_progress(progress)
    asked = Asked(task, batch, ray, resume, keep, limit, progress, tuple(imports), options)
    if checkpoints is not None:
        return _of_checkpoints(model, data, Path(out), checkpoints, asked, (x_key, y_key, scale))
    known = model_of(model, asked.imports, compiled=asked.compiled)
    return run(known, source_of(data, known, x_key, y_key, scale=scale), Path(out), asked)


def _of_checkpoints(
    model: Any, data: Any, out: Path, folder: str | os.PathLike[str], asked: Asked, keys: tuple[str, str, bool]
) -> Sweep:
    known = None if model is None else model_of(model, asked.imports, compiled=asked.compiled)
    import_modules(asked.imports)
    notes, unusable, paths = [], [], {name_of(path): path for path in checkpoints_in(folder)}
    source: Source | None = None

    def at(name: str) -> Any:
        return loaded(paths[name], known, compiled=asked.compiled)

    with weights_kept(known):
        for place, name in enumerate(paths):
            try:
                state = at(name)
            except BadFile as error:
                unusable.append(str(error))
                continue
            source = source or source_of(data, state, *keys[:2], scale=keys[2])
            if not source.again:
                raise ValueError("a generator can be read once only, and checkpoints need the data several times")
            done = run(state, source, out / name, asked, (place, name))
            notes += [f"{name}: {note}" for note in done.notes]
    if unusable:
        raise DataError(f"everything but these was done, make the same call again once they are: {'; '.join(unusable)}")

    def reports(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
        found: dict[tuple[Any, ...], Any] = {}
        with weights_kept(known):
            for name in {row["checkpoint"]: None for row in rows}:
                work = Work(at(name), asked.task, asked.options, asked.keep, name)
                assert source is not None
                found |= pictures_of(work, source, asked.batch or batch_for(source.size))(rows)
        return found

    return Sweep(out, notes=notes, pictures=reports)


def _check_count(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
