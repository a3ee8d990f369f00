"""The command ``fdfast sweep``."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fdfast.cli.arguments import UsageError
from fdfast.cli.loading import tell
from fdfast.cli.terminal import bar, broken
from fdfast.model_files import check_model_file
from fdfast.quiet import quiet_start

#: Arguments by the option of `fdfast.gradient` that they are for, and those that only `fdfast.gradcheck` has.
_GRADIENT = ("loss", "tile", "channels", "engine", "precision")
_CHECK = ("rtol", "coverage", "seed")


def sweep_command(arguments: SimpleNamespace) -> str:
    """Make the sweep, or go on with it; return its verdict."""
    model, data = arguments.model, arguments.data
    if data is None:
        model, data = None, None if model is None else str(model)
    if data is None or (model is None and arguments.checkpoints is None):
        raise UsageError("sweep needs MODEL and DATA, or --checkpoints DIR and DATA (see fdfast sweep --help)")
    if model is not None:
        check_model_file(model, loss=arguments.loss)
    ray = _ray(arguments)
    with bar("", before="loading TensorFlow", quiet=arguments.quiet):
        quiet_start()
    from fdfast.sweeps import Interrupted, sweep

    try:
        with bar("sweeping", quiet=arguments.quiet) as progress:
            found = sweep(
                model,
                data,
                arguments.out,
                task=arguments.task,
                batch=arguments.batch,
                ray=ray,
                resume=not arguments.restart,
                keep=arguments.keep,
                limit=arguments.limit,
                progress=progress,
                x_key=arguments.x_key,
                y_key=arguments.y_key,
                scale=not arguments.no_scale,
                imports=arguments.imports,
                checkpoints=arguments.checkpoints,
                **_options(arguments),
            )
    except Interrupted as stop:
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


def _options(arguments: SimpleNamespace) -> dict[str, Any]:
    if arguments.task in ("attack", "masking"):
        if arguments.epsilon is None:
            raise UsageError(f"--task {arguments.task} needs --epsilon, how far each element may move")
        shared = {"epsilon": arguments.epsilon, "loss": arguments.loss, "seed": arguments.seed}
        own = {"tile": arguments.tile, "channels": arguments.channels} if arguments.task == "attack" else {}
        return shared | own
    if arguments.epsilon is not None:
        raise UsageError("--epsilon goes with --task attack or masking")
    options = {name: getattr(arguments, name) for name in _GRADIENT}
    options["h"] = "auto" if arguments.step is None else arguments.step
    if arguments.task == "gradcheck":
        options |= {name: getattr(arguments, name) for name in _CHECK}
        options["jitter"] = None if arguments.no_jitter else "auto"
    return options
