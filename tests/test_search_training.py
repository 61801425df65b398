"""The tuner with trainings, as users of KerasTuner write them."""

import errno
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.errors import FatalRuntimeError, FatalTypeError, FatalValueError
from search_cases import points

from keras_optlab.search import Tuner, watch
from keras_optlab.search import tuner as tuner_module

pytestmark = pytest.mark.usefixtures("quick_collections")
X, Y = points(32)
DATA = {"x": X, "y": Y, "validation_data": (X, Y), "verbose": 0}


def build(hp, lazy=False):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(hp.Int("units", 2, 9), "relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers if lazy else [keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-2, 1.0, sampling="log"), 0.9), "binary_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


@pytest.fixture
def settings(tmp_path):
    return {"objective": "val_loss", "sampler": "random", "seed": 0, "directory": str(tmp_path), "project_name": "project"}


def kept(tuner: Tuner) -> list[str]:
    return sorted(file.name for file in Path(tuner.project_dir).iterdir() if not file.name.startswith("search."))


@pytest.mark.parametrize("lazy", [False, True])
def test_the_best_model_at_its_best_epoch_after_a_restart(lazy, settings):
    make = lambda: Tuner(lambda hp: build(hp, lazy), max_trials=3, **settings)
    first = make()
    first.search(X, Y, validation_data=(X, Y), epochs=3, verbose=0)
    records = first.records()
    assert all(len(record["curve"]["val_loss"]) == 3 and record["score"] == min(record["curve"]["val_loss"]) for record in records)
    best = min(records, key=lambda record: record["score"])
    again = make()
    assert kept(again) == [f"checkpoint_{best['trial_id']}.1.npz"]
    [model] = again.get_best_models()
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(best["score"], rel=1e-5)
    with pytest.raises(ValueError, match=rf"with `keep='best'` there are those of {best['trial_id']}. .*get_best_hyperparameters.*larger `keep=`"):
        again.get_best_models(2)
    assert again.get_best_hyperparameters(2)[0].values == best["values"]
    assert again.oracle.get_trial(best["trial_id"]).metrics.get_best_value("val_loss") == best["score"]


def test_of_equal_epochs_the_later_one_is_kept(settings):
    class Level(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_level"] = (0.0, 1.0, 1.0, 0.0)[epoch]
            self.model.layers[0].bias.assign(self.model.layers[0].bias * 0 + epoch)

    tuner = Tuner(build, max_trials=1, **settings | {"objective": keras_tuner.Objective("val_level", "max")})
    tuner.search(X, Y, validation_data=(X, Y), epochs=4, verbose=0, callbacks=[Level()])
    assert set(np.asarray(tuner.get_best_models()[0].layers[0].bias)) == {2.0}
    assert tuner.oracle.get_best_trials()[0].best_step == 2


def test_a_hypermodel_with_a_tunable_batch_size(settings):
    sizes = []

    class Hyper(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            sizes.append(hp.Choice("batch_size", [8, 16]))
            return model.fit(*args, batch_size=sizes[-1], **kwargs)

    tuner = Tuner(Hyper(), max_trials=3, **settings)
    tuner.search(X, Y, validation_data=(X, Y), verbose=0)
    assert [record["values"]["batch_size"] for record in tuner.records()] == sizes and set(sizes) == {8, 16}
    assert len(Tuner(Hyper(), max_trials=3, **settings).get_best_models()) == 1


def test_a_hypermodel_whose_fit_returns_a_number_or_a_dict(settings):
    for number, result in enumerate((lambda model: 3.0, lambda model: {"val_loss": 2.0})):

        class Hyper(keras_tuner.HyperModel):
            def build(self, hp):
                return build(hp)

            def fit(self, hp, model, result=result, **kwargs):
                return result(model)

        tuner = Tuner(Hyper(), max_trials=2, **settings | {"project_name": str(number)})
        tuner.search(verbose=0)
        assert [record["score"] for record in tuner.records()] == [result(None) if number == 0 else 2.0] * 2
        assert kept(tuner) == ["checkpoint_0000.1.npz"] and len(tuner.get_best_models()) == 1


def test_an_overridden_run_trial_that_calls_ours(settings):
    class Batches(Tuner):
        def run_trial(self, trial, *args, **kwargs):
            kwargs["batch_size"] = trial.hyperparameters.Int("batch_size", 8, 32, step=8)
            return super().run_trial(trial, *args, **kwargs)

    tuner = Batches(build, max_trials=3, **settings)
    tuner.search(**DATA)
    assert [len(record["values"]) for record in tuner.records()] == [3, 3, 3] and len(tuner.get_best_models()) == 1


def test_an_own_training_loop_that_saves_its_model(settings):
    class Own(Tuner):
        def run_trial(self, trial, x, y, **_):
            model = build(trial.hyperparameters)
            loss = model.train_on_batch(x, y, return_dict=True)["loss"]
            self.on_epoch_end(trial, model, 0, {"val_loss": loss})
            self.save_model(trial.trial_id, model)
            return {"val_loss": model.evaluate(x, y, verbose=0)[0]}

    tuner = Own(build, max_trials=3, **settings)
    tuner.search(X, Y, verbose=0)
    assert len(kept(tuner)) == 1
    assert tuner.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(tuner.oracle.get_best_trials()[0].score)


class Counting(keras.callbacks.Callback):
    made: list = []

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_train_begin(self, logs=None):
        self.made.append(self)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def test_each_training_has_its_own_callbacks_and_the_hooks_are_called(settings):
    calls = []

    class Hooks(Tuner):
        def on_epoch_begin(self, trial, model, epoch, logs=None):
            calls.append(("epoch", trial.trial_id, epoch, isinstance(model, keras.Model)))

        def on_epoch_end(self, trial, model, epoch, logs=None):
            calls.append(("end", trial.trial_id, epoch, "val_loss" in logs))

        def on_batch_end(self, trial, model, batch, logs=None):
            calls.append(("batch", trial.trial_id, batch, "loss" in logs))

    Counting.made, callback = [], Counting()
    tuner = Hooks(build, max_trials=2, executions_per_trial=2, **settings)
    tuner.search(**DATA, batch_size=16, epochs=2, callbacks=[callback, keras.callbacks.EarlyStopping("val_loss", patience=5)])
    assert len(Counting.made) == 4 == len({id(c) for c in Counting.made}) and callback not in Counting.made and {c.epochs for c in Counting.made} == {2}
    one = [(what, number, True) for epoch in (0, 1) for what, number in (("epoch", epoch), ("batch", 0), ("batch", 1), ("end", epoch))]
    assert calls == [(what, trial, number, ok) for trial in ("0000", "0001") for _ in range(2) for what, number, ok in one]
    with pytest.raises(FatalValueError, match="`callbacks` must be copyable.*Received"):
        Tuner(build, max_trials=3, **settings).search(**DATA, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=sys.stdout)])


def test_executions_are_averaged_and_each_one_is_kept(settings):
    losses = iter([[3.0, 1.0, 2.0], [5.0, 4.0, 6.0], [2.0, 2.0, 2.0], [2.4, 2.3, 2.2], [0.9, 9.0, 9.0], [9.0, 9.0, math.nan]])

    class Given(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.losses = next(losses)

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = self.losses[epoch]

    tuner = Tuner(build, max_trials=3, executions_per_trial=2, **settings)
    tuner.search(**DATA, epochs=3, callbacks=[Given()])
    records = tuner.records()
    assert [record["score"] for record in records] == [2.5, 2.1, 4.95]
    executions = [[(e["score"], e["best_step"]) for e in record["executions"]] for record in records]
    assert executions == [[(1.0, 1), (4.0, 1)], [(2.0, 2), (2.2, 2)], [(0.9, 0), (9.0, 1)]]
    assert records[0]["executions"][1]["curve"]["val_loss"] == [5.0, 4.0, 6.0] and records[2]["executions"][1]["curve"]["val_loss"][2] is None
    assert kept(tuner) == ["checkpoint_0001.1.npz"] and len(tuner.get_best_models()) == 1


def test_equal_executions_are_no_better_than_an_equal_trial(settings):
    class Equal(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = 0.1  # of which three, summed and divided by three, are more than one

    tuner = Tuner(build, max_trials=2, executions_per_trial=3, **settings)
    tuner.search(**DATA, callbacks=[Equal()])
    assert [record["score"] for record in tuner.records()] == [0.1, 0.1] and kept(tuner) == ["checkpoint_0000.1.npz"]


def test_what_can_go_wrong_in_a_training_is_a_result(settings):
    built = []

    def sick(hp):
        model, number = build(hp), len(built)
        built.append(model)
        if number == 1:
            raise ValueError("the kernel\nis too large")
        if number == 2:
            model.compile(keras.optimizers.SGD(1e30), "mse", run_eagerly=True)
        if number == 3:
            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])  # the data have 4
            model.compile("sgd", "mse")
        return model

    tuner = Tuner(sick, max_trials=5, **settings)  # builds once to see the space
    tuner.search(**DATA, epochs=2)
    failed = [record["error"] for record in tuner.records() if record["status"] == "FAILED"]
    assert failed[0] == "ValueError: the kernel" and "val_loss` was" in failed[1] and failed[2].startswith("ValueError: ") and len(failed) == 3
    assert tuner.records()[1]["curve"]["val_loss"] == [None, None]
    assert all("\n" not in error for error in failed)
    with pytest.raises(FatalTypeError, match="`hypermodel` must build a keras.Model. Received: None"):
        wrong = Tuner(lambda hp: hp.Boolean("a") and None, max_trials=1, **settings | {"project_name": "wrong"})
        wrong.search(**DATA)


def test_no_trial_was_completed(settings):
    class Nothing(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, **kwargs):
            raise MemoryError("too large")

    tuner = Tuner(Nothing(), max_trials=4, **settings)
    with pytest.raises(ValueError, match="No trial was completed yet. Call `search` first"):
        tuner.get_best_models()
    tuner.search(**DATA)
    with pytest.raises(ValueError, match="the last of 4 failed with MemoryError: too large"):
        tuner.get_best_models()


def test_an_objective_that_no_epoch_reports_lists_what_was_reported(settings):
    tuner, monitor, Counting.made[:] = Tuner(build, max_trials=2, **settings), Counting(), []
    with pytest.raises(FatalValueError, match="objective='val_loss', reported: accuracy, loss. Pass `validation_data`"):
        tuner.search(X, Y, verbose=0, epochs=50, callbacks=[monitor])
    assert [made.epochs for made in Counting.made] == [1]
    tuner = Tuner(build, max_trials=2, **settings)
    tuner.search(**DATA)
    assert [record["status"] for record in tuner.records()] == ["COMPLETED"] * 2


class CtrlC(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_ctrl_c_in_a_training_leaves_the_best_model_and_the_trial_starts_again(settings):
    tuner = Tuner(build, max_trials=2, **settings)
    tuner.search(**DATA)
    tuner = Tuner(build, max_trials=6, **settings)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(**DATA, epochs=3, callbacks=[CtrlC()])
    best = tuner.oracle.get_best_trials()[0]
    assert tuner.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(best.score, rel=1e-5)
    values = tuner.records()[2]["values"]
    assert tuner.records()[2]["status"] == "RUNNING"
    tuner = Tuner(build, max_trials=3, **settings)
    tuner.search(**DATA)
    assert tuner.records()[2]["values"] == values and len(tuner.records()[2]["curve"]["loss"]) == 1 and len(kept(tuner)) == 1


def test_a_disk_that_is_full_when_a_checkpoint_is_written(settings, monkeypatch):
    Tuner(build, max_trials=1, **settings).search(**DATA)
    tuner = Tuner(build, max_trials=4, **settings)
    before = kept(tuner)

    def no_room(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(FatalRuntimeError, match="_0.*could not be written.*No space left.*Every finished trial is kept"):
        tuner.search(**DATA)
    monkeypatch.undo()
    assert kept(tuner) == before and len(Tuner(build, max_trials=4, **settings).get_best_models()) == 1
    tuner = Tuner(build, max_trials=4, **settings)
    tuner.search(**DATA)
    assert [record["status"] for record in tuner.records()] == ["COMPLETED"] * 4 and len(kept(tuner)) == 1


def test_max_minutes_stops_a_training_that_counts_with_its_best_epoch(settings, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(tuner_module, "time", clock)

    class Ticking(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            clock.now += 10

    def run(minutes, project="project"):
        clock.now = 0.0
        one = Tuner(build, max_minutes=minutes, max_trials=1, **settings | {"project_name": project})
        one.search(**DATA, batch_size=16, epochs=4, callbacks=[Ticking()])
        return one

    one = run(0.75)  # 45 s: two epochs of two batches, and one batch
    [record] = one.records()
    assert record["status"] == "COMPLETED" and record["cut"] and len(record["curve"]["loss"]) == 3 and len(one.get_best_models()) == 1
    one = run(0.25, "short")  # not one epoch: no result, but to be taken up again
    [record] = one.records()
    assert record["status"] == "RUNNING" and record["curve"] == {}
    one = run(9, "short")
    assert one.records()[0]["status"] == "COMPLETED" and "cut" not in one.records()[0] and one.records()[0]["values"] == record["values"]


def test_tensorboard_is_not_needed_and_is_served_where_it_is(settings, monkeypatch):
    assert "tensorboard.plugins.hparams" not in sys.modules
    Tuner(build, max_trials=3, **settings).search(**DATA)  # KerasTuner's fails here in every trial
    told = []

    class HParams(keras.callbacks.Callback):
        def __init__(self, writer, hparams, trial_id):
            super().__init__()
            told.append((Path(writer).parts[-2:], sorted(hparams), trial_id))

    class TensorBoard(keras.callbacks.Callback):
        log_dir = "logs"

    api = ModuleType("tensorboard.plugins.hparams.api")
    api.KerasCallback = HParams
    for name in ("tensorboard", "tensorboard.plugins", "tensorboard.plugins.hparams"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["tensorboard.plugins.hparams"].api = api
    Tuner(build, max_trials=4, **settings).search(**DATA, callbacks=[TensorBoard()])
    assert told == [(("0003", "execution0"), ["rate", "units"], "0003")]


def test_the_record_of_the_best_trials_gradient_monitor_is_kept(settings):
    from keras_optlab.callbacks import GradientMonitor

    tuner = Tuner(build, max_trials=3, **settings)
    assert tuner.best_record() is None
    tuner.search(**DATA, epochs=2, callbacks=[GradientMonitor(ignore=["dead-units"])])
    best = tuner.oracle.get_best_trials()[0].trial_id
    assert kept(tuner) == [f"checkpoint_{best}.1.npz", f"record_{best}.1.json"]
    record = Tuner(build, max_trials=3, **settings).best_record()
    assert len(record["record"]["layers"]) == 2 and record["record"]["steps"][0] == 0 and isinstance(record["findings"], list)
    json.dumps(record)


@pytest.mark.parametrize(("keep", "number"), [("best", 1), (2, 2), (9, 3), ("all", 3)])
def test_keep_says_of_how_many_trials_the_weights_stay(keep, number, settings):
    tuner = Tuner(build, max_trials=3, keep=keep, **settings)
    tuner.search(**DATA, epochs=2)
    best = tuner.oracle.get_best_trials(3)
    assert kept(tuner) == sorted(f"checkpoint_{trial.trial_id}.1.npz" for trial in best[:number])
    for model, trial in zip(tuner.get_best_models(number), best, strict=False):
        assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(trial.score, rel=1e-5)
    if number < 3:
        with pytest.raises(ValueError, match="are not there: with `keep=.*a larger `keep=`"):
            tuner.get_best_models(number + 1)


def test_a_checkpoint_that_is_damaged_is_named(settings):
    tuner = Tuner(build, max_trials=1, **settings)
    tuner.search(**DATA)
    file = Path(tuner.project_dir, kept(tuner)[0])
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{file.name} is damaged"):
        tuner.get_best_models()


def test_the_disk_stays_below_three_checkpoints(settings, monkeypatch):
    """With Adam: the best trial's weights, this one's best, its state and the next."""
    sizes, replace = [], os.replace

    def measured(old, new):
        sizes.append(sum(file.stat().st_size for file in Path(new).parent.iterdir() if not file.name.startswith("search.")))
        return replace(old, new)

    def wide(hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5000), keras.layers.Dense(1, "sigmoid")])
        model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-2)), "binary_crossentropy", run_eagerly=True)
        return model

    class Scores(keras.callbacks.Callback):  # better, then worse: all that can be there is there
        losses = iter([9.0, 8.0, 7.5, 9.0, 9.0, 7.0, 6.0, 9.0, 9.0, 5.0, 4.0, 3.0, 9.0, 9.0, 9.0])

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = next(self.losses)

        def __deepcopy__(self, memo):
            return self

    monkeypatch.setattr(os, "replace", measured)
    tuner = Tuner(wide, max_trials=3, **settings)
    tuner.search(**DATA, epochs=5, callbacks=[Scores()])
    whole = 3 * 4 * wide(tuner.get_best_hyperparameters()[0]).count_params()
    assert max(sizes) < 3 * whole and [record["score"] for record in tuner.records()] == [7.5, 5.0, 3.0]
