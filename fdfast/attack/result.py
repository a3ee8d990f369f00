"""What an attack did: the adversarial examples, how far they went, what the model says, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.report import json_text, plain_dict

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Attacked:
    """Result of an attack.

    Attributes
    ----------
    x, adversarial : ndarray
        The examples and what became of them; shape and dtype of x.
    success : ndarray of bool, shape (examples,)
        Where the model is led astray, or with `targeted` where it says the target; for a callable that returns losses,
        where the loss rose.
    distance : dict of str to ndarray, shape (examples,)
        ``"inf"``: the largest change of one element; ``"l2"``: the length of the change.
    clean_accuracy, robust_accuracy : float
        Share of right predictions before and after; of a random model the mean over repeated predictions. NaN where
        there are no predictions, and with `targeted`, where the right ones are not known.
    loss_history : ndarray of float64, shape (steps + 1, examples)
        The loss at every step, of the last restart.
    before, after : ndarray or None, shape (examples, classes)
        Outputs of the model.
    queries : int
        Rows that the model was evaluated at, gradients included.
    seconds : float
    settings : dict
    """

    x: Array
    adversarial: Array
    success: npt.NDArray[np.bool_]
    distance: dict[str, Float64]
    clean_accuracy: float
    robust_accuracy: float
    loss_history: Float64
    before: Array | None
    after: Array | None
    queries: int
    seconds: float
    settings: dict[str, Any]

    @property
    def success_rate(self) -> float:
        """Share of the examples that the attack succeeded on."""
        return float(self.success.mean())

    def __repr__(self) -> str:
        return f"<Attacked: {self.settings['attack']}, {int(self.success.sum())} of {len(self.success)} examples>"

    def __str__(self) -> str:
        many = len(self.success)
        lines = [
            f"{self.settings['attack']} by {self.settings['gradient']}, epsilon {self.settings['epsilon']:g}: "
            f"succeeds on {int(self.success.sum())} of {many} example{'s' * (many != 1)}"
        ]
        if np.isfinite(self.robust_accuracy):
            lines.append(f"  accuracy clean {self.clean_accuracy:.3f}, robust {self.robust_accuracy:.3f}")
        inf, two = (float(np.median(self.distance[norm])) for norm in ("inf", "l2"))
        lines.append(f"  moved by {inf:.3g} at most, {two:.3g} in length (medians)")
        lines.append(f"  {self.queries} queries, {self.seconds:.3g} s")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays of examples, ready for JSON."""
        names = ("success_rate", "clean_accuracy", "robust_accuracy", "success", "distance", "queries", "seconds")
        out = {name: getattr(self, name) for name in (*names, "loss_history", "settings")}
        return plain_dict(out)

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Return `to_dict` as strict JSON; also written to `path` if given."""
        return json_text(self.to_dict(), path)

    def plot(self, path: str | PathLike[str] | None = None, example: int = 0) -> Any:
        """Draw one example, clean and adversarial, with what the model says to both; saved to `path` if given.

        Raises
        ------
        ValueError
            The examples are no images, or the model gives no scores.
        """
        from fdfast.report import adversarial_figure

        many = len(self.success)
        if not 0 <= example < many:
            raise ValueError(f"example {example} does not exist: there are {many}")
        pair = (self.x, self.adversarial)
        clean, adversarial = (one[example] for one in pair) if self.settings["batched"] else pair
        if self.before is None or self.after is None or not _is_image(clean):
            raise ValueError(f"a picture needs images, (H, W), (H, W, 1) or (H, W, 3), and scores; x is {clean.shape}")
        title = f"{self.settings['attack']} by {self.settings['gradient']}, epsilon = {self.settings['epsilon']:g}"
        before, after = (_probabilities(one[example]) for one in (self.before, self.after))
        figure = adversarial_figure(clean, adversarial, before, after, title)
        if path is None:
            return figure
        return figure.savefig(path, dpi=150)


def _is_image(x: Array) -> bool:
    return x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in (1, 3))


def _probabilities(scores: Array) -> Float64:
    """Of logits their softmax; probabilities as they are."""
    values = np.asarray(scores, np.float64)
    if values.min() >= 0 and abs(values.sum() - 1) < 1e-3:
        return values
    values = np.exp(values - values.max())
    return np.asarray(values / values.sum())
