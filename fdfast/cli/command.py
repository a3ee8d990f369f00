"""The command ``fdfast``: check, sweep, attack, bench, demo."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import click

from fdfast.cli.arguments import UsageError, root

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
        code = _run(given or ["--help"])
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, click.Abort) as stop:
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
    def run(name: str, arguments: SimpleNamespace) -> int:
        arguments.given = given
        code: int = _COMMANDS[name](arguments)
        return code

    command = root(run)
    if "_FDFAST_COMPLETE" in os.environ:  # a shell asks, by what `fdfast completion` printed
        command.main(given, "fdfast")
    try:
        with command.make_context("fdfast", list(given)) as context:
            return command.invoke(context) or 0
    except click.exceptions.Exit as stop:  # --help, --version
        return stop.exit_code


def _one_line(error: Exception) -> str:
    from fdfast.files import BadFile

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, click.UsageError):
        name = error.ctx.command_path if error.ctx else "fdfast"
        text = f"{' '.join(error.format_message().split()).rstrip('.')} (see {name} --help)"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, UsageError | BadFile | ValueError | TypeError | ImportError):
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    return textwrap.shorten(text, 600, placeholder=" ...")


def _demo(arguments: SimpleNamespace) -> int:
    from fdfast.cli.terminal import bar
    from fdfast.quiet import quiet_start

    with bar("", before="loading TensorFlow", quiet=arguments.quiet):
        quiet_start()
    from fdfast.cli import demo

    verdicts = {report.verdict for report in demo.run(arguments)}
    return next(_EXIT[verdict] for verdict in ("fail", "inconclusive", "pass") if verdict in verdicts)


def _check(arguments: SimpleNamespace) -> int:
    from fdfast.cli.checking import check

    return _EXIT[check(arguments)]


def _sweep(arguments: SimpleNamespace) -> int:
    from fdfast.cli.sweeping import sweep_command

    return _EXIT[sweep_command(arguments)]


def _attack(arguments: SimpleNamespace) -> int:
    # TensorFlow is loaded by the attacks, but not before the arguments are known to fit.
    if arguments.out is None and not arguments.diagnose:
        raise UsageError("attack needs --out NPZ for the adversarial examples, or --diagnose")
    if arguments.diagnose and arguments.out is not None:
        raise UsageError("--diagnose writes no adversarial examples: leave out --out; --pictures DIR takes the report")
    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise UsageError(f"--out {arguments.out} must be a file in a folder that exists")
    from fdfast.cli.loading import load

    model, examples = load(arguments)
    from fdfast.cli import attacking

    (attacking.diagnose if arguments.diagnose else attacking.attack)(arguments, model, examples)
    return 0


def _bench(arguments: SimpleNamespace) -> int:
    if (arguments.model is None) != (arguments.data is None):
        raise UsageError("bench needs MODEL and DATA, or neither for the shipped CNN and a digit")
    from fdfast.cli.timing import bench

    bench(arguments)
    return 0


_COMMANDS: dict[str, Any] = {"demo": _demo, "check": _check, "sweep": _sweep, "attack": _attack, "bench": _bench}
