"""The arguments of the command ``fdfast``. Nothing here needs TensorFlow, so --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from fdfast import __version__
from fdfast.files import LIMIT

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}

_EPILOG = """\
exit codes of demo, check and sweep:
  0 pass   1 fail: a gradient is wrong   2 inconclusive   3 bad usage or unusable files   130 interrupted
"""


class UsageError(ValueError):
    """The arguments cannot be used."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would exit with 2, which means inconclusive here.
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Build the parser of ``fdfast``; its result has a `command` beside the arguments."""
    root = _Parser(
        prog="fdfast",
        description="Finite-difference gradients of Keras models, and whether autodiff agrees with them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"fdfast {__version__}")
    commands = root.add_subparsers(dest="command", title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_check(commands)
    _add_sweep(commands)
    _add_attack(commands)
    _add_bench(commands)
    for command in commands.choices.values():
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return root


def _add_demo(commands: Any) -> None:
    add = _command(commands, "demo", "check real MNIST digits, time it against the loop, draw pictures")
    add(
        "--digits",
        type=_whole_numbers,
        default=(3, 4, 6),
        metavar="D,D,...",
        help="which digits (default: 3,4,6)",
    )
    add("--count", type=int, metavar="N", help="the first N digits instead: 0, 1, 2, ...")
    add("--tile", type=int, default=1, metavar="N", help="move squares of N x N pixels together (default: 1)")
    add("--epsilon", type=float, default=0.2, help="strength of the attack (default: 0.2)")
    add("--no-loop", action="store_true", help="skip the slow loop that fdfast is timed against (10 to 20 s)")
    add("--train", action="store_true", help="also train for one epoch on adversarial digits (a minute)")
    add(
        "--out",
        type=Path,
        default=Path("fdfast-demo"),
        metavar="DIR",
        help="for the pictures (default: ./fdfast-demo)",
    )
    add(
        "--data",
        nargs="?",
        const="",
        metavar="PATH",
        help="your whole MNIST: mnist.npz or a folder of IDX files; without PATH Keras' copy",
    )


def _add_check(commands: Any) -> None:
    add = _command(commands, "check", "check the gradient of a saved model on examples of a file", model=True)
    _add_problem(add, "0", "which examples: I, I:J or all (default: 0)")
    _add_judging(add)
    add("--order", type=int, choices=(1, 2), default=1, help="2 checks the second derivative, too (default: 1)")
    add("--out", type=Path, metavar="DIR", help="write report.json, report.html and check.png there")
    add("--json", metavar="FILE", help="write the report as JSON; - prints it, and nothing else")


def _add_sweep(commands: Any) -> None:
    add = _command(commands, "sweep", "check every example of a data set, one row of a Parquet table for each")
    add("model", nargs="?", metavar="MODEL", help="a .keras file; with --checkpoints only for files of weights")
    add("data", metavar="DATA", help="an .npz file, a Parquet table, a folder or a quoted pattern of them")
    add("--out", type=Path, required=True, metavar="DIR", help="for the rows; a sweep that is there already goes on")
    add(
        "--task", choices=("gradcheck", "gradient", "attack", "masking"), default="gradcheck", help="default: gradcheck"
    )
    add("--epsilon", type=float, help="with the tasks attack and masking: how far each element may move")
    add("--checkpoints", type=Path, metavar="DIR", help="sweep at every .keras or .weights.h5 file of DIR")
    add("--limit", type=int, metavar="N", help="only the first N examples")
    add("--batch", type=int, metavar="N", help="examples of one part (default: 100, less if they are large)")
    add("--keep", choices=("summary", "maps"), default="summary", help="maps: also write the maps of every example")
    add("--ray", metavar="ADDRESS", help="run on a Ray cluster: its address, or local for one on this machine")
    add("--workers", type=int, metavar="N", help="with --ray: number of workers (default: one for each machine)")
    add("--worker-cpus", type=float, metavar="N", help="with --ray: CPUs that a worker reserves (default: 1)")
    add("--worker-gpus", type=float, metavar="N", help="with --ray: GPUs that a worker reserves (default: 0)")
    add("--import", action="append", default=[], dest="imports", metavar="MODULE", help="defines layers of your own")
    add("--restart", action="store_true", help="remove the results in DIR first")
    add("--json", metavar="FILE", help="write the summary as JSON; - prints it, and nothing else")
    add("--no-html", action="store_true", help="do not write DIR/_summary.html")
    _add_arrays(add)
    _add_judging(add)


def _add_attack(commands: Any) -> None:
    add = _command(
        commands, "attack", "write adversarial examples, or find out which gradient to trust (--diagnose)", model=True
    )
    _add_problem(add, "all", "which examples: I, I:J or all (default: all)")
    add("--epsilon", type=float, required=True, help="how far each pixel moves, in the units of x")
    add("--diagnose", action="store_true", help="say whether autodiff's gradient is masked, instead of attacking")
    add("--out", type=Path, metavar="NPZ", help="for the arrays x (adversarial), x_clean and y")
    add("--pictures", type=Path, metavar="DIR", help="draw the first examples there, or write the diagnosis there")
    add("--json", metavar="FILE", help="write what was found as JSON; - prints it, and nothing else")
    add("--method", choices=("fgsm", "pgd"), default="fgsm", help="one step, or many (default: fgsm)")
    add("--steps", type=int, default=40, metavar="N", help="of --method pgd (default: 40)")
    add(
        "--gradient",
        choices=("finite-difference", "difference", "autodiff", "straight-through", "spsa", "nes", "directions"),
        default="finite-difference",
        help="default: finite-difference",
    )
    add("--step", type=_step, default="auto", metavar="H", help="of the differences, or search (default: auto)")
    add("--samples", type=int, default=1, metavar="N", help="gradients averaged, for random models (default: 1)")
    add("--seed", type=int, default=0, help="of the random choices (default: 0)")
    add(
        "--bounds",
        type=_bounds,
        default=(0.0, 1.0),
        metavar="LOW,HIGH",
        help="range of valid pixels, or none (default: 0,1)",
    )


def _add_bench(commands: Any) -> None:
    add = _command(commands, "bench", "time the engines on a model, and say what checks of many examples would take")
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a .keras file; with DATA (default: the shipped CNN and a digit)",
    )
    add("data", nargs="?", metavar="DATA", help="an .npz file with the arrays x and y")
    _add_problem(add, "0", "which examples: I, I:J or all (default: 0)", precision=False)


def _command(commands: Any, name: str, what: str, *, model: bool = False) -> Any:
    made = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
    if model:
        made.add_argument("model", metavar="MODEL", help="a .keras file")
        made.add_argument("data", metavar="DATA", help="an .npz file with the arrays x and y")
    return made.add_argument


def _add_judging(add: Any) -> None:
    add("--step", type=float, metavar="H", help="step in the units of x (default: chosen)")
    add("--engine", default="auto", help="what evaluates the differences (default: auto)")
    add("--rtol", type=float, default=1e-4, help="relative error tolerated (default: 1e-4)")
    add(
        "--coverage",
        type=float,
        default=0.99,
        help="share of tiles that must agree for a pass (default: 0.99)",
    )
    add("--no-jitter", action="store_true", help="do not look near x where x itself sits on a kink")
    add("--seed", type=int, default=0, help="of the random choices (default: 0)")


def _add_problem(add: Any, index: str, index_help: str, *, precision: bool = True) -> None:
    add("--index", default=index, metavar="I", help=index_help)
    _add_arrays(add, precision=precision)


def _add_arrays(add: Any, *, precision: bool = True) -> None:
    add("--x-key", default="x", metavar="NAME", help="array of DATA that holds the inputs (default: x)")
    add("--y-key", default="y", metavar="NAME", help="array of DATA that holds the targets (default: y)")
    add("--no-scale", action="store_true", help="take 8-bit pixels as 0 .. 255 instead of dividing by 255")
    add("--loss", metavar="NAME", help="a Keras loss (default: the one the model was compiled with)")
    add("--tile", type=_tile, default=1, metavar="N[,M]", help="move tiles of this size together (default: 1)")
    add(
        "--channels",
        choices=("apart", "together"),
        default="apart",
        help="whether each channel of a tile moves on its own (default: apart)",
    )
    add(
        "--max-bytes",
        type=_bytes,
        default=LIMIT,
        metavar="N",
        help="what MODEL and DATA may claim to hold, unpacked: bytes, or a number with K, M or G (default: 2G)",
    )
    if precision:
        add("--precision", choices=("auto", "float32", "float64"), default="auto", help="default: auto")


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _tile(text: str) -> int | tuple[int, ...]:
    numbers = _whole_numbers(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _step(text: str) -> float | str:
    return text if text in ("auto", "search") else float(text)


def _bounds(text: str) -> tuple[float, float] | None:
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


# argparse names the type in its message: "invalid tile value: 'x'".
_whole_numbers.__name__, _tile.__name__, _bounds.__name__ = "list of digits", "tile", "pair of bounds"
_bytes.__name__ = "number of bytes"
_step.__name__ = "step"
