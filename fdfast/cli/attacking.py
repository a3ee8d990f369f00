"""``fdfast attack``: adversarial examples of a file's examples, or the diagnosis of a model's gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fdfast.cli.arguments import UsageError
from fdfast.cli.loading import load, options, tell, write
from fdfast.cli.terminal import bar, broken, width
from fdfast.files import Examples

#: Examples that are drawn.
PICTURES = 3


def attack(arguments: SimpleNamespace) -> str:
    """Write adversarial examples, or diagnose; tell what was found."""
    out, diagnosed = arguments.out, arguments.diagnose
    if out is None and not diagnosed:
        raise UsageError("attack needs --out NPZ for the adversarial examples, or --diagnose")
    if out is not None and diagnosed:
        raise UsageError("--diagnose writes no adversarial examples: leave out --out; --pictures DIR takes the report")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out} must be a file in a folder that exists")
    model, examples = load(arguments)
    (_diagnose if diagnosed else _attack)(arguments, model, examples)
    return "done"


def _diagnose(arguments: SimpleNamespace, model: Any, examples: Examples) -> None:
    from fdfast.attack import masking

    asked = options(arguments, masking) | {"label": f"{model.name}, {Path(arguments.data).name}"}
    with bar("", before="attacking by each gradient", quiet=arguments.quiet):
        report = masking(model, examples.x, examples.y, **asked)
    written = write(arguments.pictures, report, "masking.json", "masking.html", "masking.png")
    tell(arguments, report, broken(report.text(width())), written)


def _attack(arguments: SimpleNamespace, model: Any, examples: Examples) -> None:
    from fdfast.attack import fgsm, pgd

    method = pgd if arguments.method == "pgd" else fgsm
    asked = options(arguments, method) | ({} if method is pgd else {"full": True})
    with bar("attacking", quiet=arguments.quiet) as progress:
        found = method(model, examples.x, examples.y, progress=progress, **asked)
    with open(arguments.out, "wb") as file:  # by name, NumPy would append a suffix
        np.savez_compressed(file, x=found.adversarial, x_clean=examples.x, y=examples.y)
    written = [arguments.out]
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for i in range(min(PICTURES, len(found.success))):
            written.append(arguments.pictures / f"attack-{i}.png")
            found.plot(written[-1], i)
    tell(arguments, found, broken(str(found)), written)
