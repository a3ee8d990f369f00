"""``fdfast demo --train``: one epoch of adversarial training, and what the network withstands before and after."""

from __future__ import annotations

import time
from typing import Any

from fdfast.attack import augment, pgd
from fdfast.cli.terminal import table
from fdfast.data import mnist_cnn, mnist_sample

#: Shipped digits that are trained on, and the others, which the accuracies are of.
TRAIN, TEST = 800, 200
_BATCH, _STEPS = 32, 10


def train(epsilon: float, count: int = TRAIN, tested: int = TEST) -> str:
    """Train the shipped network for one epoch on adversarial digits, and return the table of accuracies."""
    import keras
    import tensorflow as tf

    x, labels = mnist_sample(TRAIN + TEST)
    held = x[TRAIN : TRAIN + tested], labels[TRAIN : TRAIN + tested]
    model = mnist_cnn()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    before = _accuracies(model, *held, epsilon)
    started = time.perf_counter()
    batches = tf.data.Dataset.from_tensor_slices((x[:count], labels[:count])).shuffle(count, seed=0).batch(_BATCH)
    model.fit(augment(model, batches, epsilon), epochs=1, shuffle=False, verbose=0)
    seconds = time.perf_counter() - started
    rows = [["before", *before], ["after one epoch", *_accuracies(model, *held, epsilon)]]
    title = (
        f"Adversarial training on {count} digits, {seconds:.1f} s; accuracy on {tested} others, of which PGD moves "
        f"every pixel by at most {epsilon:g}"
    )
    return table(title, ("network", "clean", f"robust ({_STEPS} steps)"), rows)


def _accuracies(model: Any, x: Any, labels: Any, epsilon: float) -> list[str]:
    found = pgd(model, x, labels, epsilon, gradient="autodiff", steps=_STEPS)
    return [f"{found.clean_accuracy:.3f}", f"{found.robust_accuracy:.3f}"]
