"""Patterns of a mismatch: each is named when it is there, and none when it is not."""

from __future__ import annotations

import numpy as np
import pytest

import fdfast
from fdfast.verdict.compare import AGREE, KINKED, WRONG
from fdfast.verdict.diagnosis import hints

SHAPE = (28, 28, 1)
RTOL = 1e-4  # as in gradcheck: what differs by more is wrong
NOTHING = "none of the simple patterns"


def smooth(shape=SHAPE, seed=0):
    """A gradient as images have it: neighbours alike, both signs, larger in the middle."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    waves = np.zeros(shape)
    for channel in range(shape[2]):
        for _ in range(6):
            a, b, phase = rng.uniform(-8, 8, 3)
            waves[..., channel] += rng.normal() * np.sin(a * axes[0] + b * axes[1] + phase)
    return waves * np.exp(-(axes[0] ** 2) - axes[1] ** 2)[..., None]


def said(numeric, analytic, codes=None):
    """All hints as one text; tiles that differ by more than RTOL are wrong."""
    shape = numeric.shape
    n, a = numeric.reshape(1, -1), analytic.reshape(1, -1)
    if codes is None:
        codes = np.where(np.abs(n - a) > RTOL * np.fmax(np.abs(n), np.abs(a)), WRONG, AGREE)
        codes = np.where(np.isfinite(a), codes, WRONG)
    return "\n".join(hints(n, a, codes.reshape(1, -1).astype(np.int8), shape))


def shifted(g, by, axis):
    out = np.zeros_like(g)
    there, here = [slice(None)] * 3, [slice(None)] * 3
    there[axis], here[axis] = (slice(1, None), slice(None, -1)) if by > 0 else (slice(None, -1), slice(1, None))
    out[tuple(there)] = g[tuple(here)]
    return out


def bfloat16(g):
    # To nearest: a bfloat16 is the upper half of a float32.
    bits = g.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def masked(g, wrong, by):
    return np.where(wrong, by, g)


ROW, COLUMN = np.indices((28, 28))
BORDER = (np.minimum(np.minimum(ROW, 27 - ROW), np.minimum(COLUMN, 27 - COLUMN)) < 2)[..., None]
FIRST_ROW = (ROW == 0)[..., None]
PIXEL = ((ROW == 3) & (COLUMN == 21))[..., None]
# Name: analytic gradient from the right one, and what must be said.
PATTERNS = {
    "1.001": (lambda g: 1.001 * g, "1.001 times the finite difference. Likely causes: (a) a wrong constant"),
    "2": (lambda g: 2 * g, "2 times the finite difference. Likely causes: (a) a mean taken for a sum"),
    "1/784": (lambda g: g / 784, "1/784 of the finite difference. Likely causes: (a) a mean taken for a sum"),
    "1/10": (lambda g: g / 10, "1/10 of the finite difference"),
    "0.8": (lambda g: 0.8 * g, "0.8 times the finite difference. Likely causes: (a) a wrong constant"),
    "1/8103.7": (lambda g: g / 8103.7, "0.0001234 times the finite difference"),
    "sign": (lambda g: -g, "minus the finite difference. Likely causes: (a) a minus sign lost"),
    "-1/10": (lambda g: -g / 10, "-1/10 of the finite difference. Likely causes: (a) a minus sign lost"),
    "zero": (lambda g: 0 * g, "exactly zero everywhere"),
    "not finite": (lambda g: masked(g, PIXEL, np.nan), "NaN or infinite on 1 tile,"),
    "transposed": (lambda g: np.swapaxes(g, 0, 1), "the finite difference transposed. Likely causes: (a) rows"),
    "upside down": (lambda g: g[::-1], "flipped top to bottom"),
    "mirrored": (lambda g: g[:, ::-1], "flipped left to right"),
    "turned": (lambda g: g[::-1, ::-1], "turned by 180 degrees"),
    "down": (lambda g: shifted(g, 1, 0), "shifted down by one"),
    "up": (lambda g: shifted(g, -1, 0), "shifted up by one"),
    "right": (lambda g: shifted(g, 1, 1), "shifted right by one"),
    "left": (lambda g: shifted(g, -1, 1), "shifted left by one"),
    "one tile": (lambda g: masked(g, PIXEL, 1.1 * g), "A single tile is wrong, at (3, 21, 0) of the grid"),
    "border": (lambda g: masked(g, BORDER, 0 * g), "Only tiles within 2 of the border are wrong"),
    "border, doubled": (lambda g: masked(g, BORDER, 2 * g), "2 times the finite difference on the wrong tiles"),
    "first row": (lambda g: masked(g, FIRST_ROW, 1.3 * g), "Only the outermost ring of tiles is wrong"),
    "bfloat16": (bfloat16, "a bfloat16 number next to the finite difference: the analytic gradient was rounded"),
    "float16": (lambda g: g.astype(np.float16).astype(float), "a float16 number next to the finite difference"),
    "clipped": (lambda g: np.clip(g, -0.3, 0.3), "All wrong values are 0.3 in magnitude, the largest there is"),
    "clipped above": (lambda g: np.minimum(g, 0.3), "All wrong values are 0.3"),
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_pattern_is_named(name, seed):
    fault, words = PATTERNS[name]
    right = smooth(seed=seed)
    text = said(right, fault(right))
    if name == "clipped above":  # the largest magnitude there is may be a negative value that was let through
        right = np.abs(right)
        text = said(right, fault(right))
    assert words in text, text
    assert "(a)" in text
    assert "(c)" in text or "(b)" in text


@pytest.mark.parametrize("name", [n for n in PATTERNS if not n.startswith(("border", "first row", "one tile"))])
def test_one_pattern_is_not_taken_for_another(name):
    right = smooth()
    assert len(said(right, PATTERNS[name][0](right)).splitlines()) == (1 if name != "not finite" else 2)


def test_nothing_is_said_when_nothing_is_wrong():
    right = smooth()
    # Below RTOL, so every code is AGREE.
    noisy = right * (1 + 1e-5 * np.random.default_rng(0).normal(size=SHAPE))
    assert said(right, noisy) == ""
    assert hints(right.reshape(1, -1), -right.reshape(1, -1), np.full((1, 784), KINKED, np.int8), SHAPE) == []


@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.1, 0.005])
@pytest.mark.parametrize("seed", range(4))
def test_random_errors_have_no_pattern(size, share, seed):
    rng = np.random.default_rng(seed)
    right = smooth(seed=seed)
    hit = rng.random(SHAPE) < share
    hit[5, 5], hit[20, 14] = True, True  # two at least, one far from the border
    text = said(right, np.where(hit, right * (1 + size * rng.normal(size=SHAPE)), right))
    assert NOTHING in text, text


def test_a_smooth_ramp_times_1_03_is_not_a_shifted_image():
    # Its neighbours differ by 3 % themselves: a shift by one would fit as well, but less simply.
    ramp = np.broadcast_to(np.linspace(30, 60, 28)[:, None, None], SHAPE)
    text = said(ramp, 1.03 * ramp)
    assert "1.03 times" in text
    assert "shifted" not in text


@pytest.mark.parametrize("value", [0.125, 1.0])
def test_round_numbers_far_from_the_difference_are_not_called_rounded(value):
    # Signs and plus-minus an eighth are bfloat16 numbers by themselves.
    right = smooth()
    text = said(right, value * np.sign(right))
    assert "number next to" not in text


def test_a_constant_gradient_doubled_is_not_called_clipped():
    ones = np.ones(SHAPE)
    text = said(ones, 2 * ones)
    assert "2 times" in text
    assert "clipped" not in text


def test_few_wrong_tiles_near_the_border_or_in_one_channel_are_chance():
    right = smooth((28, 28, 3))
    wrong = np.zeros((28, 28, 3), bool)
    wrong[0, 4, 1] = wrong[6, 2, 1] = True
    assert NOTHING in said(
        right, right * (1 + wrong * np.array([0.3, 0.7, 0.2])[[1]] * np.linspace(1, 9, 28)[:, None, None])
    )


CHANNELS = {
    (1,): "Only channel 1 of 3 is wrong",
    (0, 2): "Only channels 0, 2 of 3 are wrong",
}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.01])
def test_channels_are_named(channels, factor):
    right = smooth((28, 28, 3))
    analytic = right.copy()
    analytic[..., channels] *= factor
    text = said(right, analytic)
    assert CHANNELS[channels] in text
    assert {-1.0: "minus the finite difference on the wrong tiles", 0.0: "exactly zero on", 1.01: "1.01 times"}[
        factor
    ] in text


def test_channels_exchanged():
    right = smooth((28, 28, 3))
    assert "channels in another order (RGB, BGR)" in said(right, right[..., ::-1])  # channel 1 stays as it is


def test_a_kinked_background_hides_no_mirror():
    # On digits, most of the image is kinked and an array cannot be checked near x: the rest must do.
    right = smooth()
    analytic = right[:, ::-1]
    codes = np.full(784, WRONG)
    codes[np.random.default_rng(0).permutation(784)[:500]] = KINKED
    assert "flipped left to right" in said(right, analytic, codes)


def test_dead_pixels_do_not_hide_a_zero_gradient():
    # Two thirds of the pixels have no gradient at all, and agree.
    right = smooth() * (ROW > 18)[..., None]
    assert "exactly zero everywhere" in said(right, 0 * right)


@pytest.mark.parametrize("grid", [(), (1,), (5,), (5, 4), (3, 3, 2, 2)])
def test_any_grid(grid):
    size = int(np.prod(grid))
    numeric = np.linspace(1, 2, size)[None]
    for analytic in (2 * numeric, 0 * numeric, numeric[:, ::-1] + 3, np.full_like(numeric, np.nan)):
        found = hints(numeric, analytic, np.full((1, size), WRONG, np.int8), grid)
        assert found
        assert not any("A single tile" in sentence for sentence in found)  # it is all there is


def test_a_batch_is_one_pattern():
    right = np.stack([smooth(seed=s).ravel() for s in range(3)])
    found = hints(right, right / 3, np.full(right.shape, WRONG, np.int8), SHAPE)
    assert len(found) == 1
    assert "1/3 of" in found[0]


HAND_WRITTEN = {
    "scaled": (lambda g: g / 64, "1/64 of the finite difference"),
    "transposed": (lambda g: np.swapaxes(g, 0, 1), "the finite difference transposed"),
    "border": (lambda g: np.pad(g[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0))), "Only the outermost ring of tiles is wrong"),
    "one pixel": (lambda g: g + np.eye(1, 64, 19).reshape(8, 8, 1), "A single tile is wrong, at (2, 3, 0)"),
}


class TestThroughGradcheck:
    """A small function whose gradient is known in closed form, and hand-written gradients of it."""

    rng = np.random.default_rng(3)
    x = rng.uniform(0.2, 0.8, (8, 8, 1))
    w = smooth((8, 8, 1), seed=5) + 0.1

    def f(self, rows):
        return np.sin(rows * self.w).reshape(len(rows), -1).sum(axis=1)

    def right(self, x):
        return self.w * np.cos(x * self.w)

    @pytest.mark.parametrize("fault", HAND_WRITTEN)
    @pytest.mark.parametrize("form", ["array", "callable"])
    def test_a_hand_written_gradient(self, fault, form):
        change, words = HAND_WRITTEN[fault]
        analytic = change(self.right(self.x)) if form == "array" else lambda x: change(self.right(x))
        report = fdfast.gradcheck(self.f, self.x, analytic=analytic, batched=True)
        assert report.verdict == "fail"
        assert any(words in hint for hint in report.hints), report.hints
        assert words in " ".join(str(report).split())

    def test_the_right_one_passes_without_a_hint(self):
        report = fdfast.gradcheck(self.f, self.x, analytic=self.right, batched=True)
        assert report.verdict == "pass"
        assert report.hints == []
