"""The arguments of the command ``fdfast``. Nothing here needs TensorFlow, so --help and completion are quick."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from fdfast import __version__
from fdfast.files import LIMIT

Run = Callable[[str, SimpleNamespace], int]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
_JUDGED = "  0    pass\n  1    fail: a gradient is wrong\n  2    inconclusive"
_DONE = "  0    done"
_MODEL = "MODEL is a .keras or .h5 file, or the folder of a SavedModel (needs --loss)."
_ARRAYS = "DATA is an .npz file with the arrays x and y, such as mnist.npz."
_INSTALLED = """\b
  bash  eval "$(fdfast completion bash)"    in ~/.bashrc
  zsh   eval "$(fdfast completion zsh)"     in ~/.zshrc
  fish  fdfast completion fish | source     in ~/.config/fish/config.fish"""


class UsageError(ValueError):
    """The arguments cannot be used."""


class _Kind(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """What `parse` makes of a text; `name` says in messages what it is."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{value!r} is no {self.name}", param, ctx)


def root(run: Run) -> click.Group:
    """Build the command; ``run(name, arguments)`` is called with what was given, and returns the exit code."""
    group = click.Group(
        "fdfast",
        help="Finite-difference gradients of Keras models, and whether autodiff agrees with them.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        params=[click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version)],
        epilog=_codes(_JUDGED.replace("pass", "pass; done")),
    )
    for name, (what, more, codes, params) in _COMMANDS.items():
        said: dict[str, Any] = {"help": f"{what}\n\n{more}", "short_help": what.rstrip("."), "epilog": _codes(codes)}
        call = partial(lambda name, **given: run(name, SimpleNamespace(**given)), name)
        group.add_command(click.Command(name, params=[*params, *_EVERYWHERE], callback=call, **said))
    shell = click.Argument(["shell"], type=click.Choice(("bash", "zsh", "fish")))
    what, call = "Print what makes bash, zsh or fish complete commands and options", partial(_completion, group)
    said = {"help": f"{what}.\n\n{_INSTALLED}", "short_help": what, "epilog": _codes(_DONE)}
    group.add_command(click.Command("completion", params=[shell], callback=call, **said))
    return group


def _codes(own: str) -> str:
    return f"\b\nExit codes:\n{own}\n  3    bad usage or unusable files\n  130  interrupted"


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"fdfast {__version__}")
        ctx.exit()


def _completion(group: click.Group, shell: str) -> int:
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # the choices are those that click has
    click.echo(found(group, {}, "fdfast", "_FDFAST_COMPLETE").source())
    return 0


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _tile(text: str) -> int | tuple[int, ...]:
    numbers = _whole_numbers(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _step(text: str) -> float | str:
    return text if text in ("auto", "search") else float(text)


def _order(text: str) -> int:
    return ("1", "2").index(text) + 1


def _pair(text: str) -> tuple[float, float] | None:
    if text == "none":
        return None
    low, high = (float(part) for part in text.split(","))
    return low, high


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1]) if text.endswith(("K", "M", "G")) else (text, "")
    found = int(number) << _UNITS[unit]
    if found < 1:
        raise ValueError(text)
    return found


def _option(name: str, metavar: str | None = None, what: str = "", **given: Any) -> click.Option:
    if isinstance(given.get("type"), list):
        given["type"] = click.Choice(given["type"])
    shown = given.get("default") is not None and not given.get("multiple")
    return click.Option(name.split(), metavar=metavar, help=what, show_default=given.pop("shown", shown), **given)


def _flag(name: str, what: str, **given: Any) -> click.Option:
    return click.Option(name.split(), is_flag=True, help=what, **given)


def _without(name: str, what: str, otherwise: Any = True, instead: Any = False) -> click.Option:
    """A flag that takes something away: its value is `otherwise` unless it is given."""
    return _flag(name, what, callback=lambda ctx, param, given: instead if given else otherwise)


def _index(default: str) -> click.Option:
    return _option("--index", "I", "which examples: I, I:J or all", default=default)


_FOLDER: Any = click.Path(file_okay=False, path_type=Path)
_PATH: Any = click.Path(path_type=Path)
_FILE: Any = click.Path(dir_okay=False, path_type=Path)
_BOUNDS = _Kind("pair of bounds LOW,HIGH", _pair)

_EVERYWHERE = (_flag("--quiet", "print nothing but errors"), _flag("--debug", "show the traceback of an error"))
_JSON = _option("--json", "FILE", "write what was found as JSON; - prints it, and nothing else")
_FILES = tuple(click.Argument([name], type=_PATH) for name in ("model", "data"))
_SEED = _option("--seed", "N", "of the random choices", type=int, default=0)
_EPSILON = "how far each element may move, in the units of x"

_DATA = (
    _option("--x-key", "NAME", "array of DATA that holds the inputs", default="x"),
    _option("--y-key", "NAME", "array of DATA that holds the targets", default="y"),
    _without("--no-scale scale", "take 8-bit pixels as 0 .. 255 instead of dividing by 255"),
    _option("--loss", "NAME", "a Keras loss (default: the one the model was compiled with)"),
    _option("--import imports", "MODULE", "a module of yours that defines layers", multiple=True),
    _option(
        "--max-bytes", "N", "what MODEL and DATA may claim to hold: bytes, or a number with K, M or G  [default: 2G]",
        type=_Kind("number of bytes", _bytes), default=LIMIT, shown=False,
    ),
)  # fmt: skip
_TILES = (
    _option("--tile", "N[,M]", "move tiles of this size together", type=_Kind("size of a tile", _tile), default=1),
    _option(
        "--channels", None, "each channel of a tile by itself, or all", type=["apart", "together"], default="apart"
    ),
    _option("--precision", None, "of the differences", type=["auto", "float32", "float64"], default="auto"),
)
_JUDGING = (
    _option("--step h", "H", "step in the units of x, or auto", type=_Kind("step", _step), default="auto"),
    _option("--engine", None, "what evaluates the differences",
            type=["auto", "batch", "windows", "tape", "difference"], default="auto"),
    _option("--rtol", "R", "relative error tolerated", type=float, default=1e-4),
    _option("--coverage", "C", "share of tiles that must agree for a pass", type=float, default=0.99),
    _without("--no-jitter jitter", "do not look near x where x itself sits on a kink", "auto", None),
    _SEED,
)  # fmt: skip
_CHECK = (
    _option("--wrt", None, "what moves: x, the weights, or both", type=["input", "weights", "all"], default="input"),
    _option("--check", None, "every element by itself, or all by random directions",
            type=["auto", "every", "directions"], default="auto"),
    _option("--order", "[1|2]", "2 checks the second derivative, too", type=_Kind("order, 1 or 2", _order), default=1),
    _option("--bounds", "LOW,HIGH", "interval that no moved element leaves (default: none)", type=_BOUNDS),
    _flag("--selftest", "also plant a fault of 1 % and require that it is found"),
    _option("--out", "DIR", "write report.json, report.html and check.png there", type=_FOLDER),
)  # fmt: skip
_DEMO = (
    _option("--digits", "D,D,...", "which digits  [default: 3,4,6]", type=_Kind("list of digits", _whole_numbers),
            default=(3, 4, 6), shown=False),
    _option("--count", "N", "the first N digits instead: 0, 1, 2, ...", type=int),
    _option("--tile", "N", "move squares of N x N pixels together", type=int, default=1),
    _option("--epsilon", "E", "strength of the attack", type=float, default=0.2),
    _flag("--no-loop", "skip the slow loop that fdfast is timed against (10 to 20 s)"),
    _flag("--train", "also train for one epoch on adversarial digits (a minute)"),
    _option("--out", "DIR", "for the pictures", type=_FOLDER, default=Path("fdfast-demo")),
    _option("--data", "PATH", "your whole MNIST: mnist.npz or a folder of IDX files; without PATH Keras' copy",
            is_flag=False, flag_value=""),
)  # fmt: skip
_SWEEP = (
    click.Argument(["model"], required=False, type=_PATH),
    click.Argument(["data"], required=False),
    _option("--out", "DIR", "for the rows; a sweep that is there already goes on", type=_FOLDER, required=True),
    _option("--task", None, "what is done with each", type=["gradcheck", "gradient", "attack", "masking"],
            default="gradcheck"),
    _option("--epsilon", "E", f"with the tasks attack and masking: {_EPSILON}", type=float),
    _option("--checkpoints", "DIR", "sweep at every .keras or .weights.h5 file of DIR", type=_FOLDER),
    _option("--limit", "N", "only the first N examples", type=int),
    _option("--batch", "N", "examples of one part (default: 100, less if they are large)", type=int),
    _option("--keep", None, "maps: also those of every example", type=["summary", "maps"], default="summary"),
    _option("--ray", "ADDRESS", "run on a Ray cluster: its address, or local for one on this machine"),
    _option("--workers", "N", "with --ray: number of workers (default: one for each machine)", type=int),
    _option("--worker-cpus", "N", "with --ray: CPUs that a worker reserves (default: 1)", type=float),
    _option("--worker-gpus", "N", "with --ray: GPUs that a worker reserves (default: 0)", type=float),
    _without("--restart resume", "remove the results in DIR first"),
    _flag("--no-html", "do not write DIR/_summary.html"),
)  # fmt: skip
_GRADIENTS = ["finite-difference", "difference", "autodiff", "straight-through", "spsa", "nes", "directions"]
_ATTACK = (
    _option("--epsilon", "E", _EPSILON, type=float, required=True),
    _flag("--diagnose", "say whether autodiff's gradient is masked, instead of attacking"),
    _option("--out", "NPZ", "for the arrays x (adversarial), x_clean and y", type=_FILE),
    _option("--pictures", "DIR", "draw the first examples there, or write the diagnosis there", type=_FOLDER),
    _option("--method", None, "one step, or many", type=["fgsm", "pgd"], default="fgsm"),
    _option("--steps", "N", "of --method pgd", type=int, default=40),
    _option("--gradient", "NAME", f"which gradient is followed: {', '.join(_GRADIENTS)}", type=_GRADIENTS,
            default=_GRADIENTS[0]),
    _option("--step h", "H", "of the differences: a number, auto or search", type=_Kind("step", _step), default="auto"),
    _option("--samples", "N", "gradients averaged, for random models", type=int, default=1),
    _option("--bounds", "LOW,HIGH", "range of valid pixels, or none  [default: 0,1]", type=_BOUNDS,
            default=(0.0, 1.0), shown=False),
    _SEED,
)  # fmt: skip
_OPTIONAL = tuple(click.Argument([name], required=False, type=_PATH) for name in ("model", "data"))
#: Every command: what it does, what its arguments are, its exit codes, its parameters.
_COMMANDS: dict[str, tuple[str, str, str, tuple[click.Parameter, ...]]] = {
    "demo": (
        "Check real MNIST digits, time it against the loop, draw pictures.", "", _JUDGED, (*_DEMO, _JSON),
    ),
    "check": (
        "Check the gradient of a saved model.", f"{_MODEL} {_ARRAYS}", _JUDGED,
        (*_FILES, _index("0"), *_DATA, *_TILES, *_JUDGING, *_CHECK, _JSON),
    ),
    "sweep": (
        "Check every example of a data set, one row of a table each.",
        "MODEL is a .keras or .h5 file; it is left out with --checkpoints where these are whole models. "
        "DATA is an .npz file, a Parquet table, a folder of them, or a quoted pattern.", _JUDGED,
        (*_SWEEP, *_DATA, *_TILES, *_JUDGING, _JSON),
    ),
    "attack": (
        "Write adversarial examples, or say which gradient to trust (--diagnose).", f"{_MODEL} {_ARRAYS}", _DONE,
        (*_FILES, _index("all"), *_ATTACK, *_DATA, *_TILES, _JSON),
    ),
    "bench": (
        "Time the engines on a model, and say what checks of many examples would take.",
        f"{_MODEL} {_ARRAYS} Without MODEL and DATA: the shipped CNN and a digit.", _DONE,
        (*_OPTIONAL, _index("0"), *_DATA, *_TILES[:2], _JSON),
    ),
}  # fmt: skip
