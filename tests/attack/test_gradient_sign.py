"""FGSM: the step it takes, the limits it keeps, and both gradients against each other."""

from __future__ import annotations

import doctest
from typing import Any

import keras
import numpy as np
import pytest

import fdfast
from fdfast.attack import gradient_sign as attack
from fdfast.attack.gradient_sign import fgsm
from fdfast.data import datasets

EPSILON = 0.1
# One rounding of x + epsilon and one of the result, both below 1 in float32.
ROUNDING = 2 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def model() -> Any:
    return datasets.mnist_cnn()


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    x, labels = datasets.mnist_sample(5)
    return x[2:], np.eye(10)[labels[2:]]


@pytest.fixture
def line() -> Any:
    """Return model(x) = x[0] - x[1]; mean squared error against 0 has the gradient 2 (x[0] - x[1]) (1, -1)."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]])])
    model.compile(loss="mean_squared_error")
    return model


def losses(model: Any, x: Any, y: Any) -> Any:
    return np.asarray(keras.losses.categorical_crossentropy(y, model(x, training=False)))


@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
@pytest.mark.parametrize("tile", [1, 4])
def test_an_adversarial_example_raises_the_loss_within_its_limits(
    model: Any, digits: tuple[Any, Any], gradient: Any, tile: int
) -> None:
    x, y = digits
    moved = fgsm(model, x, y, EPSILON, gradient=gradient, tile=tile)
    assert (moved.shape, moved.dtype) == (x.shape, x.dtype)
    assert np.abs(moved - x).max() <= EPSILON + ROUNDING
    assert moved.min() >= 0
    assert moved.max() <= 1
    # Tenfold is far from chance: uniform noise of this size changes these losses by less than a half.
    assert (losses(model, moved, y) > 10 * losses(model, x, y)).all()


def test_an_epsilon_that_leads_uphill_is_not_one_that_leads_downhill(model: Any, digits: tuple[Any, Any]) -> None:
    x, y = digits
    moved = fgsm(model, x, y, EPSILON, gradient="autodiff")
    mirrored = np.clip(2 * x - moved, 0, 1)
    assert (losses(model, mirrored, y) < losses(model, moved, y) / 10).all()


def test_both_gradients_agree_in_sign_where_the_loss_is_smooth(model: Any, digits: tuple[Any, Any]) -> None:
    x, y = digits[0][0], digits[1][0]
    report = fdfast.gradcheck(model, x, y)
    smooth = ~report.near & (report.classes == "agree")
    signs = [
        np.sign(fgsm(model, x, y, EPSILON, gradient=kind, bounds=None) - x)
        for kind in ("finite-difference", "autodiff")
    ]
    assert smooth.sum() > 200
    assert np.mean(signs[0][smooth] == signs[1][smooth]) > 0.99


def test_a_batch_is_its_examples_one_by_one(model: Any, digits: tuple[Any, Any]) -> None:
    x, y = digits
    together = fgsm(model, x, y, EPSILON, tile=7)
    alone = [fgsm(model, x[i], y[i], EPSILON, tile=7) for i in range(len(x))]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
def test_a_tile_moves_as_one(model: Any, digits: tuple[Any, Any], gradient: Any) -> None:
    x, y = digits
    moved = fgsm(model, x[0], y[0], EPSILON, tile=(7, 14), bounds=None, gradient=gradient) - x[0]
    tiles = np.sign(moved).reshape(4, 7, 2, 14)
    assert (tiles.min(axis=(1, 3)) == tiles.max(axis=(1, 3))).all()


@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
@pytest.mark.parametrize(("channels", "signs"), [("apart", [1, -1, 1]), ("together", [-1, -1, -1])])
def test_each_channel_has_a_sign_of_its_own(gradient: Any, channels: Any, signs: list[int]) -> None:
    model = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Conv2D(1, 2, use_bias=False), keras.layers.Flatten()]
    )
    model.layers[0].kernel.assign(np.broadcast_to(np.reshape([1.0, -3.0, 1.0], (3, 1)), (2, 2, 3, 1)))
    x = np.full((2, 2, 3), 0.5)
    moved = fgsm(model, x, [-9.0], EPSILON, loss="mean_absolute_error", gradient=gradient, channels=channels) - x
    np.testing.assert_array_equal(np.sign(moved), np.broadcast_to(signs, (2, 2, 3)))


@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (None, [1.05, -0.05]),
        ((0, 1), [1.0, 0.0]),
        ((-1, 0.97), [0.97, -0.05]),
        ((0.02, 2.0), [1.05, 0.02]),
    ],
)
def test_the_step_is_epsilon_along_the_sign_then_clipped(
    line: Any, gradient: Any, bounds: Any, expected: list[float]
) -> None:
    moved = fgsm(line, np.array([0.95, 0.05]), [0.0], EPSILON, bounds=bounds, gradient=gradient)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_the_dtype_is_the_caller_s(line: Any, dtype: str) -> None:
    moved = fgsm(line, np.array([0.5, 0.25], dtype), [0.0], EPSILON)
    assert moved.dtype == np.dtype(dtype)
    # Half a unit in the last place of float16 below 1.
    np.testing.assert_allclose(moved.astype(float), [0.6, 0.15], atol=2.0**-11)


def test_zero_gradient_moves_nothing(line: Any) -> None:
    flat = np.array([0.5, 0.5])
    np.testing.assert_array_equal(fgsm(line, flat, [0.0], EPSILON, gradient="autodiff"), flat)


def test_progress_and_max_rows_reach_the_engine(line: Any) -> None:
    seen: list[tuple[int, int]] = []
    fgsm(line, np.array([0.5, 0.25]), [0.0], EPSILON, max_rows=2, progress=lambda *done: seen.append(done))
    assert seen
    assert seen[-1][0] == seen[-1][1]


BAD = [
    ("negative", {"epsilon": -0.1}, ValueError, r"epsilon must be finite and greater than 0, got -0\.1"),
    ("zero", {"epsilon": 0}, ValueError, r"epsilon must be finite and greater than 0, got 0"),
    ("infinite", {"epsilon": np.inf}, ValueError, "epsilon must be finite"),
    ("nan", {"epsilon": np.nan}, ValueError, "epsilon must be finite"),
    ("a word", {"epsilon": "much"}, TypeError, "epsilon must be a number, got str"),
    ("a bool", {"epsilon": True}, TypeError, "epsilon must be a number, got bool"),
    ("no y", {"y": None}, TypeError, "y is missing"),
    ("other y", {"y": [0.0, 0.0]}, ValueError, "y has shape"),
    (
        "gradient",
        {"gradient": "guess"},
        ValueError,
        "gradient must be one of 'difference', 'finite-difference', 'autodiff'",
    ),
    ("bounds down", {"bounds": (1, 0)}, ValueError, r"bounds must satisfy low < high, got \(1, 0\)"),
    ("bounds nan", {"bounds": (0, np.nan)}, ValueError, "bounds must satisfy low < high"),
    ("one bound", {"bounds": 1}, TypeError, "bounds must be a pair of numbers"),
    ("three", {"bounds": (0, 1, 2)}, TypeError, "bounds must be a pair of numbers"),
    ("x outside", {"bounds": (0, 0.4)}, ValueError, r"x\[0\]=0\.5 lies outside the bounds \(0, 0\.4\)"),
    ("no model", {"model": 3}, TypeError, "model must be a Keras model or a callable of rows, got int"),
    ("integers", {"x": np.array([1, 0])}, TypeError, "integers cannot move"),
    ("tile", {"tile": 3}, ValueError, "tile extent 3 does not fit"),
    ("loss", {"loss": "nonsense"}, ValueError, "nonsense"),
]


@pytest.mark.parametrize("gradient", ["finite-difference", "autodiff"])
@pytest.mark.parametrize(("change", "error", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD])
def test_bad_arguments_are_named_and_x_is_untouched(
    line: Any, gradient: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    x = np.array([0.5, 0.25], np.float32)
    before = x.tobytes()
    given: dict[str, Any] = {"model": line, "x": x, "y": [0.0], "epsilon": 0.1, "gradient": gradient} | change
    with pytest.raises(error, match=message):
        fgsm(given.pop("model"), given.pop("x"), given.pop("y"), given.pop("epsilon"), **given)
    assert x.tobytes() == before


def test_x_is_never_written(line: Any) -> None:
    x = np.array([0.5, 0.25], np.float32)
    x.flags.writeable = False
    moved = fgsm(line, x, [0.0], EPSILON)
    assert not np.shares_memory(moved, x)
    assert x.tolist() == [0.5, 0.25]


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(attack)
    assert found.attempted > 0
    assert found.failed == 0
