"""``fdfast bench``: what a check of a model costs on this machine."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from fdfast.cli.arguments import UsageError
from fdfast.cli.loading import load, tell, tensorflow
from fdfast.cli.terminal import bar, duration, table, width

#: Numbers of examples of which the time is told.
_MANY = (10, 100, 1000, 10_000)


def bench(arguments: SimpleNamespace) -> str:
    """Time the engines and whole checks, and tell it."""
    if (arguments.model is None) != (arguments.data is None):
        raise UsageError("bench needs MODEL and DATA, or neither for the shipped CNN and a digit")
    model, x, y, name = _problem(arguments)
    from fdfast.cli.costs import check_cost, gradient_costs
    from fdfast.report import json_text

    asked = (x, y, arguments.loss, arguments.tile, arguments.channels)
    with bar("", before=f"timing {name}", quiet=arguments.quiet):
        costs, whole = list(gradient_costs(model, *asked)), check_cost(model, *asked)
    many = {n: whole.of(n) for n in _MANY}
    rows, reasons = [], []
    for cost in costs:
        rows_at_once = "" if cost.chunk is None else str(cost.chunk)
        figures = ["-", "", ""]
        if cost.why:
            reasons.append(f"{cost.engine} {cost.precision}: {cost.why}")
        else:
            sample = f"{100 * cost.timed / cost.tiles:.0f} %"
            figures = [duration(cost.seconds), f"{2 * cost.tiles / cost.seconds:.0f}", sample]
        rows.append([cost.engine, cost.precision, rows_at_once, *figures])
    head = ("engine", "precision", "chunk", "time", "rows/s", "timed")
    told = ", ".join(f"{n:,}: {duration(seconds)}" for n, seconds in many.items())
    said = [
        *dict.fromkeys(reasons),
        "Chunk: rows in one call of the model.",
        f"A whole check, fdfast.gradcheck: {duration(whole.later)} (the first {duration(whole.first)}).",
        f"Examples checked together: {told}.",
        "The whole set of measurements is in the folder bench of the source tree: make bench",
    ]
    lines = "\n".join(textwrap.fill(one, width()) for one in said)
    text = f"{table(f'One gradient, {name}, warm', head, rows, left=2)}\n\n{lines}"
    found = {"model": name, "engines": [asdict(cost) for cost in costs], "check": asdict(whole), "examples": many}
    tell(arguments, SimpleNamespace(to_json=lambda path=None: json_text(found, path)), text, [])
    return "done"


def _problem(arguments: SimpleNamespace) -> tuple[Any, Any, Any, str]:
    """Model, examples, targets and a name: of the files, or the shipped ones."""
    import numpy as np

    if arguments.model is not None:
        model, examples = load(arguments)
        x, y = (v if examples.batched else v[None] for v in (examples.x, examples.y))
        return model, x, y, ", ".join(filter(None, (model.name, examples.which)))
    with tensorflow(arguments):
        from fdfast.data import CLASSES, mnist_cnn, mnist_sample

    x, labels = mnist_sample(1)
    return mnist_cnn(), x, np.eye(CLASSES)[labels], "the shipped CNN, one MNIST digit"
