"""``fdfast attack``: adversarial examples of a file's examples, or the diagnosis of a model's gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fdfast.attack import Attacked, fgsm, masking, pgd
from fdfast.cli.loading import tell
from fdfast.cli.terminal import bar, broken, width
from fdfast.files import Examples

#: Examples that are drawn.
PICTURES = 3


def diagnose(arguments: SimpleNamespace, model: Any, examples: Examples) -> None:
    """Print the diagnosis, and write it where asked to."""
    with bar("", before="attacking by each gradient", quiet=arguments.quiet):
        report = masking(
            model,
            examples.x,
            examples.y,
            arguments.epsilon,
            loss=arguments.loss,
            bounds=arguments.bounds,
            seed=arguments.seed,
            label=f"{model.name}, {Path(arguments.data).name}",
        )
    written = []
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        written = [arguments.pictures / f"masking.{kind}" for kind in ("json", "html", "png")]
        for write, path in zip((report.to_json, report.to_html, report.plot), written, strict=True):
            write(path)
    tell(arguments, report, broken(report.text(width())), written)


def attack(arguments: SimpleNamespace, model: Any, examples: Examples) -> None:
    """Write adversarial examples, and print what became of the model's accuracy."""
    found = _attacked(arguments, model, examples)
    with open(arguments.out, "wb") as file:  # by name, NumPy would append a suffix
        np.savez_compressed(file, x=found.adversarial, x_clean=examples.x, y=examples.y)
    written = [arguments.out]
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for i in range(min(PICTURES, len(found.success))):
            written.append(arguments.pictures / f"attack-{i}.png")
            found.plot(written[-1], i)
    tell(arguments, found, broken(str(found)), written)


def _attacked(arguments: SimpleNamespace, model: Any, examples: Examples) -> Attacked:
    shared = {
        "loss": arguments.loss,
        "gradient": arguments.gradient,
        "tile": arguments.tile,
        "channels": arguments.channels,
        "bounds": arguments.bounds,
        "samples": arguments.samples,
        "h": arguments.step,
        "seed": arguments.seed,
    }
    with bar("attacking", quiet=arguments.quiet) as progress:
        if arguments.method == "pgd":
            return pgd(
                model, examples.x, examples.y, arguments.epsilon, steps=arguments.steps, progress=progress, **shared
            )
        found: Attacked = fgsm(
            model, examples.x, examples.y, arguments.epsilon, precision=arguments.precision, progress=progress,
            full=True, **shared,
        )  # fmt: skip
        return found
