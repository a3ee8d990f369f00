"""Model and examples that the arguments name, and where results go."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fdfast import files, model_files
from fdfast.cli.terminal import bar, width
from fdfast.progress import Bar
from fdfast.quiet import quiet_start


@contextmanager
def tensorflow(arguments: SimpleNamespace) -> Iterator[Bar | None]:
    """Import TensorFlow, quietly and with a bar, which stays for what follows."""
    with bar("", before="loading TensorFlow", quiet=arguments.quiet) as shown:
        quiet_start()
        yield shown


def demo(arguments: SimpleNamespace) -> str:
    """Run the demonstration, whose module needs TensorFlow; return the worst verdict."""
    with tensorflow(arguments):
        from fdfast.cli import demo
    verdicts = {report.verdict for report in demo.run(arguments)}
    return next(one for one in ("fail", "inconclusive", "pass") if one in verdicts)


def options(arguments: SimpleNamespace, call: Callable[..., Any]) -> dict[str, Any]:
    """Arguments that are named like those of a call; what it is about is for the caller to give."""
    names = set(inspect.signature(call).parameters) - {"model", "data"}
    return {name: value for name, value in vars(arguments).items() if name in names}


def load(arguments: SimpleNamespace) -> tuple[Any, files.Examples]:
    """Return the model and the examples; what was done to these is told on stderr."""
    model_files.check_model_file(arguments.model, loss=arguments.loss)
    names, notes = files.names_in(arguments.data, arguments.x_key, arguments.y_key)
    arrays = files.read_arrays(arguments.data, names, arguments.max_bytes)
    with tensorflow(arguments) as shown:
        if shown is not None:
            shown.say(f"loading {arguments.model.name}")
        model_files.import_modules(arguments.imports)
        compiled = arguments.loss is None
        model = model_files.load_model(arguments.model, compiled=compiled, limit=arguments.max_bytes)
    inputs = getattr(model, "inputs", None)
    x, y = (arrays[name] for name in names)
    shape = tuple(inputs[0].shape) if inputs else None
    within = [layer.name for layer in getattr(model, "layers", ()) if type(layer).__name__ == "Rescaling"]
    if arguments.scale and within and x.dtype == np.uint8:
        notes.append(f"the model scales pixels itself, in {within[0]}")
    examples = files.pick_examples(x, y, shape, arguments.index, scale=arguments.scale and not within)
    for note in notes + examples.notes:
        if not arguments.quiet:
            told = f"fdfast: {note}"
            print(textwrap.fill(told, width()) if sys.stderr.isatty() else told, file=sys.stderr)
    return model, examples


def tell(arguments: SimpleNamespace, result: Any, text: str, written: list[Path]) -> None:
    """Print what was found, and which files were written; or write it as JSON where --json asks for that."""
    if arguments.json == "-":
        print(result.to_json())
        return
    if arguments.json is not None:
        result.to_json(arguments.json)
        written = [*written, Path(arguments.json)]
    if not arguments.quiet:
        print(text)
        for path in written:
            print(f"  written: {path}")


def write(folder: Path | None, result: Any, json: str, html: str, picture: str) -> list[Path]:
    """Write a report into a folder, which is made; return the files."""
    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / json, folder / html, folder / picture]
    for call, path in zip((result.to_json, result.to_html, result.plot), paths, strict=True):
        call(path)
    return paths
