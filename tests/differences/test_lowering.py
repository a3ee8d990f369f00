"""Keras graphs as programs of the compiled kernels: every layer that is lowered, against the model itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fdfast.differences.compiled import NoDifferences, compiled_for
from fdfast.engines.batch import BatchEngine
from fdfast.engines.difference import DifferenceEngine
from fdfast.engines.pairs import Pairs
from fdfast.functions.model import model_objective
from fdfast.moves.tiling import make_tiling

L = keras.layers
IMAGE, LINE, VECTOR = (9, 8, 3), (11, 4), (7,)


def straight(*layers):
    return lambda x: [x := layer(x) for layer in layers][-1]


def residual(x):
    a = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False)(a))
    return L.ReLU(max_value=6.0)(L.Add()([a, b]))


def inception(x):
    a = L.MaxPooling2D(3, strides=1, padding="same")(x)
    b = L.AveragePooling2D(3, strides=1, padding="same")(x)
    return L.Concatenate()([a, b, L.Conv2D(2, 1, activation="tanh")(x)])


def squeeze_and_excite(x):
    a = L.Conv2D(4, 3, activation="silu")(x)
    gate = L.Dense(6 * 7 * 4, activation="sigmoid")(L.GlobalAveragePooling2D()(a))
    return L.Multiply()([L.Flatten()(L.Cropping2D(((1, 0), (0, 0)))(L.UpSampling2D(1)(a))), L.Dense(6 * 6 * 4)(gate)])


def shared(x):
    conv = L.Conv2D(3, 3, padding="same", activation="softplus")
    return L.Subtract()([conv(conv(x)), L.Average()([x, conv(x)])])


def nested(x):
    inner = keras.Sequential([keras.Input(IMAGE), L.Conv2D(3, 2, activation="relu"), L.Dropout(0.3)])
    return L.MaxPooling2D(2)(inner(x))


def normalised_dropout(x):
    # The dropout between is read twice: the convolution must not be scaled in place.
    a = L.Dropout(0.1)(L.Conv2D(4, 3)(x))
    return L.Add()([L.BatchNormalization()(a), a])


MODELS = {
    "conv": (IMAGE, straight(L.Conv2D(5, 3, activation="relu"), L.Conv2D(4, (2, 3), strides=(2, 1), padding="same"))),
    "dilated": (IMAGE, straight(L.Conv2D(4, 3, dilation_rate=2, activation="elu"), L.Conv2D(2, 3, padding="same"))),
    "groups": (IMAGE, straight(L.Conv2D(6, 3, groups=3, activation="leaky_relu"))),
    "depthwise": (IMAGE, straight(L.DepthwiseConv2D(3, padding="same", activation="relu6"), L.Conv2D(4, 1))),
    "separable": (IMAGE, straight(L.SeparableConv2D(5, 3, strides=2, padding="same", activation="gelu"))),
    "batch norm": (
        IMAGE,
        straight(L.Conv2D(5, 3), L.BatchNormalization(), L.ReLU(), L.BatchNormalization(scale=False)),
    ),
    "normalised dropout": (IMAGE, normalised_dropout),
    "pools": (IMAGE, straight(L.MaxPooling2D(3, strides=2, padding="same"), L.AveragePooling2D(2, padding="same"))),
    "global max": (IMAGE, straight(L.Conv2D(4, 3), L.GlobalMaxPooling2D(keepdims=True))),
    "global average": (IMAGE, straight(L.Conv2D(4, 3, activation="selu"), L.GlobalAveragePooling2D())),
    "padding": (IMAGE, straight(L.ZeroPadding2D(((0, 1), (2, 0))), L.Conv2D(3, 3, strides=2), L.LeakyReLU(0.3))),
    "upsampling": (IMAGE, straight(L.Conv2D(2, 3), L.UpSampling2D((2, 3)), L.Conv2D(3, 3, activation="softsign"))),
    "rescaling": (IMAGE, straight(L.Rescaling(1 / 3, offset=0.1), L.Conv2D(3, 3), L.ELU(0.7))),
    "residual": (IMAGE, residual),
    "inception": (IMAGE, inception),
    "squeeze": (IMAGE, squeeze_and_excite),
    "shared": (IMAGE, shared),
    "nested": (IMAGE, nested),
    "line": (LINE, straight(L.Conv1D(5, 3, padding="causal", activation="relu"), L.MaxPooling1D(2), L.Conv1D(3, 2))),
    "line pools": (LINE, straight(L.AveragePooling1D(2), L.ZeroPadding1D(1), L.GlobalMaxPooling1D())),
    "line cut": (LINE, straight(L.Cropping1D((1, 2)), L.UpSampling1D(2), L.Conv1D(2, 3, activation="exponential"))),
    "dense on a map": (LINE, straight(L.Dense(6, activation="sigmoid"), L.Flatten(), L.Dense(5, activation="relu"))),
    "dense": (VECTOR, straight(L.Dense(9, activation="tanh"), L.Dropout(0.5), L.Dense(4, activation="softmax"))),
    "flat relu": (IMAGE, straight(L.Conv2D(2, 3), L.Flatten(), L.ReLU(), L.Dense(5))),
}


def objective_of(name, loss="categorical_crossentropy"):
    shape, make = MODELS[name]
    keras.utils.set_random_seed(7)
    x = keras.Input(shape)
    features = make(x)
    if len(features.shape) > 2:
        features = L.Flatten()(features)
    model = keras.Model(x, L.Dense(4, activation="softmax")(features))
    rng = np.random.default_rng(3)
    for w in model.weights:  # biases, statistics and scales that are not 0 and 1
        positive = "variance" in w.path or "gamma" in w.path
        noise = rng.uniform(0.5, 1.5, w.shape) if positive else rng.normal(size=w.shape)
        w.assign(np.asarray(w) * 0.7 + 0.2 * noise)
    y = np.eye(4)[[1, 2]]
    return model_objective(model, y, loss, shape, 2, batched=True), rng.normal(size=(2, int(np.prod(shape)))), shape


def everything(tiling, step):
    point, tile = np.repeat(np.arange(2), tiling.tiles), np.tile(np.arange(tiling.tiles), 2)
    return Pairs(point, tile, np.tile(step, (len(tile), 1)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_differences_are_those_of_the_model(name, dtype):
    objective, points, shape = objective_of(name)
    compiled = compiled_for(objective, np.dtype(dtype))
    assert compiled.complete, compiled.lowered.why
    example = np.arange(2, dtype=np.int32)
    for tile, channels in ((1, "apart"), (3, "together")):
        tiling = make_tiling(shape, tile, channels)
        pairs = everything(tiling, (2.0**-3, -(2.0**-3)))
        pushed = DifferenceEngine(objective, tiling, compiled).differences(points, example, pairs)
        wanted = BatchEngine(objective, tiling).differences(points, example, pairs)
        np.testing.assert_allclose(pushed.base, wanted.base, rtol=1e-12)
        # A subtraction of losses of order one; in float32 the rounding of some hundred additions of such terms.
        loose = 1e-13 if dtype == "float64" else 3e-6 * np.abs(wanted.delta).max()
        np.testing.assert_allclose(pushed.delta, wanted.delta, rtol=0, atol=loose)


@pytest.mark.parametrize(
    ("loss", "complete"),
    [("mse", True), ("categorical_crossentropy", True), ("kl_divergence", False), (keras.losses.Huber(0.5), False)],
    ids=["mse", "cross-entropy", "divergence", "huber"],
)
def test_losses(loss, complete):
    objective, points, shape = objective_of("conv", loss)
    compiled = compiled_for(objective, np.dtype(np.float64))
    assert compiled.complete == complete
    tiling = make_tiling(shape, 2)
    pairs = everything(tiling, (2.0**-4, -(2.0**-3)))
    example = np.arange(2, dtype=np.int32)
    pushed = DifferenceEngine(objective, tiling, compiled).differences(points, example, pairs)
    wanted = BatchEngine(objective, tiling).differences(points, example, pairs)
    np.testing.assert_allclose(pushed.delta, wanted.delta, rtol=0, atol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_cross_entropies(sparse, logits, smoothing):
    if sparse and smoothing:
        pytest.skip("Keras' sparse cross-entropy takes no smoothing")
    kind = keras.losses.SparseCategoricalCrossentropy if sparse else keras.losses.CategoricalCrossentropy
    loss = kind(from_logits=logits, dtype="float64", **({} if sparse else {"label_smoothing": smoothing}))
    x = keras.Input(VECTOR)
    keras.utils.set_random_seed(0)
    model = keras.Model(x, L.Dense(4, activation=None if logits else "softmax")(L.Dense(5, activation="tanh")(x)))
    y = 2 if sparse else np.array([0.0, 0.0, 1.0, 0.0])
    objective = model_objective(model, y, loss, VECTOR, 1, batched=False)
    compiled = compiled_for(objective, np.dtype(np.float64))
    assert compiled.complete
    tiling = make_tiling(VECTOR, 1)
    tile = np.arange(tiling.tiles)
    pairs = Pairs(np.zeros_like(tile), tile, np.tile([0.25, -0.25], (len(tile), 1)))
    points, example = np.linspace(-1, 1, 7)[None], np.zeros(1, np.int32)
    pushed = DifferenceEngine(objective, tiling, compiled).differences(points, example, pairs)
    wanted = BatchEngine(objective, tiling).differences(points, example, pairs)
    np.testing.assert_allclose(pushed.delta, wanted.delta, rtol=0, atol=1e-14)


BEYOND = {
    "volume": ((4, 4, 4, 2), straight(L.Conv3D(2, 2), L.Flatten()), "no maps of two dimensions"),
    "transpose": (IMAGE, straight(L.Conv2D(2, 3), L.Conv2DTranspose(2, 3), L.Flatten()), "Conv2DTranspose"),
    "layer norm": (IMAGE, straight(L.LayerNormalization(), L.Flatten()), "LayerNormalization"),
    "multiplier": (IMAGE, straight(L.DepthwiseConv2D(2, depth_multiplier=2), L.Flatten()), "depth_multiplier is not 1"),
    "threshold": (IMAGE, straight(L.ReLU(threshold=0.3), L.Flatten()), "it has a threshold"),
    "mish": (IMAGE, straight(L.Conv2D(2, 2, activation="mish"), L.Flatten()), "activation 'mish'"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_not_compiled_goes_on_on_whole_maps_and_is_named(name):
    shape, make, why = BEYOND[name]
    keras.utils.set_random_seed(1)
    x = keras.Input(shape)
    model = keras.Model(x, L.Dense(3, activation="softmax")(make(x)))
    rng = np.random.default_rng(0)
    points, y = rng.normal(size=(2, int(np.prod(shape)))), np.eye(3)[[0, 2]]
    objective = model_objective(model, y, "categorical_crossentropy", shape, 2, batched=True)
    if name == "volume":
        with pytest.raises(NoDifferences, match=why):
            compiled_for(objective, np.dtype(np.float64))
        return
    compiled = compiled_for(objective, np.dtype(np.float64))
    assert why in compiled.lowered.why
    assert not compiled.complete
    tiling = make_tiling(shape, 2)
    pairs = everything(tiling, (2.0**-4, -(2.0**-4)))
    example = np.arange(2, dtype=np.int32)
    pushed = DifferenceEngine(objective, tiling, compiled).differences(points, example, pairs)
    wanted = BatchEngine(objective, tiling).differences(points, example, pairs)
    np.testing.assert_allclose(pushed.delta, wanted.delta, rtol=0, atol=1e-13)


def test_new_weights_are_noticed():
    import fdfast

    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input(VECTOR), L.Dense(5, activation="tanh"), L.Dense(3, activation="softmax")])
    x, y = np.linspace(-1, 1, 7), np.eye(3)[1]
    options = {"y": y, "loss": "categorical_crossentropy", "engine": "difference"}
    before = fdfast.gradient(model, x, **options)
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    after = fdfast.gradient(model, x, **options)
    wanted = fdfast.gradient(model, x, **{**options, "engine": "batch"})
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, wanted, rtol=0, atol=1e-9)  # rounding of a subtraction over a step of 8e-6


def test_the_same_image_with_other_targets_is_another_example(monkeypatch):
    from fdfast.engines import difference

    monkeypatch.setattr(difference, "BUDGET", 2)  # one image at a time
    objective, points, shape = objective_of("dense")
    compiled = compiled_for(objective, np.dtype(np.float64))
    tiling = make_tiling(shape, 1)
    pairs, example = everything(tiling, (0.25, -0.25)), np.arange(2, dtype=np.int32)
    twice = points[[0, 0]]
    pushed = DifferenceEngine(objective, tiling, compiled).differences(twice, example, pairs)
    wanted = BatchEngine(objective, tiling).differences(twice, example, pairs)
    assert pushed.base[0] != pushed.base[1]
    np.testing.assert_allclose(pushed.delta, wanted.delta, rtol=0, atol=1e-13)
