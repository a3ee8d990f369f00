"""The same attack by other libraries, where they are installed: as their documentation shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Array = Any
#: (model, x, labels, epsilon, steps, step size) -> adversarial examples
Attack = Callable[[keras.Model, Array, Array, float, int, float], Array]


def attacks() -> Iterator[tuple[str, Attack]]:
    """Name and attack of each library that can be imported."""
    for name, make in (("ART", _art), ("Foolbox", _foolbox)):
        try:
            yield name, make()
        except ImportError as error:
            print(f"{name} is left out: {error}")


def _art() -> Attack:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    def attack(model: Any, x: Array, labels: Array, epsilon: float, steps: int, size: float) -> Array:
        classifier = TensorFlowV2Classifier(
            model=model,
            nb_classes=10,
            input_shape=x.shape[1:],
            loss_object=keras.losses.CategoricalCrossentropy(),
            clip_values=(0, 1),
        )
        pgd = ProjectedGradientDescent(
            classifier, eps=epsilon, eps_step=size, max_iter=steps, num_random_init=1, batch_size=len(x), verbose=False
        )
        return pgd.generate(x, np.eye(10, dtype=np.float32)[labels])

    return attack


def _foolbox() -> Attack:
    import foolbox

    def attack(model: Any, x: Array, labels: Array, epsilon: float, steps: int, size: float) -> Array:
        wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
        pgd = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=steps, random_start=True)
        _, clipped, _ = pgd(wrapped, tf.constant(x), tf.constant(labels), epsilons=epsilon)
        return clipped.numpy()

    return attack
