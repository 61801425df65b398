"""The rules that read looks: each finds its fault in a record made by hand and in a small net, and is silent on what only resembles it."""

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_optlab.diagnosis import Record, examine
from keras_optlab.diagnosis.rules import constant_prediction, dead_units, input_bound, ordered, saturated_activation, stale_batch_norm
from keras_optlab.training.look import look

STUCK = {"learned": False, "verdicts": {}, "loss": [2.3] * 30, "gain": 0.0, "rate": 0.01, "penalty": 0.0}
LEARNED = STUCK | {"learned": True, "gain": 0.9}
Y = {"name": "y", "shape": [], "nonfinite": 0.0, "integer": True, "classes": 4, "largest": 0.3, "one_hot": False, "row_sum": None}
Y |= {"min": 0.0, "max": 3.0, "std": 1.1, "rms": 1.9}
ADAM = {"name": "Adam", "learning_rate": 1e-3, "over": None}
X = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
FOUR = X[:, :4].argmax(1)


def layer(activation="relu", units=32, **numbers):
    facts = {"activation": activation, "units": units, "mean": 0.1, "std": 1.0, "zero": 0.5, "dead": None, "saturated": None, "correlation": 0.2}
    facts |= {"low": -1.0, "high": 1.0, "histogram": [1] * 20}
    return facts | ({"dead": 0.1} if activation == "relu" else {"saturated": 0.02} if activation in ("tanh", "sigmoid") else {}) | numbers


def predicted(**numbers):
    return {"spread": 0.2, "entropy": 1.0, "largest": 0.4, "loss": 0.5, "low": 0.0, "high": 1.0, "histogram": [1] * 20} | numbers


def record(steps=(0, 10, 20, 50, 100), probe=STUCK, layers=lambda i: {}, predictions=lambda i: predicted(), norms=lambda i: {}, **facts) -> Record:
    made = Record()
    for i, step in enumerate(steps):
        made.add_look(step, {"examples": 64, "seconds": 0.002, "layers": layers(i), "predictions": predictions(i), "batch_norm": norms(i)})
    made.facts |= {"outputs": [{"name": "y", "shape": [4], "layer": "head", "activation": "softmax"}], "data": {"x": [], "y": [Y], "examples": 64}}
    made.facts |= {"losses": [{"name": "sparse_categorical_crossentropy", "from_logits": False}], "optimizer": ADAM, "probe": probe, **facts}
    return made


def severities(rule, made):
    return [(f.severity, f.layer) for f in rule.find(made)]


FULL = {"a": layer("relu"), "b": layer("tanh", saturated=0.95), "c": layer("tanh", saturated=0.99), "head": layer("softmax")}


def test_a_saturated_layer_is_the_first_one():
    (found,) = saturated_activation.find(record(layers=lambda i: FULL))
    assert (found.severity, found.layer, found.first_step, found.last_step) == ("warning", "b", 0, 100)
    assert found.evidence == {"share": 0.95, "threshold": 0.7} and "tanh" in found.message and "keras.layers" in found.advice


def test_what_learns_is_saturated_for_information_alone():
    assert severities(saturated_activation, record(layers=lambda i: FULL, probe=LEARNED)) == [("info", "b")]


@pytest.mark.parametrize(("losses", "severity"), [([2.3, 2.2, 2.25], "warning"), ([2.3, 2.0, 1.5], "info"), ([9.0, 2.0, 2.5], "info")])
def test_a_run_that_learns_a_batch_but_not_the_data_is_sick_of_it(losses, severity):
    """The last layer learns a batch from whatever numbers the others give."""
    made = record(layers=lambda i: FULL, probe=LEARNED)
    made.logs["loss"] = losses
    assert severities(saturated_activation, made) == [(severity, "b")]
    early = record(layers=lambda i: FULL, probe=LEARNED, steps=(0, 10))
    early.logs["loss"] = losses
    assert severities(saturated_activation, early) == [("info", "b")]


def test_a_single_look_late_in_a_run_is_enough():
    assert severities(saturated_activation, record(layers=lambda i: FULL, steps=(300,))) == [("warning", "b")]
    assert severities(dead_units, record(layers=lambda i: DEAD, steps=(300,))) == [("warning", "one")]
    assert severities(constant_prediction, record(predictions=FLAT, steps=(300,))) == [("warning", None)]


@pytest.mark.parametrize(
    "layers",
    [
        lambda i: {"b": layer("tanh", saturated=0.6)},
        lambda i: {"b": layer("tanh", saturated=0.95 if i == 4 else 0.1)},  # it has come there with time
        lambda i: {"b": layer("tanh", saturated=0.95 if i < 4 else 0.1)},  # and this has left it
        lambda i: {"a": layer("relu"), "head": layer("sigmoid", saturated=1.0)},
        lambda i: {"b": layer("tanh", saturated=None)},
    ],
)
def test_what_is_not_saturated(layers):
    assert saturated_activation.find(record(layers=layers)) == [] == saturated_activation.find(record(steps=()))


FLAT = lambda i: predicted(spread=1e-6, largest=1.0)


def test_predictions_that_do_not_depend_on_the_input():
    (found,) = constant_prediction.find(record(predictions=FLAT))
    assert (found.severity, found.first_step, found.last_step, found.evidence["spread"], found.evidence["threshold"]) == ("warning", 20, 100, 1e-6, 1e-3)
    numbers = Y | {"classes": None, "largest": None, "std": 50.0}
    few = lambda i: predicted(spread=0.03, largest=None, entropy=None)
    assert constant_prediction.find(record(predictions=few, data={"y": [numbers]})) and not constant_prediction.find(record(predictions=few))
    assert constant_prediction.find(record(predictions=lambda i: predicted(spread=0.02, largest=1.0)))  # one class for each
    several = lambda i: {"spread": predicted(), "other": FLAT(i)}  # an output may have any name
    (found,) = constant_prediction.find(record(predictions=several, data={"y": [Y, Y]}))
    assert "`other`" in found.message


@pytest.mark.parametrize(
    "made",
    [
        lambda: record(predictions=FLAT, probe=LEARNED),
        lambda: record(),
        lambda: record(predictions=FLAT, steps=(0, 10)),
        lambda: record(predictions=lambda i: FLAT(i) if i < 4 else predicted()),
        lambda: record(predictions=lambda i: predicted(largest=1.0)),
        lambda: record(predictions=FLAT, data={"y": [Y | {"largest": 0.95}]}),
        lambda: record(predictions=FLAT, data={"y": [Y | {"std": 0.0}]}),
        lambda: record(predictions=lambda i: predicted(spread=None)),
    ],
)
def test_what_is_no_constant_prediction(made):
    assert constant_prediction.find(made()) == []


def test_a_constant_prediction_follows_from_what_is_lost_before():
    found = ordered(constant_prediction.find(record(predictions=FLAT)) + saturated_activation.find(record(layers=lambda i: FULL)))
    told = [(f.code, f.severity, f.cause) for f in found]
    assert told == [("saturated-activation", "warning", None), ("constant-prediction", "info", "saturated-activation")]


STALE, FRESH = {"mean_gap": 0.5, "variance_ratio": 0.01}, {"mean_gap": 0.1, "variance_ratio": 1.1}


def normalized(norms, used, trained=0.3, **facts):
    made = record(probe=LEARNED, norms=lambda i: norms, predictions=lambda i: predicted(loss=used), **{"guess": 1.4} | facts)
    made.logs["loss"] = [1.2, 0.6, trained]
    return made


def test_statistics_that_lag_behind():
    (found,) = stale_batch_norm.find(normalized({"one": FRESH, "two": STALE, "three": STALE}, used=1.9))
    assert (found.severity, found.layer, found.evidence["layers"], found.last_step) == ("warning", "two", 2, 100) and "and 1 more" in found.message
    assert [f.severity for f in stale_batch_norm.find(normalized({"two": STALE}, used=1.9, epochs=1000))] == ["info"]
    assert stale_batch_norm.find(normalized({"two": STALE}, used=1e6))


def test_where_the_look_has_no_loss_the_validation_tells():
    made = normalized({"two": STALE}, used=None)
    assert stale_batch_norm.find(made) == []
    made.logs["val_loss"] = [1.3, 1.5, 2.0]
    assert stale_batch_norm.find(made)
    made.logs["val_loss"] = [1.0, 0.7, 0.5]
    assert stale_batch_norm.find(made) == []


@pytest.mark.parametrize(
    "made",
    [
        lambda: normalized({"one": FRESH}, used=1.9),  # overfitting, or small batches
        lambda: normalized({"one": STALE}, used=0.5),  # stale, without harm
        lambda: normalized({"one": STALE}, used=1.9, trained=1.3),  # nothing is learned in training either
        lambda: normalized({"one": {"mean_gap": None, "variance_ratio": None}}, used=1.9),
        lambda: normalized({}, used=1.9),
        lambda: normalized({"one": STALE}, used=1.9, trained=np.nan),
        lambda: record(norms=lambda i: {"one": STALE}),
    ],
)
def test_what_is_not_stale(made):
    assert stale_batch_norm.find(made()) == []


def paced(milliseconds=40.0, **facts):
    made = record(probe=LEARNED, **facts)
    made.pace = [{"steps": 20, "seconds": 5.0}, *({"steps": 20, "seconds": 0.02 * one} for one in (1.2 * milliseconds, milliseconds, 3 * milliseconds))]
    return made


def test_waiting_for_input():
    (found,) = input_bound.find(paced())
    assert (found.severity, found.first_step, found.last_step) == ("warning", 40, 60)
    assert found.evidence["seconds"] == pytest.approx(0.04) and found.evidence["computing"] == pytest.approx(0.0105) and found.evidence["waiting"] > 0.5
    idle = paced(15)
    assert input_bound.find(idle) == []
    for epoch in idle.pace:
        epoch["cpu"] = 0.1 * epoch["seconds"]
    assert input_bound.find(idle)
    for epoch in idle.pace:
        epoch["cpu"] = 0.5 * epoch["seconds"]
    assert input_bound.find(idle) == []


@pytest.mark.parametrize(
    "made",
    [
        lambda: paced(20),
        lambda: paced(optimizer=ADAM | {"name": "SOAP"}),
        lambda: paced(losses=[None]),
        lambda: paced(data={"y": [], "examples": 512}),  # eight times what was looked at
        lambda: record(),
    ],
)
def test_what_is_no_waiting(made):
    assert input_bound.find(made()) == []


def test_the_first_epoch_and_short_ones_say_nothing_of_the_pace():
    made = paced()
    made.pace = made.pace[:1]
    assert input_bound.find(made) == []
    made.pace += [{"steps": 4, "seconds": 4.0}]
    assert input_bound.find(made) == []


DEAD = {"one": layer(dead=1.0), "two": layer(dead=1.0), "head": layer("softmax")}


def test_dead_units_are_in_the_first_layer_that_is_off():
    (found,) = dead_units.find(record(layers=lambda i: DEAD))
    assert (found.severity, found.layer, found.first_step, found.last_step) == ("warning", "one", 0, 100) and "steps 50, 100" in found.message
    (found,) = dead_units.find(record(layers=lambda i: DEAD if i > 1 else {"one": layer(), "two": layer()}))
    assert found.first_step == 20
    made = record(layers=lambda i: DEAD)
    made.loss = [2.0, 0.5]
    assert severities(dead_units, made) == [("info", "one")]


@pytest.mark.parametrize(
    "made",
    [
        lambda: record(layers=lambda i: {"one": layer(dead=0.8)}),
        lambda: record(layers=lambda i: DEAD, steps=(0, 5, 10)),
        lambda: record(layers=lambda i: DEAD if i == 4 else {"one": layer()}),
        lambda: record(layers=lambda i: {"one": layer(dead=1.0, units=3)}),
        lambda: record(layers=lambda i: {"one": layer("gelu")}),
    ],
)
def test_what_is_not_dead(made):
    assert dead_units.find(made()) == []


def net(*hidden, optimizer="sgd"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,)), *hidden, L.Dense(4, "softmax", name="head")])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def looked_at(model, probe=STUCK, fits=(), **facts) -> Record:
    """Looks before, between and after some fits."""
    made = record(steps=(), probe=probe, **facts)
    made.add_look(0, look(model, X[:64], FOUR[:64]))
    for step in fits:
        history = model.fit(X, FOUR, batch_size=32, epochs=1, verbose=0).history
        made.logs.setdefault("loss", []).extend(history["loss"])
        made.add_look(step, look(model, X[:64], FOUR[:64]))
    return made


def codes(made):
    return [(f.code, f.severity, f.layer) for f in examine(made) if f.code != "loss-not-decreasing"]


WIDE = keras.initializers.RandomNormal(stddev=20.0, seed=0)


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (lambda: [L.Dense(16, "tanh", kernel_initializer=WIDE, name="full"), L.Dense(16, "tanh", name="after")], ("saturated-activation", "full")),
        (lambda: [L.Dense(16, "sigmoid", bias_initializer=keras.initializers.Constant(50.0), name="full")], ("saturated-activation", "full")),
        (lambda: [L.Dense(16, "tanh", name="usual")], None),
        (lambda: [L.Dense(16, "sigmoid", name="usual")], None),
    ],
)
def test_saturation_of_a_net(hidden, expected):
    found = codes(looked_at(net(*hidden())))
    assert found == ([(expected[0], "warning", expected[1])] if expected else [])


def test_a_net_that_is_dead_from_the_start():
    model = net(L.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-30.0), name="off"), L.Dense(16, "relu", name="after"))
    made = looked_at(model, fits=(20, 50))
    assert [(f.code, f.layer, f.cause) for f in examine(made) if f.code in ("dead-units", "constant-prediction")] == [
        ("dead-units", "off", None),
        ("constant-prediction", None, "dead-units"),
    ]
    assert codes(looked_at(net(L.Dense(16, "relu"), L.Dense(16, "relu")), fits=(20, 50))) == []


@pytest.mark.parametrize(("momentum", "expected"), [(0.9995, [("stale-batch-norm", "warning", "norm")]), (0.8, [])])
def test_a_net_of_stale_statistics(momentum, expected):
    model = net(L.Dense(32, bias_initializer=keras.initializers.Constant(30.0)), L.BatchNormalization(momentum=momentum, name="norm"), L.ReLU())
    model.optimizer.learning_rate = 0.1
    assert codes(looked_at(model, LEARNED, fits=range(8, 80, 8), guess=float(np.log(4)))) == expected


@pytest.mark.parametrize(("rms", "severity"), [(2.0, "warning"), (5e4, "info")])
def test_what_strives_for_large_targets_is_no_cause(rms, severity):
    made = record(layers=lambda i: FULL)
    target = {"name": "y", "shape": [1], "integer": False, "classes": None, "rms": rms, "max": 2 * rms, "min": 0.0}
    made.facts |= {"losses": [{"name": "mean_squared_error", "from_logits": False}], "data": {"y": [target]}}
    assert severities(saturated_activation, made) == [(severity, "b")]
