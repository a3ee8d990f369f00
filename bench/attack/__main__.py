"""Eight models, plain and defended: the diagnosis, and robust accuracy by autodiff, as advised and by other libraries.

``python -m bench.attack [--images N] [--steps N] [--epsilon E] [MODEL ...]`` prints the table of docs/attacks.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.attack.models import TRUTH, build
from bench.attack.peers import Attack, attacks
from bench.timing import markdown
from fdfast.attack import masking, pgd
from fdfast.data import mnist_sample

_DRAWS = 10  # predictions of a random model that an accuracy is the mean of


def rows(
    names: list[str], x: Any, labels: Any, epsilon: float, steps: int, peers: list[tuple[str, Attack]]
) -> Iterator[list[str]]:
    """One line for each model; a peer that raises is given with its error."""
    size = 2.5 * epsilon / steps
    for name in names:
        model = build(name)
        report = masking(model, x, labels, epsilon, label=name)
        right = np.mean(report.verdicts == TRUTH[name])
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
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(TRUTH)}; all by default")
    parser.add_argument("--images", type=int, default=40, metavar="N")
    parser.add_argument("--steps", type=int, default=40, metavar="N")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--timing", action="store_true", help="time PGD on the plain model instead, 50 digits")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in TRUTH]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(TRUTH)}")
    peers = list(attacks())
    if options.timing:
        print(markdown(("PGD, 50 digits", "seconds", "robust accuracy"), timing(options.epsilon, options.steps, peers)))
        return
    x, labels = mnist_sample(options.images)
    head = ["model", "diagnosis (right on)", "clean", "autodiff", "as advised", "advice", "diagnosis costs"]
    print(markdown([*head, *(name for name, _ in peers)], []), flush=True)
    for cells in rows(options.names or list(TRUTH), x, labels, options.epsilon, options.steps, peers):
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
