"""Models from files that nobody vouches for: layers of Keras, or a graph of TensorFlow; no Python code."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fdfast.files import LIMIT, BadFile, refuse_claim
from fdfast.model_sizes import check_sizes, dicts

_H5 = (".h5", ".hdf5")
#: Operations by which a graph would read or write files, or run Python. What saves and restores is in every SavedModel.
_REFUSED = re.compile(
    r"PyFunc|ReadFile|WriteFile|MatchingFiles|Reader(V2)?$|Line(Dataset|Reader)|Record(Dataset|Reader)|^Print|^Debug"
    r"|Summary|SaveDataset|LoadDataset|Snapshot|FromTextFile|^Rpc|^Xla(Host|Send|Recv)|^Bigtable|^Sql|Socket"
)
_SAVING = re.compile(r"^(Save|Restore|MergeV2|ShardedFile)")


def check_model_file(path: str | Path, *, loss: object = None) -> None:
    """Raise `BadFile` unless there is a model. Needs no TensorFlow: a slip is told at once.

    Parameters
    ----------
    path : path-like
    loss : object
        What was given for a loss: a SavedModel has none of its own.
    """
    path = Path(path)
    what = f"MODEL {str(path)!r}"
    if (path / "saved_model.pb").is_file():
        if loss is None:
            raise BadFile(f"{what} is a SavedModel, which knows no loss: name one by --loss, such as --loss mse")
        return
    if path.is_dir():
        raise BadFile(f"{what} is a folder without saved_model.pb: no SavedModel, or a damaged one")
    if not path.is_file():
        raise BadFile(f"{what} does not exist, or is no file")
    if path.suffix in _H5:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                raise BadFile(f"{what} is no HDF5 file, or is damaged")
        return
    if path.suffix != ".keras":
        raise BadFile(
            f"{what} must be a .keras or .h5 file or the folder of a SavedModel: write one by model.save('model.keras')"
        )
    if not zipfile.is_zipfile(path):
        raise BadFile(f"{what} is no Keras archive (no zip file), or is damaged")


def import_modules(names: Iterable[str]) -> None:
    """Import modules that define layers of the user's own.

    Raises
    ------
    BadFile
        There is no such module.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise BadFile(f"--import {name}: {error}; it must be installed, or lie on PYTHONPATH") from error


def load_model(path: str | Path, *, compiled: bool, limit: int = LIMIT) -> Any:
    """Load a Keras model from a ``.keras`` or ``.h5`` file, in Keras' safe mode, or the folder of a SavedModel.

    Parameters
    ----------
    path : path-like
    compiled : bool
        Whether the loss it was compiled with is needed. A SavedModel has none.
    limit : int
        Bytes that it may claim to hold, unpacked.

    Raises
    ------
    BadFile
        There is no such file, it is no model, it claims too much, or it needs code that is not in Keras: custom layers,
        custom losses, Lambda layers; or a SavedModel's graph would use files or run Python.

    Notes
    -----
    A SavedModel is a graph of TensorFlow's operations, and checking its gradient runs it: it can use memory and time,
    and nothing else but what `_REFUSED` names, for which it is refused.
    """
    path = Path(path)
    check_model_file(path, loss=None if compiled else "of the caller")
    what = f"MODEL {str(path)!r}"
    if path.is_dir():
        return _saved_model(path, limit, what)
    _check_claims(path, limit, what)
    import keras

    try:
        with warnings.catch_warnings(), _no_advice():
            # Saved before it was trained: the optimizer's state is of no use here.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            config, old = _config_of(path)
            check_sizes(config, limit, what, old=old)
            return keras.models.load_model(path, safe_mode=True, compile=compiled)
    except BadFile:
        raise
    except Exception as error:
        # Keras raises whatever the failing part raises: TypeError, ValueError, KeyError, OSError, zlib.error.
        raise BadFile(f"{what} cannot be loaded: {_why(error, compiled)}") from error


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keep back what Keras logs of metrics and of the format: neither is of use here."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_claims(path: Path, limit: int, what: str) -> None:
    """Raise `BadFile` where a model, or the arrays in it, say that they unpack to more than `limit` bytes.

    An archive's members are read up to the size that they claim, and the arrays of HDF5 are packed once more.
    """
    try:
        if path.suffix in _H5:
            refuse_claim(path.stat().st_size, limit, what)
            _check_h5(path.read_bytes(), limit, what, whole=True)
            return
        with zipfile.ZipFile(path) as archive:
            refuse_claim(sum(member.file_size for member in archive.infolist()), limit, what)
            for name in archive.namelist():
                if name.endswith(_H5):
                    _check_h5(archive.read(name), limit, f"{what}: {name}", whole=False)
    except BadFile:
        raise
    except Exception as error:  # zipfile and h5py raise whatever the failing part raises
        raise BadFile(f"{what} is no Keras archive, or is damaged: {error}") from error


def _config_of(path: Path) -> tuple[dict[str, Any], bool]:
    """What the layers of a model are to be, and whether that is written in the way of HDF5 files."""
    if path.suffix in _H5:
        import h5py

        with h5py.File(path, "r") as file:
            found: dict[str, Any] = json.loads(file.attrs["model_config"])
            return found, True
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json")), False


def _check_h5(content: bytes, limit: int, what: str, *, whole: bool) -> None:
    """Look at the arrays of an HDF5 file, of which nobody reads any, and at the layers if it is a whole model."""
    import h5py

    claimed, elsewhere = 0, []

    def add(name: str, one: Any) -> None:
        nonlocal claimed
        if isinstance(one, h5py.Dataset):
            claimed += math.prod(one.shape or (0,)) * one.dtype.itemsize
            if one.external or one.is_virtual:
                elsewhere.append(name)

    def look(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            elsewhere.append(name)

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems_links(look)
        file.visititems(add)
        if elsewhere:
            raise BadFile(f"{what} takes {elsewhere[0]!r} from another file, which is not read")
        refuse_claim(claimed, limit, what)
        if not whole:
            return
        if "model_config" not in file.attrs:
            raise BadFile(f"{what} holds weights only: save the whole model by model.save('model.keras')")
        _check_layers(json.loads(file.attrs["model_config"]), what)


def _check_layers(config: Any, what: str) -> None:
    """Refuse Python code in the layers of an HDF5 file: not every Keras heeds its safe mode there."""
    for one in dicts(config):
        name, module = str(one.get("class_name", "")), one.get("module")
        if "ambda" in name or one.get("function_type") == "lambda":
            raise BadFile(f"{what} cannot be loaded: {_LAMBDA}")
        if module is not None and not re.match(r"(keras|builtins)(\.|$)", str(module)) and not _known(one):
            raise BadFile(
                f"{what} cannot be loaded: it needs code that is not in Keras: {module}.{name}; --import a module that "
                "registers it by keras.saving.register_keras_serializable, or load it in Python"
            )


def _known(one: dict[str, Any]) -> bool:
    import keras

    return keras.saving.get_registered_object(str(one.get("registered_name"))) is not None


_BY_HAND = "load it in Python and call fdfast.gradcheck(model, x, y)"
_LAMBDA = f"it holds a Lambda layer, that is Python code, and code from files is not run; {_BY_HAND}"


def _why(error: Exception, compiled: bool) -> str:
    text = str(error)
    if "ambda" in text and ("unsafe" in text or "safe_mode" in text):
        return _LAMBDA
    missing = re.search(r"Could not locate (class|function) '[^']*'|Unknown (layer|loss function): '[^']*'", text)
    if missing:
        other = " (if it is only the loss, give --loss)" if compiled and "class" not in missing[0] else ""
        return f"it needs code that is not in Keras{other}: {missing[0][0].lower()}{missing[0][1:]}; {_BY_HAND}"
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _saved_model(path: Path, limit: int, what: str) -> Any:
    """Make a Keras model of the default signature of a SavedModel, which has one input and one output."""
    import keras
    import tensorflow as tf

    refuse_claim(sum(one.stat().st_size for one in path.rglob("*") if one.is_file()), limit, what)
    _check_graph(path, what)
    try:
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
        layer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadFile(f"{what} cannot be loaded: {lines[0]}; export one by model.export(folder)") from error
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadFile(f"{what} has {len(inputs)} inputs and {len(outputs)} outputs; {_BY_HAND} with one output")
    (spec,) = inputs.values()
    x = keras.Input(tuple(spec.shape[1:]), dtype=spec.dtype.name)
    return keras.Model(x, layer(x)[next(iter(outputs))], name=path.name.replace(".", "_") or "saved_model")


def _check_graph(path: Path, what: str) -> None:
    """Refuse a graph that would use files or run Python, when it is loaded or run."""
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        graphs = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    except Exception as error:  # of protobuf, which has one of its own in every version
        raise BadFile(f"{what} is no SavedModel, or is damaged: {error}") from error
    for graph in graphs:
        parts = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
        saving = {name for name, nodes in parts.items() if any(_SAVING.search(node.op) for node in nodes)}
        for name, nodes in [("the graph", graph.graph_def.node), *parts.items()]:
            for node in nodes:
                called = {attr.func.name for attr in node.attr.values() if attr.HasField("func")}
                if _REFUSED.search(node.op) or (name in parts and called & saving):
                    raise BadFile(
                        f"{what} would use files or run Python ({node.op} in {name}), which what comes from files must "
                        f"not; {_BY_HAND}"
                    )
