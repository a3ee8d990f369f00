"""Files from strangers: what is read, what is refused, and in which words."""

from __future__ import annotations

import io
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import click
import h5py
import keras
import numpy as np
import pytest

from fdfast import files
from fdfast.cli.arguments import root
from fdfast.files import BadFile, pick_examples, read_arrays
from fdfast.model_files import load_model

# Keras, on NumPy 2, where it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def with_header(path: Path, header: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header)
    return path


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3).astype(">f4"))
    found = read_arrays(npz(tmp_path / "d.npz", x=x, y=[1, 2], other=0), ("x", "y"))
    assert sorted(found) == ["x", "y"]
    np.testing.assert_array_equal(found["x"], x)
    assert found["x"].dtype == x.dtype


BAD_DATA = [
    ("missing file", lambda p: p, "cannot be read: No such file"),
    ("folder", lambda p: p.mkdir() or p, "cannot be read: Is a directory"),
    ("empty", lambda p: (p.write_bytes(b"") and p) or p, "is no .npz file or is damaged"),
    ("npy", lambda p: p.write_bytes(header((2,)) + bytes(16)) and p, "is no .npz file or is damaged"),
    ("missing key", lambda p: npz(p, y=[1], z=[2]), "has no array 'x'; it has y, z. Name them by --x-key"),
    ("pickle", lambda p: npz(p, x=np.array([{}], object)), "holds pickled Python objects"),
    (
        "bomb",
        lambda p: with_header(p, header((1 << 20, 1 << 20))),
        r"claims 8192\.0 GiB unpacked; 2\.0 GiB are allowed",
    ),
    (
        "long header",
        lambda p: with_header(p, b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(1 << 20)),
        "array 'x' is damaged",
    ),
    ("cut off", lambda p: with_header(p, header((1000,)) + bytes(8)), "array 'x' is damaged"),
    ("no magic", lambda p: with_header(p, b"not an array"), "array 'x' is damaged"),
    ("no end", lambda p: with_header(p, header((1000,)).replace(b"}", b"(")), "array 'x' is damaged"),
    ("version", lambda p: with_header(p, b"\x93NUMPY\x07\x00"), r"npy format \(7, 0\)"),
]


@pytest.mark.parametrize(("make", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD_DATA])
def test_bad_data_is_named(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "d.npz"
    make(path)
    with pytest.raises(BadFile, match=message):
        read_arrays(path, ("x",))


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=1000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BadFile, match="damaged"):
        read_arrays(path, ("x",))


PICKS = [
    ("0", (), "example 0"),
    ("3", (), "example 3"),
    ("-1", (), "example 4"),
    ("1:3", (2,), "examples 1 to 2"),
    ("3:", (2,), "examples 3 to 4"),
    (":99", (5,), "examples 0 to 4"),
    ("all", (5,), "all 5 examples"),
]


@pytest.mark.parametrize(("index", "lead", "words"), PICKS)
def test_an_index_picks_examples(index: str, lead: tuple[int, ...], words: str) -> None:
    x = np.arange(10.0).reshape(5, 2)
    found = pick_examples(x, np.arange(5), (None, 2), index)
    assert found.x.shape == (*lead, 2)
    assert found.y.shape == lead
    np.testing.assert_array_equal(found.x[..., 0], 2 * found.y)
    assert (found.which, found.batched) == (words, bool(lead))


BAD_PICKS = [
    ("5", r"--index 5 is out of range: there are 5 examples, 0 to 4"),
    ("-6", r"--index -6 is out of range"),
    ("3:3", "picks nothing"),
    ("9:", "picks nothing"),
    ("x", "must be a number, a range first:last or 'all', got 'x'"),
    ("", "must be a number"),
    ("1:2:3", "must be a number"),
    ("1.5", "must be a number"),
]


@pytest.mark.parametrize(("index", "message"), BAD_PICKS)
def test_a_bad_index_is_named(index: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pick_examples(np.zeros((5, 2)), np.zeros(5), (None, 2), index)


def test_a_single_example_needs_no_index() -> None:
    found = pick_examples(np.zeros((4, 4, 1)), np.zeros(3), (None, 4, 4, 1), "0")
    assert (found.x.shape, found.y.shape, found.batched) == ((4, 4, 1), (3,), False)
    with pytest.raises(ValueError, match=r"--index 2 does not fit: x is a single example, shape \(4, 4, 1\)"):
        pick_examples(np.zeros((4, 4, 1)), np.zeros(3), (None, 4, 4, 1), "2")


@pytest.mark.parametrize(("x", "y"), [((3, 2), (2,)), ((3, 2), ()), ((), (3,))])
def test_x_and_y_must_go_together(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have the same number of examples"):
        pick_examples(np.zeros(x), np.zeros(y), (None, 2), "0")


def test_no_examples_at_all() -> None:
    with pytest.raises(ValueError, match="there are no examples"):
        pick_examples(np.zeros((0, 2)), np.zeros(0), (None, 2), "all")


@pytest.mark.parametrize(("scale", "expected", "words"), [(True, 0.2, "scaled by 1/255"), (False, 51.0, "not scaled")])
def test_8_bit_pixels_become_floats_and_it_is_said(scale: bool, expected: float, words: str) -> None:
    found = pick_examples(np.full((2, 3), 51, np.uint8), np.zeros(2), (None, 3), "0", scale=scale)
    assert found.x.dtype == np.float32
    np.testing.assert_allclose(found.x, expected, rtol=1e-7)  # one rounding to float32
    assert words in found.notes[0]


@keras.saving.register_keras_serializable(package="fdfast_tests")
class Own(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def own_loss(y: Any, p: Any) -> Any:
    return keras.ops.mean((y - p) ** 2, axis=-1)


def saved(path: Path, *layers: Any, loss: Any = "mean_squared_error") -> Path:
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(2)])
    model.compile(loss=loss)
    model.save(path)
    return path


def test_a_plain_model_is_loaded_with_its_loss(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.keras")
    assert load_model(path, compiled=True).loss == "mean_squared_error"


def test_a_custom_loss_is_not_needed_where_another_one_is_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.keras", loss=own_loss)
    with pytest.raises(BadFile, match=r"needs code that is not in Keras \(if it is only the loss, give --loss\)"):
        load_model(path, compiled=True)
    assert load_model(path, compiled=False).count_params() == 6


def test_a_lambda_layer_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.keras", keras.layers.Lambda(lambda x: 2 * x))
    with pytest.raises(BadFile, match=r"Lambda layer, that is Python code.*fdfast\.gradcheck"):
        load_model(path, compiled=True)


def test_a_custom_layer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "m.keras", Own())
    monkeypatch.delitem(keras.saving.get_custom_objects(), "fdfast_tests>Own")
    monkeypatch.delattr(f"{__name__}.Own")
    with pytest.raises(BadFile, match=r"needs code that is not in Keras: could not locate class 'Own'"):
        load_model(path, compiled=True)


BAD_MODELS = [
    ("m.keras", None, "does not exist"),
    (".", None, "is a folder without saved_model.pb"),
    ("m.h5", b"x", "is no HDF5 file, or is damaged"),
    ("m.pt", b"x", r"must be a .keras or .h5 file or the folder of a SavedModel: write one by model.save"),
    ("m.keras", b"x", "is no Keras archive"),
    ("m.keras", "zip", "cannot be loaded"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_MODELS)
def test_a_bad_model_file_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if content == "zip":
        npz(tmp_path / "m.npz", x=1)
        (tmp_path / "m.npz").rename(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=message):
        load_model(path, compiled=True)


def small_model(path: Path) -> Path:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss="mse")
    model.save(path)
    return path


def with_member(path: Path, name: str, write: Any) -> Path:
    """A model's archive with one member more, or with another in its place."""
    source = small_model(path.with_name("small.keras"))
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.namelist():
            if one != name:
                new.writestr(one, old.read(one))
        write(new, name)
    return path


def zeros(archive: zipfile.ZipFile, name: str) -> None:
    with archive.open(name, "w", force_zip64=True) as member:
        for _ in range(40):
            member.write(bytes(1 << 20))


def packed_arrays(archive: zipfile.ZipFile, name: str) -> None:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:  # in chunks that are never written: a few bytes
        file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 10), "f8", chunks=(1 << 10, 1 << 10), compression=9)
    archive.writestr(name, stream.getvalue())


@pytest.mark.parametrize(
    ("name", "write", "claims"),
    [("assets/zeros", zeros, r"41,9\d\d,\d\d\d bytes"), ("model.weights.h5", packed_arrays, r"8\.0 GiB")],
)
def test_an_archive_that_unpacks_to_more_is_refused_before_it_is(
    tmp_path: Path, name: str, write: Any, claims: str
) -> None:
    path = with_member(tmp_path / "bomb.keras", name, write)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(BadFile, match=rf"claims {claims} unpacked; .* are allowed. If you trust it, --max-bytes"):
        load_model(path, compiled=True, limit=1 << 24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23  # h5py's and zipfile's own; the archive claims 40 MiB


def test_the_limit_is_lifted_by_what_the_message_says(tmp_path: Path) -> None:
    path = with_member(tmp_path / "bomb.keras", "assets/zeros", zeros)
    with pytest.raises(BadFile, match="--max-bytes") as caught:
        load_model(path, compiled=True, limit=1 << 24)
    given = re.search(r"--max-bytes (\d+)", str(caught.value))
    assert given is not None
    assert load_model(path, compiled=True, limit=max_bytes(given[1])).count_params() == 8


def max_bytes(text: str) -> int:
    """What `fdfast check` makes of the option."""
    found = []
    command = root(lambda _, arguments: found.append(arguments.max_bytes) or 0)
    command.main(["check", "m.keras", "d.npz", f"--max-bytes={text}"], standalone_mode=False)
    return found[0]


@pytest.mark.parametrize(("text", "wanted"), [("1000", 1000), ("3K", 3072), ("16M", 16 << 20), ("5G", 5 << 30)])
def test_sizes_may_have_units(text: str, wanted: int) -> None:
    assert max_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "1.5G", "many"])
def test_sizes_that_are_none_are_named(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no number of bytes"):
        max_bytes(text)


def test_arrays_are_limited_together(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.zeros(1000), y=np.zeros(1000))
    assert len(read_arrays(path, ("x", "y"), 16_000)) == 2
    with pytest.raises(BadFile, match="arrays 'x' and 'y' claims 16,000 bytes unpacked; 15,999 bytes are allowed"):
        read_arrays(path, ("x", "y"), 15_999)


def test_the_limit_is_what_the_help_says() -> None:
    assert files.LIMIT == 2 * 2**30
