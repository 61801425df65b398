"""The doctor in `fit`: it says what `diagnose` says, is silent while a run learns, and the training is what it is without it."""

import contextlib
import copy
import json
import warnings

import keras
import numpy as np
import pytest
from conftest import BACKEND, SLOW_HERE, slow_here
from keras import layers as L
from keras.optimizers import SGD, Adam
from monitor_cases import same, values
from test_diagnose import DIGITS, FORM, FOUR, TRIAL, TWO, X, net

from keras_optlab.callbacks import TrainingDoctor
from keras_optlab.diagnosis import DataWarning, GradientWarning, ModelWarning, TrainingWarning
from keras_optlab.diagnosis.rules import dead_units
from keras_optlab.testing.trainings import two_replicas
from keras_optlab.training import probe
from keras_optlab.training.instrument import Sample

BINARY = {"units": 1, "activation": "softmax", "loss": "binary_crossentropy"}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", np.inf)


def trained(model, x=X, y=FOUR, doctor=None, raises=(), **arguments):
    """The doctor, and what it has warned of."""
    doctor = doctor or TrainingDoctor()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(raises):
            model.fit(x, y, **{"epochs": 3, "batch_size": 32, "verbose": 0} | arguments | {"callbacks": [*arguments.get("callbacks", ()), doctor]})
    return doctor, [w for w in told if issubclass(w.category, TrainingWarning)]


def alarms(doctor):
    return [f.code for f in doctor.findings if f.severity != "info"]


REACHED = [one for one in FORM if len(one[2]) == len(one[3]) and one[1].get("units") != 2]  # others `fit` refuses before any callback
SOME = 3, 10, 17


@pytest.mark.parametrize(("code", "model", "x", "y"), [pytest.param(*one, marks=[] if i in SOME else [pytest.mark.slow]) for i, one in enumerate(REACHED)])
def test_what_form_alone_tells(code, model, x, y):
    doctor, told = trained(net(**model), x, y, raises=Exception)  # as some backends do for labels that do not exist
    assert alarms(doctor)[0] == code and len(told) == len({str(w.message) for w in told}) and issubclass(told[0].category, (DataWarning, ModelWarning))


@pytest.mark.parametrize(("code", "make", "x"), [pytest.param(*one, marks=[] if i == 3 else [pytest.mark.slow]) for i, one in enumerate(TRIAL)])
def test_what_a_trial_tells(code, make, x):
    doctor, told = trained(make(), x, DIGITS, epochs=2)
    assert alarms(doctor)[0] == code and told


@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_what_learns_is_left_alone(epochs):
    for model, x, y in ((net(), X, FOUR), (net(activation="sigmoid", loss="categorical_crossentropy"), X, np.eye(4)[FOUR]), (net(), 20 * X, FOUR)):
        doctor, told = trained(model, x, y, epochs=epochs)
        assert alarms(doctor) == [] and told == []


def test_a_run_that_learns_well_is_not_tried():
    doctor, _ = trained(net(), epochs=12)
    assert "probe" not in doctor.record.facts and "data" in doctor.record.facts


@slow_here
def test_a_finding_is_told_once_and_withdrawn_when_the_run_learns():
    model, doctor = net(optimizer=SGD(1e-7)), TrainingDoctor()
    _, told = trained(model, doctor=doctor, epochs=9)
    assert alarms(doctor) == ["learning-rate-too-low"] and len(told) == 1
    assert trained(model, doctor=doctor, epochs=2)[1] == []  # the same optimizer: not tried again
    model.optimizer.learning_rate = 0.5
    _, told = trained(model, doctor=doctor, epochs=60)
    assert alarms(doctor) == [] and told == []


@pytest.mark.parametrize(
    "optimizer", [pytest.param(lambda: Adam(1e-2), marks=SLOW_HERE), pytest.param(lambda: SGD(1e-9, momentum=0.9), id="stuck, and so tried")]
)
def test_the_training_is_bit_for_bit_the_same(optimizer):
    def ended(callbacks):
        model = net(optimizer=optimizer(), dropout=0.2)
        logs = model.fit(X, FOUR, epochs=8, batch_size=32, verbose=0, validation_split=0.2, callbacks=callbacks).history
        metrics = model.get_metrics_result()
        after = model.fit(X, FOUR, epochs=1, batch_size=32, verbose=0).history  # random numbers go on as without it
        return values(model), {k: v for k, v in logs.items() if k not in ("grad_norm", "alarms")}, after, metrics

    doctor = TrainingDoctor(every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        watched = ended([doctor])
    plain = ended([])
    assert same(plain[0], watched[0]) and plain[1:] == watched[1:]
    assert ("probe" in doctor.record.facts) == (float(doctor.record.learning_rate[0]) < 1e-3)


def test_alarms_are_in_the_logs():
    model = net(optimizer=SGD(1e-9))
    with pytest.warns(TrainingWarning, match="learning rate"):
        history = model.fit(X, FOUR, epochs=9, batch_size=32, verbose=0, callbacks=[TrainingDoctor()]).history
    assert history["alarms"][0] == 0 and history["alarms"][-1] == 1


def test_a_model_that_its_first_batch_builds():
    model = keras.Sequential([L.Dense(8, "relu"), L.Dense(1, "softmax")])
    model.compile("adam", "mse")
    assert alarms(trained(model, y=TWO, epochs=1)[0]) == ["wrong-head"]


def batches():
    while True:
        yield X[:32], TWO[:32], np.ones(32)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[32 * i : 32 * i + 32], TWO[32 * i : 32 * i + 32]


@pytest.mark.parametrize("data", [batches, Batches])
def test_data_that_come_in_batches(data):
    doctor, told = trained(net(**BINARY), data(), None, batch_size=None, steps_per_epoch=3)
    assert alarms(doctor) == ["wrong-head"] and len(told) == 1
    assert doctor.record.facts["data"]["examples"] == 32 and doctor.record.facts["data"]["y"][0]["classes"] == 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what only TensorFlow has")
@pytest.mark.parametrize("several", [1, 3])
def test_tf_data(several):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, FOUR + 1)).batch(32)
    doctor, told = trained(net(5, steps_per_execution=several), data, None, batch_size=None, epochs=1)
    assert doctor.record.facts["data"]["y"][0]["max"] == 4 and alarms(doctor) == []


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="what only TensorFlow has")
def test_replicas():
    with two_replicas().scope():
        model = net(**BINARY)
    doctor, told = trained(model, y=TWO)
    assert alarms(doctor) == ["wrong-head"] and doctor.record.facts["data"]["examples"] == 256
    with two_replicas().scope():
        model = net(optimizer=SGD(1e-9))
    doctor, _ = trained(model, epochs=9)  # not tried, so that less can be told
    assert "probe" not in doctor.record.facts


def test_mixed_precision_and_several_steps_at_once():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = net(optimizer=SGD(1e-9), **({} if BACKEND == "torch" else {"steps_per_execution": 4}))
    finally:
        keras.config.set_dtype_policy("float32")
    assert alarms(trained(model, epochs=9)[0]) == ["learning-rate-too-low"]


class OwnStep(keras.Sequential):
    taken = 0

    def train_step(self, *arguments):
        OwnStep.taken += 1
        return super().train_step(*arguments)


def test_a_step_of_the_users_own_is_not_tried():
    model = OwnStep([L.Input((8,)), L.Dense(4, "softmax")])
    model.compile(SGD(1e-9), "sparse_categorical_crossentropy")
    doctor, _ = trained(model, epochs=9)
    assert "probe" not in doctor.record.facts and len(doctor.record)


def test_a_loop_around_train_on_batch():
    model = net(optimizer=SGD(1e-9))
    plain = net(optimizer=SGD(1e-9))
    with pytest.warns(TrainingWarning, match="learning rate"), TrainingDoctor().watch(model) as doctor:
        for _ in range(60):
            for one in (model, plain):
                one.train_on_batch(X[:64], FOUR[:64])
    assert alarms(doctor) == ["learning-rate-too-low"] and doctor.record.steps[-1] == 50
    assert same(values(model), values(plain))
    with pytest.raises(ZeroDivisionError), TrainingDoctor().watch(model):
        model.train_on_batch(X[:64], FOUR[:64])
        raise ZeroDivisionError
    assert type(model.train_function).__name__ != "Switch"


@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_callbacks_driven_by_hand():
    model = net(**BINARY)
    doctor = TrainingDoctor(every=2)
    callbacks = keras.callbacks.CallbackList([doctor], model=model)
    with pytest.warns(DataWarning, match="softmax over one unit"):
        callbacks.on_train_begin()
        for step in range(6):
            callbacks.on_train_batch_begin(step)
            callbacks.on_train_batch_end(step, model.train_on_batch(X[:32], TWO[:32], return_dict=True))
        callbacks.on_train_end()
    assert alarms(doctor) == ["wrong-head"] and len(doctor.record)


def test_two_doctors_and_a_doctor_that_goes_on():
    one, other = TrainingDoctor(), TrainingDoctor(every=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        net(optimizer=SGD(1e-9)).fit(X, FOUR, epochs=9, batch_size=32, verbose=0, callbacks=[one, other])
    assert alarms(one) == alarms(other) == ["learning-rate-too-low"]
    third = TrainingDoctor()
    third.set_state(copy.deepcopy(one.get_state()))
    assert third.findings == one.findings


def test_it_never_harms_a_run(monkeypatch):
    class Raises(keras.losses.Loss):
        def call(self, y, p):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        net(loss=Raises()).fit(X, FOUR, verbose=0, callbacks=[TrainingDoctor()])
    with pytest.raises(ValueError, match=r"TrainingDoctor\(ignore=\.\.\.\).*Did you mean 'dead-units'"):
        TrainingDoctor(ignore=["dead_units"])
    monkeypatch.undo()  # of what lets a rule that fails fail the test
    for failing, name, what in ((dead_units, "find", "what `dead-units` asks for"), (Sample, "read", "a measured step")):
        with monkeypatch.context() as patched:
            patched.setattr(failing, name, lambda given: 1 / 0)
            doctor, _ = trained(net(**BINARY), y=TWO)
        assert doctor.findings[0].code == "wrong-head" and [what in f.message for f in doctor.findings if f.code == "unreadable"] == [True]
    doctor, told = trained(net(**BINARY), y=TWO, doctor=TrainingDoctor(ignore=["wrong-head"]))
    assert "wrong-head" not in alarms(doctor)


def test_what_is_compiled_anew_begins_anew():
    model, doctor = net(optimizer=SGD(1e4)), TrainingDoctor()
    trained(model, doctor=doctor)
    assert alarms(doctor)
    sound = net()
    _, told = trained(sound, doctor=doctor)
    assert alarms(doctor) == [] and told == [] and doctor.record.steps[0] == 0 and len(doctor.record.logs["loss"]) == 3
    trained(sound, doctor=doctor)
    assert len(doctor.record.logs["loss"]) == 6
    sound.optimizer.iterations.assign(4)  # as callbacks do that put the best weights back
    trained(sound, doctor=doctor)
    assert len(doctor.record.logs["loss"]) == 9 and sorted(doctor.record.steps) == doctor.record.steps
    sound.optimizer.iterations.assign(0)  # as weights that are loaded may do
    trained(sound, doctor=doctor)
    assert len(doctor.record.logs["loss"]) == 3 and doctor.record.facts["data"]["examples"] == len(X)
    sound.compile(SGD(1e4), sound.loss)
    _, told = trained(sound, doctor=doctor)
    assert alarms(doctor) and told


def test_what_had_been_learned_is_lost_all_the_same():
    class Lost(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == 15:
                kernel = self.model.layers[-1].kernel
                kernel.assign(np.nan * np.ones(kernel.shape))

    doctor, told = trained(net(), doctor=TrainingDoctor(every=2), epochs=4, callbacks=[Lost()])
    assert alarms(doctor) == ["non-finite"] and [w.category for w in told] == [GradientWarning]


def test_classes_of_a_stream_are_counted_batch_by_batch():
    classes = np.random.default_rng(0).choice(4, 2048, p=[0.85, 0.05, 0.05, 0.05])
    data = [(np.eye(4, dtype="float32")[classes[i : i + 32]], classes[i : i + 32]) for i in range(0, 2048, 32)]
    doctor = TrainingDoctor(every=4)
    trained(net(4, shape=(4,)), Batches(data), None, doctor, batch_size=None)
    assert doctor.record.facts["guess"] == pytest.approx(0.588, abs=0.03) and "batch_size" not in doctor.record.facts


def test_sequences_of_other_lengths_are_counted_as_far_as_that_goes():
    drawn = np.random.default_rng(0)
    data = [(drawn.normal(size=(32, length, 4)).astype("float32"), drawn.integers(0, 3, (32, length))) for length in (6, 4, 3, 5)]
    model = keras.Sequential([L.Input((None, 4)), L.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    doctor, _ = trained(model, Batches(data), None, TrainingDoctor(every=1), batch_size=None, epochs=1)
    assert doctor.record.facts["batches"]["seen"] == 4 and [f for f in doctor.findings if f.code == "unreadable"] == []


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def test_categories():
    from keras_optlab.diagnosis.rules import category

    assert [category(code) for code in ("bad-labels", "dropout-too-high", "dead-units", "learning-rate-too-low")] == [
        DataWarning,
        ModelWarning,
        GradientWarning,
        TrainingWarning,
    ]


def test_activations_and_pace_are_in_the_record(monkeypatch):
    from keras_optlab.callbacks import training_doctor

    monkeypatch.setattr(training_doctor, "LOOKS", np.inf)
    doctor, _ = trained(net(), epochs=4, validation_split=0.25)
    assert [one["step"] for one in doctor.record.looks] == [6, 12, 18, 24] and "dense" in " ".join(doctor.record.looks[0]["layers"])
    assert [one["steps"] for one in doctor.record.pace] == [6] * 4 and all(one["cpu"] > 0 for one in doctor.record.pace)  # no GPU is needed for tests
    monkeypatch.setattr(training_doctor, "LOOKS", 0.0)
    monkeypatch.setattr(training_doctor, "SLOW", np.inf)  # on a busy machine every step is slow
    assert trained(net(), epochs=12)[0].record.looks == []
    assert len(trained(net(optimizer=SGD(1e-9)))[0].record.looks) == 1  # at the end of what brought nothing


def test_reports(tmp_path):
    doctor, _ = trained(net(optimizer=SGD(1e-9)), epochs=9)
    told = doctor.report(tmp_path / "run.html")
    assert "learning-rate-too-low" in told and "learning-rate-too-low" in (tmp_path / "run.html").read_text()
    doctor.report(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["findings"][0]["code"] == "learning-rate-too-low"
    with pytest.raises(ValueError, match=r'must end in "\.html" or "\.json"\. Received: \'run\.txt\''):
        doctor.report("run.txt")
    assert "No findings" in TrainingDoctor().report()
