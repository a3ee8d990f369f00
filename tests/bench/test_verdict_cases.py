"""The verdict benchmark itself: its models, its faults, the rules it compares with, and a dozen of its cases."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast
from bench.verdict.__main__ import lines
from bench.verdict.cases import PER_MODEL, Spec, build, draw, inputs_of, named, targets_of
from bench.verdict.faults import DISTORTIONS, FAULTS, fits
from bench.verdict.subject import CS231N_LIMIT, NAMES, TF_STEP, Record, Subject, check, cs231n_error, measure, schedule

CNN = Spec(
    name="m000", number=0, seed=0, count=3, digits=False,
    shape=(6, 6, 2), widths=(3, 3), kernel=3, padding="same", activation="relu", pool="max",
    normalised=True, residual=True, biased=False, outputs=3, gain=1.0, loss="cce",
)  # fmt: skip
_OTHERWISE = {"widths": (6, 6), "activation": "tanh", "normalised": False, "biased": True, "loss": "mse"}
MLP = Spec(**{**vars(CNN), "name": "m001", "number": 1, "shape": (9,), **_OTHERWISE})
_subjects: dict[str, Subject] = {}


def subject(spec: Spec) -> Subject:
    if spec.name not in _subjects:
        _subjects[spec.name] = Subject(spec)
    return _subjects[spec.name]


def test_models_and_inputs_follow_from_the_seed():
    assert draw(3, 5) == draw(3, 5) != draw(3, 6)
    first, second = build(CNN)[0].get_weights(), build(CNN)[0].get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    # A shorter batch is the beginning of a longer one, so that a case can be run again by its name.
    assert np.array_equal(inputs_of(CNN, 3), inputs_of(CNN, PER_MODEL)[:3])
    model = build(CNN)[0]
    x = inputs_of(CNN)
    assert np.array_equal(targets_of(CNN, model, x)[:3], targets_of(CNN, model, x[:3]))


@pytest.mark.parametrize("name", [name for name in FAULTS if "straight" not in name and name not in DISTORTIONS])
def test_a_fault_leaves_the_value_as_it_is(name):
    fits, make = FAULTS[name]
    spec = next(s for s in (CNN, MLP) if fits(s))
    x = inputs_of(spec, 2)
    parts = make((2, 2, 1), spec.loss)
    true, faulty = (model(x).numpy() for model in (build(spec)[0], build(spec, parts)[0]))
    # The same operations in the same order, but for bias and product, which TensorFlow may fuse.
    np.testing.assert_allclose(faulty, true, rtol=1e-5, atol=1e-6)
    if name == "loss without 1/N":
        y = np.ones_like(true)
        np.testing.assert_allclose(parts.loss()(y, true), ((true - y) ** 2).mean(axis=1), rtol=1e-6)


G = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scale 1.01", G * 1.01),
        ("missing 1/N", G * 9),
        ("sign of one channel", -G),
        ("one pixel 10 %", np.where(G == 6, 6.6, G)),
        ("dropped border", np.where(G == 5, G, 0)),
        ("shifted by one", np.roll(G, 1, axis=1)),
        ("transposed", G.transpose(0, 2, 1, 3)),
        ("clipped", np.minimum(G, 4.5)),
        ("bfloat16", G),  # small integers fit into eight bits
    ],
)
def test_distortions(name, expected):
    np.testing.assert_allclose(DISTORTIONS[name](tf.constant(G), (1, 2, 0)), expected, rtol=1e-12)


def test_a_distortion_that_does_nothing_is_not_asked_for():
    assert not fits("sign of one channel", Spec(shape=(28, 28, 1)))
    assert not fits("transposed", Spec(shape=(5, 6, 1)))
    assert fits("transposed", Spec(shape=(5, 5, 2)))


@pytest.mark.parametrize("spec", [CNN, MLP], ids=["cnn", "mlp"])
def test_tf_test_rule_has_the_numbers_of_tf_test(spec):
    s = subject(spec)
    y, loss = tf.constant(s.y[:1], tf.float32), tf.keras.losses.get(s.loss)
    f = tf.function(lambda x: loss(y, s.model(x)))
    analytic, numeric = tf.test.compute_gradient(f, [tf.constant(s.x[:1])], TF_STEP)
    # A row alone and the same row among others differ in the last place of a loss of about 1; delta divides that.
    np.testing.assert_allclose(s.tf32[0], numeric[0].ravel(), atol=4 * 2**-24 / (2 * TF_STEP))
    # Slopes of about 0.1, in float32.
    np.testing.assert_allclose(s.truth32[0], analytic[0].ravel(), atol=1e-6)


def test_cs231n_error():
    a, b = np.array([[1.0, 0.0, 2.0]]), np.array([[1.0, 0.0, 1.0]])
    assert cs231n_error(a, b) == pytest.approx([1 / 3])
    assert cs231n_error(a * 1e-12, b * 1e-12) == pytest.approx([1e-4])


@pytest.mark.parametrize(
    ("found", "analytic", "alarm"),
    [
        ([1.0, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [1.0, 1.01], False),  # 1 % off is 0.5 % of the sum of both
        ([1.0, 1.0], [1.0, 1.03], True),
        ([1e-11, 1.0], [-1e-11, 1.0], False),  # both below the rule's floor of 1e-8
    ],
)
def test_alarm(found, analytic, alarm):
    assert bool(cs231n_error(np.array(found), np.array(analytic)) > CS231N_LIMIT) is alarm


@pytest.mark.parametrize(
    ("spec", "route", "fault", "verdicts"),
    [
        (CNN, "autodiff", "none", {"pass"}),
        (MLP, "autodiff", "none", {"pass"}),
        (MLP, "array", "none", {"pass"}),
        (CNN, "layer", "diagonal softmax", {"fail"}),
        (MLP, "array", "one pixel 1 %", {"fail"}),
        (MLP, "callable", "scale 1.01", {"fail"}),
    ],
)
def test_a_dozen_cases(spec, route, fault, verdicts):
    shown: dict[str, object] = {}
    records = list(check(subject(spec), route, fault, shown.__setitem__, "auto"))
    assert list(shown) == [record.case for record in records]
    assert {r.verdict for r in records} <= verdicts, records
    for record in records:
        assert record.located in (None, True)
        assert record.to_be_found == (fault != "none")


#: Seed, number of examples, and the one in question.
OF = {
    **{"m007": (21, 1, 0), "m041": (21, 3, 2), "m049": (21, 4, 3), "m015": (23, 3, 2)},
    **{"m002": (26, 8, 6), "m022": (27, 4, 3), "m028": (27, 7, 6)},
    **{"m011": (31, 8, 5), "m012": (32, 8, 4)},
}


@pytest.mark.parametrize(
    ("name", "route", "fault", "verdicts"),
    [
        ("m007", "array", "none", ("inconclusive", "pass")),  # a loss of 0 exactly: all of its gradient is rounding
        ("m041", "autodiff", "none", ("pass",)),  # saturated cells of a pool, equal wherever one looks
        ("m041", "array", "one pixel 1 %", ("fail",)),
        ("m049", "array", "none", ("inconclusive", "pass")),  # elements next to nothing, where numbers cancel
        ("m015", "array", "none", ("inconclusive",)),  # maxima of a constant image: each takes another cell
        ("m002", "array", "none", ("inconclusive",)),  # the same, of cells that are equal but for rounding
        ("m022", "array", "none", ("inconclusive", "pass")),  # saturated units: autodiff itself is off by as much
        ("m022", "array", "one pixel 1 %", ("fail",)),
        ("m028", "array", "scale 2", ("fail",)),  # every element with a gradient lies where kinks cancel
        ("m011", "layer", "transposed", ("fail",)),  # an example whose gradient is 1e-23 of the others'
        ("m011", "autodiff", "none", ("pass",)),
        ("m012", "array", "one pixel 1 %", ("fail",)),  # kinks cancel, and autodiff is not certain everywhere
        ("m012", "array", "none", ("inconclusive",)),
    ],
)
def test_by_directions_what_was_once_taken_for_something_else(name, route, fault, verdicts):
    seed, count, at = OF[name]
    subject = Subject(named(name, seed, count))
    records = list(check(subject, route, fault, lambda case, report: None, "directions"))
    assert records[at].verdict in verdicts


def test_what_raises_is_a_record():
    (record,) = measure(MLP, [("layer", "no such fault")])
    assert (record.verdict, record.case) == ("error", "m001/0/layer:no such fault")
    assert "no such fault" in record.note


def test_the_schedule_spreads_the_faults():
    tasks = list(schedule(250, seed=1))
    assert sum(spec.count for spec, runs in tasks if ("autodiff", "none") in runs) == 250
    per_layer = [fault for spec, runs in tasks if not spec.digits for route, fault in runs if route == "layer"]
    assert set(per_layer) == set(FAULTS)


RULES = dict.fromkeys(NAMES, False)


def test_names_of_subjects():
    assert named("m017", 3).rng("x").random() == draw(3, 17).rng("x").random()
    digits, faulty = named("d001", 0), named("f001", 0)
    assert (digits.count, faulty.count) == (8, 3)
    x = inputs_of(faulty, faulty.count)
    np.testing.assert_array_equal(x, fdfast.datasets.mnist_sample(6)[0][3:])
    np.testing.assert_array_equal(targets_of(faulty, None, x).argmax(axis=1), fdfast.datasets.mnist_sample(6)[1][3:])


def test_what_is_said_at_once():
    right = Record("m000/0/autodiff:none", "autodiff", "none", "pass")
    wrong = Record("m000/0/layer:scale 2", "layer", "scale 2", "fail", effect=1.0)
    assert not right.odd
    assert not wrong.odd
    assert right._replace(verdict="fail").odd
    assert wrong._replace(verdict="inconclusive").odd
    assert not wrong._replace(verdict="pass", effect=1e-4).odd  # too little to be found
    assert wrong._replace(verdict="error").odd


def test_misses_and_false_alarms_are_listed():
    right = Record("m000/0/autodiff:none", "autodiff", "none", "pass", 1.0, 0, 9, rules=RULES)
    wrong = Record("m000/0/layer:scale 2", "layer", "scale 2", "fail", 0.0, 9, 9, effect=1.0, rules=RULES)
    text = "\n".join(lines([right, wrong]))
    assert "goal: 0 false alarms: yes" in text
    assert "goal: all found: yes" in text
    alarm, miss = right._replace(verdict="fail"), wrong._replace(verdict="pass")
    text = "\n".join(lines([alarm, miss]))
    assert "goal: 0 false alarms: NO" in text
    assert "goal: all found: NO" in text
    assert text.count("m000/0/autodiff:none") == text.count("m000/0/layer:scale 2") == 1
