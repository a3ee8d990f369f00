"""Eight models, plain and defended: the diagnosis, and robust accuracy by autodiff, as advised and by other libraries.

``python -m bench.attack [--images N] [--steps N] [--epsilon E] [MODEL ...]`` prints the table of docs/attacks.md,
``--held-out`` that of models which no threshold was set on, ``--timing`` how long PGD takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.attack.held_out import HELD_OUT, UNSEEN
from bench.attack.models import TRUTH, build
from bench.attack.peers import Attack, attacks
from bench.timing import markdown
from fdfast.attack import masking, pgd
from fdfast.data import mnist_sample

_HELD = HELD_OUT | UNSEEN
_DRAWS = 10  # predictions of a random model that an accuracy is the mean of


def rows(
    names: list[str], images: int, epsilon: float, steps: int, peers: list[tuple[str, Attack]]
) -> Iterator[list[str]]:
    """One line for each model; a peer that raises is given with its error."""
    size = 2.5 * epsilon / steps
    for name in names:
        truth, model = (TRUTH[name], build(name)) if name in TRUTH else (_HELD[name].truth, _HELD[name].make())
        x, labels = mnist_sample(images) if name in TRUTH else digits_for(model, images)
        report = masking(model, x, labels, epsilon, label=name)
        right = np.mean(report.verdicts == truth)
        advised = pgd(model, x, labels, epsilon, steps=steps, **report.advised)
        cells = [
            name,
            f"{report.verdict} ({100 * right:.0f} %)",
            f"{accuracy(model, x, labels):.3f}",
            _by_autodiff(model, x, labels, epsilon, steps),
            f"{accuracy(model, advised.adversarial, labels):.3f}; {advised.seconds:.1f} s, {advised.queries} queries",
            ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in report.advised.items()),
            f"{report.seconds:.0f} s, {report.queries} queries",
        ]
        cells += [_by_peer(attack, model, x, labels, epsilon, steps, size) for _, attack in peers]
        yield cells


def digits_for(model: Any, count: int) -> tuple[Any, Any]:
    """The first digits that a model is right about, mostly: there is nothing to attack in the others."""
    x, labels = mnist_sample(2 * count)
    said = [model(x, training=False).numpy().argmax(axis=1) == labels for _ in range(_DRAWS)]
    some = np.flatnonzero(np.mean(said, axis=0) > 0.5)[:count]
    return x[some], labels[some]


def accuracy(model: Any, x: Any, labels: Any) -> float:
    """Share of right predictions, over ten calls."""
    return float(np.mean([model(x, training=False).numpy().argmax(axis=1) == labels for _ in range(_DRAWS)]))


def _by_autodiff(model: Any, x: Any, labels: Any, epsilon: float, steps: int) -> str:
    try:
        found = pgd(model, x, labels, epsilon, steps=steps, gradient="autodiff")
    except ValueError:
        return "no gradient"
    return f"{accuracy(model, found.adversarial, labels):.3f}; {found.seconds:.1f} s"


def _by_peer(attack: Attack, model: Any, x: Any, labels: Any, epsilon: float, steps: int, size: float) -> str:
    started = time.perf_counter()
    try:
        found = attack(model, x, labels, epsilon, steps, size)
    except Exception as error:
        return f"raises {type(error).__name__}"
    return f"{accuracy(model, found, labels):.3f}; {time.perf_counter() - started:.1f} s"


def main(arguments: list[str]) -> None:
    """Print the table, and the timing of PGD by differences and by autodiff."""
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join([*TRUTH, *_HELD])}")
    parser.add_argument("--held-out", action="store_true", help="models that the diagnosis was not fitted to")
    parser.add_argument("--images", type=int, default=40, metavar="N")
    parser.add_argument("--steps", type=int, default=40, metavar="N")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--timing", action="store_true", help="time PGD on the plain model instead, 50 digits")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in {**TRUTH, **_HELD}]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join([*TRUTH, *_HELD])}")
    peers = list(attacks())
    if options.timing:
        print(markdown(("PGD, 50 digits", "seconds", "robust accuracy"), timing(options.epsilon, options.steps, peers)))
        return
    names = options.names or list(_HELD if options.held_out else TRUTH)
    head = ["model", "diagnosis (right on)", "clean", "autodiff", "as advised", "advice", "diagnosis costs"]
    print(markdown([*head, *(name for name, _ in peers)], []), flush=True)
    for cells in rows(names, options.images, options.epsilon, options.steps, peers):
        print(f"| {' | '.join(cells)} |", flush=True)


def timing(epsilon: float, steps: int, peers: list[tuple[str, Attack]]) -> Iterator[list[str]]:
    """Seconds and robust accuracy of PGD by each gradient, same model, same steps; each called once before."""
    (x, labels), model = mnist_sample(50), build("plain")
    for kind in ("difference", "autodiff"):
        pgd(model, x, labels, epsilon, steps=1, gradient=kind)
        found = pgd(model, x, labels, epsilon, steps=steps, gradient=kind)
        yield [f"fdfast, {kind}", f"{found.seconds:.2f}", f"{accuracy(model, found.adversarial, labels):.3f}"]
    for name, attack in peers:
        attack(model, x, labels, epsilon, 1, epsilon)
        started = time.perf_counter()
        moved = attack(model, x, labels, epsilon, steps, 2.5 * epsilon / steps)
        yield [name, f"{time.perf_counter() - started:.2f}", f"{accuracy(model, moved, labels):.3f}"]


if __name__ == "__main__":
    main(sys.argv[1:])
