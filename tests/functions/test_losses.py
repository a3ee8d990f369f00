"""Per-row losses against Keras' own reduction for a batch of one, and the sharp form against extended precision."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions.losses import check_targets, one_hot, resolve_loss, softmax_loss

L = keras.losses
RNG = np.random.default_rng(0)
ROWS = 5
LOGITS = RNG.normal(0, 2, (ROWS, 4))
PROBABILITIES = tf.nn.softmax(LOGITS).numpy()
HOT = np.eye(4)[[0, 3, 1, 1, 2]]
NUMBERS = np.array([0, 3, 1, 1, 2])
PIXELS = tf.nn.softmax(RNG.normal(0, 2, (ROWS, 3, 2, 4))).numpy()  # a segmentation, four classes
PIXEL_NUMBERS = RNG.integers(0, 4, (ROWS, 3, 2))
BITS = RNG.integers(0, 2, (ROWS, 4)).astype(float)
MODEL = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])

object_of = functools.partial  # Loss objects are made in the test, in float64, for both sides


def keras_alone(loss, target, prediction):
    """What Keras reduces a batch of one to, row after row, in float64."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if not isinstance(loss, L.Loss):
        return np.array([np.mean(loss(t[None], p[None])) for t, p in zip(target, prediction, strict=True)])
    return np.array([float(loss(t[None], p[None])) for t, p in zip(target, prediction, strict=True)])


def rows_of(loss, target, prediction):
    values = resolve_loss(loss, MODEL).of_rows(tf.constant(target), tf.constant(prediction))
    return values.numpy()


F64 = {"dtype": "float64"}
CASES = {
    "name": ("categorical_crossentropy", HOT, PROBABILITIES),
    "name of a class": ("CategoricalCrossentropy", HOT, PROBABILITIES),
    "short name": ("mse", HOT, LOGITS),
    "function": (L.kl_divergence, HOT, PROBABILITIES),
    "cce": (L.CategoricalCrossentropy(**F64), HOT, PROBABILITIES),
    "cce from logits": (L.CategoricalCrossentropy(from_logits=True, **F64), HOT, LOGITS),
    "cce smoothed": (L.CategoricalCrossentropy(label_smoothing=0.1, **F64), HOT, PROBABILITIES),
    "focal": (L.CategoricalFocalCrossentropy(**F64), HOT, PROBABILITIES),
    "sparse cce": (L.SparseCategoricalCrossentropy(**F64), NUMBERS, PROBABILITIES),
    "sparse cce from logits": (L.SparseCategoricalCrossentropy(from_logits=True, **F64), NUMBERS, LOGITS),
    "bce": (L.BinaryCrossentropy(**F64), BITS, PROBABILITIES),
    "bce from logits": (L.BinaryCrossentropy(from_logits=True, **F64), BITS, LOGITS),
    "mse": (L.MeanSquaredError(**F64), HOT, LOGITS),
    "mae": (L.MeanAbsoluteError(**F64), HOT, LOGITS),
    "huber": (L.Huber(delta=0.7, **F64), HOT, LOGITS),
    "kl": (L.KLDivergence(**F64), HOT, PROBABILITIES),
    "hinge": (L.Hinge(**F64), 2 * BITS - 1, LOGITS),
    "hinge of 0 and 1": (L.CategoricalHinge(**F64), BITS, LOGITS),
    "cosine": (L.CosineSimilarity(**F64), HOT, LOGITS),
    "summed": (L.MeanSquaredError(reduction="sum", **F64), HOT, LOGITS),
    "pixels": (L.SparseCategoricalCrossentropy(**F64), PIXEL_NUMBERS, PIXELS),
    "pixels, dense": (L.MeanSquaredError(**F64), PIXELS[::-1], PIXELS),
    "pixels, summed": (L.SparseCategoricalCrossentropy(reduction="sum", **F64), PIXEL_NUMBERS, PIXELS),
    "pixels, some ignored": (L.SparseCategoricalCrossentropy(ignore_class=2, **F64), PIXEL_NUMBERS, PIXELS),
    "pixels, ignored, summed": (
        L.SparseCategoricalCrossentropy(ignore_class=2, reduction="sum", **F64), PIXEL_NUMBERS, PIXELS,
    ),
    "pixels, by name": ("sparse_categorical_crossentropy", PIXEL_NUMBERS, PIXELS),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rows_equal_keras_for_a_batch_of_one(case):
    loss, target, prediction = CASES[case]
    wanted = keras_alone(loss, target, prediction)
    if case == "name of a class":
        wanted = keras_alone(L.CategoricalCrossentropy(**F64), target, prediction)  # Keras makes it in float32
    got = rows_of(loss, target, prediction)
    assert got.dtype == np.float64
    # The same formula on the same numbers: only the order of a few additions differs.
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_objects_made_in_float32_still_compute_in_the_dtype_of_the_rows():
    # Calling the object would cast to its own dtype: eight digits would go.
    plain = rows_of(L.MeanSquaredError(), HOT, LOGITS)
    np.testing.assert_array_equal(plain, rows_of(L.MeanSquaredError(dtype="float64"), HOT, LOGITS))


def test_masks_of_layers_count_as_in_keras():
    x = RNG.normal(size=(ROWS, 4, 2))
    x[1, 2:] = x[3] = 0
    masked = keras.layers.Masking(dtype="float64")
    for reduction in ("sum_over_batch_size", "sum"):
        loss = L.MeanSquaredError(reduction=reduction, dtype="float64")
        wanted = [float(loss(tf.ones((1, 4, 2), tf.float64), masked(row[None]))) for row in x]
        got = resolve_loss(loss, MODEL).of_rows(tf.ones((ROWS, 4, 2), tf.float64), masked(x))
        np.testing.assert_allclose(got, wanted, rtol=1e-14)  # rounding of sums
        assert wanted[3] == 0


class Cubic(L.Loss):
    """A user's loss object: y is one weight for each row."""

    def call(self, y_true, y_pred):
        return y_true[:, None] * y_pred**3


def test_a_users_losses_are_taken_as_they_are():
    weights = RNG.normal(size=ROWS)
    wanted = (weights[:, None] * LOGITS**3).mean(axis=1)
    np.testing.assert_allclose(rows_of(Cubic(), weights, LOGITS), wanted, rtol=1e-14)  # rounding of the mean
    plain = resolve_loss(lambda y, p: tf.reduce_sum(y * p, axis=1), MODEL)
    assert (plain.kind, plain.name, plain.sharp) == ("custom", "<lambda>", None)
    np.testing.assert_allclose(plain.of_rows(HOT, LOGITS), LOGITS[HOT > 0], rtol=1e-14)
    part = resolve_loss(functools.partial(L.categorical_crossentropy, from_logits=True), MODEL)
    assert (part.kind, part.name) == ("custom", "partial")


@pytest.mark.parametrize("loss", ["mae", L.mean_absolute_error, L.MeanAbsoluteError(dtype="float64")])
def test_the_compiled_loss_is_the_default(loss):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    model.compile(loss=loss)
    got = resolve_loss(None, model).of_rows(tf.constant(HOT), tf.constant(LOGITS))
    np.testing.assert_allclose(got, np.abs(HOT - LOGITS).mean(axis=1), rtol=1e-14)  # rounding of the mean


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (None, ValueError, "loss is missing and the model was not compiled with one: pass loss='categ"),
        ("crossentrophy", ValueError, "loss='crossentrophy' is not the name of a Keras loss"),
        (["mse"], TypeError, r"several losses \(one per output\) go with gradcheck\("),
        ({"a": "mse"}, TypeError, "several losses"),
        (3, TypeError, "loss must be a name, a Keras loss, a callable or None, got int"),
        (L.MeanSquaredError, TypeError, r"loss is the class MeanSquaredError; pass an object of it: MeanSq\w*\(\)"),
    ],
)
def test_resolving_refuses(loss, error, words):
    with pytest.raises(error, match=words):
        resolve_loss(loss, keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)]))


# The sharp form ---------------------------------------------------------------------------------------------------


def cross_entropy(numbers, logits):
    """log(1 + sum of the others' exp(z_k - z_y)) in extended precision, shifted so that nothing overflows."""
    out = []
    for y, z in zip(numbers, np.asarray(logits, np.longdouble), strict=True):
        t = np.delete(z - z[y], y)
        top = max(t.max(), np.longdouble(0))
        out.append(top + np.log1p(np.exp(t - top).sum() + np.expm1(-top)))
    return np.array(out)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="longdouble is no wider than float64 here")
@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 10.0])
@pytest.mark.parametrize("margin", [0.0, 5.0, 30.0, -30.0])
def test_sharp_form_keeps_all_digits(scale, margin, shift):
    logits = RNG.normal(0, scale, (50, 10)).clip(-16, 16) + shift
    numbers = RNG.integers(0, 10, 50)
    logits[np.arange(50), numbers] += margin  # 30: a probability that rounds to 1
    got = softmax_loss(np.eye(10)[numbers], tf.constant(logits)).numpy()
    # z_k - z_y, below 64, is off by half a unit in its last place, 3.6e-15; its exponential by as much, relatively.
    np.testing.assert_allclose(got, cross_entropy(numbers, logits).astype(float), rtol=1e-14)


def test_the_textbook_form_would_not_do():
    # The control: the logarithm of a probability that rounds to 1 has no digit right.
    logits = np.array([[40.0, 0.0, 1.0]])
    textbook = -np.log(np.exp(logits[0, 0]) / np.exp(logits).sum())
    exact = float(cross_entropy([0], logits)[0])
    assert exact > 1e-18
    assert abs(textbook - exact) > 0.9 * exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("logits", "wanted"),
    [
        ([1e4, 0.0, -1e4], 0.0),  # underflow to zero is right to half the smallest number
        ([-1e4, 1e4, 0.0], 2e4),
        ([-1e4, 1e4, 1e4], 2e4 + np.log(2)),
        ([0.0, 0.0, 0.0], np.log(3)),
        ([1e4, 1e4, 1e4], np.log(3)),
        ([-1e30, 0.0, 0.0], 1e30),
    ],
)
def test_sharp_form_never_overflows(logits, wanted, dtype):
    z = tf.constant([logits], dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = softmax_loss(tf.constant([[1.0, 0.0, 0.0]], dtype), z)
    # One rounding of the largest term, one of the logarithm.
    np.testing.assert_allclose(value.numpy(), [wanted], rtol=4 * np.finfo(dtype).eps)
    assert np.isfinite(tape.gradient(value, z)).all()


@pytest.mark.parametrize(
    ("loss", "has"),
    [
        ("categorical_crossentropy", True),
        ("CategoricalCrossentropy", True),
        ("sparse_categorical_crossentropy", True),
        (L.categorical_crossentropy, True),
        (L.CategoricalCrossentropy(from_logits=True), True),
        (L.SparseCategoricalCrossentropy(), True),
        (L.CategoricalCrossentropy(label_smoothing=0.1), False),
        (L.CategoricalCrossentropy(axis=1), False),
        (L.SparseCategoricalCrossentropy(ignore_class=0), False),
        (L.CategoricalFocalCrossentropy(), False),
        ("mse", False),
        ("binary_crossentropy", False),
        (Cubic(), False),
        (type("Sub", (L.CategoricalCrossentropy,), {})(), False),  # may have a call of its own
    ],
)
def test_sharp_exists_only_for_plain_cross_entropies(loss, has):
    assert (resolve_loss(loss, MODEL).sharp is not None) is has


def traced(loss, target, logits, last):
    """Values of the loss and of its sharp form inside a graph, where the softmax can be seen."""
    found = resolve_loss(loss, MODEL)

    @tf.function
    def both(z):
        prediction = last(z)
        return found.of_rows(target, prediction), found.sharp(target, prediction)

    return [v.numpy() for v in both(tf.constant(logits))]


@pytest.mark.parametrize(
    ("loss", "target", "last"),
    [
        ("categorical_crossentropy", HOT, tf.nn.softmax),
        ("categorical_crossentropy", HOT, keras.layers.Softmax(dtype="float64")),
        ("sparse_categorical_crossentropy", NUMBERS, keras.activations.softmax),
        (L.CategoricalCrossentropy(from_logits=True), HOT, tf.identity),
        (L.SparseCategoricalCrossentropy(from_logits=True), NUMBERS, tf.identity),
        # No softmax to be seen: Keras clips probabilities, so the sharp form must too.
        ("categorical_crossentropy", HOT, lambda z: tf.identity(tf.nn.softmax(20 * z))),
        ("sparse_categorical_crossentropy", NUMBERS, lambda z: tf.nn.softmax(20 * z) * 1.0),
        # Three axes: not the form that the sharp one was derived for.
        ("categorical_crossentropy", HOT[:, None], lambda z: tf.nn.softmax(z)[:, None]),
    ],
)
def test_sharp_is_the_same_formula(loss, target, last):
    plain, sharp = traced(loss, target, LOGITS, last)
    np.testing.assert_allclose(sharp, plain, rtol=1e-13)  # moderate logits: both are good to rounding


@pytest.mark.filterwarnings("ignore:.*received `from_logits=True`")
def test_sharp_follows_keras_to_the_logits_behind_a_softmax():
    # from_logits=True on a softmax output: Keras warns, and takes the logits behind it all the same.
    plain, sharp = traced(L.CategoricalCrossentropy(from_logits=True), HOT, LOGITS, keras.activations.softmax)
    np.testing.assert_allclose(sharp, plain, rtol=1e-13)  # moderate logits: both are good to rounding


# Targets ----------------------------------------------------------------------------------------------------------

DENSE, SPARSE = resolve_loss("mse", MODEL), resolve_loss("sparse_categorical_crossentropy", MODEL)
CUSTOM = resolve_loss(lambda y, p: y * p[:, 0], MODEL)


@pytest.mark.parametrize(
    ("y", "loss", "output", "examples", "batched", "wanted"),
    [
        (HOT[0], DENSE, (4,), 1, False, HOT[:1]),
        (HOT[:1], DENSE, (4,), 1, False, HOT[:1]),  # the leading axis of one does no harm
        (HOT, DENSE, (4,), 5, True, HOT),
        (HOT.tolist(), DENSE, (4,), 5, True, HOT),
        (0.5, DENSE, (1,), 1, False, [[0.5]]),
        ([0.5, 1.5], DENSE, (1,), 2, True, [[0.5], [1.5]]),
        (3, SPARSE, (4,), 1, False, [3]),
        ([3], SPARSE, (4,), 1, False, [3]),
        ([3.0, 1.0], SPARSE, (4,), 2, True, [3, 1]),
        ([[3], [1]], SPARSE, (4,), 2, True, [3, 1]),
        (PIXEL_NUMBERS[0], SPARSE, (3, 2, 4), 1, False, PIXEL_NUMBERS[:1]),
        (HOT.astype(">f4"), DENSE, (4,), 5, True, HOT),
        (7.0, CUSTOM, (4,), 1, False, [7.0]),
        (np.ones((2, 9)), CUSTOM, (4,), 2, True, np.ones((2, 9))),
    ],
)
def test_targets_are_brought_into_rows(y, loss, output, examples, batched, wanted):
    got = check_targets(y, loss, output, examples, batched)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, wanted)
    assert got.shape == np.shape(wanted)


@pytest.mark.parametrize(
    ("y", "loss", "error", "words"),
    [
        (None, DENSE, TypeError, "y is missing: the loss 'mse' needs a target for each example"),
        ("seven", DENSE, TypeError, "y must be numeric, got dtype <U5"),
        ([[np.nan] * 4] * 2, DENSE, ValueError, "y contains NaN or infinity"),
        (HOT, DENSE, ValueError, "y has 5 targets for 2 examples of x"),
        (1.0, DENSE, ValueError, "y has no targets for 2 examples"),
        (np.ones((2, 3)), DENSE, ValueError, r"y has shape \(3,\) per example, the model's output has \(4,\)"),
        ([1, 2], DENSE, ValueError, r"class numbers go with 'sparse_cat\w+', or use keras\S*categorical\(y, 4\)"),
        (HOT[:2], SPARSE, ValueError, r"takes class numbers of shape \(\) \(one-hot targets go with 'categ"),
        ([1, 4], SPARSE, ValueError, "y must hold class numbers 0 .. 3, got values from 1 to 4"),
        ([-1, 2], SPARSE, ValueError, "class numbers 0 .. 3, got values from -1 to 2"),
        ([1.5, 2], SPARSE, ValueError, "class numbers 0 .. 3, got values from 1.5 to 2.0"),
    ],
)
def test_wrong_targets_are_named(y, loss, error, words):
    with pytest.raises(error, match=words):
        check_targets(y, loss, (4,), 2, True)


@pytest.mark.parametrize(
    ("y", "loss", "hot"),
    [
        (HOT, DENSE, True),
        (NUMBERS, SPARSE, True),
        (0.9 * HOT + 0.025, DENSE, False),
        (np.zeros((2, 4)), DENSE, False),
        (np.ones((2, 4)), DENSE, False),
        (np.array([[0.5, 0.5, 0, 0]]), DENSE, False),
    ],
)
def test_one_hot_targets_are_told_apart(y, loss, hot):
    assert one_hot(y, loss) is hot
