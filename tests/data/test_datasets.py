"""The shipped digits and model, and the readers of local MNIST copies, without a network or a cache."""

from __future__ import annotations

import doctest
import gzip
import hashlib
import importlib.resources
import json
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from fdfast.data import datasets
from fdfast.data.datasets import load_idx, mnist_cnn, mnist_sample, mnist_test

DATA = importlib.resources.files("fdfast") / "data"
SHA256 = {
    "images": "501ea962d3888c85dbe46f44fe52d6cdbac808d88b775be13f3b2bb762b5b0a6",
    "labels": "793e48347f02ec9f49b10d30a93de91d185c4cfb957f09d953b1576548404082",
    "index": "ca08e475cec81c733b0e8fd5fdc8229d65f251de3accc34ff6cccbe6212db5bd",
    "conv_1.kernel": "083225700ebd16daa9b5145bb2e01d33264ac817221d40b9590881a3e39aa959",
    "conv_1.bias": "5690264664d34f80439ac4d2cb7fa6150fedd20f4030fe711d9cd34f949051de",
    "conv_2.kernel": "1048a7d866a5b5429f2222e229dcec2a6b11f5b1d4649b71c14af607436d733d",
    "conv_2.bias": "05d6a2f1cfa198415a89137c1236b5aedf2397ec4be266192b2f7cc811b8bde8",
    "dense.kernel": "94da92eb1420eefde66ee154a106467df6ab1f56ca3ae2aecc5440f0969a5d39",
    "dense.bias": "c5310e02085ade357f6fd57233f251a1555c1df1f97f1fa3401bf88407864c97",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise AssertionError("fdfast.datasets must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))  # and whatever the developer has cached is not seen


@pytest.fixture(scope="module")
def model():
    return mnist_cnn()


# The files.


@pytest.mark.parametrize("name", ["mnist_sample.npz", "mnist_cnn.npz"])
def test_files_are_small_plain_and_unchanged(name):
    with (DATA / name).open("rb") as file:
        assert len(file.read()) < 400_000
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files if key != "metadata"}
    assert {key: hashlib.sha256(a.tobytes()).hexdigest() for key, a in arrays.items()} == {
        key: SHA256[key] for key in arrays
    }
    assert len(arrays) == {"mnist_sample.npz": 3, "mnist_cnn.npz": 6}[name]


def test_attribution_names_source_licence_and_the_measured_accuracy():
    text = (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    about = json.loads(str(datasets._shipped("mnist_cnn.npz")["metadata"]))
    assert about["test_images"] == 10_000
    assert about["test_accuracy"] > 0.989
    for needed in ("LeCun", "Attribution-ShareAlike 3.0", f"{100 * about['test_accuracy']:.2f} %"):
        assert needed in text


# The sample.


def test_sample():
    x, labels = mnist_sample()
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((1000, 28, 28, 1), np.float32, True)
    assert (labels.shape, labels.dtype) == ((1000,), np.int64)
    assert (x.min(), x.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(x, np.rint(255 * x).astype(np.float32) / np.float32(255))  # whole bytes
    np.testing.assert_array_equal(labels, np.arange(1000) % 10)


def test_sample_positions_are_the_first_of_each_class_in_test_order():
    index = datasets._shipped("mnist_sample.npz")["index"].astype(int).reshape(100, 10)
    assert (np.diff(index, axis=0) > 0).all()
    assert len(np.unique(index)) == 1000
    assert index.max() < 10_000


@pytest.mark.parametrize("n", [1, 10, 25, np.int32(1000)])
def test_sample_of_n_is_the_beginning(n):
    x, labels = mnist_sample(n)
    everything, all_labels = mnist_sample()
    np.testing.assert_array_equal(x, everything[:n])
    np.testing.assert_array_equal(labels, all_labels[:n])


@pytest.mark.parametrize(
    ("n", "error", "words"),
    [
        (0, ValueError, "n=0 must be between 1 and 1000"),
        (1001, ValueError, "mnist_test"),
        (2.0, TypeError, "n must be an int, got 2.0"),
        (True, TypeError, "n must be an int"),
    ],
)
def test_sample_refuses(n, error, words):
    with pytest.raises(error, match=words):
        mnist_sample(n)


def test_sample_is_fresh_at_every_call():
    x, labels = mnist_sample(10)
    x += 1
    labels[:] = -1
    again, again_labels = mnist_sample(10)
    assert again.max() == 1
    assert again_labels.tolist() == list(range(10))


# The model.


def test_model_is_the_seed_cnn(model):
    assert model.name == "mnist_cnn"
    assert model.count_params() == 34_826
    assert model.loss == "categorical_crossentropy"
    assert [layer.name for layer in model.layers] == [
        "conv_1", "pool_1", "conv_2", "pool_2", "flatten", "dropout", "dense",
    ]  # fmt: skip
    assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 10))


def test_model_recognises_the_sample_and_an_untrained_one_does_not(model):
    x, labels = mnist_sample()

    def accuracy(network):
        return float((np.asarray(network(x)).argmax(axis=1) == labels).mean())

    assert accuracy(model) > 0.97  # 0.991 where it was trained; rounding elsewhere may turn a digit or two
    assert accuracy(mnist_cnn(trained=False)) < 0.5  # the control: 0.1 by chance


def test_models_share_nothing(model):
    other = mnist_cnn()
    other.layers[0].set_weights([0 * w for w in other.layers[0].get_weights()])
    assert np.abs(model.layers[0].get_weights()[0]).max() > 0


# IDX files.


def idx(array, code=8):
    array = np.asarray(array)
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + lengths + array.astype(datasets.IDX_TYPES[code]).tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("code", sorted(datasets.IDX_TYPES))
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 5)])
def test_idx_comes_back(tmp_path, pack, code, shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    (tmp_path / "x").write_bytes(pack(idx(values, code)))
    read = load_idx(tmp_path / "x")
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.dtype(datasets.IDX_TYPES[code]).newbyteorder("=")
    assert read.flags.writeable


GOOD = idx(np.arange(24).reshape(2, 3, 4))
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "two zero bytes.*got nothing"),
        (GOOD[:3], "two zero bytes.*got 00 00 08"),
        (b"\x01" + GOOD[1:], "two zero bytes.*got 01 00 08 03"),
        (b"PK\x03\x04" + GOOD, "not an IDX file"),
        (GOOD[:2] + b"\x0a" + GOOD[3:], "type code must be one of 0x08, .*got 0x0a"),
        (GOOD[:3] + b"\x00" + GOOD[4:], "number of axes must be between 1 and 32, got 0"),
        (GOOD[:3] + b"\xff" + GOOD[4:], "number of axes must be between 1 and 32, got 255"),
        (GOOD[:9], "header is cut off: 3 axes need 12 bytes, got 5"),
        (GOOD[:-1], r"shape \(2, 3, 4\), that is 24 bytes of data, got only 23"),
        (GOOD + b"\0", r"shape \(2, 3, 4\), that is 24 bytes of data, got more"),
        # 2^96 elements promised: to be refused without reserving them
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "got only 24"),
        (gzip.compress(GOOD[:4] + b"\xff" * 12, mtime=0), "got only 0"),
        (ZIPPED[:-9], "gzip stream is damaged"),
        (ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "gzip stream is damaged: CRC"),
        (ZIPPED[:10] + b"\xff" * 20, "gzip stream is damaged"),
        (ZIPPED + b"tail", "gzip stream is damaged"),
        (gzip.compress(GOOD + b"\0", mtime=0), "got more"),
        (gzip.compress(b"", mtime=0), "got nothing"),
    ],
)
def test_idx_malformed(tmp_path, content, words):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        load_idx(tmp_path / "x.gz")
    assert "x.gz" in str(caught.value)


def test_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_idx(tmp_path / "none")


# The user's own test set.

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 2, 1], np.uint8)


def as_npz(folder):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "mnist.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
    return folder / "mnist.npz"


def as_folder(folder, pack, ending):
    folder.mkdir()
    (folder / f"t10k-images-idx3-ubyte{ending}").write_bytes(pack(idx(IMAGES)))
    (folder / f"t10k-labels-idx1-ubyte{ending}").write_bytes(pack(idx(LABELS)))
    return folder


@pytest.mark.parametrize(
    "make",
    [
        lambda tmp: as_npz(tmp / "here"),
        lambda tmp: str(as_npz(tmp / "here")),
        lambda tmp: as_npz(tmp / "keras" / "datasets") and None,  # Keras' cache
        lambda tmp: as_folder(tmp / "raw", bytes, ""),
        lambda tmp: as_folder(tmp / "zipped", gzip.compress, ".gz"),
    ],
    ids=["npz", "str", "cache", "folder", "folder-gzip"],
)
def test_mnist_test_reads(tmp_path, make):
    x, labels = mnist_test(make(tmp_path))
    assert (x.shape, x.dtype, labels.dtype) == ((3, 28, 28, 1), np.float32, np.int64)
    np.testing.assert_array_equal(x[..., 0], IMAGES.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(labels, LABELS)


def test_mnist_test_says_what_to_do_when_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"never downloads.*load_data.*path=.*mnist_sample") as caught:
        mnist_test()
    assert str(tmp_path / "keras" / "datasets" / "mnist.npz") in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte\.gz"):
        mnist_test(tmp_path)


class Trap:
    """Unpickling it would be noticed."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_test": np.array([Trap()], object), "y_test": LABELS}, "plain arrays.*allow_pickle=False"),
        ({"x_test": IMAGES}, "y_test"),
        ({"x_test": IMAGES / 255, "y_test": LABELS}, r"images must be uint8 \(n, 28, 28\), got float64"),
        ({"x_test": IMAGES[:, :27], "y_test": LABELS}, r"images must be .*got uint8 \(3, 27, 28\)"),
        ({"x_test": IMAGES, "y_test": LABELS[:2]}, r"labels must be uint8 \(3,\), one per image, .*\(2,\)"),
        ({"x_test": IMAGES, "y_test": LABELS + 3}, "labels must be digits 0 to 9, got 10"),
    ],
    ids=["pickle", "missing", "dtype", "shape", "count", "label"],
)
def test_mnist_test_refuses(tmp_path, arrays, words):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        mnist_test(tmp_path / "mnist.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04K\x01.", b"text"])
def test_mnist_test_refuses_what_is_no_archive(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a mnist\.npz"):
        mnist_test(tmp_path / "mnist.npz")


def test_mnist_test_refuses_npy_and_cut_archives(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    whole = as_npz(tmp_path)
    whole.write_bytes(whole.read_bytes()[:-100])
    for path in (tmp_path / "x.npy", whole):
        with pytest.raises(ValueError, match=r"not a mnist\.npz"):
            mnist_test(path)


# The module.


def test_examples():
    assert doctest.testmod(datasets).failed == 0


def test_import_is_light():
    code = (
        "import sys, fdfast.datasets as d; d.mnist_sample(1); "
        "sys.exit(bool({'keras', 'tensorflow', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
