"""Layers in an odd order, and trainings for which there may not be the memory: what is told of them, and with which weight."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_optlab
from keras_optlab.callbacks import TrainingDoctor
from keras_optlab.diagnosis import ModelWarning, Record
from keras_optlab.diagnosis.rules import layer_order, memory_limit
from keras_optlab.training import memory
from keras_optlab.training.memory import memory_facts
from keras_optlab.training.model_facts import model_facts

GIB = 2**30
X, Y = np.eye(40, 8, dtype="float32"), np.arange(40) % 4


def net(*tail, hidden=(), width=4, compiled=True):
    model = keras.Sequential([L.Input((8,)), L.Dense(16, "relu", name="first"), *hidden, L.Dense(width, name="head"), *tail])
    if compiled:
        model.compile("adam", "sparse_categorical_crossentropy")
    return model


def of(model, probe=None):
    record = Record()
    record.facts |= model_facts(model) | ({"probe": probe} if probe else {})
    return [(f.severity, f.layer, f.evidence["layers"]) for f in layer_order.find(record)]


STUCK = {"learned": False, "verdicts": {"own standardized": False, "adam": False, "standardized": False}}
LEARNED, RATE = {"learned": True, "verdicts": {}}, {"learned": False, "verdicts": {"adam": True}}
SOFT, BN = lambda: L.Softmax(name="soft"), lambda: L.BatchNormalization(name="odd")


@pytest.mark.parametrize(
    ("tail", "count"),
    [
        (lambda: [SOFT(), BN()], 1),
        (lambda: [SOFT(), L.Flatten(), L.Dropout(0.5, name="odd")], 1),
        (lambda: [SOFT(), L.Activation("sigmoid", name="odd"), L.Dropout(0.5)], 2),
        (lambda: [L.ReLU(), L.Softmax(name="odd")], 1),
        (lambda: [L.SpatialDropout1D(0.1, name="odd")], 1),
    ],
)
def test_what_stands_behind_the_head_is_odd_and_the_fault_where_nothing_is_learned(tail, count):
    hidden = [L.Reshape((4, 4))] if any(isinstance(layer, L.SpatialDropout1D) for layer in tail()) else []
    for probe, severity in ((STUCK, "warning"), (LEARNED, "info"), (RATE, "info"), (None, "info")):
        assert of(net(*tail(), hidden=hidden), probe) == [(severity, "odd", count)]


def test_layers_that_were_added_one_by_one_stand_in_an_order_too():
    model = keras.Sequential()
    for layer in (L.Input((8,)), L.Dense(4, "softmax"), BN()):
        model.add(layer)
    assert of(model, STUCK) == [("warning", "odd", 1)]


def test_between_the_last_weights_and_their_function_it_is_only_odd():
    found = of(net(BN(), L.Dropout(0.1), SOFT()), STUCK)
    assert found == [("info", "odd", 2), ("info", "head", 1)]  # whose bias does nothing


SOUND = {
    "a head with its function": lambda: net(SOFT()),
    "reshaped": lambda: net(SOFT(), L.Flatten()),
    "logits": lambda: net(),
    "before the function": lambda: net(SOFT(), hidden=[L.Dense(8, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5)]),
    "behind the function": lambda: net(SOFT(), hidden=[L.BatchNormalization(), L.Dense(8), L.ReLU(), L.BatchNormalization()]),
    "frozen": lambda: net(SOFT(), hidden=[L.Dense(8), L.BatchNormalization(trainable=False)]),
    "something unknown": lambda: net(SOFT(), L.Lambda(lambda x: 2 * x), L.Dropout(0.1)),
    "no layers known": lambda: net(keras.Sequential([L.Softmax(), L.Dropout(0.1)])),
}


@pytest.mark.parametrize("name", SOUND)
def test_usual_orders_are_left_alone(name):
    assert of(SOUND[name](), STUCK) == []


def test_one_finding_counts_the_biases_that_do_nothing():
    inputs = x = L.Input((8, 8, 3))
    for i in range(3):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", name=f"conv_{i}")(x)))
    model = keras.Model(inputs, [L.Dense(4, "softmax", name="kind")(L.Flatten()(x)), L.Dropout(0.5, name="odd")(L.Dense(1, name="size")(L.Flatten()(x)))])
    assert of(model) == [("info", "odd", 1), ("info", "conv_0", 3)]
    record = Record()
    record.facts |= model_facts(model)
    assert "`conv_0` and 2 more" in layer_order.find(record)[1].message


def told(**facts):
    record = Record()
    record.facts["memory"] = {"batch": 64, "needed": 6 * GIB, "fixed": GIB, "free": 16 * GIB} | facts
    return [(f.severity, f.evidence["threshold"] / GIB) for f in memory_limit.find(record)]


def test_memory_is_a_matter_of_what_is_free():
    assert told() == [] and told(needed=0) == [] and memory_limit.find(Record()) == []
    assert told(needed=13 * GIB) == told(needed=99 * GIB) == told(needed=99 * GIB, fixed=16 * GIB) == [("info", 0.8 * 16)]
    assert told(needed=99 * GIB, fixed=17 * GIB) == [("warning", 0.8 * 16)]


def test_what_is_taken_already_is_not_needed_any_more(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1e9)
    model = net(SOFT(), hidden=[L.Dense(1000)])
    assert memory_facts(model, 32) == {}, "so little is on every machine"
    monkeypatch.setattr(memory, "SMALL", 0)
    weights = 4 * model.count_params()
    before = memory_facts(model, 32)
    model.optimizer.build(model.trainable_variables)
    after = memory_facts(model, 32)
    assert before["fixed"] == pytest.approx(3 * weights, abs=100) and after["fixed"] == pytest.approx(weights, abs=100)
    outputs = [16, 1000, 4, 4]
    assert after["needed"] - after["fixed"] == before["needed"] - before["fixed"] == 4 * 32 * (sum(outputs) + 2 * 1000)
    monkeypatch.setattr(memory, "available_memory", lambda: np.inf)
    assert memory_facts(model, 32) == {}, "nobody knows how much there is"
    monkeypatch.setattr(memory, "distributed", lambda model: True)
    assert memory_facts(model, 32) == {}


def test_an_estimate_takes_no_names():
    keras.Variable(0.0)
    number = lambda: int(keras.Variable(0.0).name.rpartition("_")[2])
    first = number()
    memory_facts(net(SOFT()), 32)
    assert number() == first + 1


class Stop(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise InterruptedError


@pytest.mark.parametrize(("free", "severity"), [(800.0, "warning"), (9000.0, "info")])
def test_it_is_told_before_the_first_step(free, severity, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    found = keras_optlab.diagnose(net(SOFT()), X, Y)
    assert [(f.code, f.severity) for f in found] == [("memory-limit", severity), ("unreadable", "info")]
    assert "a trial may take more memory than is free" in found[-1].message
    doctor, model = TrainingDoctor(), net(SOFT())
    with pytest.raises(InterruptedError), pytest.warns(ModelWarning) if severity == "warning" else contextlib.nullcontext():
        model.fit(X, Y, batch_size=1000, verbose=0, callbacks=[doctor, Stop()])
    (finding,) = doctor.findings
    assert (finding.code, finding.severity) == ("memory-limit", severity) and doctor.record.facts["memory"]["batch"] == 40
