"""The command ``fdfast sweep``."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fdfast.cli.arguments import UsageError
from fdfast.cli.loading import options, tell, tensorflow
from fdfast.cli.terminal import bar, broken
from fdfast.model_files import check_model_file


def sweep(arguments: SimpleNamespace) -> str:
    """Make the sweep, or go on with it; return its verdict."""
    model, data = arguments.model, arguments.data
    if data is None:
        model, data = None, None if model is None else str(model)
    if data is None or (model is None and arguments.checkpoints is None):
        raise UsageError("sweep needs MODEL and DATA, or --checkpoints DIR and DATA (see fdfast sweep --help)")
    if model is not None:
        check_model_file(model, loss=arguments.loss)
    attacked = arguments.task in ("attack", "masking")
    if attacked and arguments.epsilon is None:
        raise UsageError(f"--task {arguments.task} needs --epsilon, how far each element may move")
    if arguments.epsilon is not None and not attacked:
        raise UsageError("--epsilon goes with --task attack or masking")
    arguments.ray = _ray(arguments)
    with tensorflow(arguments):
        from fdfast import attack, check, sweeps

        calls: dict[str, Any] = {"gradcheck": check.gradcheck, "gradient": check.gradient, "attack": attack.pgd}
        asked = options(arguments, sweeps.sweep) | options(arguments, calls.get(arguments.task, attack.masking))
    try:
        with bar("sweeping", quiet=arguments.quiet) as progress:
            found = sweeps.sweep(model, data, progress=progress, **asked)
    except sweeps.Interrupted as stop:
        again = [word for word in arguments.given if word != "--restart"]
        raise KeyboardInterrupt(f"{stop}: fdfast {shlex.join(again)}") from None
    written: list[Path] = []
    if not arguments.no_html:
        written.append(arguments.out / "_summary.html")
        found.to_html(written[0])
    tell(arguments, found, broken(str(found)), written)
    return found.verdict


def _ray(arguments: SimpleNamespace) -> dict[str, Any] | None:
    asked = {"workers": arguments.workers, "cpus": arguments.worker_cpus, "gpus": arguments.worker_gpus}
    given = {name: value for name, value in asked.items() if value is not None}
    if arguments.ray is not None:
        return {"address": arguments.ray, **given}
    if given:
        raise UsageError("--workers, --worker-cpus and --worker-gpus go with --ray ADDRESS, or --ray local")
    return None
