"""Programs and records that few have thought of: what is said of them is true, advice runs, and one thing that cannot be read does not hide the others."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L
from test_diagnosis_curves import FAILED, HEAD, LABELS, WEIGHTS, of_numbers, run

from keras_optlab import optimizers as ours
from keras_optlab.callbacks import GradientMonitor
from keras_optlab.diagnosis import Finding, Record, examine
from keras_optlab.diagnosis import rules as module
from keras_optlab.diagnosis.curves import pieces, skill
from keras_optlab.diagnosis.heads import at_rate, gained, guess
from keras_optlab.diagnosis.rules import (
    bad_input_range,
    bad_labels,
    constant_prediction,
    layer_order,
    learning_rate_too_low,
    non_finite,
    ordered,
    oscillating_loss,
    overfitting,
    poor_initialization,
    saturated_activation,
    slow_convergence,
    underfitting,
    wrong_head,
    wrong_loss,
)
from keras_optlab.training import data_facts
from keras_optlab.training.model_facts import model_facts

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")


def one(rule, record) -> Finding:
    (found,) = rule.find(record)
    return found


def runs(advice: str, **names) -> dict:
    """What the code in some advice leaves."""
    for line in advice.split("`")[1::2]:
        exec(line, {"np": np, "keras": keras}, names)
    return names


@pytest.mark.parametrize(("labels", "expected"), [([-1, 0, 1], [0, 1, 2]), ([-1, 1, 1], [0, 1, 1]), ([-2, 0, 3], [0, 2, 5])])
def test_classes_counted_from_below_0_stay_apart(labels, expected):
    y = np.array(20 * labels)
    told = one(bad_labels, run(data=data_facts.data_facts({"x": X}, {"y": y})))
    assert runs(told.advice, y=y)["y"][:3].tolist() == expected


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_targets_that_are_missing_are_left_out_by_what_is_advised(shape):
    y = np.random.default_rng(0).normal(size=shape)
    y[7] = np.nan
    told = one(bad_labels, run(**of_numbers(y)))
    assert len(runs(told.advice, x=X, y=y)["x"]) == 59
    marked = np.where(np.isnan(y), -999.0, y)
    if marked.size == 60:
        assert len(runs(one(bad_labels, run(**of_numbers(marked))).advice, x=X, y=marked)["y"]) == 59


@pytest.mark.parametrize(("most", "classes"), [(3, True), (255, False)])
def test_masks_of_several_classes_are_not_to_be_divided(most, classes):
    y = np.random.default_rng(0).integers(0, most + 1, (60, 8, 8, 1))
    head = {"outputs": [HEAD["outputs"][0] | {"shape": [8, 8, 1], "activation": "sigmoid"}], "losses": [{"name": "binary_crossentropy", "from_logits": False}]}
    told = one(bad_labels, run(data=data_facts.data_facts({"x": y}, {"y": y}), **head))
    assert ("sparse_categorical_crossentropy" in told.advice) is classes and f"y / {most}" in told.advice


@pytest.mark.parametrize("cause", ["memory-limit", "train-validation-mismatch"])
@pytest.mark.parametrize("code", ["oscillating-loss", "slow-convergence", "underfitting", "constant-prediction", "loss-not-decreasing"])
def test_what_leaves_the_training_as_it_is_causes_nothing_in_it(cause, code):
    found = ordered([Finding(cause, "error", None, 0, 0), Finding(code, "warning", None, 10, 50)])
    assert [(f.code, f.severity) for f in found] == [(cause, "error"), (code, "warning")]


def test_a_loss_that_is_lost_alone_beside_a_layer_without_a_gradient():
    made = Record()
    for step in range(0, 100, 10):
        made.add(step, [[0.1, 3.0, 3e-3, 0.0, 0.0]] * 2 + [[np.nan, 3.0, 0.0, np.nan, np.nan]] * 2, WEIGHTS, 0.01, np.inf if step > 20 else 1.0)
    assert "though gradients and weights are" in one(non_finite, made).message


def test_a_rule_that_fails_hides_nothing(monkeypatch):
    monkeypatch.undo()  # of what lets it fail the test
    broken = run({"loss": [2.3, 2.3]}, outputs=[HEAD["outputs"][0] | {"shape": [1]}])
    monkeypatch.setattr(underfitting, "find", lambda record: 1 / 0)
    found = examine(broken)
    monitor = GradientMonitor()
    monitor.reads = tuple(module.RULES)
    monitor._record = broken
    monitor._cannot_read("the data", "there is none")
    assert len([f for f in monitor.findings if f.code == "unreadable"]) == 2
    assert found[0].code == "wrong-head" and "`underfitting` asks for, because of ZeroDivisionError" in next(f.message for f in found if f.code == "unreadable")


def test_records_without_layers_and_outputs_of_unknown_length():
    empty = Record()
    for step in range(0, 100, 10):
        empty.add(step, np.zeros((0, 5)), [], 0.01, 2.3)
    empty.logs = {"loss": [2.3, 2.3]}
    assert learning_rate_too_low.find(empty) == []
    model = keras.Sequential([L.Input((None, 4)), L.Dense(8, activation="relu"), L.Dense(1), L.Reshape((-1,))])
    model.compile("adam", "mse")
    data = {"data": data_facts.data_facts({"x": np.zeros((60, 7, 4))}, {"y": np.random.default_rng(0).normal(size=(60, 7))})}
    assert underfitting.find(run({"loss": np.linspace(1, 0.5, 12)}, **model_facts(model) | data)) == []
    unknown = of_numbers(5 * X) | {"outputs": [HEAD["outputs"][0] | {"shape": [None], "activation": "tanh"}]}
    assert "`activation=None`" in one(wrong_head, run(**unknown)).advice


def of_a_stream(classes: int, examples: int) -> dict:
    y = np.random.default_rng(0).integers(0, classes, examples)
    data = data_facts.data_facts({"x": y}, {"y": y}, whole=False)
    head = {"outputs": [HEAD["outputs"][0] | {"shape": [classes]}], "data": data}
    return head | {"guess": guess(run(**head), y, sampled=True)}


@pytest.mark.parametrize(("classes", "examples", "expected"), [(100, 32, np.log(100)), (1000, 32, np.log(1000)), (3, 600, np.log(3))])
def test_one_batch_of_many_classes_does_not_tell_how_frequent_they_are(classes, examples, expected):
    assert of_a_stream(classes, examples)["guess"] == pytest.approx(expected, abs=5e-3)


def test_a_batch_of_sequences_has_many_labels():
    tags = np.random.default_rng(0).choice(10, (32, 50), p=[0.91, *[0.01] * 9])
    head = {"outputs": [HEAD["outputs"][0] | {"shape": [50, 10]}], "data": data_facts.data_facts({"x": tags}, {"y": tags}, whole=False)}
    assert guess(run(**head), tags, sampled=True) < 0.6


def test_a_stream_of_many_classes_that_learns():
    losses, right = np.linspace(4.2, 3.2, 12), np.linspace(0.07, 0.23, 12)
    logs = {"loss": losses, "val_loss": losses + 0.05, "accuracy": right, "val_accuracy": right - 0.01}
    made = run(logs, loss=4.62, **of_a_stream(100, 32))
    assert gained(made) > 0.25 and underfitting.find(made) == [] and skill(made) == pytest.approx((0.23 - 0.01) / 0.99, abs=0.07)


def test_nothing_carries_over_of_what_is_above_any_of_many_classes():
    logs = {"loss": np.geomspace(4, 1.3, 12), "val_loss": [4.0, 3.7, 3.6, 3.6, 3.7, 3.9, 4.2, 4.5, 4.8, 5.1, 5.4, 5.8]}
    made = run(logs | {"accuracy": np.linspace(0.05, 0.59, 12), "val_accuracy": [0.12] * 12}, loss=4.62, **of_a_stream(100, 32))
    assert one(overfitting, made).severity == "warning"
    two = run(logs | {"accuracy": [0.5] * 9 + [0.65] * 3, "val_accuracy": [0.55] * 12}, loss=4.62, guess=4.62)
    assert "-" not in one(overfitting, two).message


def test_sentences_hold_where_little_was_learned():
    read = {"treated": False, "rows": None, "layer": "first", "scale": 1.0, "offset": 0.0, "own": False, "each": []}
    made = run({"loss": np.linspace(1, 0.65, 12)}, loss=1.0, inputs=read, **of_numbers(5000 * np.random.default_rng(0).normal(size=(60, 4))))
    made.facts["guess"] = 1.0
    assert ": little was learned." in one(bad_input_range, made).message
    named = run({"loss": [2.3, 1.5, 1.0, 0.8, 0.7], "accuracy": [0.3, 0.31, 0.31, 0.32, 0.32]}, losses=[None])
    named.facts["data"] = named.facts["data"] | {"y": [LABELS | {"largest": 0.35}], "examples": 500}
    assert "naming the largest class is right 35% of the time" in one(wrong_loss, named).message
    layers = [{"name": "one", "kind": "Dense", "activation": "tanh", "into": None, "scale": np.nan, "constant": False, "units": 8, "rate": None}]
    assert poor_initialization.find(run(layers=layers, probe=FAILED | {"loss": [2.3]})) == []
    far = [layers[0] | {"scale": 12.0}]
    assert one(poor_initialization, run({"loss": [2.3, 2.0, 1.6]}, layers=far, probe=FAILED | {"learned": True})).evidence["threshold"] == 10.0


@pytest.mark.parametrize(("first", "expected"), [(230.0, True), (4.0, False), (np.inf, False)])
def test_a_first_loss_far_above_guessing_is_told(first, expected):
    made = run({"loss": [2.0, 0.5]}, loss=lambda i: first if i == 0 else 0.5)
    assert [f.severity for f in poor_initialization.find(made)] == ["info"] * expected
    made.facts["guess"] = 0.06  # one class holds nearly all
    assert [f.severity for f in poor_initialization.find(made)] == ["info"] * expected
    made.facts["data"]["y"] = [LABELS | {"weight": 100.0}]
    assert poor_initialization.find(made) == []


def test_functions_without_a_name():
    model = keras.Sequential([L.Input((4,)), L.Dense(3, activation=L.LeakyReLU()), L.Softmax()])
    model.compile("adam", "sparse_categorical_crossentropy")
    record = Record()
    record.facts |= model_facts(model)
    assert "None" not in one(layer_order, record).message


def mean_squared_error(y_true, y_pred):
    return -keras.ops.mean((y_true - y_pred) ** 2)


class MeanSquaredError(keras.losses.MeanSquaredError):
    pass


@pytest.mark.parametrize("loss", [mean_squared_error, MeanSquaredError()])
def test_a_loss_of_ones_own_that_is_called_as_keras_calls_its(loss):
    model = keras.Sequential([L.Input((4,)), L.Dense(3)])
    model.compile("adam", loss)
    assert model_facts(model)["losses"] == [None]
    model.compile("adam", keras.losses.mean_squared_error)
    assert model_facts(model)["losses"] == [{"name": "mean_squared_error", "from_logits": False}]


@pytest.mark.parametrize(("batch", "words"), [({"batch_size": 256}, "batch_size=1024"), ({}, None)])
def test_larger_batches_than_there_were(batch, words):
    made = run({"loss": [1.0, 1.5, 1.1, 1.6, 1.05, 1.7, 1.1, 1.65, 1.1, 1.6]}, update=0.15, loss=1.0, memory=None, guess=1.0, **batch)
    advice = one(oscillating_loss, made).advice
    assert words in advice if words else "batch_size" not in advice


def test_predictions_are_held_against_the_targets_of_their_name():
    drawn = np.random.default_rng(0).normal(size=200)
    seen = {"entropy": None, "largest": None, "loss": None, "agreement": None}
    for names in ("ab", "ba"):
        targets = {f"y/{name}": {"a": drawn, "b": 100 * drawn}[name] for name in names}
        made = run(data=data_facts.data_facts({"x": drawn}, targets), outputs=[HEAD["outputs"][0] | {"name": name, "shape": [1]} for name in "ab"])
        made.facts |= {"losses": [{"name": "mean_squared_error", "from_logits": False}] * 2, "probe": FAILED | {"learned": False}}
        made.looks = [{"step": 30, "examples": 64, "predictions": {"a": seen | {"spread": 0.5}, "b": seen | {"spread": 50.0}}}]
        assert constant_prediction.find(made) == []
        made.looks[0]["predictions"]["b"]["spread"] = 0.5  # of 100
        assert "`b`" in one(constant_prediction, made).message


def test_the_first_layer_that_does_harm_by_its_bounds():
    layers = {name: {"saturated": share, "activation": "tanh", "units": 8} for name, share in (("one", 0.75), ("two", 0.97))}
    made = run({"loss": [2.3] * 10}, probe=FAILED | {"learned": True})
    made.looks = [{"step": step, "layers": layers} for step in (20, 40, 60, 90)]
    assert (one(saturated_activation, made).layer, one(saturated_activation, made).severity) == ("two", "warning")


@pytest.mark.parametrize("rate", [1e-3, keras.optimizers.schedules.CosineDecay(1e-3, 100)])
def test_half_precision_wraps_an_optimizer_that_keeps_its_name(rate):
    model = keras.Sequential([L.Input((4,)), L.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(rate)), "mse")
    facts = model_facts(model)["optimizer"]
    assert (facts["name"], facts["learning_rate"]) == ("Adam", pytest.approx(1e-3))
    trial = FAILED | {"verdicts": {"adam": True}, "loss": [1.0, 0.99, 0.98]}
    assert slow_convergence.find(run({"loss": np.linspace(1, 0.97, 10)}, loss=1.0, update=2.7e-3, guess=1.0, probe=trial, optimizer=facts)) == []


def test_long_runs_are_read_from_behind():
    losses = np.linspace(1, 0.1, 5000)
    made = run({"loss": losses}, pace=[{"steps": 10, "seconds": 1.0}] * 5000, every=2500)
    steps, means = pieces(made)
    assert len(steps) < 250 and steps[-1] == 49_999 and means[-1] == pytest.approx(0.1)


def test_csv_with_a_comma_too_many(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss\n0,1.0,\n1,0.5\n")
    assert Record.from_csv(tmp_path / "log.csv").logs == {"loss": [1.0, 0.5]}


def test_weights_of_examples_that_have_a_class_for_each_place():
    assert data_facts.heaviest(np.zeros((10, 5, 3)), np.ones(10)) is None
    assert data_facts.heaviest(np.zeros((10, 6, 6, 1)), np.ones(10)) is None
    assert data_facts.heaviest(np.eye(3)[[0, 1, 1]], np.ones(3)) == pytest.approx(2 / 3)


def test_weights_that_a_penalty_holds_down_are_not_for_want_of_a_function():
    found = ordered([Finding("missing-nonlinearity", "warning", None, 0, 0), Finding("regularization-too-strong", "warning", None, 0, 0)])
    assert [(f.code, f.cause) for f in found] == [("regularization-too-strong", None), ("missing-nonlinearity", "regularization-too-strong")]


def test_predictions_of_outputs_that_are_not_known():
    one_class = np.array([0] * 95 + [1] * 5)
    made = run(data=data_facts.data_facts({"x": one_class}, {"y": one_class}), outputs=[], losses=[None], probe=FAILED | {"learned": False})
    seen = {"spread": 0.01, "entropy": 0.1, "largest": 1.0, "loss": None, "agreement": None}
    made.looks = [{"step": step, "examples": 64, "predictions": {"output": seen}} for step in (30, 60)]
    assert constant_prediction.find(made) == []


def test_code_for_an_optimizer_that_modifies_another():
    model = keras.Sequential([L.Input((4,)), L.Dense(1)])
    model.compile(ours.Lookahead(ours.AdamW(keras.optimizers.schedules.CosineDecay(1e-2, 100))), "mse")
    names = runs(at_rate(run(optimizer=model_facts(model)["optimizer"]), 1e-3).split(" in ")[0], Lookahead=ours.Lookahead, AdamW=ours.AdamW)
    assert float(names["optimizer"].learning_rate) == pytest.approx(1e-3)


def test_a_fault_that_wanders_from_layer_to_layer_is_one():
    told = lambda code, layer, first, last: Finding(code, "warning", layer, first, last, message=layer)
    passed = [told("vanishing-gradient", "nine", 40, 160), told("exploding-gradient", "two", 10, 20)]
    found = module.joined(passed, [told("vanishing-gradient", "eight", 80, 250), told("overfitting", None, 0, 9)])
    assert [(f.code, f.layer, f.first_step, f.last_step) for f in found] == [
        ("vanishing-gradient", "eight", 40, 250),
        ("overfitting", None, 0, 9),
        ("exploding-gradient", "two", 10, 20),
    ]
    lost = lambda layer, severity, first, last, **evidence: Finding("non-finite", severity, layer, first, last, evidence)
    (found,) = module.joined([lost("nine", "info", 40, 60, layers=1.0)], [lost(None, "error", 200, 260, layers=9.0)])  # as far back as the last samples reach
    assert (found.layer, found.severity, found.first_step, found.last_step) == ("nine", "error", 40, 260)
    (found,) = module.joined([lost(None, "error", 40, 60, samples=3.0)], [lost("nine", "error", 200, 260, layers=9.0)])  # first the loss alone
    assert (found.layer, found.first_step, found.last_step) == ("nine", 40, 260)


def test_one_fault_in_many_layers_is_told_once():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((4,)), *(L.Dense(8, "sigmoid") for _ in range(40)), L.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    monitor = GradientMonitor(every=5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(X, np.arange(60) % 3, batch_size=4, epochs=6, verbose=0, callbacks=[monitor])
    assert [f.code for f in monitor.findings] == ["vanishing-gradient"] and len([one for one in told if "vanishes" in str(one.message)]) == 1
