"""The command ``fdfast``: demo, check, sweep, attack, bench."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdfast.cli.arguments import UsageError, parser

EXIT_BAD_USAGE = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
_EXIT = {"pass": 0, "fail": 1, "inconclusive": 2}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the command's name; ``sys.argv[1:]`` by default.
    """
    # Before TensorFlow is imported, or it has no effect.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        print(f"fdfast: interrupted{f': {stop}' if str(stop) else ''}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # What reads our output is gone; Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        # Python's own exit code for an exception is 1, which means fail here.
        if debug:
            raise
        print(f"fdfast: error: {_one_line(error)}", file=sys.stderr)
        return EXIT_BAD_USAGE


def _run(given: list[str]) -> int:
    try:
        arguments = parser().parse_args(given)
    except SystemExit as stop:  # --help, --version
        return int(stop.code or 0)
    arguments.given = given
    return _COMMANDS[arguments.command](arguments)


def _one_line(error: Exception) -> str:
    from fdfast.files import BadFile

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, UsageError | BadFile | ValueError | TypeError | ImportError):
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    return textwrap.shorten(text, 600, placeholder=" ...")


def _demo(arguments: argparse.Namespace) -> int:
    from fdfast.cli.terminal import import_tensorflow

    import_tensorflow()
    from fdfast.cli import demo

    settings = demo.Settings(
        digits=arguments.digits,
        count=arguments.count,
        tile=arguments.tile,
        loop=not arguments.no_loop,
        epsilon=arguments.epsilon,
        out=arguments.out,
        data=arguments.data,
        quiet=arguments.quiet,
        train=arguments.train,
    )
    verdicts = {report.verdict for report in demo.run(settings)}
    return next(_EXIT[verdict] for verdict in ("fail", "inconclusive", "pass") if verdict in verdicts)


def _load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the model and the examples that the arguments name."""
    from fdfast import files
    from fdfast.cli.terminal import import_tensorflow

    files.check_model_file(arguments.model)
    arrays = files.read_arrays(arguments.data, (arguments.x_key, arguments.y_key), arguments.max_bytes)
    import_tensorflow()
    model = files.load_model(arguments.model, compiled=arguments.loss is None, limit=arguments.max_bytes)
    inputs = getattr(model, "inputs", None)
    examples = files.pick_examples(
        arrays[arguments.x_key],
        arrays[arguments.y_key],
        len(inputs[0].shape) if inputs else None,
        arguments.index,
        scale=not arguments.no_scale,
    )
    for note in examples.notes:
        if not arguments.quiet:
            print(f"fdfast: {note}", file=sys.stderr)
    return model, examples


def _check(arguments: argparse.Namespace) -> int:
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise UsageError(f"--out {arguments.out} must be a folder, but is a file")
    model, examples = _load(arguments)
    from fdfast.check import gradcheck
    from fdfast.cli.terminal import progress_bar

    with progress_bar("checking", quiet=arguments.quiet) as progress:
        report = gradcheck(
            model,
            examples.x,
            examples.y,
            loss=arguments.loss,
            tile=arguments.tile,
            channels=arguments.channels,
            h="auto" if arguments.step is None else arguments.step,
            engine=arguments.engine,
            precision=arguments.precision,
            rtol=arguments.rtol,
            order=arguments.order,
            coverage=arguments.coverage,
            jitter=None if arguments.no_jitter else "auto",
            seed=arguments.seed,
            label=", ".join(filter(None, (model.name, Path(arguments.data).name, examples.which))),
            progress=progress,
        )
    written = []
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        written = [arguments.out / name for name in ("report.json", "report.html", "check.png")]
        for write, path in zip((report.to_json, report.to_html, report.plot), written, strict=True):
            write(path)
    if arguments.json == "-":
        print(report.to_json())
        return _EXIT[report.verdict]
    if arguments.json is not None:
        report.to_json(arguments.json)
        written.append(Path(arguments.json))
    if not arguments.quiet:
        print(report)
        for path in written:
            print(f"  written: {path}")
    return _EXIT[report.verdict]


def _sweep(arguments: argparse.Namespace) -> int:
    from fdfast.cli.sweeping import sweep_command

    return _EXIT[sweep_command(arguments)]


def _attack(arguments: argparse.Namespace) -> int:
    # TensorFlow is loaded by the attacks, but not before the arguments are known to fit.
    if arguments.out is None and not arguments.diagnose:
        raise UsageError("the following arguments are required: --out (or --diagnose)")
    if arguments.diagnose and arguments.out is not None:
        raise UsageError("--diagnose writes no adversarial examples: leave out --out; --pictures DIR takes the report")
    if arguments.out is not None and (not arguments.out.parent.is_dir() or arguments.out.is_dir()):
        raise UsageError(f"--out {arguments.out} must be a file in a folder that exists")
    if arguments.pictures is not None and arguments.pictures.exists() and not arguments.pictures.is_dir():
        raise UsageError(f"--pictures {arguments.pictures} must be a folder, but is a file")
    model, examples = _load(arguments)
    from fdfast.cli import attacking

    (attacking.diagnose if arguments.diagnose else attacking.attack)(arguments, model, examples)
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    if (arguments.model is None) != (arguments.data is None):
        raise UsageError("bench needs MODEL and DATA, or neither for the shipped CNN and a digit")
    if arguments.model is not None:
        model, examples = _load(arguments)
        x, y, name = examples.x, examples.y, ", ".join(filter(None, (model.name, examples.which)))
    else:
        import numpy as np

        from fdfast.cli.terminal import import_tensorflow

        import_tensorflow()
        from fdfast.data import CLASSES, mnist_cnn, mnist_sample

        model, (images, labels) = mnist_cnn(), mnist_sample(1)
        x, y, name = images[0], np.eye(CLASSES)[labels[0]], "the shipped CNN, one MNIST digit"
    from fdfast.cli.costs import check_cost, gradient_costs
    from fdfast.cli.terminal import duration, table

    batched = arguments.model is not None and examples.batched
    rows, reasons = [], []
    cut = (arguments.tile, arguments.channels)
    problem = (x if batched else x[None], y if batched else y[None], arguments.loss, *cut)
    for cost in gradient_costs(model, *problem):
        rows_at_once = "" if cost.chunk is None else str(cost.chunk)
        if cost.why:
            rows.append([cost.engine, cost.precision, rows_at_once, "-", "", ""])
            reasons.append(f"{cost.engine} {cost.precision}: {cost.why}")
            continue
        sample = "" if cost.timed == cost.tiles else f"from {cost.timed} of {cost.tiles} tiles"
        figures = duration(cost.seconds), f"{cost.rows_per_second:.0f}", sample
        rows.append([cost.engine, cost.precision, rows_at_once, *figures])
    whole = check_cost(model, *problem)
    if not arguments.quiet:
        head = ("engine", "precision", "rows at once", "time", "rows per s", "")
        print(table(f"One gradient, {name}, warm", head, rows, left=2))
        print("".join(f"\n{textwrap.fill(reason, 100)}" for reason in dict.fromkeys(reasons)))
        print(f"A whole check, fdfast.gradcheck: {duration(whole.later)} (the first {duration(whole.first)}).")
        many = ", ".join(f"{n:,}: {duration(whole.of(n))}" for n in (10, 100, 1000, 10_000))
        print(f"Examples checked together: {many}.")
        print("\nThe whole set of measurements is in the folder bench of the source tree: make bench")
    return 0


_COMMANDS = {"demo": _demo, "check": _check, "sweep": _sweep, "attack": _attack, "bench": _bench}
