"""Model and examples that the arguments name, and where results go."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fdfast import files, model_files
from fdfast.cli.terminal import bar
from fdfast.quiet import quiet_start


def load(arguments: SimpleNamespace) -> tuple[Any, files.Examples]:
    """Return the model and the examples; what was done to these is told on stderr."""
    model_files.check_model_file(arguments.model, loss=arguments.loss)
    names, notes = files.names_in(arguments.data, arguments.x_key, arguments.y_key)
    arrays = files.read_arrays(arguments.data, names, arguments.max_bytes)
    with bar("", before="loading TensorFlow", quiet=arguments.quiet) as shown:
        quiet_start()
        if shown is not None:
            shown.say(f"loading {arguments.model.name}")
        model_files.import_modules(arguments.imports)
        compiled = arguments.loss is None
        model = model_files.load_model(arguments.model, compiled=compiled, limit=arguments.max_bytes)
    inputs = getattr(model, "inputs", None)
    x, y = (arrays[name] for name in names)
    shape = tuple(inputs[0].shape) if inputs else None
    examples = files.pick_examples(x, y, shape, arguments.index, scale=not arguments.no_scale)
    for note in notes + examples.notes:
        if not arguments.quiet:
            print(f"fdfast: {note}", file=sys.stderr)
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
