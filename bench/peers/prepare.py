"""Makes the problem file: ``python -m bench.peers.prepare PATH``; Keras is asked once what the digits are worth."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import fdfast
from bench.peers import problem


def main(path: str) -> None:
    keras.config.set_dtype_policy("float64")
    model = fdfast.datasets.mnist_cnn()
    digits, labels = fdfast.datasets.mnist_sample(100)
    probabilities = keras.ops.convert_to_numpy(model(digits.astype("float64"), training=False))
    weights = [w.astype("float32") for w in model.get_weights()]
    problem.make(digits, labels, weights, probabilities).save(Path(path))


if __name__ == "__main__":
    main(sys.argv[1])
