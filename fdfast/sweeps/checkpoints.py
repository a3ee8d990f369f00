"""The same data at many states of a model: a training run, looked at while it goes on."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdfast.files import BadFile
from fdfast.model_files import load_model

_WEIGHTS = ".weights.h5"


def checkpoints_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of a folder, ``.keras`` or ``.weights.h5``, numbers in the names in their order.

    Raises
    ------
    BadFile
        There are none.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BadFile(f"checkpoints {str(path)!r} is no folder")
    found = [one for one in path.iterdir() if one.name.endswith((".keras", _WEIGHTS)) and not one.name.startswith(".")]
    if not found:
        raise BadFile(
            f"checkpoints {str(path)!r} has no .keras and no {_WEIGHTS} files: keras.callbacks.ModelCheckpoint"
        )
    return sorted(found, key=lambda one: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", one.name)])


def name_of(path: Path) -> str:
    """Name of a checkpoint, and of its folder of results."""
    return path.name.removesuffix(".keras").removesuffix(_WEIGHTS)


def loaded(path: Path, model: Any, *, compiled: bool) -> Any:
    """Return the model at a checkpoint: the file's own, or `model` with its weights, which are then the file's.

    Raises
    ------
    BadFile
        The file cannot be used, or holds weights and there is no model for them.
    """
    if not path.name.endswith(_WEIGHTS):
        return load_model(path, compiled=compiled)
    if model is None:
        raise BadFile(f"{str(path)!r} holds weights only: pass the model that they are of")
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadFile(
            f"{str(path)!r} cannot be loaded: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    return model


@contextlib.contextmanager
def weights_kept(model: Any) -> Iterator[None]:
    """Bring back the weights of a model of the caller's, into which checkpoints are loaded."""
    kept = None if model is None else model.get_weights()
    try:
        yield
    finally:
        if kept is not None:
            model.set_weights(kept)
