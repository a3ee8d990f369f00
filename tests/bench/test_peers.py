"""The comparison with other tools; none of those tools is needed."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from bench.peers import __main__ as command
from bench.peers import page, registry, sections, w1
from bench.peers.registry import PEERS, Ready, check_port, fastest, keras_model, peer, problem
from fdfast.moves import make_tiling

FOLDER = Path(registry.__file__).parent
PEER_MODULES = {"torch", "jax", "art", "foolbox", "eagerpy", "numdifftools"}


def test_peers_are_registered_once():
    peer("x", "one")(lambda *_: None)
    try:
        with pytest.raises(ValueError, match="'one' is already registered"):
            peer("x", "one")(lambda *_: None)
    finally:
        del PEERS["x", "one"]


def test_only_what_needs_a_peer_imports_it():
    """Module level imports: `make bench` has none of the peers, and a family that is missing takes no other away."""
    allowed = {"torch_peers.py": {"torch"}, "jax_peers.py": {"jax"}}
    for file in FOLDER.glob("*.py"):
        tree = ast.parse(file.read_text())
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        found = {name.partition(".")[0] for name in imported} & PEER_MODULES
        assert found <= allowed.get(file.name, set()), f"{file.name} imports {found} at module level"
        assert not {f"bench.peers.{name[:-3]}" for name in allowed} & imported or file.name in allowed


def test_requirements_are_pinned():
    lines = (FOLDER.parents[1] / "requirements" / "peers.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


def test_every_process_has_a_module():
    assert command.PLAN["loops-float32"] == ("bench.peers.w1", "loops", "float32")
    assert command.PLAN["large"] == ("bench.peers.sections", "large")
    assert "SciPy-float32" not in command.PLAN


def test_where_the_loss_is_smooth_the_two_slopes_are_the_same():
    """Brute force in float64, on all pixels: right and left slopes at the step that is usual there."""
    p, h = problem(), 2.0**-17
    assert p.smooth.sum() == 229
    moved = np.concatenate([p.x + side * h * np.eye(784).reshape(-1, 28, 28, 1) for side in (1, -1)] + [p.x[None]])
    losses = -np.log(keras_model("float64")(moved, training=False).numpy()[:, np.argmax(p.target)])
    right, left = (losses[:784] - losses[-1]) / h, (losses[-1] - losses[784:-1]) / h
    size = np.maximum(np.abs(right), np.abs(left))
    # Curvature makes 2h |f''| of it, and rounding 1e-16 / h.
    assert (np.abs(right - left) <= 1e-3 * size + 1e-9)[p.smooth].all()
    assert np.abs(right - p.truth)[p.smooth].max() < 1e-4


def test_a_port_that_is_another_function_is_refused():
    check_port([0.5, 0.5], [0.5, 0.5 + 1e-7])
    with pytest.raises(RuntimeError, match=r"another function: probabilities differ by 1e-05"):
        check_port([0.5, 0.5], [0.5, 0.50001])
    with pytest.raises(RuntimeError, match="another function"):
        check_port([np.nan], [0.5])


def test_chunks_end_at_all_rows():
    built = []

    def build(moves, chunk):
        built.append(chunk)
        return lambda x, target, h: np.zeros(len(moves))

    losses, chunk = fastest(build, np.zeros((40, 1)), np.zeros(1, "float32"), np.zeros(1), (16, 64, 128))
    assert sorted(built) == [16, 40]
    assert chunk in built
    assert len(losses(0, 0, 0)) == 40


def measured(make, kind="estimator"):
    return w1.measure(make, kind, "float64", problem(), budget=0.0)


def test_a_peer_that_finds_the_gradient():
    at = {problem().x.tobytes(): problem().truth, problem().near.tobytes(): problem().near_truth}
    found = measured(lambda *_: Ready(lambda x: at[x.tobytes()], "by heart"))
    assert found["errors"] == [0.0, 0.0]
    assert found["accuses"] == [False, False]
    assert found["setting"] == "by heart"
    assert len(found["seconds"]) == len(found["ratios"]) >= 2


def test_a_peer_that_is_off_calls_the_correct_gradient_wrong():
    found = measured(lambda *_: Ready(lambda x: 1.1 * problem().truth, ""))
    np.testing.assert_allclose(found["errors"], [0.1, 0.1], rtol=1e-12)
    assert found["accuses"] == [True, True]


def test_the_time_of_a_sample_is_extrapolated_and_no_verdict_comes_of_it():
    pixels = np.arange(0, 784, 14)
    found = measured(lambda *_: Ready(lambda x: problem().truth[pixels], "", pixels=pixels))
    assert found["pixels"] == 56
    assert found["errors"] == [0.0, 0.0]
    assert found["accuses"] == []


def test_a_checker_speaks_for_itself():
    found = measured(lambda *_: Ready(lambda x: None, "", lambda x: x is problem().near), "checker")
    assert found["accuses"] == [False, True]
    assert found["errors"] == []


def test_a_peer_that_is_not_installed_says_so():
    def make(problem, precision):
        import no_such_module  # noqa: F401

    assert measured(make) == {"missing": "ModuleNotFoundError: No module named 'no_such_module'"}


def test_a_cell_is_beside_fdfast_and_of_all_tiles(monkeypatch):
    took = {"fdfast float32": 2.0, "JAX float32": 3.0}
    calls = [sections.Call("fdfast", "float32", lambda: 0, 0.5), sections.Call("JAX", "float32", lambda: 0, 4.0, 1e-9)]
    monkeypatch.setattr(
        sections, "side_by_side", lambda calls, *_, **__: {name: page.Spread([took[name]] * 3) for name in calls}
    )
    ours, theirs = sections.cell("W4", "a", 96, calls)
    assert ours["seconds"] == [1.0] * 3
    assert theirs["seconds"] == [12.0] * 3
    assert theirs["ratios"] == [12.0] * 3
    assert (theirs["by"], theirs["error"], theirs["n"]) == ("JAX", 1e-9, 96)
    json.dumps([ours, theirs])


def test_rows_by_hand_of_some_tiles():
    """A loss that is linear in x: the quotients are the sums of its gradient, but for rounding."""
    g = np.random.default_rng(0).random((6, 6, 1))

    def build(moves, chunk):
        return lambda x, y, h: ((x + h * moves) * g).sum(axis=(1, 2, 3))

    tiling = make_tiling(g.shape, 2)
    calls = sections.theirs({"me": build}, tiling, np.zeros(g.shape), 0, tiling.sums(g), (4,), sample=3)
    assert [call.by for call in calls] == ["me"]
    assert calls[0].scale == 3.0
    assert calls[0].error < 1e-9


def test_batch_norm_is_folded_away():
    layers = keras.layers
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(6.0)]
    body += [layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()]
    x = inputs = keras.Input((12, 12, 3))
    for layer in (*body, layers.Dense(5, activation="softmax")):
        x = layer(x)
    model = keras.Model(inputs, x)
    for norm in (one for one in model.layers if isinstance(one, layers.BatchNormalization)):
        norm.set_weights([np.random.default_rng(k).uniform(0.5, 2, w.shape) for k, w in enumerate(norm.get_weights())])
    twin = sections.folded(model)  # which compares probabilities itself
    assert not any(isinstance(one, layers.BatchNormalization) for one in twin.layers)


def result(name, seconds, **more):
    head = {"name": name, "family": "JAX", "precision": "float64", "kind": "estimator", "setting": "64 rows at a time"}
    times = {"seconds": [seconds, 3 * seconds, 2 * seconds], "ratios": [5.0, 6.0, 7.0], "pixels": 784}
    return head | times | {"errors": [1e-9, 1e-7], "accuses": [True, False]} | more


def cell(section, by, n, ratio=1.0, precision="float64"):
    times = {"seconds": [n / 100] * 3, "ratios": [ratio] * 3}
    return {"section": section, "case": f"case {n}", "n": n, "by": by, "precision": precision, "error": 1e-9} | times


def results():
    w1_rows = [
        result("jax", 0.05),
        result("loop", 20.0, pixels=56, accuses=[]),
        result("fast check", 0.001, errors=[], accuses=[True, True]),
        {"name": "gone", "family": "JAX", "precision": "float32", "kind": "checker", "missing": "not installed"},
    ]
    cells = [cell(s, by, n) for s in ("W2", "W3", "images", "side", "depth") for by in ("fdfast",) for n in (16, 64)]
    cells += [cell("W3", "TensorFlow", 16, 3.0), cell("W3", "TensorFlow", 64, 4.0), cell("W2", "autodiff", 16)]
    parts = [{"split": "gradcheck", "part": part, "seconds": 0.001} for part in ("kernels", "autodiff")]
    processes = {"JAX-float64": w1_rows, "small-float64": cells, "split": parts, "large": []}
    return {
        "processes": {name: {"rows": rows, "missing": ""} for name, rows in processes.items()}
        | {"large": {"rows": [], "missing": "stopped after 9 s"}},
        "machine": "abc, 2 cores",
        "minutes": 3.2,
    }


@pytest.mark.parametrize(
    "said",
    [
        "Measured on abc, 2 cores, in 3 minutes.",
        "| jax | float64 | 6 [5.5 .. 6.5] | 100 ms | 1.0e-09 | 1.0e-07 | false alarm, pass | 64 rows at a time |",
        "| loop | float64 | 6 [5.5 .. 6.5] | 40 s* | 1.0e-09 | 1.0e-07 | - |",
        "| fast check | float64 | 6 [5.5 .. 6.5] | 2 ms | - | - | false alarm, false alarm |",
        "- Not measured: gone, float32: not installed.",
        "- Not measured: large: stopped after 9 s.",
        "| W3 | case 64 | float64 | 640 ms [640 ms .. 640 ms] | 1.0e-09 | 4 [4 .. 4] | 1.0e-09 | - | - |",
    ],
)
def test_page_says(said):
    assert said in "".join(page.whole(results(), name) for name in page.PAGES)


def test_the_page_fits_three_screens_and_names_no_autodiff_as_a_peer():
    text = "".join(page.whole(results(), name) for name in page.PAGES)
    assert len(text.splitlines()) < 90  # without the lines of the tables of a whole run
    assert "| W2 | case 16 |" in text
    assert "autodiff |" not in text


def test_slope_is_of_the_last_three_points():
    n = np.array([1.0, 10.0, 100.0, 1000.0])
    assert page.slope(n, [9.0, *(7 * n[1:] ** 1.5)]) == pytest.approx(1.5)
    assert np.isnan(page.slope([1.0], [1.0]))


def test_tiles_grow_over_two_sections():
    cells = results()["processes"]["small-float64"]["rows"]
    assert page.curves(cells, "tiles")["TensorFlow", "float64"] == ([16, 64], [0.16, 0.64])


def test_pictures_are_drawn(tmp_path):
    page.draw(results()["processes"], tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"benchmarks-{n}.png" for n in ("peers", "growth", "split")}


@pytest.mark.parametrize(
    ("body", "rows", "missing"),
    [
        ("open(sys.argv[1], 'w').write('[1]')", [1], ""),
        ("open(sys.argv[1], 'w').write('[1]'); raise ValueError('no such thing')", [1], "ValueError: no such thing"),
        ("raise SystemExit(3)", [], "exit code 3"),
        ("import time; open(sys.argv[1], 'w').write('[2]'); time.sleep(60)", [2], "stopped after 1.5 s"),
    ],
)
def test_a_process_does_its_work_or_says_why_not(tmp_path, monkeypatch, body, rows, missing):
    (tmp_path / "work_of_a_process.py").write_text(f"import sys\n{body}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = tmp_path / "found.json"
    file.write_text("[9]")  # of another run
    limit = 1.5 if "sleep" in body else 60.0
    assert command.run("work_of_a_process", file=file, limit=limit) == {"rows": rows, "missing": missing}


def test_all_processes_have_the_same_threads():
    env = command.environment()
    assert env["OMP_NUM_THREADS"] == env["TF_NUM_INTRAOP_THREADS"] == env["MKL_NUM_THREADS"]
    assert env["MALLOC_TRIM_THRESHOLD_"]  # or PyTorch gives memory back and gets it anew
