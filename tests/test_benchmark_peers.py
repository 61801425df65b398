"""The peers of the training doctor: each symptom of a paper is alarmed on a record made by hand, and a healthy run is not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_optlab.diagnosis import Record

HEALTHY = {"grad": 0.1, "weight": 3.0, "zero": 0.0}
RISING = {"accuracy": [0.3, 0.5, 0.6, 0.66, 0.7, 0.75], "loss": [2.0, 1.5, 1.2, 1.0, 0.8, 0.7], "val_loss": [2.0, 1.6, 1.3, 1.2, 1.1, 1.0]}
LOW = [0.1, 0.14, 0.12, 0.17, 0.15, 0.2]
LOST = {"grad": np.inf, "weight": np.inf, "zero": np.nan}


@pytest.fixture(scope="module")
def peers():
    folder = str(Path(__file__).parent.parent / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import diagnosis_peers

        yield diagnosis_peers
    finally:
        sys.path.remove(folder)


def record(sick=lambda step: {}, looks=(), activation="relu", every=10, losses=("categorical_crossentropy",), **logs) -> Record:
    """Three layers, six epochs of 50 steps; what differs from `HEALTHY` is given by layer, what differs from `RISING` by name (`None`: not logged)."""
    made = Record()
    made.logs = {name: values for name, values in (RISING | logs).items() if values is not None}
    made.pace = [{"steps": 50, "seconds": 1.0}] * len(made.logs["loss"])
    made.facts["losses"] = [{"name": name, "from_logits": False} for name in losses]
    weights = [
        {"path": f"{layer}/{kind}", "layer": layer, "kind": "Dense", "shape": shape, "activation": activation if layer != "last" else "softmax"}
        for layer in ("first", "middle", "last")
        for kind, shape in (("kernel", [10, 10]), ("bias", [10]))
    ]
    for step in range(0, 50 * len(made.pace), every):
        rows = [HEALTHY | {"grad": 0.1 + 1e-3 * step, "weight": 3 + 1e-3 * step} | sick(step).get(w["layer"], {}) for w in weights]
        made.add(step, [[r["grad"], r["weight"], 1e-3, r["zero"], 0.0] for r in rows], weights, 0.01, 2.0)
    for step, means in looks:
        made.add_look(step, {"layers": {layer: {"mean": mean} for layer, mean in means.items()}})
    return made


def codes(findings) -> list:
    return [finding.code for finding in findings]


def test_no_peer_alarms_a_run_that_learns(peers):
    of_logs = Record()
    of_logs.logs = RISING
    looked = [(100, {"first": 0.4, "last": 0.1}), (299, {"first": 0.5, "last": 0.1})]
    for made in (record(looks=looked), record(every=100), record(accuracy=None), record(accuracy=None, losses=("mean_squared_error",)), of_logs, Record()):
        assert [codes(rules(made)) for rules in peers.PEERS.values()] == [[]] * len(peers.PEERS)


def test_every_peer_stops_at_a_loss_that_is_lost(peers):
    made = record(
        sick=lambda step: {"middle": LOST} if step >= 100 else {}, accuracy=[0.3, 0.1, 0.1, 0.1], loss=[2.0] + [np.inf] * 3, val_loss=[2.0] + [np.inf] * 3
    )
    for rules in (peers.terminate_on_nan, peers.autotrainer, peers.deeplocalize):
        assert codes(rules(made))[0] == "non-finite", rules.__name__
    assert peers.early_stopping(made)


def test_keras_acts_when_its_patience_is_over_even_if_the_run_improves_later(peers):
    worse = [1.0, 1.1, 1.2, 1.3, 0.5, 0.4]
    assert codes(peers.early_stopping(record(val_loss=worse))) == ["overfitting"]
    assert codes(peers.early_stopping(record(val_loss=None, loss=worse))) == ["loss-not-decreasing"]
    assert peers.early_stopping(record(val_loss=[1.0, 1.1, 1.2, 0.9, 1.0, 1.1])) == []
    assert peers.reduce_lr_on_plateau(record(val_loss=worse)) == []
    assert codes(peers.reduce_lr_on_plateau(record(val_loss=[1.0] + [0.99995] * 5))) == ["overfitting"]


GRADIENTS = [
    ("vanishing-gradient", {"first": {"grad": 0.9e-4}, "last": {"grad": 0.1}}, {"first": {"grad": 1.1e-4}, "last": {"grad": 1.0}}),
    ("vanishing-gradient", {"first": {"grad": 0.9e-5}, "last": {"grad": 0.01}}, {"first": {"grad": 0.9e-5}, "last": {"grad": 0.008}}),
    ("exploding-gradient", {"first": {"grad": 7.1}, "last": {"grad": 0.1}}, {"first": {"grad": 6.9}, "last": {"grad": 0.1}}),
    ("dead-units", {"first": {"zero": 1.0}, "middle": {"zero": 1.0}, "last": {"zero": 0.2}}, {"first": {"zero": 1.0}, "middle": {"zero": 0.8}}),
]


@pytest.mark.parametrize("code, sick, well", GRADIENTS)
def test_autotrainer_alarms_gradients_beyond_its_thresholds_of_a_run_that_is_not_accurate(peers, code, sick, well):
    assert codes(peers.autotrainer(record(sick=lambda step: sick, accuracy=LOW))) == [code]
    assert peers.autotrainer(record(sick=lambda step: well, accuracy=LOW)) == []
    assert peers.autotrainer(record(sick=lambda step: sick, accuracy=[0.71, 0.75, 0.79, 0.83, 0.87, 0.91])) == []


def test_a_neuron_is_dead_where_neither_kernel_nor_bias_has_a_gradient(peers):
    weights = [("words", "Embedding", [99, 8], 0.95), ("hidden", "Dense", [8, 30], 0.9), ("hidden", "Dense", [30], 0.5), ("head", "Dense", [30, 10], 0.4)]
    made = Record()
    facts = [{"path": f"{i}", "layer": layer, "kind": kind, "shape": shape, "activation": None} for i, (layer, kind, shape, _) in enumerate(weights)]
    made.add(0, [[1.0, 1.0, 1.0, zero, 0.0] for *_, zero in weights], facts)
    assert peers._dead_share(made, 0) == pytest.approx((30 * 0.5 + 10 * 0.4) / 40)


def test_autotrainer_looks_at_the_last_step_before_a_check(peers):
    assert peers.autotrainer(record(sick=lambda step: {} if step in (140, 290) else {"first": {"grad": 100.0}}, accuracy=LOW)) == []
    assert peers.autotrainer(record(sick=lambda step: {"first": {"grad": 100.0}} if step == 140 else {}, accuracy=LOW))


def test_autotrainer_alarms_an_accuracy_that_swings_or_stands_still(peers):
    falling = [2.0, 1.99, 1.98, 1.97, 1.96, 1.95]
    assert codes(peers.autotrainer(record(accuracy=[0.5, 0.8, 0.6, 0.8, 0.6, 0.8]))) == ["oscillating-loss"]
    assert peers.autotrainer(record(accuracy=[0.5, 0.80, 0.78, 0.82, 0.80, 0.83])) == []  # by less than .03
    assert codes(peers.autotrainer(record(accuracy=[0.1, 0.105, 0.11, 0.1, 0.1, 0.1], loss=falling))) == ["slow-convergence"]
    assert codes(peers.autotrainer(record(accuracy=[0.1] * 6, loss=[2.0] * 6))) == ["loss-not-decreasing"]
    assert peers.autotrainer(record(accuracy=[0.1, 0.15, 0.15, 0.15, 0.15, 0.15], loss=falling)) == []
    assert peers.autotrainer(record(accuracy=[0.98, 0.985, 0.99, 0.99, 0.99, 0.99])) == []


def test_a_crossentropy_stands_in_for_an_accuracy_that_is_not_logged(peers):
    np.testing.assert_allclose(peers.accuracy(record(accuracy=None, loss=[np.log(10), -900.0, np.inf])), [0.1, 1.0, 0.0])
    np.testing.assert_allclose(peers.accuracy(record(accuracy=None, loss=[2.0, 1.0, np.inf], losses=("mean_squared_error",))), [0.0, 0.5, 0.0])
    assert codes(peers.autotrainer(record(accuracy=None, loss=[2.3] * 6))) == ["loss-not-decreasing"]


def test_deeplocalize_names_the_layer_whose_values_are_zero_or_constant(peers):
    zero = lambda step: {"middle": {"grad": 0.0}} if step >= 200 else {}
    found = peers.deeplocalize(record(sick=lambda step: {"middle": {"grad": 0.0}} if step % 30 == 0 else {}))  # the first stands for a step, others for ten
    assert [(f.code, f.layer, f.first_step) for f in found] == [("dead-units", "middle", 240)]
    everywhere = {layer: {"grad": 0.0} for layer in ("first", "middle", "last")}
    assert [f.layer for f in peers.deeplocalize(record(sick=lambda step: everywhere))] == ["last"]  # the first one of the pass back
    assert codes(peers.deeplocalize(record(sick=zero, activation="tanh"))) == ["vanishing-gradient"]
    assert peers.deeplocalize(record(sick=lambda step: {"middle": {"grad": 0.0}} if step % 50 == 0 else {})) == []
    found = peers.deeplocalize(record(sick=lambda step: {"first": {"weight": 3.0}}))
    assert [(f.code, f.layer, f.first_step) for f in found] == [("unchanged-weights", "first", 50)]
    assert peers.deeplocalize(record(sick=lambda step: {"first": {"weight": 3.0 + step // 50}})) == []


def test_deeplocalize_looks_at_activations_before_anything_else(peers):
    looks = [(100, {"first": 0.4, "middle": 0.0}), (299, {"first": 0.5, "middle": 0.0})]
    assert [(f.code, f.layer) for f in peers.deeplocalize(record(looks=looks))] == [("dead-units", "middle")]
    assert [(f.code, f.layer) for f in peers.deeplocalize(record(looks=[(100, {"first": 0.4, "middle": None})]))] == [("non-finite", "middle")]


def test_deeplocalize_alarms_what_does_not_learn_for_fifty_steps(peers):
    made = record(loss=[2.0, 1.5, 1.6, 1.4, 1.3, 1.2], accuracy=[0.3, 0.5, 0.5, 0.66, 0.7, 0.75])
    assert [(f.code, f.first_step) for f in peers.deeplocalize(made)] == [("loss-not-decreasing", 149)]
    made.logs["accuracy"][2] = 0.51
    assert peers.deeplocalize(made) == []
    assert codes(peers.deeplocalize(record(accuracy=[0.0] + RISING["accuracy"][1:]))) == ["wrong-head"]


def test_steps_that_loss_scaling_refused_are_no_explosion(peers):
    made = record(sick=lambda step: {"middle": LOST | {"weight": 3.0}} if step < 20 else {}, accuracy=LOW)
    made.skipped = [step < 20 for step in made.steps]
    assert peers.deeplocalize(made) == [] and peers.autotrainer(made) == []
    made.skipped = [False] * len(made)
    assert codes(peers.deeplocalize(made)) == ["non-finite"]
