"""Hypermodels and tuners as KerasTuner's guides write them, and what users get wrong in them."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_optlab.search import Oracle, Tuner, store

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
CLASSES = np.eye(2, dtype="float32")[Y]

pytestmark = pytest.mark.usefixtures("quick_collections")


def build(hp, loss="sparse_categorical_crossentropy", metrics=("accuracy",)):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9)), keras.layers.Dense(2, "softmax")])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-2, 1.0, sampling="log")), loss, metrics=list(metrics), run_eagerly=True)
    return model


@pytest.fixture
def settings(tmp_path):
    return {"objective": "val_accuracy", "sampler": "random", "seed": 0, "directory": str(tmp_path), "project_name": "project"}


class Loop(keras_tuner.HyperModel):
    """A training of one's own that tells the callbacks the model and the ends of the epochs, and nothing else."""

    def build(self, hp):
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9)), keras.layers.Dense(1)])

    def fit(self, hp, model, x, y, callbacks=None, epochs=9, **kwargs):
        for callback in callbacks:
            callback.set_model(model)
        losses = []
        for epoch in range(epochs):
            losses.append(float(hp.get("units") / (epoch + 1)))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": losses[-1]})
            if getattr(model, "stop_training", False):
                break
        return min(losses)


@pytest.mark.parametrize(("pruner", "ends"), [(None, {"COMPLETED"}), ("asha", {"COMPLETED", "STOPPED"})])
def test_an_own_loop_that_calls_the_callbacks(pruner, ends, settings):
    tuner = Tuner(Loop(), max_trials=4, pruner=pruner, **settings | {"objective": keras_tuner.Objective("my_metric", "min")})
    tuner.search(X, Y, epochs=9, verbose=0)
    records = tuner.records()
    assert {record["status"] for record in records} == ends
    assert all(record["score"] == record["values"]["units"] / 9 for record in records if record["status"] == "COMPLETED")
    assert len(tuner.get_best_models()) == 1


@pytest.mark.parametrize("objective", ["val_accuracy", keras_tuner.Objective("val_f1_score", "max")])
def test_a_metric_with_a_value_for_each_class_counts_with_its_mean(objective, settings):
    metrics = lambda: ("accuracy", keras.metrics.F1Score())
    tuner = Tuner(lambda hp: build(hp, "categorical_crossentropy", metrics()), max_trials=2, executions_per_trial=2, **settings | {"objective": objective})
    tuner.search(X, CLASSES, validation_data=(X, CLASSES), epochs=2, verbose=0)
    for record in tuner.records():
        assert record["status"] == "COMPLETED" and len(record["curve"]["val_f1_score"]) == 2 and 0 <= record["score"] <= 1
    model = tuner.get_best_models()[0]
    model.compile(loss="categorical_crossentropy", metrics=metrics())
    found, best = model.evaluate(X, CLASSES, verbose=0, return_dict=True), tuner.oracle.get_best_trials()[0]
    expected = np.mean(found[tuner.oracle.objective.name.removeprefix("val_")])
    assert any(one["score"] == pytest.approx(expected, abs=1e-5) for one in tuner.oracle.records[best.trial_id]["executions"])


@pytest.mark.parametrize("callbacks", [keras.callbacks.EarlyStopping(), [keras.callbacks.EarlyStopping]])
def test_callbacks_that_are_none_end_the_search_before_a_training(callbacks, settings):
    tuner = Tuner(build, max_trials=3, **settings)
    with pytest.raises(FatalTypeError, match="`callbacks` must be a list of instances"):
        tuner.search(X, Y, validation_data=(X, Y), callbacks=callbacks, verbose=0)
    tuner.search(X, Y, validation_data=(X, Y), verbose=0)
    assert [record["status"] for record in tuner.records()] == ["COMPLETED"] * 3


def test_a_fit_that_keeps_the_callbacks_for_itself_cannot_be_pruned(settings):
    class Deaf(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, callbacks=None, **kwargs):
            return model.fit(*args, **kwargs)

    with pytest.raises(FatalValueError, match="`pruner` needs .* Received: a `HyperModel.fit` that does not hand `callbacks` on"):
        Tuner(Deaf(), pruner="asha", max_trials=3, **settings).search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)


def test_what_models_are_compiled_with_may_be_said_once(settings):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    seen = []

    def watched(hp):
        seen.append(tf.distribute.get_strategy())
        return build(hp)

    given = {"optimizer": keras.optimizers.Adam(0.02), "loss": "categorical_crossentropy", "metrics": ["accuracy", "mae"]}
    tuner = Tuner(watched, max_trials=2, distribution_strategy=strategy, **given, **settings)
    tuner.search(X, CLASSES, validation_data=(X, CLASSES), verbose=0)
    assert [record["status"] for record in tuner.records()] == ["COMPLETED"] * 2
    assert all("val_mae" in record["curve"] for record in tuner.records()) and strategy in seen
    model = tuner.get_best_models()[0]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02) and model.optimizer is not given["optimizer"]


def test_what_fit_declares_otherwise_after_a_restart_is_told_once(settings, caplog):
    class Hyper(keras_tuner.HyperModel):
        sizes = [8, 16]

        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            size = hp.Choice("batch_size", self.sizes)
            with hp.conditional_scope("batch_size", [8]):
                hp.Float("mix", 0.0, 0.5)
            return model.fit(*args, batch_size=size, **kwargs)

    def told(**given):
        caplog.clear()
        hypermodel = Hyper()
        hypermodel.sizes = given.pop("sizes")
        Tuner(hypermodel, **given, **settings).search(X, Y, validation_data=(X, Y), verbose=0)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    assert told(sizes=[8, 16], max_trials=2) == [] == told(sizes=[8, 16], max_trials=3)
    [message] = told(sizes=[4, 32], max_trials=5)
    assert "`batch_size` was Choice(" in message and "values=[8, 16]" in message and "is Choice(" in message and "values=[4, 32]" in message
    assert all(record["status"] == "COMPLETED" for record in store.read(f"{settings['directory']}/project")["trials"])
    assert {record["values"]["batch_size"] for record in store.read(f"{settings['directory']}/project")["trials"]} <= {8, 16}
    ranges = keras_tuner.HyperParameters()
    ranges.Choice("batch_size", [16, 32])
    settings["project_name"] = "given"
    assert told(sizes=[8, 16], max_trials=2, hyperparameters=ranges) == []


def test_failures_throughout_are_told_once(settings, caplog):
    def broken(hp):
        if hp.Float("rate", 0.0, 1.0) >= 0 and len(hp.space) and broken.ready:
            raise RuntimeError("no such file")
        return build(hp)

    broken.ready = False
    tuner = Tuner(broken, max_trials=12, **settings)
    broken.ready = True
    tuner.search(X, Y, verbose=0)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["The first 10 trials have all failed, and the search goes on. The last one failed with: RuntimeError: no such file"]


def test_a_users_own_files_in_the_folder_of_a_project_stay(settings):
    tuner = Tuner(build, max_trials=2, **settings)
    theirs = [f"{tuner.project_dir}/{name}" for name in ("checkpoint_mine.keras", "checkpoint_2024-01.npz", "record_of_2024.json", "state_of_the_art.txt")]
    for name in theirs:
        open(name, "w").close()
    folder = Path(tuner.project_dir, "checkpoint_0077.1.npz")
    folder.mkdir()
    tuner.search(X, Y, validation_data=(X, Y), verbose=0)
    Tuner(build, overwrite=True, **settings)
    for name in theirs:
        open(name).close()
    assert folder.is_dir()


def test_the_first_worker_declares_the_space_while_the_second_one_waits(tmp_path):
    oracle = Oracle("gp", max_trials=3, seed=0, path=tmp_path / "search.sqlite3")
    first = oracle.create_trial("one")
    assert oracle.create_trial("two").status == "IDLE"
    first.hyperparameters.Float("x", 0.0, 1.0)
    oracle.update_trial(first.trial_id, {"default_objective": 1.0})
    first.status = "COMPLETED"
    oracle.end_trial(first)
    assert [oracle.create_trial(name).status for name in ("two", "one")] == ["RUNNING", "RUNNING"]
    oracle.release()


def test_a_mistake_that_ended_the_first_trial_can_be_mended(settings):
    with pytest.raises(FatalValueError, match="Received: objective='val_acc', reported: accuracy, loss, val_accuracy, val_loss"):
        Tuner(build, **settings | {"objective": keras_tuner.Objective("val_acc", "max")}).search(X, Y, validation_data=(X, Y), verbose=0)
    with pytest.raises(FatalTypeError, match="`hypermodel` must build a keras.Model"):
        Tuner(lambda hp: [hp.Int("units", 1, 3)], max_trials=1, **settings).search(X, Y, validation_data=(X, Y), verbose=0)
    tuner = Tuner(build, max_trials=1, **settings)
    tuner.search(X, Y, validation_data=(X, Y), verbose=0)
    assert [(record["trial_id"], record["status"]) for record in tuner.records()] == [("0000", "COMPLETED")]
    with pytest.raises(ValueError, match="the objective was val_accuracy .max., is val_loss"):
        Tuner(build, **settings | {"objective": "val_loss"})


def test_an_error_of_keras_is_told_by_what_it_says(settings):
    tuner = Tuner(build, max_trials=1, **settings)
    tuner.search(X[:, :3], Y, validation_data=(X, Y), verbose=0)
    assert "shape" in tuner.records()[0]["error"] and "\x1b" not in tuner.records()[0]["error"]


def test_of_a_stopped_training_one_state_is_kept(settings):
    tuner = Tuner(build, max_trials=3, pruner="asha", **settings | {"objective": "val_loss"})
    tuner.search(X, Y, validation_data=(X, Y), epochs=9, verbose=0)
    states = sorted(file.name.split(".")[0] for file in Path(tuner.project_dir).glob("state_*"))
    assert states and len(states) == len(set(states)), states


WORKER = """
import sys, keras_tuner, keras_optlab

class Theirs(keras_tuner.Tuner):
    def run_trial(self, trial, **_):
        print("ran", trial.trial_id, flush=True)
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        if x > 0.9:
            raise ValueError("no")
        return x

oracle = keras_optlab.search.Oracle("gp", max_trials=6, seed=0, path=sys.argv[1] + "/search.sqlite3")
Theirs(oracle=oracle, directory=sys.argv[1], project_name="theirs").search(verbose=0)
"""


@pytest.mark.slow
def test_keras_tuners_chief_and_workers(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = os.environ | {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, env=about | {"KERASTUNER_TUNER_ID": name}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            )
            for name in ("chief", "tuner0", "tuner1")
        ]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    ran = [line.split()[1] for output in outputs[1:] for line in output.splitlines() if line.startswith("ran")]
    trials = store.read(tmp_path)["trials"]
    assert [process.returncode for process in processes] == [0, 0, 0] and "ran" not in outputs[0]
    assert len(set(ran)) == 6 and [trial["trial_id"] for trial in trials] == sorted(set(ran))
    assert all(trial["score"] == trial["values"]["x"] for trial in trials if trial["status"] == "COMPLETED") and len({t["score"] for t in trials}) > 3
