"""A model that asks for more memory than is allowed is refused before it takes any."""

from __future__ import annotations

import io
import json
import resource
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fdfast.files import LIMIT, BadFile
from fdfast.model_files import load_model

# Keras 3.5 to 3.10 with NumPy 2, in saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
layers = keras.layers


def saved(folder: Path, *inside: Any, suffix: str = ".keras") -> Path:
    made = keras.Sequential(list(inside))
    made.compile("adam", "mse")
    made.save(folder / f"good{suffix}")
    return folder / f"good{suffix}"


def edited(path: Path, old: str, new: str) -> Path:
    """The same file with other sizes in its configuration."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                assert old in content.decode()
                content = content.decode().replace(old, new).encode()
            after.writestr(name, content)
    path.write_bytes(out.getvalue())
    return path


#: name: (layers, what stands in the file, what is put there, words)
BOMBS: dict[str, tuple[list[Any], str, str, str]] = {
    "units": (
        [keras.Input((100,)), layers.Dense(4)],
        '"units": 4',
        '"units": 1000000000',
        "with its weights, claims 376.3 GiB",
    ),
    "vocabulary": (
        [keras.Input((3,)), layers.Embedding(10, 4)],
        '"input_dim": 10',
        '"input_dim": 10000000000',
        "with its weights, claims 149.0 GiB",
    ),
    "input": (
        [keras.Input((8, 8, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)],
        "[null, 8, 8, 3]",
        "[null, 100000, 100000, 3]",
        "with the output of .*, claims 111.8 GiB",
    ),
    "repeated": (
        [keras.Input((5,)), layers.RepeatVector(3)],
        '"n": 3',
        '"n": 1000000000',
        "with the output of .*, claims 18.6 GiB",
    ),
    "padded": (
        [keras.Input((5, 1)), layers.ZeroPadding1D(3)],
        '"padding": [3, 3]',
        '"padding": [3, 3000000000]',
        "with the output of .*, claims 11.2 GiB",
    ),
    "unrolled": (
        [keras.Input((5, 2)), layers.SimpleRNN(3, unroll=True)],
        "[null, 5, 2]",
        "[null, 100000, 2]",
        "writes out a loop",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_asks_for_too_much_is_refused(tmp_path: Path, name: str) -> None:
    inside, old, new, words = BOMBS[name]
    path = edited(saved(tmp_path, *inside), old, new)
    with pytest.raises(BadFile, match=words):
        load_model(path, compiled=True)


def test_nothing_is_taken_before(tmp_path: Path) -> None:
    """400 MB of weights, which there would be room for; a model takes some 20 MB."""
    path = edited(saved(tmp_path, keras.Input((100,)), layers.Dense(4)), '"units": 4', '"units": 1000000')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadFile, match="--max-bytes 404000000"):
        load_model(path, compiled=True, limit=1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10  # KiB


def test_what_is_left_behind_is_given_no_values(tmp_path: Path) -> None:
    """Keras gives values to all weights that have none at the end of its next scope without state."""
    path = edited(saved(tmp_path, keras.Input((100,)), layers.Dense(4)), '"units": 4', '"units": 1000000000')
    with pytest.raises(BadFile):
        load_model(path, compiled=True)
    with keras.StatelessScope():
        pass
    assert keras.Sequential([keras.Input((2,)), layers.Dense(3)])(np.ones((1, 2))).shape == (1, 3)


def test_an_hdf5_file_too(tmp_path: Path) -> None:
    import h5py

    path = saved(tmp_path, keras.Input((100,)), layers.Dense(4), suffix=".h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(config).replace('"units": 4', '"units": 1000000000')
    with pytest.raises(BadFile, match=r"with its weights, .* GiB"):
        load_model(path, compiled=True)


#: Layers that keep other things than weights, hold layers, draw numbers, or are built in ways of their own.
GOOD: dict[str, list[Any]] = {
    "images": [
        keras.Input((8, 8, 1)),
        layers.RandomFlip(),
        layers.SpectralNormalization(layers.Conv2D(3, 3)),
        layers.BatchNormalization(),
        layers.Resizing(4, 4),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(4),
    ],
    "sequences": [
        keras.Input((6,)),
        layers.Embedding(10, 4),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3)),
        layers.LayerNormalization(),
        layers.GRU(2, unroll=True),
    ],
    "normalised": [keras.Input((3,)), layers.Normalization(mean=0.5, variance=2.0), layers.Dense(2)],
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", GOOD)
def test_what_asks_for_little_is_loaded(tmp_path: Path, name: str, suffix: str) -> None:
    path = saved(tmp_path, *GOOD[name], suffix=suffix)
    x = np.random.default_rng(0).integers(0, 9, (2, *GOOD[name][0].shape[1:])).astype("float32")
    wanted = keras.models.load_model(path, compile=False)(x, training=False)
    np.testing.assert_array_equal(load_model(path, compiled=False, limit=LIMIT)(x, training=False), wanted)
