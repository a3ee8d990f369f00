"""The two-vote rule: a correct gradient is never accused, a wrong one is found, at x or near it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import RowEngine, hashed

import fdfast
from fdfast.estimates.estimate import KINK, SMOOTH
from fdfast.moves.inputs import grain
from fdfast.moves.tiling import make_tiling
from fdfast.verdict.compare import AGREE, KINKED, UNRESOLVED, WRONG
from fdfast.verdict.judge import Judge
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.terms import Terms

WIDTH = 1e-3  # of the jitter: away from x, near it


class Plain:
    """An objective that is two NumPy functions of rows: values, and the gradient that autodiff would give."""

    def __init__(self, gradient, dtype):
        self.of_rows, self.dtype, self.traced = gradient, np.dtype(dtype), None

    def gradient(self, points):
        return self.of_rows(points)

    def deployed_gradient(self, points):
        return None

    def select(self, examples):
        return self


def judge(f, gradient, x, *, analytic=None, dtype="float64", tile=1, **options):
    """Judge a NumPy function of rows, shape (rows, size), at examples x, shape (examples, size)."""
    points = np.asarray(x, dtype)
    tiling = make_tiling(points.shape[1:], tile)
    engine = RowEngine(lambda rows: f(rows).astype(dtype), tiling)
    return Judge(tiling, Terms(**({"jitter": WIDTH} | options)))(engine, Plain(gradient, dtype), points, analytic)


def relu(z):
    return np.maximum(z, 0)


def step(z):
    return (z > 0).astype(float)


X = np.array([[0.0, 0.0, 0.3, -0.4, 0.7]])
C = np.array([1.0, -2.0, 0.5, 3.0, 0.25])


def kinked(rows):
    return (C * relu(rows)).sum(axis=1)


def kinked_slope(rows):
    return C * step(rows)


def hidden(rows):
    """relu(x) - relu(-x), the number x: no kink in any direction. Autodiff gives 0 at 0, where the slope is 1."""
    return (C * (relu(rows) - relu(-rows))).sum(axis=1)


def hidden_slope(rows):
    return C * (step(rows) + step(-rows))


def crossed(rows):
    """relu(a + b) - relu(b - a) of the first two: along a it is a where b = 0, but 2 a or 0 beside that."""
    a, b = rows[:, 0], rows[:, 1]
    return relu(a + b) - relu(b - a) + (C * rows**2)[:, 2:].sum(axis=1) + b


def crossed_slope(rows):
    """As autodiff: 0 along a at (0, 0), where the slopes on both sides are 1."""
    a, b = rows[:, 0], rows[:, 1]
    plus, minus = step(a + b), step(b - a)
    return np.concatenate([(plus + minus)[:, None], (plus - minus + 1)[:, None], (2 * C * rows)[:, 2:]], axis=1)


def waves(rows):
    return (C * np.sin(3 * rows + 1)).sum(axis=1)


def waves_slope(rows):
    return 3 * C * np.cos(3 * rows + 1)


def at_x_only(rows):
    """A gradient that is wrong where x is a whole number of tenths, and nowhere else."""
    tenths = rows * 10
    return waves_slope(rows) * np.where(np.abs(tenths - np.round(tenths)) < 1e-9, 1.5, 1.0)


def name(codes):
    return "".join("awku"[code] for code in codes[0])


# f, gradient, options, classes of the five tiles of X, which of them were decided near x
CASES = {
    "smooth, right": (waves, waves_slope, {}, "aaaaa", "....."),
    "smooth, wrong": (waves, lambda x: 1.01 * waves_slope(x), {}, "wwwww", "....."),
    "kink, right": (kinked, kinked_slope, {}, "aaaaa", "nn..."),
    "kink, wrong everywhere": (kinked, lambda x: 2 * kinked_slope(x) + 1e-3, {}, "wwwww", "nn..."),
    "kink, wrong at x only": (kinked, lambda x: kinked_slope(x) + 7 * (x == 0), {}, "aaaaa", "nn..."),
    "wrong at x only": (waves, at_x_only, {}, "wwwww", "....."),
    "wrong at x only, no slope part": (hidden, hidden_slope, {}, "wwaaa", "....."),
    "kinks that cancel": (crossed, crossed_slope, {}, "kaaaa", "....."),
    "kinks that cancel, wrong": (crossed, lambda x: 1.01 * crossed_slope(x), {}, "wwwww", "....."),
    "no jitter: x decides": (hidden, hidden_slope, {"jitter": None}, "wwaaa", "....."),
    "no jitter: kinks that cancel": (crossed, crossed_slope, {"jitter": None}, "kaaaa", "....."),
    "no jitter, kink": (kinked, kinked_slope, {"jitter": None}, "kkaaa", "....."),
    "no jitter, kink, wrong": (kinked, lambda x: 2 * kinked_slope(x), {"jitter": None}, "kkwaw", "....."),
    "larger jitter": (kinked, kinked_slope, {"jitter": 0.1}, "aaaaa", "nn..."),
    "automatic jitter": (kinked, kinked_slope, {"jitter": "auto"}, "aaaaa", "nn..."),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_votes(case, seed):
    f, gradient, options, classes, near = CASES[case]
    found = judge(f, gradient, X, seed=seed, **options)
    assert name(found.codes) == classes
    assert "".join("n" if n else "." for n in found.near[0]) == near


def test_what_cancels_at_x_is_named_a_branch():
    found = judge(crossed, crossed_slope, X)
    assert found.branch.tolist() == [[True, False, False, False, False]]
    assert not found.only_here.any()
    assert found.kind[0, 0] == SMOOTH  # x shows no kink: the slopes agree
    assert found.numeric[0, 0] == pytest.approx(1.0, rel=1e-8)  # rounding of f over the step: 1e-16 / 1e-5


def test_what_is_wrong_at_x_alone_is_named():
    found = judge(waves, at_x_only, X)
    assert found.only_here.all()
    assert not found.branch.any()
    clear = judge(waves, at_x_only, X + 0.01)
    assert name(clear.codes) == "aaaaa"
    assert not clear.only_here.any()


def test_noise_that_hides_a_branch_decides_nothing():
    # Steps as short as a look close by takes leave no digit of a noisy f, but those of x itself do.
    found = judge(lambda x: waves(x) + 1e-6 * hashed(x), at_x_only, X, rtol=1e-2, jitter=0.1)
    assert set(name(found.codes)) <= {"u", "w"}
    assert (found.cleared & ~found.only_here).any()
    assert not found.branch.any()


@pytest.mark.parametrize(("scale", "inside"), [(0.0, True), (0.5, True), (1.0, True), (1.2, False), (-0.1, False)])
def test_between_the_slopes(scale, inside):
    found = judge(kinked, lambda x: C * np.where(x == 0, scale, step(x)), X)
    assert found.between.tolist() == [[inside, inside, False, False, False]]
    assert name(found.codes) == "aaaaa"  # the branch at x is not judged, the points near x are right


class Turns:
    """A gradient that is right or wrong by the count of the call."""

    def __init__(self, *factors):
        self.factors, self.calls = factors, 0

    def __call__(self, points):
        factor = self.factors[min(self.calls, len(self.factors) - 1)]
        self.calls += 1
        return factor * kinked_slope(points)


@pytest.mark.parametrize(
    ("factors", "classes", "calls"),
    [
        ((1, 1), "aaaaa", 2),
        ((1, 2, 1), "uuaaa", 3),  # accused once, cleared once: nothing can be said
        ((1, 2, 2), "wwaaa", 3),  # two votes
        ((2, 1), "aawaw", 2),  # wrong at x where f is smooth, right near x: no kink to excuse it
        ((2, 2), "wwwaw", 3),  # smooth ones after the second vote, kinked ones after their own two
    ],
)
def test_votes_in_order(factors, classes, calls):
    turns = Turns(*factors)
    found = judge(kinked, turns, X + np.array([[0, 0, 0, 0, 0.0]]), analytic=turns)
    assert name(found.codes) == classes
    assert turns.calls == calls


@pytest.mark.parametrize(("factor", "classes"), [(1.0, "kkaaa"), (2.0, "kkwaw")])
def test_an_array_decides_at_x(factor, classes):
    found = judge(kinked, kinked_slope, X, analytic=factor * kinked_slope(X))
    assert name(found.codes) == classes
    assert not found.near.any()


def test_what_is_decided_near_x_is_shown_from_there():
    found = judge(kinked, lambda x: 2 * kinked_slope(x), X)
    assert found.numeric[0, 0] == pytest.approx(0.5, rel=1e-6)  # the mean of both slopes at x
    assert found.checked_numeric[0, 0] == pytest.approx(1.0, rel=1e-6)  # the slope near x
    assert found.checked_analytic[0, 0] == 2.0


class TestDomain:
    """f ends at 1, and the point near x lies beyond."""

    @staticmethod
    def f(rows):
        with np.errstate(all="ignore"):
            return (np.sqrt(1 - rows) + relu(rows - 0.2)).sum(axis=1)

    @staticmethod
    def slope(rows):
        return -0.5 / np.sqrt(1 - rows) + step(rows - 0.2)

    x = np.array([[0.9999, 0.2]])

    def test_nothing_is_learnt_there_and_nobody_accused(self):
        assert name(judge(self.f, self.slope, self.x, jitter=0.1).codes) == "ak"

    def test_then_x_decides(self):
        found = judge(self.f, lambda x: 1.5 * self.slope(x), self.x, jitter=0.1)
        assert name(found.codes) == "wk"

    def test_other_examples_are_not_held_up(self):
        found = judge(self.f, self.slope, np.concatenate([self.x, [[0.1, 0.2]]]), jitter=0.1)
        assert found.codes.tolist() == [[AGREE, KINKED], [AGREE, AGREE]]
        assert found.near.tolist() == [[False, False], [False, True]]

    def test_at_x_it_is_an_error(self):
        with pytest.raises(ValueError, match="must be finite at x"):
            judge(self.f, self.slope, [[1.5, 0.2]])


def pool(rows):
    """Max over pairs of neighbours; on a black background, every pair is a tie."""
    return (rows.reshape(len(rows), -1, 2).max(axis=2) * np.arange(1, 4)).sum(axis=1)


def pool_slope(rows):
    pairs = rows.reshape(len(rows), -1, 2)
    first = pairs[..., :1] >= pairs[..., 1:]  # the first of equals, as TensorFlow does
    return (np.concatenate([first, ~first], axis=2) * np.arange(1.0, 4.0)[:, None]).reshape(len(rows), -1)


BLACK = np.array([[0.0, 0.0, 1.0, 1.0, 0.5, 0.0]])
BOUNDS = (0.0, 1.0)


class TestBounds:
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("bounds", [BOUNDS, None])
    def test_ties_are_broken_inside(self, bounds, dtype):
        # In float32 the step is as wide as the jitter: the points must still differ from each other.
        # Rounding of f over that step, 1e-7 / 4e-3, leaves bars of 2e-5: rtol says that this will do.
        found = judge(pool, pool_slope, BLACK, bounds=bounds, dtype=dtype, jitter=0.1, rtol=1e-2)
        assert name(found.codes) == "aaaaaa"

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("jitter", [1 / 255, 0.3, 5.0])
    def test_no_row_leaves_them(self, jitter, dtype):
        seen = []

        def f(rows):
            seen.append((rows.min(), rows.max()))
            return pool(rows)

        judge(f, pool_slope, BLACK, bounds=BOUNDS, dtype=dtype, jitter=jitter)
        low, high = np.transpose(seen)
        assert low.min() >= 0
        assert high.max() <= 1

    def test_a_slope_on_one_side_accuses_nobody(self):
        # At 0 only the right slope of the pool can be had: 1 for both of two equal cells, of which autodiff picks one.
        given = judge(pool, pool_slope, BLACK, bounds=BOUNDS, analytic=pool_slope(BLACK))
        assert name(given.codes) == "auuaaa"
        assert given.edge.tolist() == [[False, True, True, False, False, False]]
        assert name(judge(pool, pool_slope, BLACK, bounds=BOUNDS, jitter=None).codes) == "auuaaa"

    def test_a_wrong_one_is_found_near_x(self):
        # Near x, each pair has one winner, which alone has a slope.
        assert name(judge(pool, lambda x: 1.1 * pool_slope(x), BLACK, bounds=BOUNDS).codes) == "waaawa"

    def test_tiles_that_touch_both_bounds(self):
        # They are differenced beside x, where f may have another slope.
        x = np.array([[0.0, 1.0, 1.0, 0.0]])

        def f(rows):
            return (rows**3).sum(axis=1)

        found = judge(f, lambda x: 3 * x**2, x, bounds=BOUNDS, tile=2, h=0.05)
        assert name(found.codes) == "aa"
        assert name(judge(f, lambda x: 3.3 * x**2, x, bounds=BOUNDS, tile=2, h=0.05).codes) == "ww"


GRAINS = [
    (np.arange(256) / 255, 1 / 255),
    ((np.arange(256) / 255).astype(np.float32), 1 / 255),  # as images are read
    (np.arange(256.0), 1.0),
    (np.array([0.0, 255.0]), 1.0),
    (np.array([0.0, 0.5, 0.987654]), 0.987654e-3),
    (np.array([-2.0, 1.0]), 2e-3),
    (np.array([1e-6]), 1e-9),
    (np.zeros(4), 1e-3),
    (np.array([-1.0, 128.0, 255.0]), 0.255),
]


@pytest.mark.parametrize(("values", "width"), GRAINS)
def test_grain(values, width):
    assert grain(values) == pytest.approx(width, rel=1e-12)


@pytest.mark.parametrize("jitter", [0, -1, np.nan, np.inf, True, "wide", [1.0]])
def test_jitter_must_be_a_width(jitter):
    with pytest.raises(ValueError, match="jitter must be 'auto', None or a positive width in the units of x, got"):
        judge(waves, waves_slope, X, jitter=jitter)


def test_x_is_not_touched_and_seeds_are_kept():
    x = X.copy()
    first, second = (judge(kinked, kinked_slope, x) for _ in range(2))
    assert (x == X).all()
    for field in dataclasses.fields(Judgement):
        if field.name != "timings":
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert (judge(kinked, kinked_slope, x, seed=1).checked_numeric == first.checked_numeric).all(axis=0)[2:].all()


def test_groups_joined_are_one_by_one():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (5, 5)) * rng.choice([0, 1], (5, 5))
    whole = judge(kinked, kinked_slope, x, selftest=True)
    groups = [x[:1], x[1:4], x[4:]]
    joined = Judgement.join([judge(kinked, kinked_slope, part, selftest=True) for part in groups])
    assert (whole.kind == KINK).sum() > 5
    for field in dataclasses.fields(Judgement):
        one, other = getattr(whole, field.name), getattr(joined, field.name)
        if field.name in ("numeric", "analytic", "right", "left", "checked_numeric", "checked_analytic"):
            np.testing.assert_allclose(one, other, rtol=1e-9)  # the noise lines are others, so may the step be
        elif field.name in ("codes", "kind", "near", "between", "branch", "edge", "selftest", "deployed"):
            np.testing.assert_array_equal(one, other)
    assert joined.timings.keys() == whole.timings.keys()
    assert isinstance(joined.evaluations, int)
    assert joined.evaluations >= whole.evaluations


@pytest.mark.parametrize(
    ("noise", "rtol", "seen"),
    [
        (0.0, 1e-4, True),
        (1e-11, 1e-4, True),  # over steps of 1e-3, and slopes of 1: bars of 1e-7
        (3e-3, 1e-4, False),  # bars of some percent: no tile is resolved
        (0.0, 0.05, False),  # 1 % is what was tolerated
    ],
)
def test_a_planted_fault(noise, rtol, seen):
    # Shorter waves than any step: noise that is the same at every call.
    found = judge(lambda x: waves(x) + noise * np.sin(1e11 * x).sum(axis=1), waves_slope, X, rtol=rtol, selftest=True)
    assert found.selftest.tolist() == [seen]
    assert (found.codes == WRONG).sum() == 0
    assert (found.codes == UNRESOLVED).any() == (noise == 3e-3)


class Picky(keras.layers.Layer):
    """ReLU with a hand-made gradient."""

    def __init__(self, at_zero=0.0, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.at_zero, self.scale = at_zero, scale

    def get_config(self):
        return {**super().get_config(), "at_zero": self.at_zero, "scale": self.scale}

    def call(self, x):
        @tf.custom_gradient
        def forward(z):
            slope = tf.where(
                z == 0, tf.cast(self.at_zero, z.dtype), tf.cast(self.scale, z.dtype) * tf.cast(z > 0, z.dtype)
            )
            return tf.nn.relu(z), lambda up: up * slope

        return forward(x)


@pytest.fixture(scope="module")
def digit():
    """A 6x6 image of eight bits, black but for a stroke in one corner."""
    x = np.zeros((6, 6, 1))
    x[0, :2, 0] = np.array([200, 255]) / 255
    return x


def small_net(**picky):
    """Zero biases and a black background: every ReLU there is at zero, and every pool a tie."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, padding="same", use_bias=False),
            Picky(**picky),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    ("picky", "verdict", "note"),
    [
        ({}, "pass", "sit exactly on a kink"),
        ({"at_zero": 5.0}, "pass", "sit exactly on a kink"),  # outside both slopes, but at x only
        ({"scale": 1.01}, "fail", "is wrong there"),
    ],
)
def test_a_network_on_a_black_background(digit, picky, verdict, note):
    report = fdfast.gradcheck(small_net(**picky), digit, np.array([0.2, 0.8]), loss="mse")
    assert report.verdict == verdict
    assert any(note in reason for reason in report.reasons)
    assert report.near.sum() > 10
    if verdict == "pass":
        assert report.coverage == 1.0


def test_without_jitter_a_kinked_network_is_inconclusive_not_wrong(digit):
    report = fdfast.gradcheck(small_net(), digit, np.array([0.2, 0.8]), loss="mse", jitter=None)
    assert report.verdict == "inconclusive"
    assert report.counts["wrong"] == 0
    assert report.counts["kink"] > 10


def test_a_smooth_function_made_of_kinks_is_not_accused():
    def crelu(rows):
        return tf.reduce_sum(tf.nn.relu(rows) - tf.nn.relu(-rows), axis=1)

    assert fdfast.gradcheck(crelu, np.full(4, 0.1), batched=True).verdict == "pass"
    # At 0 the function is x and the gradient 0. Where the engine sees the units that tie there, this is a branch.
    x = keras.Input((4,))
    both = keras.layers.Subtract()([keras.layers.ReLU()(x), keras.layers.ReLU()(keras.layers.Rescaling(-1.0)(x))])
    model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="ones")(both))
    report = fdfast.gradcheck(model, np.zeros(4), [3.0], loss="mse")
    assert (report.engine, report.verdict) == ("difference", "inconclusive")
    assert report.counts == {"agree": 0, "wrong": 0, "kink": 4, "unresolved": 0, "singular": 0}
    assert any("kinks that cancel" in reason for reason in report.reasons)
    # An engine of rows sees a straight line, and a gradient that is not its slope.
    found = fdfast.gradcheck(crelu, np.zeros(4), batched=True, engine="batch")
    assert found.counts["wrong"] == 4
    assert any("wrong at x alone" in reason for reason in found.reasons)


def test_a_function_without_autodiff_needs_a_gradient():
    with pytest.raises(TypeError, match="no TensorFlow tensor, so there is no autodiff gradient: pass analytic="):
        fdfast.gradcheck(waves, X[0], batched=True)
