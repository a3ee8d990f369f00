"""The shipped MNIST digits and the trained seed CNN; nothing here ever downloads anything."""

from __future__ import annotations

import gzip
import importlib.resources
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Digits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]

CLASSES = 10
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# From np.load: a pickle or a broken header; a missing array; a .npy, which is no context; a broken archive.
_NOT_NPZ = (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
_PIECE = 1 << 20  # bytes asked of a file at a time: a lying header must not make us allocate what it claims


def mnist_sample(n: int | None = None) -> Digits:
    """Return real MNIST test digits, shipped with the package: 100 of each class.

    Parameters
    ----------
    n : int, optional
        How many, from 1 to 1000 (the default). The digits are stored in turn, 0, 1, ..., 9, 0, 1, ...: the
        first ten are one of each, and every multiple of ten is balanced.

    Returns
    -------
    x : ndarray of float32, shape (n, 28, 28, 1)
        Pixels in [0, 1]: bytes / 255. A fresh array at every call.
    labels : ndarray of int64, shape (n,)
        The digits, 0 to 9. For a categorical cross-entropy take ``numpy.eye(10)[labels]``.

    Raises
    ------
    TypeError
        `n` is not an integer.
    ValueError
        `n` is below 1 or above 1000.

    Notes
    -----
    The first 100 test images of each class, in the order of the test set: nobody chose them. Source and
    licence (CC BY-SA 3.0): ``fdfast/data/ATTRIBUTION.md``.

    Examples
    --------
    >>> x, labels = mnist_sample(10)
    >>> x.shape, labels.tolist()
    ((10, 28, 28, 1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    stored = _shipped("mnist_sample.npz")
    images, labels = stored["images"], stored["labels"]
    if n is None:
        n = len(labels)
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n must be an int, got {n!r}")
    if not 1 <= n <= len(labels):
        raise ValueError(f"n={n} must be between 1 and {len(labels)}; for more digits use mnist_test()")
    return _as_digits(images[:n], labels[:n])


def mnist_cnn(*, trained: bool = True) -> Any:
    """Build the seed CNN: Conv 32 3x3, pool 2, Conv 64 3x3, pool 2, flatten, dropout .5, Dense 10 softmax.

    Parameters
    ----------
    trained : bool
        Load the shipped weights (the default), or leave Keras' random initial ones.

    Returns
    -------
    keras.Sequential
        Input (rows, 28, 28, 1) in [0, 1], output (rows, 10) probabilities; 34,826 weights; compiled with
        ``"categorical_crossentropy"``. A new model at every call.

    Notes
    -----
    Accuracy on the 10,000 test images and how it was trained: ``fdfast/data/ATTRIBUTION.md``. The
    architecture is that of the Keras example "Simple MNIST convnet".

    Only arrays are shipped, and the layers are built here: no code comes out of a model file.
    """
    import keras

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            keras.layers.MaxPooling2D(2, name="pool_1"),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            keras.layers.MaxPooling2D(2, name="pool_2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(CLASSES, activation="softmax", name="dense"),
        ],
        name="mnist_cnn",
    )
    # The loss by name: keras.losses.CategoricalCrossentropy() would compute in float32 under a float64 model.
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    if trained:
        stored = _shipped("mnist_cnn.npz")
        for layer in model.layers:
            layer.set_weights([stored[f"{layer.name}.{weight.name}"] for weight in layer.weights])
    return model


def mnist_test(path: str | os.PathLike[str] | None = None) -> Digits:
    """Read the whole MNIST test set, from a copy that is already on this machine.

    Parameters
    ----------
    path : path-like, optional
        ``mnist.npz`` as Keras stores it, or a folder with the two ``t10k`` IDX files, gzipped or not.
        Default: Keras' cache, ``datasets/mnist.npz`` in ``$KERAS_HOME``, which is ``~/.keras`` unless set.

    Returns
    -------
    x : ndarray of float32, shape (10000, 28, 28, 1)
        Pixels in [0, 1]: bytes / 255.
    labels : ndarray of int64, shape (10000,)

    Raises
    ------
    FileNotFoundError
        There is no such file; the message says how to get it.
    ValueError
        The file is not an MNIST test set: malformed, pickled, of other shapes, or with unequal numbers of
        images and labels.
    """
    if path is None:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        source = Path(home) / "datasets" / "mnist.npz"
    else:
        source = Path(path)
    images, labels = _read_folder(source) if source.is_dir() else _read_npz(source)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"{source}: images must be uint8 (n, 28, 28), got {images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{source}: labels must be uint8 {images.shape[:1]}, one per image, got {labels.dtype} {labels.shape}"
        )
    if labels.size and labels.max() >= CLASSES:
        raise ValueError(f"{source}: labels must be digits 0 to 9, got {labels.max()}")
    return _as_digits(images, labels)


def load_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read an IDX file, the format of the original MNIST files; gzipped or not, whatever its name.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray
        Of the stored shape and type, in native byte order, writable.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is malformed; the message says what is wrong.

    Notes
    -----
    Two zero bytes, a type code, the number of axes, the length of each axis as a big-endian uint32, then the
    elements in C order, big-endian [1]_.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            return _parse_idx(gzip.open(raw) if zipped else raw, path)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: the gzip stream is damaged: {error}") from error


def _parse_idx(stream: gzip.GzipFile | IO[bytes], path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{path}: not an IDX file: it must begin with two zero bytes, a type code and a number of axes, "
            f"got {magic.hex(' ') or 'nothing'}"
        )
    code, ndim = magic[2:]
    if code not in IDX_TYPES:
        known = ", ".join(f"{known:#04x}" for known in IDX_TYPES)
        raise ValueError(f"{path}: IDX type code must be one of {known}, got {code:#04x}")
    if not 1 <= ndim <= 32:  # 32: what every supported NumPy can hold
        raise ValueError(f"{path}: IDX number of axes must be between 1 and 32, got {ndim}")
    lengths = stream.read(4 * ndim)
    if len(lengths) < 4 * ndim:
        raise ValueError(f"{path}: IDX header is cut off: {ndim} axes need {4 * ndim} bytes, got {len(lengths)}")
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    dtype = np.dtype(IDX_TYPES[code])
    size = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while len(data) <= size and (piece := stream.read(min(_PIECE, size + 1 - len(data)))):
        data += piece
    if len(data) != size:
        got = f"only {len(data)}" if len(data) < size else "more"
        raise ValueError(f"{path}: IDX header promises shape {shape}, that is {size} bytes of data, got {got}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_folder(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    def find(stem: str) -> Path:
        names = [stem + ending for ending in ("-ubyte.gz", "-ubyte")]
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(
            f"{folder} has neither {names[0]} nor {names[1]}: give the folder of the MNIST IDX files, or the "
            "path of a mnist.npz"
        )

    return load_idx(find("t10k-images-idx3")), load_idx(find("t10k-labels-idx1"))


def _read_npz(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, and fdfast never downloads: (a) run keras.datasets.mnist.load_data() "
            "once, which downloads to Keras' cache; (b) give path= of a mnist.npz or of the folder of the "
            "MNIST IDX files; or (c) use the shipped mnist_sample()"
        )
    try:
        # Opened here: np.load(path) leaves the file open when the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["x_test"], stored["y_test"]
    except _NOT_NPZ as error:
        raise ValueError(f"{path}: not a mnist.npz with plain arrays x_test and y_test: {error}") from error


def _shipped(name: str) -> dict[str, npt.NDArray[Any]]:
    path = importlib.resources.files("fdfast") / "data" / name
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def _as_digits(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Digits:
    return images[..., np.newaxis].astype(np.float32) / np.float32(255), labels.astype(np.int64)
