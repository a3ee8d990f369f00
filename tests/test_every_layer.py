"""Every layer of Keras with a float input: right by what is in the package, and a wrong gradient is seen."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import fdfast

L = keras.layers
RNG = np.random.default_rng(0)


def uniform(*shape: int) -> Any:
    return RNG.uniform(0.05, 0.95, shape).astype("float32")


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("float32")


VECTOR, SERIES, IMAGE, VOLUME = normal(3, 5), normal(2, 6, 3), uniform(2, 6, 6, 3), uniform(1, 4, 4, 4, 2)
PAIR, QUERY, WAVE = [normal(3, 5), normal(3, 5)], [SERIES, normal(2, 6, 3)], normal(1, 64)
MOVIES = {"1D": normal(1, 3, 5, 2), "2D": uniform(1, 3, 5, 5, 2), "3D": uniform(1, 2, 3, 3, 3, 1)}
BY_RANK = {"1D": SERIES, "2D": IMAGE, "3D": VOLUME}

#: Name -> (arguments, input); None takes no arguments.
CASES: dict[str, tuple[dict[str, Any] | None, Any]] = {
    **{f"{kind}{rank}": ({"filters": 2, "kernel_size": 2}, x) for rank, x in BY_RANK.items() for kind in ("Conv",)},
    **{f"Conv{rank}Transpose": ({"filters": 2, "kernel_size": 2, "strides": 2}, x) for rank, x in BY_RANK.items()},
    **{f"SeparableConv{rank}": ({"filters": 2, "kernel_size": 2}, BY_RANK[rank]) for rank in ("1D", "2D")},
    **{f"DepthwiseConv{rank}": ({"kernel_size": 2}, BY_RANK[rank]) for rank in ("1D", "2D")},
    **{f"ConvLSTM{rank}": ({"filters": 2, "kernel_size": 2}, x) for rank, x in MOVIES.items()},
    **{f"{how}Pooling{rank}": ({"pool_size": 2}, x) for rank, x in BY_RANK.items() for how in ("Average", "Max")},
    **{f"Global{how}Pooling{rank}": (None, x) for rank, x in BY_RANK.items() for how in ("Average", "Max")},
    **{
        f"Adaptive{how}Pooling{rank}": ({"output_size": 2}, x)
        for rank, x in BY_RANK.items()
        for how in ("Average", "Max")
    },
    **{f"{how}{rank}": (None, x) for rank, x in BY_RANK.items() for how in ("Cropping", "ZeroPadding", "UpSampling")},
    **{f"SpatialDropout{rank}": ({"rate": 0.3}, x) for rank, x in BY_RANK.items()},
    **{name: ({"rate": 0.3}, VECTOR) for name in ("Dropout", "AlphaDropout", "GaussianDropout")},
    **{name: (None, PAIR) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")},
    **{name: ({"units": 3}, SERIES) for name in ("LSTM", "GRU", "SimpleRNN", "Dense")},
    **{name: (None, QUERY) for name in ("Attention", "AdditiveAttention")},
    **{name: (None, VECTOR) for name in ("ELU", "ReLU", "LeakyReLU", "PReLU", "Softmax", "Flatten", "Identity")},
    **{name: (None, VECTOR) for name in ("LayerNormalization", "RMSNormalization", "UnitNormalization")},
    **{name: (None, IMAGE) for name in ("BatchNormalization", "AutoContrast", "Solarization")},
    "GroupNormalization": ({"groups": 3}, IMAGE),
    "Dot": ({"axes": 1}, PAIR),
    "MultiHeadAttention": ({"num_heads": 2, "key_dim": 2}, QUERY),
    "GroupQueryAttention": ({"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1}, QUERY),
    "EinsumDense": ({"equation": "ab,bc->ac", "output_shape": 4}, VECTOR),
    "Reshape": ({"target_shape": (5, 1)}, VECTOR),
    "RepeatVector": ({"n": 2}, VECTOR),
    "Permute": ({"dims": (2, 1)}, SERIES),
    "Masking": (None, SERIES),
    "Activation": ({"activation": "gelu"}, VECTOR),
    "ActivityRegularization": ({"l2": 0.1}, VECTOR),
    "GaussianNoise": ({"stddev": 0.3}, VECTOR),
    "Lambda": ({"function": lambda x: x * x}, VECTOR),
    "Rescaling": ({"scale": 2.0}, VECTOR),
    "Normalization": ({"mean": 0.5, "variance": 2.0}, VECTOR),
    "Resizing": ({"height": 4, "width": 5}, IMAGE),
    "CenterCrop": ({"height": 4, "width": 4}, IMAGE),
    "Bidirectional": ({"layer": L.LSTM(2)}, SERIES),
    "TimeDistributed": ({"layer": L.Dense(2)}, SERIES),
    "RNN": ({"cell": L.GRUCell(2)}, SERIES),
    "SpectralNormalization": ({"layer": L.Dense(2)}, VECTOR),
    "STFTSpectrogram": ({"frame_length": 16, "frame_step": 8}, WAVE[..., None]),
    "MelSpectrogram": (
        {"sequence_length": 16, "fft_length": 32, "sampling_rate": 8000, "num_mel_bins": 8, "min_freq": 100},
        WAVE,
    ),
}
#: Layers without a float input of their own, that wrap other code, or that only draw numbers in training.
LEFT_OUT = (
    *("Embedding", "ReversibleEmbedding", "CategoryEncoding", "Hashing", "HashedCrossing", "StringLookup", "Pipeline"),
    *("IntegerLookup", "TextVectorization", "Discretization", "InputLayer", "Layer", "Wrapper", "StackedRNNCells"),
    *("LSTMCell", "GRUCell", "SimpleRNNCell", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "CutMix"),
    *("MixUp", "AugMix", "RandAugment", "Equalization", "MaxNumBoundingBoxes"),
    "ContrastLimitedAdaptiveHistogramEqualization",
)


def made(name: str) -> tuple[Any, Any]:
    kind = getattr(L, name, None)
    if kind is None:
        pytest.skip(f"this Keras has no {name}")
    keras.utils.set_random_seed(0)
    arguments, x = CASES[name]
    return kind(**(arguments or {})), x


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_right_and_a_wrong_gradient_of_it_is_seen(name: str) -> None:
    layer, x = made(name)
    assert fdfast.gradcheck(layer, x).verdict == "pass"
    several = isinstance(x, list)
    wrong = [np.full(v.shape, 0.123) for v in (x if several else [x])]
    report = fdfast.gradcheck(layer, x, wrt="input", analytic=wrong if several else wrong[0])
    assert report.verdict == "fail"


@pytest.mark.skipif(not keras.__version__.startswith("3.15"), reason="other versions of Keras have other layers")
def test_no_layer_is_forgotten() -> None:
    named = {n for n, one in vars(L).items() if isinstance(one, type) and issubclass(one, keras.Layer)}
    classes = {one for n in [*CASES, *LEFT_OUT] if (one := getattr(L, n, None))}  # some have two names
    assert {n for n in named if getattr(L, n) not in classes and not n.startswith("Random")} == set()
