"""What a sweep is of: fingerprints of model, data, options and versions, and in which of them two sweeps differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from fdfast.sweeps.shards import digest_of

FORMAT = 2
#: What the rows depend on, with the words for it.
_HELD = {
    "format": "the format of the folder",
    "task": "the task",
    "model": "the model",
    "data": "the data",
    "options": "the options",
    "batch": "batch, the number of examples of a part",
    "keep": "keep",
    "versions": "the versions",
}


class Mismatch(ValueError):
    """A folder holds the results of another sweep; the message says in what it differs."""


def manifest_of(
    *, task: str, model: Any, data: Mapping[str, Any], options: Mapping[str, Any], batch: int, keep: str, threads: int
) -> dict[str, Any]:
    """Put the manifest of a sweep together; `data` is the `about` of a source."""
    return {
        "format": FORMAT,
        "task": task,
        "model": fingerprint(model),
        "data": dict(data),
        "options": {name: plain_option(name, value) for name, value in sorted(options.items())},
        "batch": batch,
        "keep": keep,
        "versions": {name: version(name) for name in ("fdfast", "tensorflow", "keras", "numpy")},
        "threads": threads,
    }


def identity(manifest: Mapping[str, Any]) -> str:
    """One word for what the rows depend on."""
    return hashlib.sha256(json.dumps([manifest.get(name) for name in _HELD if name != "data"]).encode()).hexdigest()


def hold_against(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    """Raise `Mismatch` with the differences in words unless both are of the same sweep.

    A file that was damaged may have been mended since, or be damaged now.
    """
    told = [sentence for name, words in _HELD.items() for sentence in _differences(words, old.get(name), new.get(name))]
    if told:
        raise Mismatch(
            f"{where} holds the results of another sweep: {'; '.join(told)}. Take another folder, or start anew by "
            "resume=False (on the command line --restart), which removes these results"
        )


def _differences(words: str, old: Any, new: Any) -> list[str]:
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if "damaged" in old or "damaged" in new:
            return []
        found = []
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{words}, {name}" if name not in ("files",) else words
            if name not in new:
                found.append(f"{inner} is no longer there")
            elif name not in old:
                found.append(f"{inner} is new")
            else:
                found += _differences(inner, old[name], new[name])
        return found
    return [f"{words}: {_short(old)} then, {_short(new)} now"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 and " " not in text else text


def plain_option(name: str, value: Any) -> Any:
    """Bring an option into the form that JSON has for it.

    Raises
    ------
    TypeError
        It has none, so that a later sweep could not tell whether it is the same.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain_option(name, one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain_option(name, one) for key, one in value.items()}
    if hasattr(value, "get_config"):  # a Keras loss
        return _serialized(value)
    raise TypeError(
        f"{name} must be a number, a string, a tuple of them or a Keras loss, got {type(value).__name__}: a manifest "
        "keeps it, so that a sweep can go on later"
    )


def fingerprint(model: Any) -> dict[str, str]:
    """What tells a model from others: its weights, its layers and its loss; names of layers do not count."""
    weights = [np.asarray(one) for one in model.get_weights()]
    return {"weights": digest_of(*weights), "layers": _hashed(_layers(model)), "loss": _serialized(_loss_of(model))}


def _loss_of(model: Any) -> Any:
    return getattr(model, "loss", None)


def _layers(model: Any) -> Any:
    try:
        config = model.get_config()
    except NotImplementedError:  # a subclassed model that cannot be saved
        return f"{type(model).__module__}.{type(model).__qualname__}"
    names: dict[str, str] = {}
    _collect(config, names)
    return _renamed(config, names)


#: Keys of a configuration that change from process to process.
_PASSING = ("shared_object_id", "module")


def _collect(value: Any, names: dict[str, str]) -> None:
    """Number the names of layers, which Keras counts through a process, in the order in which they come."""
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _collect(one, names)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        names.setdefault(value["name"], f"#{len(names)}")


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _renamed(one, names) for key, one in value.items() if key not in _PASSING}
    if isinstance(value, list | tuple):
        return [_renamed(one, names) for one in value]
    if isinstance(value, str):
        return names.get(value, value)
    return value if value is None or isinstance(value, bool | int | float) else type(value).__qualname__


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _serialized(value: Any) -> str:
    if value is None or isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple | dict):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return json.dumps({str(key): _serialized(one) for key, one in inner})
    config = value.get_config() if hasattr(value, "get_config") else {}
    config = {key: str(one) for key, one in config.items() if key != "name"}
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}{json.dumps(config, sort_keys=True) if config else ''}"
