"""Batches for adversarial training: made of the model as it is when they are asked for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fdfast.attack.ascent import Climb, Norm, project, start, step
from fdfast.attack.inputs import check_bounds, check_epsilon, check_size
from fdfast.attack.projected import climb_of
from fdfast.attack.slopes import Way, slope_of
from fdfast.attack.subject import Subject
from fdfast.functions import Scored
from fdfast.moves import Bounds, as_floats, check_choice


def augment(
    model: Any,
    dataset: Any,
    epsilon: float,
    *,
    loss: Any = None,
    gradient: Literal["autodiff", "difference"] = "autodiff",
    steps: int = 1,
    step_size: float | None = None,
    norm: Norm = "inf",
    random_start: bool = True,
    share: float = 1.0,
    bounds: Bounds | None = (0, 1),
    seed: int = 0,
) -> Any:
    """Replace examples of a dataset by adversarial ones, made of the model as it is at that moment.

    Parameters
    ----------
    model : keras.Model
        The one that is trained.
    dataset : tf.data.Dataset
        Batches (x, y).
    epsilon : float
        Radius of the ball, in the units of x.
    loss
        As in `fdfast.attack.pgd`.
    gradient : {"autodiff", "difference"}
        ``"difference"`` takes exact differences of the loss, which costs many times as much.
    steps, step_size, norm, random_start, bounds, seed
        As in `fdfast.attack.pgd`; one step by default, of 1.25 epsilon where it starts at random, as in [1]_.
    share : float
        Share of each batch that is replaced, from 0 to 1.

    Returns
    -------
    tf.data.Dataset
        Batches (x, y) of the same shapes and dtypes. Do not prefetch it: the model would be that of some steps ago.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, or while batches are made, x or y do not.

    References
    ----------
    .. [1] E. Wong, L. Rice, J. Z. Kolter, "Fast is better than free", ICLR 2020.

    Examples
    --------
    Adversarial training in five lines::

        x, labels = fdfast.datasets.mnist_sample()
        model = fdfast.datasets.mnist_cnn()
        model.compile("adam", "sparse_categorical_crossentropy")
        batches = tf.data.Dataset.from_tensor_slices((x, labels)).shuffle(1000).batch(32)
        model.fit(fdfast.attack.augment(model, batches, epsilon=0.2), epochs=1, shuffle=False)
    """
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a Keras model, got {type(model).__name__}")
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"dataset must be a tf.data.Dataset of batches (x, y), got {type(dataset).__name__}")
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2):
        raise TypeError(f"dataset must give batches (x, y); its elements are {spec}")
    check_choice("gradient", gradient, ("autodiff", "difference"))
    radius, part = check_epsilon(epsilon), check_size("share", share, zero=True)
    if part > 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    if step_size is None and steps == 1:
        step_size = 1.25 * radius if random_start else radius
    how = climb_of(radius, steps, step_size, norm, False, 1, random_start, 0.0)
    rng = np.random.default_rng(seed)
    known: list[Scored] = []  # traced at the first batch

    def adversarial(x: Any, y: Any) -> Any:
        if not known:
            known.append(Scored(model, x, y, loss))
        return _moved(known[0].for_targets(y), x, y, loss, gradient, how, part, bounds, rng)

    def of_batch(x: Any, y: Any) -> Any:
        moved = tf.numpy_function(adversarial, [x, y], x.dtype)
        moved.set_shape(x.shape)
        return moved, y

    return dataset.map(of_batch, num_parallel_calls=1, deterministic=True)


def _moved(
    scored: Scored, x: Any, y: Any, loss: Any, gradient: Any, how: Climb, share: float, bounds: Any, rng: Any
) -> Any:
    """One batch. The model's state is left alone: it is in the midst of its training."""
    valid = check_bounds(bounds, as_floats(x))
    points = np.array(x, scored.dtype)
    every = np.arange(len(points))
    subject = Subject(scored.f, x, y, loss, points, True, valid, scored, scored.at(points, every))
    slope = slope_of(subject, Way(gradient, rng=rng))
    found = points
    if how.random_start:
        found = project(subject, start(points, how, rng), every, how)
    for _ in range(how.steps):
        found, _ = step(subject, slope, found, np.zeros(found.shape), every, how)
    chosen = rng.uniform(size=len(points)) < share
    return np.where(chosen.reshape(-1, *[1] * (points.ndim - 1)), found, points).astype(x.dtype)
