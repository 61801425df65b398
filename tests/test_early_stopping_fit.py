"""`EarlyStopping` in `fit`: steps inside an epoch, what comes back with the best weights, going on after an interruption, metrics that will not come."""

import json

import keras
import numpy as np
import pytest
from conftest import SLOW_HERE, slow_here
from stopping_cases import X, Y, drive, net

from keras_optlab.callbacks import EB, GL, PQ, UP, EarlyStopping, GradientMonitor, StoppingReason
from keras_optlab.diagnosis import TrainingWarning
from keras_optlab.testing.trainings import two_replicas
from keras_optlab.training import resume
from keras_optlab.training.resume import State, save_state

RNG = np.random.default_rng(2)
MANY = RNG.normal(size=(64, 4)).astype("float32"), RNG.integers(0, 2, 64)


class Losses(keras.callbacks.Callback):
    """The loss of every batch; waits for the device each time, which the callback under test does not."""

    def on_train_begin(self, logs=None):
        self.losses, self.count = [], 0

    def on_epoch_begin(self, epoch, logs=None):
        self.sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = float(logs["loss"]) * (batch + 1)
        self.losses.append(total - self.sum)
        self.sum = total


def fit(callback, epochs=1, batch_size=1, model=None, **settings):
    losses, model = Losses(), model or net()
    model.fit(*MANY, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback, losses], **settings)
    return losses.losses, model


def test_metrics_of_training_are_looked_at_inside_an_epoch():
    """Every tenth of the patience, over the steps since: not the running mean, which would follow far behind."""
    callback, looks = EarlyStopping("loss", patience_steps=50), []
    callback._look = lambda epoch, logs: looks.append((callback._step, logs))
    losses, _ = fit(callback)
    inside = [(step, values["loss"]) for step, values in looks if "loss" in values]
    assert [step for step, _ in inside] == list(range(5, 64, 5))
    np.testing.assert_allclose([value for _, value in inside], [np.mean(losses[step - 5 : step]) for step, _ in inside], rtol=1e-4)
    accuracies = [values["accuracy"] * 5 for _, values in looks if "accuracy" in values]
    np.testing.assert_allclose(accuracies, np.round(accuracies), atol=1e-4)


def test_a_metric_with_several_values_is_passed_over():
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score(average=None)])
    callback = EarlyStopping("loss", patience_steps=10, min_delta=100.0)
    model.fit(MANY[0], np.eye(2)[MANY[1]], batch_size=1, verbose=0, callbacks=[callback])
    assert callback.stopped_step == 11


def test_looking_changes_nothing():
    watching, runs = EarlyStopping("loss", patience_steps=2, min_delta=0.1, min_delta_mode="relative"), []
    watching._verdict = lambda *_: (None, None)
    for callback in (watching, keras.callbacks.Callback()):
        model = net()
        model.set_weights([np.full((4, 2), 0.1, "float32")])
        fit(callback, epochs=2, model=model)
        runs.append((model.history.history, model.get_weights()[0].tolist()))
    assert runs[0] == runs[1] and watching.best_step > 0


def test_metrics_of_every_kind_have_the_names_and_the_values_of_the_logs():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {name: keras.layers.Dense(1, "sigmoid", name=name)(inputs) for name in ("left", "right")})
    model.compile(keras.optimizers.SGD(0.0), dict.fromkeys(("left", "right"), "binary_crossentropy"), metrics={"left": ["AUC", "mse"], "right": ["accuracy"]})
    y = {"left": MANY[1], "right": 1 - MANY[1]}
    callback, looks = EarlyStopping("loss", patience_steps=60), []
    callback._look = lambda epoch, logs: looks.append(logs)
    names = model.fit(MANY[0], y, batch_size=2, epochs=1, shuffle=False, verbose=0, callbacks=[callback]).history.keys()
    assert len(looks) == 6 and all(set(look) == set(names) for look in looks[:-1])
    for n, look in enumerate(looks[:-1]):  # the rate is 0: one model all along
        part = slice(12 * n, 12 * n + 12)
        expected = model.evaluate(MANY[0][part], {name: value[part] for name, value in y.items()}, batch_size=2, verbose=0, return_dict=True)
        assert look == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_stop_inside_an_epoch(capsys):
    callback = EarlyStopping("loss", patience_steps=8, min_delta=100.0, restore_best_weights=True, verbose=1)
    losses, model = fit(callback, epochs=3)
    assert "The weights of step 1 are back." in capsys.readouterr().out
    assert callback.stopped_step == 9 and callback.best_step == 1 and callback.wait == 8 and len(losses) == 10  # the batch that had begun is trained
    assert callback.stopping_message == f"`loss` did not improve on {callback.best:.6g} (step 1) in 8 steps." and callback.stopped_epoch == 0
    assert callback.best == pytest.approx(losses[0], rel=1e-5)
    assert int(model.optimizer.iterations) == 1  # weights and optimizer of step 1


@slow_here
def test_steps_are_counted_over_epochs():
    callback = EarlyStopping("loss", patience_steps=11, min_delta=100.0)
    fit(callback)
    assert callback.best_step == 2 and callback.stopped_step == 14  # looked at every two steps
    callback = EarlyStopping("loss", patience_steps=100, min_delta=100.0)
    losses, _ = fit(callback, epochs=9)
    assert callback.best_step == 10 and callback.stopped_step == 64 + 50 and len(losses) == 115
    shorter = EarlyStopping("loss", patience_steps=1000, min_delta=100.0)  # a look would be due after 100 steps: at the end of each epoch
    losses, _ = fit(shorter, epochs=40)
    assert shorter.best_step == 64 and shorter.stopped_step == 64 * 17 and len(losses) == 64 * 17


def test_validation_is_looked_at_at_the_end_of_epochs():
    callback = EarlyStopping("val_loss", patience_steps=100, min_delta=100.0)
    losses, _ = fit(callback, epochs=9, validation_data=MANY)
    assert (callback.best_step, callback.stopped_step, len(losses)) == (64, 192, 192)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on PyTorch")
def test_steps_per_execution_and_a_last_one_that_is_shorter():
    model = net()
    model.compile("sgd", model.loss, steps_per_execution=4)
    callback = EarlyStopping("loss", patience_steps=20, min_delta=100.0)
    model.fit(MANY[0][:60], MANY[1][:60], batch_size=4, epochs=9, verbose=0, callbacks=[callback])
    assert callback.best_step == 4 and callback.stopped_step == 15 + 12  # 15 steps an epoch


def test_warm_up_in_steps():
    callback = EarlyStopping("loss", patience_steps=10, min_delta=100.0, start_from_step=30)
    fit(callback)
    assert callback.best_step == 30 and callback.stopped_step == 40
    callback = EarlyStopping("loss", patience=1, min_delta=100.0, start_from_step=100)
    losses, _ = fit(callback, epochs=9)
    assert callback.best_epoch == 1 and len(losses) == 64 * 3


def test_the_optimizer_comes_back_with_the_weights():
    """What is trained on then is what a run of the best epoch's length would have trained on."""

    def trained(epochs, *callbacks):
        model = net()
        model.set_weights([np.full((4, 2), 0.1, "float32")])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), model.loss)
        model.fit(X, Y, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))
        return model

    class Given(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = [3.0, 1.0, 2.0, 2.0][epoch]

    callback = EarlyStopping(restore_best_weights=True, patience=9)  # the fit ends by itself
    restored, expected = trained(4, Given(), callback), trained(2)
    for one, two in zip([*restored.weights, *restored.optimizer.variables], [*expected.weights, *expected.optimizer.variables]):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(two))
    for model in (restored, expected):
        model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(restored.get_weights()[0], expected.get_weights()[0])


VALUES = [3.0, 2.0, 2.2, 1.0, 1.4, 1.2, 1.5, 1.6, 1.1, 1.7, 1.8, 1.9, 2.5, 1.3, 4.0, 5.0]
SETTINGS = [
    {"patience": 3},
    {"patience": 3, "smoothing": 0.7},
    {"patience": 5, "min_delta": 0.2, "min_delta_mode": "relative"},
    {"patience": 2, "start_from_epoch": 4},
    {"patience": 6, "baseline": 0.9},
    {"stopping_threshold": 1.0, "patience": 20},
    {"divergence_threshold": 3.5, "patience": 20},
    {"patience": 4, "monitor": ["val_loss", "val_accuracy"]},
    {"criterion": GL(60)},
    {"criterion": PQ(0.3, strip=3)},
    {"criterion": UP(2, strip=3)},
    {"criterion": EB()},
    {"monitor": "gradient_disparity", "criterion": UP(2, strip=1)},
    {"patience_steps": 30},
    {"patience_steps": 30, "start_from_step": 45, "smoothing": 0.5},
]


@pytest.mark.parametrize("settings", [SETTINGS[0], *(pytest.param(one, marks=SLOW_HERE) for one in SETTINGS[1:-1]), SETTINGS[-1]], ids=str)
def test_a_resumed_run_stops_where_an_uninterrupted_one_does(settings, tmp_path):
    """Interrupted after each epoch, in each criterion; the state goes through a file, as in a search."""
    figures = [{"val_loss": v, "gradient_disparity": v, "eb_criterion": 1.15 - v} for v in VALUES]
    logs = [one | {"loss": one["val_loss"] / 2 + 0.01 * i, "val_accuracy": [0.1, 0.2, 0.5, 0.4][i % 4]} for i, one in enumerate(figures)]
    model = net()

    def run(callback, first, last):
        callback.set_params({"steps": 10})
        for epoch in range(first, last):
            callback.on_epoch_begin(epoch)
            callback.on_train_batch_begin(9)
            model.set_weights([np.full((4, 2), epoch, "float32")])
            callback.on_epoch_end(epoch, logs[epoch])
            if model.stop_training:
                return

    def begun():
        model.stop_training = False
        callback = EarlyStopping(restore_best_weights=True, **settings)
        callback.set_model(model)
        callback.on_train_begin()
        return callback

    def end(callback):
        callback.on_train_end()
        facts = ("stopped_epoch", "stopped_step", "best_epoch", "best_step", "best", "wait", "stopping_reason", "stopping_message")
        return [getattr(callback, name) for name in facts] + [float(model.get_weights()[0][0, 0])]

    whole = begun()
    run(whole, 0, len(logs))
    expected = end(whole)
    assert whole.stopping_reason is not StoppingReason.NOT_STOPPED
    for cut in range(1, whole.stopped_epoch + 1):
        before = begun()
        run(before, 0, cut)
        save_state(tmp_path / "state.npz", model, cut, [before])
        after = begun()
        State(tmp_path / "state.npz").into_callbacks([after])
        run(after, cut, len(logs))
        assert end(after) == expected, cut


@slow_here
def test_going_on_in_fit_from_a_file(tmp_path):
    """A backup after every epoch in a callback of one's own; `set_state` before `fit`."""
    file = tmp_path / "backup.npz"

    class Killed(Exception):
        pass

    class Backup(keras.callbacks.Callback):
        def __init__(self, stopping, kill=None):
            super().__init__()
            self.stopping, self.kill = stopping, kill

        def on_epoch_end(self, epoch, logs=None):
            save_state(file, self.model, epoch + 1, [self.stopping])
            if epoch + 1 == self.kill:
                raise Killed

    def compiled():
        keras.utils.set_random_seed(0)
        model = net()
        model.compile(keras.optimizers.SGD(3.0, momentum=0.9), model.loss)
        return model

    def train(model, stopping, *callbacks, first=0):
        model.fit(X, Y, validation_split=0.5, batch_size=8, epochs=30, initial_epoch=first, shuffle=False, verbose=0, callbacks=[stopping, *callbacks])
        return stopping.stopped_epoch, stopping.best_epoch, stopping.best, model.get_weights()[0].tolist()

    settings = {"patience": 4, "restore_best_weights": True}
    expected = train(compiled(), EarlyStopping(**settings))
    assert 4 <= expected[0] < 29
    for kill in (1, expected[0] - 1):
        model, stopping = compiled(), EarlyStopping(**settings)
        with pytest.raises(Killed):
            train(model, stopping, Backup(stopping, kill))
        model, stopping = compiled(), EarlyStopping(**settings)
        first = resume(model, file)
        State(file).into_callbacks([stopping])
        assert train(model, stopping, first=first) == expected


def test_a_state_of_other_metrics_is_refused():
    state = EarlyStopping(["loss", "val_loss"]).get_state()
    with pytest.raises(ValueError, match=r"is of monitor=\['loss', 'val_loss'\], and this one has monitor='loss'"):
        EarlyStopping("loss").set_state(state)


def test_a_state_is_for_one_fit():
    callback = EarlyStopping(patience=1)
    drive(callback, [10.0, 20.0])
    state = callback.get_state()
    json.dumps({name: value for name, value in state.items() if name not in ("best_weights", "_best_optimizer")})
    callback.set_state(state)
    model = net()
    history = model.fit(X, Y, validation_split=0.5, epochs=5, verbose=0, callbacks=[callback]).history
    assert len(history["loss"]) == 1 and callback.stopping_reason is StoppingReason.NO_IMPROVEMENT  # it had stopped
    assert callback.best == 10.0 and callback.stopped_epoch == 1 and history["val_loss"][0] < 10.0
    model.fit(X, Y, validation_split=0.5, epochs=2, verbose=0, callbacks=[callback])
    assert callback.best == min(model.history.history["val_loss"])
    callback.set_state(state)
    with pytest.raises(ZeroDivisionError):
        raising = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0)
        model.fit(X, Y, validation_split=0.5, epochs=2, verbose=0, callbacks=[callback, raising])
    model.fit(X, Y, validation_split=0.5, epochs=2, verbose=0, callbacks=[callback])
    assert callback.best == min(model.history.history["val_loss"]) and callback.stopping_reason is StoppingReason.NOT_STOPPED


def told(*callbacks, **settings):
    with pytest.warns(TrainingWarning) as messages:
        net().fit(X, Y, batch_size=8, verbose=0, epochs=2, callbacks=list(callbacks), **settings)
    return [str(w.message) for w in messages if w.category is TrainingWarning]


def test_what_cannot_come_is_told_in_the_first_epoch():
    (text,) = told(EarlyStopping())
    assert text == (
        "EarlyStopping cannot stop this run: `val_loss` will not be in the logs. There are: accuracy, loss. "
        "Pass `validation_data`, or monitor a metric of training."
    )
    (text,) = told(EarlyStopping("val_acc"), validation_split=0.5)
    assert "`val_acc` will not be in the logs. There are: accuracy, loss, val_accuracy, val_loss. Did you mean 'val_accuracy'?" in text
    (text,) = told(keras.callbacks.LearningRateScheduler(lambda epoch: 0.1), EarlyStopping(["learning_rate", "val_loss"], mode="min"))
    assert "`val_loss` will not be" in text


def test_a_callback_of_the_users_may_still_bring_it():
    class Brings(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = logs["val_f1"] = 1.0 / (epoch + 1)

    class Nothing(keras.callbacks.Callback):
        pass

    lambdas = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_f1=1.0))
    for monitor, first in (
        ("val_loss", Brings()),
        ("val_f1", Brings()),
        ("val_f1", lambdas),
        ("learning_rate", keras.callbacks.LearningRateScheduler(lambda e: 0.1)),
    ):
        callback = EarlyStopping(monitor, mode="min")
        net().fit(X, Y, batch_size=8, verbose=0, epochs=2, callbacks=[first, callback])  # a warning is an error here
        assert callback.best is not None
    (text,) = told(Nothing(), EarlyStopping())
    assert "is not in the logs of epoch 1" in text


def test_validation_that_is_not_due_yet_is_no_missing_metric():
    callback = EarlyStopping(patience=2)
    net().fit(X, Y, validation_split=0.5, validation_freq=3, verbose=0, epochs=6, callbacks=[callback])
    assert callback.best is not None and callback.wait < 2


def test_beside_the_monitor():
    """On JAX both take the state out of the running step."""
    callback, monitor = EarlyStopping(["loss", "grad_norm"], patience_steps=20, min_delta=100.0, restore_best_weights=True), GradientMonitor(every=1)
    model = net()
    model.fit(*MANY, batch_size=1, epochs=3, verbose=0, callbacks=[monitor, callback])
    assert callback.best_step == 2 and callback.stopped_step == 64 + 64 and int(model.optimizer.iterations) == 2
    assert list(monitor.record.steps) == list(range(128))


@slow_here
def test_weights_in_half_precision_are_kept_and_come_back(tmp_path):
    def half():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2, dtype="bfloat16")])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    callback, model = EarlyStopping("loss", mode="max", restore_best_weights=True, patience=9), half()
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
    save_state(tmp_path / "state.npz", model, 3, [callback])
    again = EarlyStopping("loss", mode="max", restore_best_weights=True, patience=9)
    State(tmp_path / "state.npz").into_callbacks([again])
    again.set_model(fresh := half())
    fresh.optimizer.build(fresh.trainable_variables)
    again.on_train_end()
    assert int(fresh.optimizer.iterations) == 1
    for one, two in zip(model.weights, fresh.weights):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(keras.ops.cast(w, "float32")) for w in (one, two)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_two_replicas():
    with two_replicas().scope():
        model = net()
    callback = EarlyStopping("loss", patience_steps=10, min_delta=100.0, restore_best_weights=True)
    losses, model = fit(callback, batch_size=4, model=model)
    assert callback.best == pytest.approx(losses[0], rel=1e-5) and callback.stopped_step == 11
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 1
