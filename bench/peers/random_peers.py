"""Estimators of black-box attacks: random directions instead of coordinates, as many evaluations as the loop has."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from bench.peers.registry import SHAPE, Ready, keras_model, peer
from bench.rig import STEP, Float64, Precision, best_chunk

_SAMPLES, _SIGMA = 1568, STEP["float32"]
float32_only = partial(peer, "attacks", precisions=("float32",))


@float32_only("Foolbox, evolution strategies")
def foolbox(problem: Any, precision: Precision) -> Ready:
    import eagerpy as ep
    import torch
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfFastGradientAttack
    from foolbox.gradient_estimators import es_gradient_estimator

    from bench.peers.torch_peers import network

    how = {"samples": _SAMPLES, "sigma": _SIGMA, "bounds": (0, 1), "clip": False}
    attack = es_gradient_estimator(LinfFastGradientAttack, **how)()
    model, label = PyTorchModel(network(problem, precision), bounds=(0, 1)), int(np.argmax(problem.target))
    loss = attack.get_loss_fn(model, ep.astensor(torch.tensor([label])))
    torch.manual_seed(0)

    def run(point: Float64) -> Any:
        x = ep.astensor(torch.from_numpy(point.astype(precision)).reshape(1, 1, 28, 28))
        with torch.inference_mode():
            # As it comes it is a quarter of the gradient, which an attack by signs does not mind.
            return 4 * attack.value_and_grad(loss, x)[1].raw.numpy().ravel().astype(np.float64)

    return Ready(run, f"{_SAMPLES} samples, sigma = 2^-8, no clipping, times 4")


@float32_only("ART, query-efficient estimator")
def art(problem: Any, precision: Precision) -> Ready:
    from art.estimators.classification import TensorFlowV2Classifier
    from art.estimators.classification.query_efficient_bb import QueryEfficientGradientEstimationClassifier

    np.random.seed(0)  # noqa: NPY002  it draws from the global generator
    model, chunk = tf.function(keras_model(precision)), [0]

    class Batched(QueryEfficientGradientEstimationClassifier):  # type: ignore[misc]
        def predict(self, x: Any, batch_size: int = 128, **kwargs: Any) -> Any:
            return super().predict(x.astype(precision), batch_size=chunk[0], **kwargs)

    inner = TensorFlowV2Classifier(lambda rows, training=False: model(rows, training=False), 10, SHAPE)
    estimator = Batched(inner, num_basis=_SAMPLES // 2, sigma=_SIGMA)

    def run(x: Float64) -> Any:
        # As it comes it is 2 sigma times the gradient.
        return estimator.loss_gradient(x[None].astype(precision), problem.target[None]).ravel() / (2 * _SIGMA)

    chunk[0] = best_chunk(lambda one: (chunk.__setitem__(0, one), run(problem.x)), (32, 64, 128, 784))
    return Ready(run, f"{_SAMPLES} samples, {chunk[0]} at a time, sigma = 2^-8, over 2 sigma")
