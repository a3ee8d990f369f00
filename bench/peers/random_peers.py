"""Estimators of black-box attacks: random directions instead of coordinates, as many evaluations as the loop has."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers.batched import fastest
from bench.peers.problem import STEP, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer

_SAMPLES = 1568


@peer("foolbox", "Foolbox, evolution strategies", "attacks", "foolbox", precisions=("float32",))
def foolbox(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import eagerpy as ep
    import torch
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfFastGradientAttack
    from foolbox.gradient_estimators import es_gradient_estimator

    from bench.peers.ports import torch_network

    samples = _SAMPLES // 14 if effort.quick else _SAMPLES
    network = PyTorchModel(torch_network(problem, precision), bounds=(0, 1))
    estimator = es_gradient_estimator(
        LinfFastGradientAttack, samples=samples, sigma=STEP[precision], bounds=(0, 1), clip=False
    )
    attack = estimator()
    loss = effort.resting(attack.get_loss_fn(network, ep.astensor(torch.tensor([problem.label]))))
    torch.manual_seed(0)

    def run(point: Float64) -> Any:
        x = ep.astensor(torch.from_numpy(point.astype(precision)).reshape(1, 1, 28, 28))
        with torch.inference_mode():
            # As it comes it is a quarter of the gradient, which an attack by signs does not mind.
            return 4 * attack.value_and_grad(loss, x)[1].raw.numpy().ravel().astype(np.float64)

    return Ready(run, samples, f"{samples} samples, sigma = 2^{round(np.log2(STEP[precision]))}, no clipping, times 4")


@peer("art", "ART, query-efficient estimator", "attacks", "art", precisions=("float32",))
def art(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import tensorflow as tf
    from art.estimators.classification import TensorFlowV2Classifier
    from art.estimators.classification.query_efficient_bb import QueryEfficientGradientEstimationClassifier

    from bench.peers.tensorflow_peers import keras_model

    model = effort.resting(tf.function(keras_model(problem, precision)))

    class Batched(QueryEfficientGradientEstimationClassifier):  # type: ignore[misc]
        chunk = 128

        def predict(self, x: Any, batch_size: int = 128, **kwargs: Any) -> Any:
            return super().predict(x.astype(precision), batch_size=self.chunk, **kwargs)

    inner = TensorFlowV2Classifier(lambda rows, training=False: model(rows, training=False), 10, (28, 28, 1))
    sigma = STEP[precision]
    estimator = Batched(inner, num_basis=_SAMPLES // 2, sigma=sigma)
    target = problem.target[None]

    def run(x: Float64) -> Any:
        # As it comes it is 2 sigma times the gradient.
        return estimator.loss_gradient(x[None].astype(precision), target).ravel() / (2 * sigma)

    def with_chunk(chunk: int) -> Any:
        Batched.chunk = chunk
        return run(problem.x)

    chunks = effort.choice.values() or (32, 64, 128, 784)
    Batched.chunk, _ = fastest({chunk: lambda chunk=chunk: with_chunk(chunk) for chunk in chunks}, 1)
    setting = f"{_SAMPLES} samples, {Batched.chunk} at a time, sigma = 2^{round(np.log2(sigma))}, over 2 sigma"
    return Ready(run, _SAMPLES, setting, choice={"chunk": Batched.chunk})
