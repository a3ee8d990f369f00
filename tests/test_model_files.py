"""HDF5 files and SavedModels from strangers: what is loaded, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.files import BadFile, names_in, pick_examples
from fdfast.model_files import check_model_file, load_model

# Keras, on NumPy 2, where it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def small(*layers: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, activation="tanh")])
    model.compile(loss="mean_squared_error")
    return model


@keras.saving.register_keras_serializable("model_files")
class Doubled(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def edited(path: Path, edit: Any) -> Path:
    small().save(path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def with_config(change: Any) -> Any:
    def edit(file: Any) -> None:
        config = json.loads(file.attrs["model_config"])
        change(config["config"]["layers"][-1])
        file.attrs["model_config"] = json.dumps(config)

    return edit


def linked(file: Any) -> None:
    name = next(iter(file["model_weights"]))
    del file["model_weights"][name]
    file["model_weights"][name] = h5py.ExternalLink("/etc/other.h5", "/")


REFUSED = [
    ("lambda", with_config(lambda layer: layer.update(class_name="Lambda")), "it holds a Lambda layer"),
    ("function", with_config(lambda layer: layer["config"].update(activation={"function_type": "lambda"})), "Lambda"),
    ("module", with_config(lambda layer: layer.update(module="os", class_name="system")), "not in Keras: os.system"),
    ("weights", lambda file: file.attrs.__delitem__("model_config"), "holds weights only: save the whole model"),
    ("link", linked, "from another file, which is not read"),
    ("claim", lambda file: file.create_dataset("big", (1 << 20, 1 << 10), "f8", chunks=(1024, 1024)), "claims 8.0 GiB"),
]


@pytest.mark.parametrize(("edit", "message"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_an_hdf5_file_runs_no_code_and_reads_no_other_file(tmp_path: Path, edit: Any, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        load_model(edited(tmp_path / "m.h5", edit), compiled=True)


def test_an_hdf5_file_is_the_model_it_was_saved_from(tmp_path: Path, capfd: Any) -> None:
    model, x = small(Doubled()), np.ones((2, 3), np.float32)
    model.save(tmp_path / "m.h5")
    capfd.readouterr()
    loaded = load_model(tmp_path / "m.h5", compiled=True)  # a registered layer of the user's own is known
    np.testing.assert_array_equal(loaded(x), model(x))
    assert getattr(loaded.loss, "__name__", loaded.loss) == "mean_squared_error"
    assert capfd.readouterr().err == ""


def test_a_saved_model_is_checked_like_the_model_it_was_made_of(tmp_path: Path) -> None:
    model, x, y = small(), np.ones((2, 3)), np.zeros((2, 2))
    model.export(tmp_path / "saved", verbose=False)
    with pytest.raises(BadFile, match="knows no loss: name one by --loss"):
        check_model_file(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved", compiled=False)
    found = fdfast.gradcheck(loaded, x, y, loss="mean_squared_error")
    assert found
    expected = fdfast.gradcheck(model, x, y, loss="mean_squared_error", check="directions")
    # Weights are float32 in both: the same numbers, in another order of summation.
    np.testing.assert_allclose(found.analytic, expected.analytic, rtol=1e-12)
    with pytest.raises(BadFile, match=r"claims .* unpacked"):
        load_model(tmp_path / "saved", compiled=False, limit=1000)


def graph(folder: Path, body: Any) -> Path:
    module = tf.Module()
    module.call = tf.function(body, input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    tf.saved_model.save(module, str(folder), signatures=module.call)
    return folder


def writes(x: Any) -> Any:
    tf.io.write_file("/tmp/should_not_be_there", "x")
    return x


def reads(x: Any) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def in_python(x: Any) -> Any:
    return tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), (None, 3))


def in_a_branch(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: reads(x), lambda: x)


@pytest.mark.parametrize("body", [writes, reads, in_python, in_a_branch])
def test_a_graph_that_would_use_files_or_run_python_is_refused(tmp_path: Path, body: Any) -> None:
    with pytest.raises(BadFile, match="would use files or run Python"):
        load_model(graph(tmp_path / "saved", body), compiled=False)


def test_a_plain_graph_is_not_refused(tmp_path: Path) -> None:
    loaded = load_model(graph(tmp_path / "saved", lambda x: 2 * x), compiled=False)
    np.testing.assert_array_equal(loaded(np.ones((1, 3), np.float32)), np.full((1, 3), 2.0))


@pytest.mark.parametrize("content", [None, b"", b"\x0a\xff"])
def test_a_folder_that_is_no_saved_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(BadFile, match=r"no SavedModel|cannot be loaded"):
        load_model(tmp_path, compiled=False)


SHAPES = [
    ((5, 4, 4), (None, 4, 4, 1), "all", (5, 4, 4, 1)),
    ((4, 4), (None, 4, 4, 1), "0", (4, 4, 1)),
    ((5, 4, 4, 1), (None, 4, 4, 1), "all", (5, 4, 4, 1)),
    ((5, 4, 4), (None, None, None, 1), "all", (5, 4, 4, 1)),
    ((5, 4, 4), (None, 4, 4, 3), "all", (5, 4, 4)),
    ((5,), (None, 1), "all", (5, 1)),
]


@pytest.mark.parametrize(("given", "shape", "index", "taken"), SHAPES)
def test_the_axis_of_an_only_channel_is_added_and_told(given: Any, shape: Any, index: str, taken: Any) -> None:
    found = pick_examples(np.zeros(given), np.zeros(given[0]), shape, index)
    assert found.x.shape == taken
    assert bool(found.notes) == (given != taken)
    assert all("a last axis of length 1 was added" in note for note in found.notes)


@pytest.mark.parametrize(
    ("held", "asked", "taken"),
    [
        (("x", "y", "x_test", "y_test"), ("x", "y"), ("x", "y")),
        (("x_train", "y_train", "x_test", "y_test"), ("x", "y"), ("x_test", "y_test")),
        (("x_train", "y_train"), ("x", "y"), ("x_train", "y_train")),
        (("x_test", "y_test"), ("x", "z"), ("x", "z")),
    ],
)
def test_the_usual_names_are_found_and_told(tmp_path: Path, held: Any, asked: Any, taken: Any) -> None:
    np.savez(tmp_path / "d.npz", **dict.fromkeys(held, np.zeros(1)))
    names, notes = names_in(tmp_path / "d.npz", *asked)
    assert names == taken
    assert bool(notes) == (taken != asked)
