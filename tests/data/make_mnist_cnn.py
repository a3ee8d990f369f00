"""Cuts the shipped MNIST sample and trains the shipped CNN: `python tests/data/make_mnist_cnn.py [FOLDER]`.

FOLDER holds the four gzipped MNIST IDX files; without it keras.datasets.mnist is used, which may download. One seed,
deterministic operations, a fixed number of epochs: the test images choose nothing, they are only counted at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fdfast.data.datasets import CLASSES, load_idx, mnist_cnn

SEED, EPOCHS, BATCH, PER_CLASS = 0, 8, 128, 100
DATA = Path(__file__).parents[2] / "fdfast" / "data"


def load(folder: Path | None) -> tuple[Any, Any, Any, Any]:
    if folder is None:
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
        return x, y, x_test, y_test
    names = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
    x, y, x_test, y_test = (load_idx(folder / f"{name}-ubyte.gz") for name in names)
    return x, y, x_test, y_test


def cut_sample(images: Any, labels: Any) -> dict[str, Any]:
    """The first images of each class in test order, dealt out 0, 1, ..., 9, 0, 1, ..."""
    index = np.stack([np.flatnonzero(labels == digit)[:PER_CLASS] for digit in range(CLASSES)], axis=1).ravel()
    return {"images": images[index], "labels": labels[index], "index": index.astype(np.uint16)}


def train(x: Any, labels: Any, x_test: Any, test_labels: Any) -> dict[str, Any]:
    """Trained weights by layer and name, and how they came about as JSON under "metadata"."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    model, (x, x_test) = mnist_cnn(trained=False), (some[..., None] / np.float32(255) for some in (x, x_test))
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * -(-len(x) // BATCH))
    model.compile(keras.optimizers.Adam(schedule), loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, np.eye(CLASSES, dtype=np.float32)[labels], BATCH, EPOCHS, verbose=2)
    right = np.argmax(model.predict(x_test, 1000, verbose=0), axis=1) == test_labels
    about = {"test_accuracy": float(right.mean()), "test_images": len(right), "epochs": EPOCHS, "batch": BATCH}
    about |= {"seed": SEED, "optimizer": "Adam, learning rate 2e-3 with cosine decay to 0"}
    about |= {"tensorflow": tf.__version__, "keras": keras.__version__, "python": platform.python_version()}
    print(f"test accuracy {right.mean():.4f}")
    weights = {f"{layer.name}.{w.name}": w.numpy() for layer in model.layers for w in layer.weights}
    return {**weights, "metadata": np.array(json.dumps(about))}


def save(path: Path, arrays: dict[str, Any]) -> None:
    """A compressed .npz without pickles; the same arrays give the same bytes."""
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size:,} bytes")
    for name, array in arrays.items():
        print(f"  {name} {array.dtype} {array.shape} sha256 {hashlib.sha256(array.tobytes()).hexdigest()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the four gzipped MNIST IDX files")
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write to (default: fdfast/data)")
    parser.add_argument("--sample-only", action="store_true", help="cut the sample, train nothing")
    options = parser.parse_args()
    x_train, y_train, x_held, y_held = load(options.folder)
    save(options.out / "mnist_sample.npz", cut_sample(x_held, y_held))
    if not options.sample_only:
        save(options.out / "mnist_cnn.npz", train(x_train, y_train, x_held, y_held))
