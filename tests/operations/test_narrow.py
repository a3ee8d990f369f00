"""Float64 forms of float32 kernels: what TensorFlow's own kernel says, to its last places."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.tape import Recorder

RAW = tf.raw_ops
RNG = np.random.default_rng(0)
IMAGE, SLOPE = RNG.uniform(0.1, 1, (2, 5, 4, 3)), RNG.normal(size=(2, 7, 9, 3))
WIDE = RNG.uniform(-1.5, 1.5, (6, 3))
BACK = RNG.normal(size=WIDE.shape)
VOLUME, POOL = (
    RNG.normal(size=(2, 4, 5, 4, 2)),
    {"ksize": [1, 2, 3, 2, 1], "strides": [1, 2, 2, 1, 1], "padding": "SAME"},
)
BY = {"scale": tf.constant([1.4, 2.25]), "translation": tf.constant([0.2, -0.3])}
LOW, HIGH = tf.constant([-1.0, -0.3, -0.7]), tf.constant([1.0, 0.9, 0.4])

CASES = {
    **{
        f"ScaleAndTranslate, {kind}, {smooth}": (
            lambda x, kind=kind, smooth=smooth: RAW.ScaleAndTranslate(
                images=x, size=tf.constant([7, 9]), kernel_type=kind, antialias=smooth, **BY
            ),
            [IMAGE],
        )
        for kind in ("lanczos3", "gaussian", "keyscubic", "triangle")
        for smooth in (True, False)
    },
    "ScaleAndTranslateGrad": (
        lambda dy, x: RAW.ScaleAndTranslateGrad(
            grads=dy, original_image=x, kernel_type="lanczos3", antialias=True, **BY
        ),
        [SLOPE, IMAGE],
    ),
    "MaxPool3DGradGrad": (
        lambda x, seen: RAW.MaxPool3DGradGrad(
            orig_input=x, orig_output=RAW.MaxPool3D(input=x, **POOL), grad=seen, **POOL
        ),
        [VOLUME, VOLUME[::-1].copy()],
    ),
    "LRNGrad": (
        lambda dy, x: RAW.LRNGrad(
            input_grads=dy,
            input_image=x,
            output_image=tf.nn.lrn(x, 1, 1.0, 0.5, 0.7),
            depth_radius=1,
            bias=1.0,
            alpha=0.5,
            beta=0.7,
        ),
        [IMAGE, IMAGE[::-1].copy()],
    ),
    **{
        f"FusedBatchNormGradV3, {how}": (
            lambda dy, x, s, training=training: RAW.FusedBatchNormGradV3(
                y_backprop=dy,
                x=x,
                scale=s,
                is_training=training,
                reserve_space_1=tf.reduce_mean(x, [0, 1, 2]),
                reserve_space_2=tf.math.reduce_variance(x, [0, 1, 2]),
                reserve_space_3=tf.zeros([0]),
            )[:3],
            [IMAGE, IMAGE[::-1].copy(), np.array([0.5, 1.0, -2.0])],
        )
        for how, training in (("in training", True), ("in inference", False))
    },
    "FakeQuantWithMinMaxArgs": (lambda x: RAW.FakeQuantWithMinMaxArgs(inputs=x, min=-1, max=0.8, num_bits=4), [WIDE]),
    "FakeQuantWithMinMaxArgs, narrow": (
        lambda x: RAW.FakeQuantWithMinMaxArgs(inputs=x, min=-1, max=1, num_bits=3, narrow_range=True),
        [WIDE],
    ),
    "FakeQuantWithMinMaxArgsGradient": (
        lambda dy, x: RAW.FakeQuantWithMinMaxArgsGradient(gradients=dy, inputs=x, min=-1, max=0.8),
        [BACK, WIDE],
    ),
    "FakeQuantWithMinMaxVars": (
        lambda x: RAW.FakeQuantWithMinMaxVars(inputs=x, min=LOW[0], max=HIGH[0], num_bits=5),
        [WIDE],
    ),
    "FakeQuantWithMinMaxVarsPerChannel": (
        lambda x: RAW.FakeQuantWithMinMaxVarsPerChannel(inputs=x, min=LOW, max=HIGH, num_bits=5),
        [WIDE],
    ),
    "FakeQuantWithMinMaxVarsGradient": (
        lambda dy, x: RAW.FakeQuantWithMinMaxVarsGradient(gradients=dy, inputs=x, min=LOW[0], max=HIGH[0]),
        [BACK, WIDE],
    ),
    "FakeQuantWithMinMaxVarsPerChannelGradient": (
        lambda dy, x: RAW.FakeQuantWithMinMaxVarsPerChannelGradient(gradients=dy, inputs=x, min=LOW, max=HIGH),
        [BACK, WIDE],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_form_in_float64_is_the_kernel_s(name):
    f, given = CASES[name]
    specs = [tf.TensorSpec(one.shape, tf.float32) for one in given]
    concrete = tf.function(f, input_signature=specs, autograph=False).get_concrete_function()
    own = tf.nest.flatten(concrete(*(tf.constant(one, tf.float32) for one in given)))
    tape = Recorder(concrete)(given)
    assert tape.narrow == []
    for number, wanted in zip(tape.outputs, own, strict=True):
        assert tape.values[number].dtype == tf.float64
        # float32: sums of some twenty terms.
        np.testing.assert_allclose(tape.values[number], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
