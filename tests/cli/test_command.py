"""The command line: exit codes, what goes to stdout and what to stderr, and one clear line for every mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import fdfast
from fdfast.cli import command as cli
from fdfast.cli.arguments import root

# Keras, on NumPy 2, where it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


SHAPE = (6, 6, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small model, and data of every kind: m.keras, d.npz."""
    path = tmp_path_factory.mktemp("cli")
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(2, 3, activation="tanh"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input(SHAPE), *layers, keras.layers.Dense(3, activation="softmax")])
    model.compile(loss="categorical_crossentropy")
    model.save(path / "m.keras")
    code = [keras.layers.Flatten(), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(3)]
    lambdas = keras.Sequential([keras.Input(SHAPE), *code])
    lambdas.compile(loss="mean_squared_error")
    lambdas.save(path / "lambda.keras")
    lambdas.save(path / "lambda.h5")
    model.save(path / "m.h5")
    model.export(path / "saved", verbose=False)
    scaling = keras.Sequential([keras.Input(SHAPE), keras.layers.Rescaling(1 / 255, name="to_one"), *model.layers])
    scaling.compile(loss="categorical_crossentropy")
    scaling.save(path / "scaling.keras")
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 1])
    pixels = rng.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    x = (pixels / 255).astype(np.float32)
    arrays = {"x": x, "y": np.eye(3)[labels], "pixels": pixels, "labels": labels}
    arrays |= {
        "wide": np.zeros((4, 7, 7, 1)),
        "dark": np.full((4, *SHAPE), np.nan),
        "integers": np.ones((4, *SHAPE), int),
    }
    np.savez(path / "d.npz", **arrays)
    np.savez(path / "one.npz", x=x[0], y=np.eye(3)[0])
    np.savez(path / "pickle.npz", x=np.array([{}] * 4, object), y=np.zeros(4))
    (path / "text.npz").write_text("hello")
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    return code, *capfd.readouterr()


CHECKS = [
    ("", 0, "m, d.npz, example 0, 6x6x1, 36 tiles of 1x1x1"),
    ("--index 2", 0, "example 2,"),
    ("--order 2", 0, "first and second order right"),
    ("--index -1", 0, "example 3,"),
    ("--index 1:3", 0, "examples 1 to 2, each 6x6x1"),
    ("--index all --tile 3", 0, "all 4 examples, each 6x6x1, 16 tiles of 3x3x1"),
    ("--tile 2,3", 0, "6 tiles of 2x3x1"),
    ("--tile 3 --channels together", 0, "4 tiles of 3x3x1"),
    ("--step 1e-4 --tile 3", 0, "step 0.0001"),
    ("--engine batch --precision float64 --tile 3", 0, "batch engine in float64"),
    ("--loss mean_squared_error --tile 3", 0, "PASS"),
    ("--y-key labels --loss sparse_categorical_crossentropy --tile 3", 0, "PASS"),
    ("--x-key pixels --tile 3", 0, "PASS"),
    ("--x-key pixels --no-scale --step 0.01 --tile 3", (0, 2), "fdfast: "),
    ("--wrt weights", 0, "weights of "),
    ("--wrt all", 0, "elements in 5 arrays"),
    ("--check directions", 0, "by 2 random directions"),
    ("--check every --bounds 0,1 --selftest", 0, "planted"),
    ("--no-jitter --seed 3 --rtol 1e-3 --coverage 0.5 --tile 3", 0, "asked: 50 %"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("options", "code", "said"), CHECKS)
def test_check(capfd: Any, options: str, code: Any, said: str) -> None:
    got, out, err = run(capfd, "check", "m.keras", "d.npz", *options.split())
    assert got in (code if isinstance(code, tuple) else (code,))
    assert said.replace("m, ", "", 1) in out
    assert err == "" or (err.startswith("fdfast: x is uint8: ") and len(err.splitlines()) == 1)


@pytest.mark.parametrize("line", ["check m d", "attack m d --epsilon 1", "bench m d", "sweep m d --out o"])
def test_a_model_is_a_path_in_every_command(line: str) -> None:
    found: list[Any] = []
    root(lambda _, arguments: found.append(arguments.model) or 0).main(line.split(), standalone_mode=False)
    assert found == [Path("m")]


@pytest.mark.usefixtures("here")
def test_pixels_are_not_scaled_twice(capfd: Any) -> None:
    code, out, err = run(capfd, "check", "scaling.keras", "d.npz", "--x-key", "pixels", "--tile", "3", "--json", "-")
    assert (code, json.loads(out)["verdict"]) == (0, "pass")
    assert err.splitlines() == [
        "fdfast: the model scales pixels itself, in to_one",
        "fdfast: x is uint8: taken as floats 0 .. 255, not scaled",
    ]


@pytest.mark.usefixtures("here")
def test_a_single_example_in_a_file(capfd: Any) -> None:
    code, out, _ = run(capfd, "check", "m.keras", "one.npz", "--tile", "3")
    assert (code, "one.npz, 6x6x1, 4 tiles" in out) == (0, True)


# No error bar is as narrow as a tolerance of 0: nothing is resolved, nothing is called wrong.
HOPELESS = ("--rtol", "0")


@pytest.mark.usefixtures("here")
def test_inconclusive_is_2(capfd: Any) -> None:
    code, out, _ = run(capfd, "check", "m.keras", "d.npz", "--tile", "3", *HOPELESS)
    assert (code, "INCONCLUSIVE" in out) == (2, True)


@pytest.mark.usefixtures("here")
def test_fail_is_1(capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    true = fdfast.gradcheck

    def planted(model: Any, x: Any, y: Any, **options: Any) -> Any:
        analytic = fdfast.gradient(model, x, y=y)
        analytic[2, 3] *= 1.01
        return true(model, x, y, analytic=analytic, **options)

    monkeypatch.setattr("fdfast.check.gradcheck", planted)
    code, out, _ = run(capfd, "check", "m.keras", "d.npz")
    assert (code, "FAIL" in out, "(2, 3, 0)" in out) == (1, True, True)


MISTAKES = [
    ("fly", "No such command 'fly'"),
    ("check", "Missing argument 'MODEL' (see fdfast check --help)"),
    ("check m.keras d.npz --fast", "No such option"),
    ("check m.keras d.npz --tile x", "'--tile': 'x' is no size of a tile"),
    ("check m.keras d.npz --step x", "'--step': 'x' is no step"),
    ("check m.keras d.npz --precision float8", "'--precision': 'float8' is not one of 'auto', 'float32', 'float64'"),
    ("check m.keras d.npz --bounds 1", "'--bounds': '1' is no pair of bounds LOW,HIGH"),
    ("check m.keras d.npz --bounds 0.9,1", "lies outside the bounds (0.9, 1.0)"),
    ("check m.keras d.npz --selftest --check directions", "leave it out, or check x by itself"),
    ("check m.keras d.npz --import no_such_module", "--import no_such_module: No module named 'no_such_module'"),
    ("check lambda.h5 d.npz", "MODEL 'lambda.h5' cannot be loaded: it holds a Lambda layer"),
    ("check saved d.npz", "which knows no loss: name one by --loss"),
    ("check m.keras d.npz --order 3", "'--order': '3' is no order, 1 or 2"),
    ("check m.keras d.npz --step 0", "h must be positive and finite"),
    ("check m.keras d.npz --step 1e-30 --engine batch", "vanishes"),
    ("check m.keras d.npz --tile 0", "must be between 1 and 6"),
    ("check m.keras d.npz --tile 7", "must be between 1 and 6"),
    ("check m.keras d.npz --tile 1,2,3,4", "needs 2 (spatial axes) or 3 (all axes)"),
    ("check m.keras d.npz --engine magic", "'--engine': 'magic' is not one of"),
    ("check m.keras d.npz --loss magic", "'magic' is not the name of a Keras loss"),
    ("check m.keras d.npz --rtol -1", "rtol must be between"),
    ("check m.keras d.npz --coverage 2", "coverage must be between"),
    ("check m.keras d.npz --index 4", "--index 4 is out of range: there are 4 examples, 0 to 3"),
    ("check m.keras d.npz --x-key z", "has no array 'z'; it has x, y"),
    ("check m.keras d.npz --y-key labels", "class numbers go with 'sparse_categorical_crossentropy'"),
    ("check m.keras d.npz --x-key wide", "x has shape (7, 7, 1) per example"),
    ("check m.keras d.npz --x-key dark", "x must be finite"),
    ("check m.keras d.npz --x-key integers", "integers cannot move by a small step"),
    ("check m.keras d.npz --out d.npz", "'--out': Directory 'd.npz' is a file"),
    ("check m.keras d.npz --json no/where.json --tile 6", "no/where.json: No such file or directory"),
    ("check m.keras nope.npz", "DATA 'nope.npz' cannot be read: No such file"),
    ("check m.keras text.npz", "DATA 'text.npz' is no .npz file"),
    ("check m.keras pickle.npz", "array 'x' holds pickled Python objects"),
    ("check nope.keras d.npz", "MODEL 'nope.keras' does not exist"),
    ("check d.npz d.npz", "MODEL 'd.npz' must be a .keras or .h5 file"),
    ("check lambda.keras d.npz", "MODEL 'lambda.keras' cannot be loaded: it holds a Lambda layer"),
    ("attack m.keras d.npz --out a.npz", "Missing option '--epsilon'"),
    ("attack m.keras d.npz --epsilon 1", "attack needs --out NPZ for the adversarial examples, or --diagnose"),
    ("attack m.keras d.npz --epsilon 1 --diagnose --out a.npz", "--diagnose writes no adversarial examples"),
    ("attack m.keras d.npz --epsilon 1 --out a.npz --pictures d.npz", "'--pictures': Directory 'd.npz' is a file"),
    ("attack m.keras d.npz --epsilon 1 --out a.npz --step no", "'no' is no step"),
    ("attack m.keras d.npz --epsilon -1 --out a.npz", "epsilon must be finite and greater than 0, got -1"),
    ("attack m.keras d.npz --epsilon 1 --out no/a.npz", "--out no/a.npz must be a file in a folder that exists"),
    ("attack m.keras d.npz --epsilon 1 --out a.npz --bounds 1", "'1' is no pair of bounds"),
    ("attack m.keras d.npz --epsilon 1 --out a.npz --bounds 0,0.1", "lies outside the bounds (0, 0.1)"),
    ("bench m.keras", "bench needs MODEL and DATA, or neither"),
    ("demo --digits x", "'--digits': 'x' is no list of digits"),
    ("demo --digits 10", "--digits: there is no (further) 10"),
    ("demo --count 0", "--count must be between 1 and 1000, got 0"),
    ("demo --epsilon nan", "epsilon must be finite"),
    ("demo --data nope.npz", "nope.npz does not exist, and fdfast never downloads"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[m[0] or "nothing" for m in MISTAKES])
def test_a_mistake_is_3_and_one_line_on_stderr(capfd: Any, line: str, message: str) -> None:
    code, out, err = run(capfd, *line.split())
    assert (code, out) == (3, "")
    assert err.startswith("fdfast: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("a.npz").exists()


@pytest.mark.usefixtures("here")
def test_debug_shows_the_traceback(capfd: Any) -> None:
    with pytest.raises(ValueError, match="out of range"):
        run(capfd, "check", "m.keras", "d.npz", "--index", "9", "--debug")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "fdfast: interrupted\n"),
        (MemoryError("no room"), 3, "fdfast: error: MemoryError: no room (--debug shows where)\n"),
        (
            ZeroDivisionError("a bug\nof ours"),
            3,
            "fdfast: error: ZeroDivisionError: a bug of ours (--debug shows where)\n",
        ),
    ],
)
def test_an_exception_is_never_a_verdict(
    capfd: Any, monkeypatch: Any, error: BaseException, code: int, said: str
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("fdfast.check.gradcheck", explode)
    assert run(capfd, "check", "m.keras", "d.npz") == (code, "", said)


@pytest.mark.usefixtures("here")
def test_json_to_stdout_is_all_there_is(capfd: Any) -> None:
    code, out, err = run(capfd, "check", "m.keras", "d.npz", "--x-key", "pixels", "--tile", "3", "--json", "-")
    found = json.loads(out)
    assert (code, found["verdict"], found["counts"]["agree"]) == (0, "pass", 4)
    assert err == "fdfast: x is uint8: scaled by 1/255 to [0, 1]\n"


@pytest.mark.usefixtures("here")
def test_files_are_written_and_named(capfd: Any, tmp_path: Path) -> None:
    out, file = tmp_path / "new" / "report", tmp_path / "r.json"
    options = ("--out", str(out), "--json", str(file), "--tile", "3")
    code, said, _ = run(capfd, "check", "m.keras", "d.npz", *options)
    assert code == 0
    assert sorted(os.listdir(out)) == ["check.png", "report.html", "report.json"]
    assert (out / "check.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(file.read_text()) == json.loads((out / "report.json").read_text())
    for name in ("report.json", "report.html", "check.png"):
        assert str(out / name) in said


@pytest.mark.usefixtures("here")
def test_quiet_says_nothing_but_the_exit_code(capfd: Any) -> None:
    line = ("check", "m.keras", "d.npz", "--x-key", "pixels", "--tile", "3", "--quiet")
    assert run(capfd, *line) == (0, "", "")
    assert run(capfd, *line, *HOPELESS) == (2, "", "")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
def test_attack_writes_examples_that_check_reads(capfd: Any, tmp_path: Path, gradient: str) -> None:
    path = tmp_path / "adversarial"  # without a suffix: the name is kept
    options = ("--epsilon", "0.1", "--out", str(path), "--gradient", gradient)
    code, out, err = run(capfd, "attack", "m.keras", "d.npz", *options)
    assert (code, err) == (0, "")
    assert "of 4 examples" in out
    assert "robust" in out
    with np.load(path) as stored, np.load("d.npz") as given:
        np.testing.assert_array_equal(stored["x_clean"], given["x"])
        np.testing.assert_array_equal(stored["y"], given["y"])
        assert np.abs(stored["x"] - given["x"]).max() == pytest.approx(0.1, abs=1e-6)  # float32
    assert run(capfd, "check", "m.keras", str(path), "--tile", "3")[0] == 0


@pytest.mark.usefixtures("here")
def test_attack_on_one_example_and_on_unscaled_pixels(capfd: Any, tmp_path: Path) -> None:
    options = ("--out", str(tmp_path / "a.npz"), "--tile", "6", "--index", "0", "--x-key", "pixels", "--no-scale")
    code, out, _ = run(capfd, "attack", "m.keras", "d.npz", "--epsilon", "3", "--bounds", "none", *options)
    assert (code, "on 1 of 1 example" in out or "on 0 of 1 example" in out) == (0, True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_attack_tells_accuracies_draws_and_writes_json(capfd: Any, tmp_path: Path, method: str) -> None:
    options = ("--method", method, "--steps", "3", "--gradient", "autodiff", "--pictures", str(tmp_path / "p"))
    line = ("attack", "m.keras", "d.npz", "--epsilon", "0.3", "--out", str(tmp_path / "a.npz"), *options)
    code, out, _ = run(capfd, *line)
    assert code == 0
    assert "accuracy clean" in out
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [f"attack-{i}.png" for i in range(3)]
    code, out, _ = run(capfd, *line, "--json", "-")
    told = json.loads(out)
    assert told["settings"]["attack"] == method.upper()
    assert told["robust_accuracy"] <= told["clean_accuracy"]


@pytest.mark.usefixtures("here")
def test_diagnose_says_which_gradient_to_trust(capfd: Any, tmp_path: Path) -> None:
    line = ("attack", "m.keras", "d.npz", "--epsilon", "0.1", "--diagnose", "--pictures", str(tmp_path / "p"))
    code, out, _ = run(capfd, *line)
    assert code == 0
    assert re.match(r"FAITHFUL  sequential\w*, d.npz, 4 examples, epsilon 0.1", out)
    assert json.loads((tmp_path / "p" / "masking.json").read_text())["verdict"] == "faithful"
    assert {path.name for path in (tmp_path / "p").iterdir()} == {f"masking.{kind}" for kind in ("json", "html", "png")}


@pytest.mark.usefixtures("here")
def test_bench_on_a_model(capfd: Any) -> None:
    code, out, _ = run(capfd, "bench", "m.keras", "d.npz", "--tile", "3")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.startswith(("  difference", "  batch"))]
    assert [tuple(row[:2]) for row in rows[:2]] == [("difference", "float32"), ("difference", "float64")]
    assert {row[2] for row in rows[2:]} == {"16", "64", "256"}
    assert "10,000: " in out
    assert "make bench" in out


@pytest.mark.parametrize(
    "line",
    ["", "--version", "--help", "-h", "check --help", "demo -h", "attack --help", "bench --help", "completion --help"],
)
def test_help_is_0_and_on_stdout(capfd: Any, line: str) -> None:
    code, out, err = run(capfd, *line.split())
    assert (code, err) == (0, "")
    assert "fdfast" in out


def fdfast_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fdfast", *arguments], capture_output=True, text=True, check=False, **options
    )


def test_help_needs_no_tensorflow() -> None:
    code = "import sys; from fdfast.cli import main; main(['check', '--help']); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_process_says_the_report_and_nothing_of_tensorflow(here: Path) -> None:
    silent = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = fdfast_process("check", "m.keras", "d.npz", "--tile", "3", cwd=here, env=silent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fdfast: PASS")


def test_a_closed_pipe_is_no_traceback() -> None:
    code = (
        "import sys; from fdfast.cli import command as cli, timing; "
        "timing.bench = lambda _: print('x' * 200_000) or 'done'; "
        "sys.exit(cli.main(['bench']))"
    )
    line = '"$0" -c "$1" | true; exit ${PIPESTATUS[0]}'
    shell = ["bash", "-c", line, sys.executable, code]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
