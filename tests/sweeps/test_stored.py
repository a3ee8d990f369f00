"""Data in files: read in pieces, damage named, tables brought into arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdfast.files import BadFile
from fdfast.sweeps.shards import Done
from fdfast.sweeps.stored import ArchiveRows, Files, find_files
from fdfast.sweeps.tables import TableRows

X = np.arange(7 * 6, dtype=np.float32).reshape(7, 3, 2)
Y = np.arange(7)


def source(path: Any, shape: Any = (3, 2), **options: Any) -> Files:
    return Files(find_files(path), "x", "y", shape, **{"scale": True, **options})


def together(found: Files, batch: int = 3, limit: int | None = None) -> tuple[Any, Any]:
    shards = list(found.shards(batch, limit, {}))
    return np.concatenate([one.x for one in shards]), np.concatenate([one.y for one in shards])


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_an_archive_is_read_in_pieces(tmp_path: Path, save: Any, dtype: str) -> None:
    save(tmp_path / "d.npz", x=X.astype(dtype), y=Y, other=np.zeros(3))
    rows = ArchiveRows(tmp_path / "d.npz", ("x", "y"))
    for first, count in ((2, 3), (5, 2), (0, 1), (1, 1)):  # back to the beginning, too
        found = rows.read(first, count)
        np.testing.assert_array_equal(found["x"], X[first : first + count])
        assert found["x"].dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(found["y"], Y[first : first + count])
    rows.close()


BAD_ARCHIVES = [
    ("no array", {"x": X}, "has no array 'y'; it has x. Name them by x_key and y_key"),
    ("objects", {"x": np.array([{}] * 7, object), "y": Y}, "pickled Python objects"),
    ("fortran", {"x": np.asfortranarray(X), "y": Y}, r"in Fortran order: save numpy.ascontiguousarray\(x\)"),
    ("a number", {"x": 3.0, "y": Y}, "single number"),
    ("unequal", {"x": X, "y": Y[:3]}, "different numbers of examples: x 7, y 3"),
]


@pytest.mark.parametrize(("arrays", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD_ARCHIVES])
def test_a_bad_archive_is_named(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(BadFile, match=message):
        source(tmp_path / "d.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("hurt", ["flipped", "cut off", "empty"])
def test_damage_is_found_before_anything_is_computed(tmp_path: Path, save: Any, hurt: str) -> None:
    path = tmp_path / "d.npz"
    save(path, x=np.random.default_rng(0).normal(size=(50, 3, 2)), y=np.arange(50))
    if hurt == "flipped":
        flip(path, 0.4)
    else:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2 if hurt == "cut off" else 0])
    with pytest.raises(BadFile, match=r"d\.npz.* damaged"):
        source(path)


def folder(path: Path) -> Path:
    for i, cut in enumerate((slice(0, 4), slice(4, 5), slice(5, 7))):
        np.savez(path / f"{'cba'[i]}.npz", x=X[cut], y=Y[cut])
    return path


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    found = source(folder(tmp_path))
    names = [(one.name, one.file, one.first, len(one)) for one in found.shards(3, None, {})]
    assert names == [
        ("00000-000000000", "a.npz", 0, 2),
        ("00001-000000000", "b.npz", 0, 1),
        ("00002-000000000", "c.npz", 0, 3),
        ("00002-000000003", "c.npz", 3, 1),
    ]
    assert (found.total, found.size) == (7, 6)
    assert [one.y.tolist() for one in found.shards(3, 5, {"00001-000000000": Done(1, "")})] == [[5, 6], [0, 1]]
    np.testing.assert_array_equal(together(source(str(tmp_path / "[bc].npz")))[1], [4, 0, 1, 2, 3])


def test_the_others_are_read_where_one_is_damaged(tmp_path: Path) -> None:
    path = folder(tmp_path) / "b.npz"
    kept = path.read_bytes()
    path.write_bytes(kept[:-30])
    found = source(tmp_path)
    assert [one.file for one in found.shards(9, None, {})] == ["a.npz", "c.npz"]
    assert list(found.damaged) == ["b.npz"]
    assert "b.npz' is no .npz file or is damaged" in found.damaged["b.npz"]
    path.write_bytes(kept)
    assert source(tmp_path).damaged == {}


def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path) -> None:
    found = source(folder(tmp_path))
    np.savez(tmp_path / "b.npz", x=X[:2], y=Y[:2])
    assert [one.file for one in found.shards(9, None, {})] == ["a.npz", "c.npz"]
    assert "was changed while the sweep was running" in found.damaged["b.npz"]


@pytest.mark.parametrize(("scale", "expected"), [(True, 0.2), (False, 51.0)])
def test_8_bit_pixels_become_floats(tmp_path: Path, scale: bool, expected: float) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((2, 3), 51, np.uint8), y=[0, 1])
    x, _ = together(source(tmp_path / "d.npz", (3,), scale=scale))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected, rtol=1e-7)  # one rounding to float32


TENSOR = pa.FixedShapeTensorArray.from_numpy_ndarray(X)
COLUMNS = {
    "tensors": TENSOR,
    "nested lists": pa.array(X.tolist(), pa.list_(pa.list_(pa.float32()))),
    "flat lists": pa.array(X.reshape(7, 6).tolist(), pa.list_(pa.float32())),
    "fixed lists": pa.array(X.reshape(7, 6).tolist(), pa.list_(pa.float32(), 6)),
    "large lists": pa.array(X.reshape(7, 6).tolist(), pa.large_list(pa.float32())),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("groups", [2, 100])
def test_a_table_is_read_whatever_holds_the_numbers(tmp_path: Path, kind: str, groups: int) -> None:
    table = pa.table({"y": Y, "x": COLUMNS[kind], "key": [f"k{i}" for i in Y]})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=groups)
    found = source(tmp_path / "d.parquet")
    shards = list(found.shards(3, None, {}))
    np.testing.assert_array_equal(np.concatenate([one.x for one in shards]), X)
    assert [one.keys for one in shards] == [["k0", "k1", "k2"], ["k3", "k4", "k5"], ["k6"]]
    rows = TableRows(tmp_path / "d.parquet", ("y",))
    for first, count in ((4, 2), (6, 1), (1, 3)):
        np.testing.assert_array_equal(rows.read(first, count)["y"], Y[first : first + count])
    rows.close()


BAD_COLUMNS = [
    ("pictures", pa.array([b"png"] * 7), r"holds binary.*Decode pictures in a tf.data.Dataset"),
    ("ragged", pa.array([[1.0] * (1 + i % 2) for i in range(7)]), "lists of different lengths, 1 to 2"),
    ("ragged later", pa.array([[1.0]] * 64 + [[1.0, 2.0]] * 6), r"rows of different shapes, \(1,\) and \(2,\)"),
    ("empty cells", pa.array([None, *([[1.0]] * 6)]), "has empty cells"),
    ("no numbers", pa.array([None, *([1.0] * 6)]), "has empty cells"),
]


@pytest.mark.parametrize(("column", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD_COLUMNS])
def test_a_bad_column_is_named(tmp_path: Path, column: Any, message: str) -> None:
    pq.write_table(pa.table({"x": column, "y": np.arange(len(column))}), tmp_path / "d.parquet")
    with pytest.raises(BadFile, match=message):
        together(source(tmp_path / "d.parquet"))


# What follows the rows, the footer, has no checksum in the format.
@pytest.mark.parametrize("place", [0.2, 0.4, 0.6])
def test_a_damaged_table_is_named(tmp_path: Path, place: float) -> None:
    path = tmp_path / "d.parquet"
    x = np.random.default_rng(0).normal(size=(500, 6))
    pq.write_table(
        pa.table({"x": x.tolist(), "y": np.arange(500)}), path, write_page_checksum=True, use_dictionary=False
    )
    flip(path, place)
    with pytest.raises(BadFile, match=r"d\.parquet' .*damaged"):
        source(path)


BAD_PATHS = [
    ("nothing", "does not exist, and names no files as a pattern"),
    (".", "has no .npz and no .parquet files"),
    ("d.csv", r"must be an .npz file or a Parquet table \(.parquet\)"),
    ("**/same.npz", "files of the same name in several folders"),
]


@pytest.mark.parametrize(("name", "message"), BAD_PATHS)
def test_a_path_that_names_no_data_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "d.csv").write_text("1,2")
    for inner in ("one", "two"):
        (tmp_path / inner).mkdir()
        np.savez(tmp_path / inner / "same.npz", x=X, y=Y)
    with pytest.raises(BadFile, match=message):
        find_files(tmp_path / name)
