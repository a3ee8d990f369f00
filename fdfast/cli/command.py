"""The command ``fdfast``: check, sweep, attack, bench, demo."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace

import click

from fdfast.cli.arguments import UsageError, root

EXIT_BAD_USAGE = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
_EXIT = {"pass": 0, "done": 0, "fail": 1, "inconclusive": 2}
#: Where each command is: a function of the arguments, which returns how it ended. Modules are loaded when asked for.
_COMMANDS = {
    "demo": "loading:demo", "check": "checking:check", "sweep": "sweeping:sweep", "attack": "attacking:attack",
    "bench": "timing:bench",
}  # fmt: skip


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
        module, function = _COMMANDS[name].split(":")
        return _EXIT[getattr(import_module(f"fdfast.cli.{module}"), function)(arguments)]

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
