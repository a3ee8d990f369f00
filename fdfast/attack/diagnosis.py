"""Which gradient to trust: whether autodiff's gradient tells the truth about a model, and what to do if not."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.inputs import check_count, check_epsilon
from fdfast.attack.masks import VERDICTS, advice, advised, meaning, overall, reasons, verdicts
from fdfast.attack.measures import RANDOM, Measures, measure
from fdfast.attack.subject import subject_of
from fdfast.functions import interruptible
from fdfast.moves import Bounds
from fdfast.report import json_text, plain_dict, write

_DIRECTIONS = 48


@dataclass(frozen=True, eq=False)
class MaskingReport:
    """What became of the question whether autodiff's gradient can be trusted.

    Attributes
    ----------
    verdict : str
        Of most examples: ``"faithful"``, ``"saturated"``, ``"staircase"``, ``"shattered"``, ``"random"``,
        ``"disconnected"``, or ``"unresolved"`` where nothing moves.
    verdicts : ndarray of str, shape (examples,)
    reasons : list of str
        What the verdict rests on, with figures.
    advised : dict
        Arguments of `fdfast.attack.pgd` that get past what hides the gradient.
    advice : str
        The same as a sentence.
    measures : Measures
        Everything that was measured, per example.
    epsilon : float
    queries : int
        Rows that f was evaluated at.
    seconds : float
    label : str
    """

    verdict: str
    verdicts: npt.NDArray[np.str_]
    reasons: list[str]
    advised: dict[str, Any]
    advice: str
    measures: Measures
    epsilon: float
    queries: int
    seconds: float
    label: str

    @property
    def masked(self) -> bool:
        """Whether the gradient hides something."""
        return self.verdict != "faithful"

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples of each verdict that was met."""
        met = Counter(self.verdicts.tolist())
        return {name: met[name] for name in VERDICTS if met[name]}

    @property
    def meaning(self) -> str:
        """What the verdict says."""
        return meaning(self.verdict)

    @property
    def gains(self) -> dict[str, float]:
        """What one step of epsilon along the sign of each gradient adds to the loss's measure: medians."""
        return {name: float(np.median(gain)) for name, gain in self.measures.gain.items()}

    @property
    def random_gain(self) -> float:
        """The same along random signs."""
        curve = self.measures.curves[RANDOM]
        return float(np.median(curve[:, -1] - curve[:, 0]))

    def __repr__(self) -> str:
        return f"<MaskingReport {self.verdict}: {self.label}, {len(self.verdicts)} examples, epsilon {self.epsilon:g}>"

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 100) -> str:
        """Return the report as text, sentences broken to so many columns, and never more than 100."""
        from fdfast.attack.masking_text import render

        return render(self, width)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        names = ("verdict", "label", "epsilon", "counts", "meaning", "reasons", "advised", "advice", "gains")
        out = {name: getattr(self, name) for name in (*names, "random_gain", "verdicts", "queries", "seconds")}
        return plain_dict(out | {"measures": dict(vars(self.measures))})

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        return json_text(self.to_dict(), path)

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """Return one self-contained HTML page, everything escaped; also written to `path` if given."""
        from fdfast.attack.masking_page import to_html

        return write(path, to_html(self))

    def _repr_html_(self) -> str:
        from fdfast.attack.masking_page import fragment

        return fragment(self)

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw the loss along each gradient, and step against cosine; saved to `path` if given, else the figure."""
        from fdfast.attack.masking_figure import figure, save

        return figure(self) if path is None else save(self, path)


@interruptible()
def masking(
    model: Any,
    x: npt.ArrayLike,
    y: Any,
    epsilon: float,
    *,
    loss: Any = None,
    bounds: Bounds | None = (0, 1),
    directions: int = _DIRECTIONS,
    max_rows: int | None = None,
    label: str | None = None,
    seed: int = 0,
) -> MaskingReport:
    """Find out whether autodiff's gradient tells the truth about a model within epsilon of x, or is masked.

    Parameters
    ----------
    model, x, y, loss, bounds, max_rows
        As in `fdfast.attack.pgd`.
    epsilon : float
        Radius of the attacks that are thought of, in the units of x, in each element.
    directions : int
        Random directions that differences are taken along, for each example and step.
    label : str, optional
        What is looked at, for the report; the model's name.
    seed : int
        Of the directions.

    Returns
    -------
    MaskingReport

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, or f is not finite at x; the message says which, why, and what to do.

    Notes
    -----
    f is taken as it is, in its own precision. Differences are those of ``log sum_{k != y} exp(z_k) - z_y``, where the
    loss is a cross-entropy of one class: it points the same way and does not saturate. docs/attacks.md says how the
    verdicts are reached, and how they fare on defended models.

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated gradients give a false sense of security", ICML 2018.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from fdfast.attack import masking
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> masking(model, np.full((1, 8), 0.5), [0], 0.1, loss=loss).verdict
    'faithful'
    """
    started = time.perf_counter()
    reach, count = check_epsilon(epsilon), check_count("directions", directions, 2)
    with subject_of(model, x, y, loss, bounds, max_rows) as subject:
        found = measure(subject, reach, count, seed)
        each = verdicts(found, reach)
        verdict = overall(each)
        settings = advised(verdict, found, reach)
        return MaskingReport(
            verdict, each, reasons(found, verdict, reach), settings, advice(verdict, found, settings), found, reach,
            subject.scored.queries, time.perf_counter() - started,
            label or str(getattr(model, "name", None) or getattr(model, "__name__", type(model).__name__)),
        )  # fmt: skip
