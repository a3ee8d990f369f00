"""A sweep gives the rows of an undisturbed run, whatever the data are and whatever happened on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sweeps_small import SHAPE, examples, rows, small_model

import fdfast
from fdfast.files import BadFile
from fdfast.sweeps import DataError, Interrupted, Mismatch, Sweep, sweep

# Keras, on NumPy 2, where it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X, Y = examples()
BATCH = 4


@pytest.fixture(scope="module")
def model() -> Any:
    return small_model()


@pytest.fixture(scope="module")
def undisturbed(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(model, (X, Y), tmp_path_factory.mktemp("undisturbed"), batch=BATCH)


def test_a_row_says_what_the_report_of_its_example_says(model: Any, undisturbed: Sweep) -> None:
    reports = [fdfast.gradcheck(model, X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, len(X), BATCH)]
    each = [report[i] for report in reports for i in range(len(report))]
    assert (len(undisturbed), undisturbed.counts, undisturbed.verdict) == (len(X), {"pass": len(X)}, "pass")
    for i, (row, report) in enumerate(zip(undisturbed, each, strict=True)):
        assert row["index"] == i
        assert {name: row[name] for name in report.counts} == report.counts
        assert {name: row[name] for name in report.metrics} == report.metrics
        assert {name: row[f"smooth_{name}"] for name in report.metrics_smooth} == report.metrics_smooth
        at = tuple(row["worst_index"])
        assert (row["worst_autodiff"], row["worst_finite_difference"]) == (report.analytic[at], report.numeric[at])
        over = np.abs(report.numeric - report.analytic) / (report.error_bar + 1e-4 * np.abs(report.analytic))
        assert row["worst_over_allowed"] == over.max() == over[at]
        assert (row["verdict"], row["coverage"], row["engine"]) == (report.verdict, report.coverage, report.engine)
        assert row["seconds"] > 0


def npz(path: Path) -> Path:
    np.savez(path / "d.npz", x=X, y=Y)
    return path / "d.npz"


def parquet(path: Path) -> Path:
    columns = {"x": X.reshape(len(X), -1).tolist(), "y": Y.tolist()}
    narrow = pa.schema([("x", pa.list_(pa.float32())), ("y", pa.list_(pa.float32()))])
    pq.write_table(pa.table(columns, schema=narrow), path / "d.parquet")
    return path / "d.parquet"


def dataset(_: Path) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y))


DATA = {
    "a dict": lambda _: {"x": X, "y": Y},
    "npz": npz,
    "parquet": parquet,
    "dataset": dataset,
    "generator": lambda _: (pair for pair in zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("kind", DATA)
def test_the_rows_are_the_same_wherever_the_data_lie(model: Any, undisturbed: Sweep, tmp_path: Path, kind: str) -> None:
    found = sweep(model, DATA[kind](tmp_path), tmp_path / "out", batch=BATCH)
    assert rows(found).equals(rows(undisturbed))
    assert rows(Sweep.load(tmp_path / "out")).equals(rows(undisturbed))


class Stop(Exception):
    """What interrupts."""


def stopping(after: int, kind: type[BaseException] = Stop) -> Any:
    def progress(done: int, expected: int | None) -> None:
        assert expected == len(X)
        if done >= after:
            raise kind

    return progress


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
@pytest.mark.parametrize("after", [0, 4, 8, 10])
def test_a_sweep_goes_on_where_it_was_stopped(
    model: Any, undisturbed: Sweep, tmp_path: Path, kind: str, after: int
) -> None:
    data = (X, Y) if kind == "arrays" else dataset(tmp_path)
    with pytest.raises(Stop):
        sweep(model, data, tmp_path, batch=BATCH, progress=stopping(after))
    assert len(list(tmp_path.glob("part-*"))) == -(-after // BATCH)
    assert not Sweep.load(tmp_path).finished
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}
    seen: list[Any] = []
    found = sweep(model, data, tmp_path, batch=BATCH, progress=lambda *done: seen.append(done))
    assert seen[0] == (after, len(X))
    assert seen[-1] == (len(X), len(X))
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())  # nothing was done twice
    assert rows(found).equals(rows(undisturbed))
    assert found.finished


def test_ctrl_c_says_how_far_it_is(model: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"4 of 10 examples are in .*; the same call goes on from there"):
        sweep(model, (X, Y), tmp_path, batch=BATCH, progress=stopping(4, KeyboardInterrupt))


def test_ctrl_c_that_became_another_error_is_one(model: Any, tmp_path: Path) -> None:
    """As Numba makes of it: an error of its own, and the interrupt is gone."""

    def lost(done: int, of: int) -> None:
        if done == 4:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise SystemError("returned a result with an exception set") from None

    known = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted, match=r"4 of 10 examples are in .*; the same call goes on from there"):
            sweep(model, (X, Y), tmp_path, batch=BATCH, progress=lost)
    finally:
        signal.signal(signal.SIGINT, known)


def test_a_limit_may_grow(model: Any, undisturbed: Sweep, tmp_path: Path) -> None:
    assert len(sweep(model, (X, Y), tmp_path, batch=BATCH, limit=6)) == 6
    assert rows(sweep(model, (X, Y), tmp_path, batch=BATCH)).equals(rows(undisturbed))


def test_a_spoilt_part_is_made_again_and_it_is_said(model: Any, undisturbed: Sweep, tmp_path: Path) -> None:
    sweep(model, (X, Y), tmp_path, batch=BATCH)
    part = sorted(tmp_path.glob("part-*"))[1]
    part.write_bytes(part.read_bytes()[:100])
    found = sweep(model, (X, Y), tmp_path, batch=BATCH)
    assert rows(found).equals(rows(undisturbed))
    assert "part-000000004.parquet is damaged" in found.notes[0]


def test_a_damaged_file_is_named_and_done_once_it_is_mended(model: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for i, name in enumerate("abc"):
        np.savez(data / f"{name}.npz", x=X[3 * i : 3 * i + 3], y=Y[3 * i : 3 * i + 3])
    whole = sweep(model, data, tmp_path / "whole", batch=2)
    kept = (data / "b.npz").read_bytes()
    (data / "b.npz").write_bytes(kept[:300] + bytes(40) + kept[340:])
    for _ in range(2):
        with pytest.raises(DataError, match=r"everything but these was done.*: b\.npz: .*damaged"):
            sweep(model, data, tmp_path / "out", batch=2)
        assert Sweep.load(tmp_path / "out").table.column("file").to_pylist() == ["a.npz"] * 3 + ["c.npz"] * 3
    (data / "b.npz").write_bytes(kept)
    found = sweep(model, data, tmp_path / "out", batch=2)
    assert rows(found).equals(rows(whole))
    # A file that was fine, is damaged, and comes back as another one.
    (data / "b.npz").write_bytes(kept[:300])
    with pytest.raises(DataError, match=r"b\.npz"):
        sweep(model, data, tmp_path / "out", batch=2)
    np.savez(data / "b.npz", x=X[:3], y=Y[:3])
    with pytest.raises(Mismatch, match=r"the data, b\.npz, sha256: \w{12} then, \w{12} now"):
        sweep(model, data, tmp_path / "out", batch=2)


KILL = """
import sys, keras, numpy as np
from fdfast.sweeps import sweep
from sweeps_small import examples, small_model
sweep(small_model(), examples(), sys.argv[1], batch=1, progress=lambda done, _: print(done, flush=True))
"""


def test_kill_9_loses_nothing(model: Any, tmp_path: Path) -> None:
    whole = sweep(model, (X, Y), tmp_path / "whole", batch=1)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", KILL, str(tmp_path / "out")], stdout=subprocess.PIPE, env=environment
    ) as run:
        assert run.stdout is not None
        while int(run.stdout.readline()) < 3:
            pass
        time.sleep(np.random.default_rng(os.getpid()).uniform(0, 0.01))
        run.send_signal(signal.SIGKILL)
    done = len(list((tmp_path / "out").glob("part-*")))
    assert done >= 3
    assert rows(sweep(small_model(), (X, Y), tmp_path / "out", batch=1)).equals(rows(whole))


def other_labels() -> tuple[Any, Any]:
    return X, Y[::-1].copy()


MISMATCHES = [
    ("weights", {"model": lambda: small_model(2)}, r"the model, weights: \w{12} then, \w{12} now"),
    ("layers", {"model": lambda: small_model(1, keras.layers.Activation("tanh"))}, "the model, layers: "),
    ("data", {"data": other_labels}, r"the data, sha256: \w{12} then, \w{12} now"),
    (
        "shape",
        {"data": lambda: (X[:8], Y[:8])},
        r"the data, x: float32 \[10, 4, 4, 1\] then, float32 \[8, 4, 4, 1\] now",
    ),
    ("kind", {"data": lambda: list(zip(X, Y, strict=True))}, "the data, kind: arrays then, iterable now"),
    ("option", {"rtol": 1e-3}, "the options, rtol is new"),
    ("loss", {"loss": "mean_squared_error"}, "the options, loss is new"),
    ("batch", {"batch": 3}, "batch, the number of examples of a part: 4 then, 3 now"),
    ("task", {"task": "gradient"}, "the task: gradcheck then, gradient now"),
    ("keep", {"keep": "maps"}, "keep: summary then, maps now"),
]


@pytest.mark.parametrize(("changes", "said"), [pytest.param(*one[1:], id=one[0]) for one in MISMATCHES])
def test_another_sweep_is_refused_with_the_difference(
    model: Any, undisturbed: Sweep, changes: dict[str, Any], said: str
) -> None:
    changed = {"model": lambda: model, "data": lambda: (X, Y), "batch": BATCH, **changes}
    with pytest.raises(Mismatch, match=rf"holds the results of another sweep: {said}.*resume=False"):
        sweep(changed.pop("model")(), changed.pop("data")(), undisturbed.path, **changed)
    assert rows(Sweep.load(undisturbed.path)).equals(rows(undisturbed))


def test_a_sweep_that_wrote_nothing_stands_in_nobodys_way(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        sweep(model, (X, Y[:, 0]), tmp_path, batch=BATCH)
    assert sweep(model, (X, Y), tmp_path, batch=BATCH).counts["pass"] == len(X)


def test_a_model_that_was_built_again_is_the_same(undisturbed: Sweep) -> None:
    # Keras numbers layers through a process: other names, the same model.
    found = sweep(small_model(), (X, Y), undisturbed.path, batch=BATCH)
    assert rows(found).equals(rows(undisturbed))


def test_starting_anew_removes_what_was(model: Any, tmp_path: Path) -> None:
    sweep(model, (X, Y), tmp_path, batch=2)
    found = sweep(model, (X, Y), tmp_path, batch=5, resume=False)
    assert len(found) == len(X)
    assert len(list(tmp_path.glob("part-*"))) == 2


def test_an_example_that_cannot_be_used_has_a_row_that_says_so(model: Any, tmp_path: Path) -> None:
    x = X.copy()
    x[5, 1, 2] = np.nan
    found = sweep(model, (x, Y), tmp_path, batch=BATCH)
    assert found.counts == {"error": 1, "pass": 9}
    (bad,) = found.failures()
    assert (bad["index"], bad["worst_index"]) == (5, None)
    assert "NaN" in bad["reason"] or "finite" in bad["reason"]
    assert found.verdict == "inconclusive"
    assert found.worst(1) == [bad]
    with pytest.raises(ValueError, match="examples 0 to 3 cannot be used: "):  # nobody's data are all like that
        sweep(model, (np.full_like(X, np.nan), Y)[:2], tmp_path / "all", batch=BATCH)


@keras.saving.register_keras_serializable("sweep_tests")
class Wrong(keras.layers.Layer):
    """The identity, whose gradient is wrong where x is large."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        @tf.custom_gradient
        def own(x: Any) -> Any:
            return tf.identity(x), lambda up: tf.where(x > 0.9, 1.5 * up, up)

        return own(x)


def test_wrong_gradients_are_found_where_they_are(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(SHAPE), Wrong(), *small_model().layers])
    model.compile(loss="categorical_crossentropy")
    found = sweep(model, (X, Y), tmp_path, batch=BATCH, keep="maps")
    large = (X > 0.9).reshape(len(X), -1).sum(axis=1)
    assert 0 < np.count_nonzero(large) < len(X)  # or this would show nothing
    assert found.table.column("wrong").to_pylist() == large.tolist()
    assert [row["index"] for row in found.failures()] == np.flatnonzero(large).tolist()
    assert found.verdict == "fail"
    worst = found.worst(1)[0]
    assert X[worst["index"]][tuple(worst["worst_index"])] > 0.9
    with np.load(sorted((tmp_path / "_maps").iterdir())[0]) as maps:
        np.testing.assert_array_equal(maps["index"], range(BATCH))
        np.testing.assert_array_equal(maps["codes"] == 1, X[:BATCH] > 0.9)


def test_what_goes_by_directions_is_checked_one_by_one(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20, 8))
    hidden = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(hidden)))
    model.compile(loss="categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(3, 20, 8)).astype(np.float32)
    found = sweep(model, (x, np.eye(3)), tmp_path, batch=2)
    report = fdfast.gradcheck(model, x[1:2], np.eye(3)[1:2])
    assert report.check == "directions"
    row = list(found)[1]
    assert (row["verdict"], row["total"]) == ("pass", 160)
    assert (row["guarantee_error"], row["guarantee_chance"]) == report.guarantee


def test_gradients_are_kept(model: Any, tmp_path: Path) -> None:
    found = sweep(model, (X, Y), tmp_path, task="gradient", batch=5, keep="maps")
    expected = fdfast.gradient(model, X[5:], y=Y[5:])
    with np.load(tmp_path / "_maps" / "part-000000005.npz") as maps:
        np.testing.assert_array_equal(maps["gradient"], expected)
    assert list(found)[7]["norm_max"] == np.abs(expected[2]).max()
    assert (found.verdict, found.counts) == ("pass", {"done": 10})


def test_attacks_are_swept(model: Any, tmp_path: Path) -> None:
    found = sweep(model, (X, Y), tmp_path, task="attack", batch=5, epsilon=0.3, steps=4, keep="maps")
    expected = [fdfast.attack.pgd(model, X[i : i + 5], Y[i : i + 5], 0.3, steps=4) for i in (0, 5)]
    assert found.table.column("success").to_pylist() == [bool(s) for one in expected for s in one.success]
    assert found.table.column("distance_l2").to_pylist() == [d for one in expected for d in one.distance["l2"]]
    with np.load(tmp_path / "_maps" / "part-000000005.npz") as maps:
        np.testing.assert_array_equal(maps["adversarial"], expected[1].adversarial)
    assert "the attack succeeds on" in str(found)


def test_masking_is_swept(model: Any, tmp_path: Path) -> None:
    found = sweep(model, (X, Y), tmp_path, task="masking", batch=5, epsilon=0.3)
    expected = [fdfast.attack.masking(model, X[i : i + 5], Y[i : i + 5], 0.3).verdicts for i in (0, 5)]
    assert found.table.column("masking").to_pylist() == [str(v) for one in expected for v in one]


def test_checkpoints_have_a_row_each(model: Any, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    for epoch in (2, 10):
        small_model(epoch).save(run / f"epoch-{epoch}.keras")
    small_model(1).save_weights(run / "last.weights.h5")
    before = model.get_weights()
    found = sweep(model, (X, Y), out, checkpoints=run, batch=5)
    assert found.table.column("checkpoint").to_pylist() == ["epoch-2"] * 10 + ["epoch-10"] * 10 + ["last"] * 10
    alone = sweep(small_model(10), (X, Y), tmp_path / "alone", batch=5)
    assert rows(found).slice(10, 10).drop(["checkpoint"]).equals(rows(alone).drop(["checkpoint"]))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    small_model(11).save(run / "epoch-11.keras")  # the training went on
    seen: list[int] = []
    assert len(sweep(model, (X, Y), out, checkpoints=run, batch=5, progress=lambda done, _: seen.append(done))) == 40
    assert seen == [10, 10, 0, 5, 10, 10]
    (run / "epoch-12.keras").write_bytes(b"half")
    with pytest.raises(DataError, match=r"everything but these was done.*epoch-12\.keras"):
        sweep(model, (X, Y), out, checkpoints=run, batch=5)


BAD = [
    ("a callable", {"model": lambda x: x}, TypeError, r"loop over fdfast.gradcheck\(f, x\)"),
    ("no such file", {"model": "m.keras"}, BadFile, "does not exist"),
    ("progress", {"label": "x"}, TypeError, "label cannot be given to a sweep: a row has its own"),
    ("analytic", {"analytic": X}, TypeError, "a gradient of your own belongs to one point"),
    ("wrt", {"wrt": "weights"}, ValueError, "the gradient by the weights is that of all examples together"),
    ("task", {"task": "train"}, ValueError, "task"),
    ("epsilon", {"task": "attack"}, TypeError, "task='attack' needs epsilon="),
    (
        "targeted",
        {"task": "attack", "epsilon": 0.1, "targeted": True},
        TypeError,
        "targeted cannot be given to a sweep",
    ),
    ("batch", {"batch": 0}, ValueError, "batch must be a whole number of at least 1, got 0"),
    ("limit", {"limit": True}, ValueError, "limit must be a whole number"),
    ("bounds", {"bounds": object()}, TypeError, "bounds must be a number, a string"),
    ("import", {"imports": ["no_such_module"]}, BadFile, "--import no_such_module"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD])
def test_what_cannot_be_asked_is_named(
    model: Any, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        sweep(**{"model": model, "data": (X, Y), "out": tmp_path / "out", **changes})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_left_alone(model: Any, tmp_path: Path) -> None:
    (tmp_path / "part-1.parquet").write_bytes(b"theirs")
    with pytest.raises(ValueError, match="without a manifest, which are not ours to touch"):
        sweep(model, (X, Y), tmp_path)
    with pytest.raises(ValueError, match="holds no sweep"):
        Sweep.load(tmp_path)
