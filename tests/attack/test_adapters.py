"""fdfast's gradient inside ART's and Foolbox's attacks; run where they are installed (`make bench-peers`)."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from masked_models import CLASSES, Cut, Steps, build, examples

import fdfast
from fdfast.attack import for_art, for_foolbox

EPSILON = 0.2
# Foolbox imports what is deprecated, and ART warns of what it lacks.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_art_gets_the_gradient_of_fdfast() -> None:
    pytest.importorskip("art")
    model = build(scale=3.0)
    x, y = examples(model)
    classifier = for_art(model, classes=CLASSES)
    np.testing.assert_allclose(
        classifier.loss_gradient(x, np.eye(CLASSES)[y]), fdfast.gradient(model, x, y=y), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("front", "options"), [(Cut, {}), (Steps, {"h": 0.05}), (Cut, {"gradient": "straight-through"})]
)
def test_art_attacks_what_its_own_gradient_cannot(front: Any, options: Any) -> None:
    pytest.importorskip("art")
    from art.attacks.evasion import ProjectedGradientDescent

    model = build(front(), scale=3.0)
    x, y = examples(model)
    attack = ProjectedGradientDescent(
        for_art(model, classes=CLASSES, **options), eps=EPSILON, eps_step=0.05, max_iter=8, verbose=False
    )
    moved = attack.generate(x, np.eye(CLASSES)[y])
    assert np.abs(moved - x).max() <= EPSILON + 1e-6
    assert np.mean(model(moved).numpy().argmax(axis=1) == y) < 0.7


@pytest.mark.parametrize(("front", "options"), [(Cut, {}), (Steps, {"h": 0.05})])
def test_foolbox_attacks_what_its_own_gradient_cannot(front: Any, options: Any) -> None:
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    model = build(front(), scale=3.0, softmax=False)
    x, y = examples(model)
    attack = foolbox.attacks.LinfPGD(steps=8, abs_stepsize=0.05)
    _, moved, astray = attack(for_foolbox(model, **options), tf.constant(x), tf.constant(y), epsilons=EPSILON)
    assert np.abs(moved.numpy() - x).max() <= EPSILON + 1e-6
    assert np.mean(astray.numpy()) > 0.3


@pytest.mark.parametrize(("make", "library"), [(lambda m: for_art(m, classes=3), "art"), (for_foolbox, "foolbox")])
def test_a_missing_library_is_an_import_error(monkeypatch: pytest.MonkeyPatch, make: Any, library: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=library):
        make(build())
