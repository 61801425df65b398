"""An interrupted trial goes on after its last epoch, as if nothing had happened."""

import logging
import os
import shutil
import signal
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from search_cases import network, no_waiting_for_the_disk, points

from keras_optlab.callbacks import EarlyStopping, GradientMonitor
from keras_optlab.optimizers import SAM, AdamW, Lion, Lookahead, ScheduleFreeAdamW
from keras_optlab.schedules import Cosine
from keras_optlab.search import Tuner
from keras_optlab.training import resume
from keras_optlab.training.resume import DamagedState, State, save_state

pytestmark = pytest.mark.usefixtures("quick_collections")
X, Y = points(24)
EPOCHS = 5
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.7)),
    "adamw": lambda: AdamW(Cosine(0.1, 12), use_ema=True, ema_momentum=0.8),
    "lookahead": lambda: Lookahead(Lion(0.01), k=3),
    "sam": lambda: SAM(AdamW(0.01)),
    "schedule-free": lambda: ScheduleFreeAdamW(0.01),
}


class Ends(keras.callbacks.Callback):
    """Ends the process, or what stands for it, at the beginning of an epoch."""

    def __init__(self, epoch, how=KeyboardInterrupt):
        super().__init__()
        self.epoch, self.how = epoch, how

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.epoch = None
            raise self.how


class Noted(Tuner):
    """Notes which epochs began, in all trainings."""

    def __init__(self, *args, **settings):
        self.epochs = []
        super().__init__(*args, **{"objective": "val_loss", "sampler": "random", "seed": 0, "max_trials": 1} | settings)

    def on_epoch_begin(self, trial, model, epoch, logs=None):
        self.epochs.append(epoch)


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"directory": str(tmp_path)}


def searched(build, settings, name, ends=(), callbacks=(), **more):
    """A search that ends in front of the given epochs and is run again as often."""
    epochs, fit = [], more.pop("fit", {"epochs": EPOCHS})
    for end in [*ends, None]:
        keras.utils.set_random_seed(7)
        tuner = Noted(build, project_name=name, **settings | more)
        extra = [Ends(end)] if end is not None else []
        try:
            tuner.search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, callbacks=[*callbacks, *extra], **fit)
        except KeyboardInterrupt:
            assert end is not None and tuner.records()[-1]["status"] == "RUNNING"
        epochs += tuner.epochs
    return tuner, epochs


def same(one: Tuner, two: Tuner) -> None:
    [one_record], [two_record] = one.records(), two.records()
    assert one_record["curve"] == two_record["curve"] and one_record["score"] == two_record["score"]
    for a, b in zip(one.get_best_models()[0].get_weights(), two.get_best_models()[0].get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [name if name == "schedule-free" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS])
def test_the_training_is_the_same_as_without_an_interruption(name, settings):
    def build(hp):
        hp.Boolean("flag")
        return network(OPTIMIZERS[name]())

    whole, _ = searched(build, settings, "whole")
    again, epochs = searched(build, settings, "again", ends=(2, 4))
    assert epochs == [0, 1, 2, 3, 4]
    same(whole, again)
    assert not list(Path(again.project_dir).glob("state_*"))


def build(hp, lazy=False):
    hp.Boolean("flag")
    return network(keras.optimizers.Adam(0.05), lazy)


@pytest.mark.slow
def test_a_model_without_an_input_shape(settings):
    whole, _ = searched(lambda hp: build(hp, lazy=True), settings, "whole")
    again, epochs = searched(lambda hp: build(hp, lazy=True), settings, "again", ends=(3,))
    assert epochs == [0, 1, 2, 3, 4]
    same(whole, again)


def test_the_states_of_our_callbacks_go_on(settings):
    class Given(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = [5.0, 3.0, 4.0, 4.0, 4.0, 1.0][epoch]

    class Seen(EarlyStopping):
        stopped: list = []

        def on_train_end(self, logs=None):
            self.stopped.append((self.stopped_epoch, self.best, self.best_epoch, self.stopping_reason.name))
            super().on_train_end(logs)

    callbacks = [Given(), Seen(patience=3, restore_best_weights=True), GradientMonitor(every=1, ignore=["dead-units"])]
    whole, _ = searched(build, settings, "whole", callbacks=callbacks, fit={"epochs": 6})
    again, epochs = searched(build, settings, "again", ends=(3,), callbacks=callbacks, fit={"epochs": 6})
    assert epochs == [0, 1, 2, 3, 4] and Seen.stopped == [(4, 3.0, 1, "NO_IMPROVEMENT")] * 2
    same(whole, again)
    one, two = whole.best_record(), again.best_record()
    assert len(one["record"]["steps"]) == 15 and one["record"]["grad_norm"] == two["record"]["grad_norm"]


def test_finished_executions_are_kept_and_the_best_weights_too(settings):
    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = [3.0, 1.0, 2.0][epoch] + float(abs(self.model.get_weights()[0]).mean()) / 100

    more = {"callbacks": [Score()], "fit": {"epochs": 3}, "executions_per_trial": 2}
    whole, _ = searched(build, settings, "whole", **more)
    again, epochs = searched(build, settings, "again", ends=(2, 0, 2), **more)  # 0: in front of the second execution
    assert epochs == [0, 1, 2, 0, 1, 2]
    same(whole, again)
    assert again.records()[0]["executions"] == whole.records()[0]["executions"]
    assert again.records()[0]["reported"] == whole.records()[0]["reported"] and len(again.records()[0]["reported"]) == 3


@pytest.mark.slow
def test_what_was_interrupted_after_its_last_epoch_ends_in_the_same_way(settings, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    whole, _ = searched(build, settings, "whole", fit={"epochs": 3})
    for expected in ([0, 1, 2], [2], [2]):
        keras.utils.set_random_seed(7)
        tuner = Noted(build, project_name="again", **settings)
        monkeypatch.setattr(tuner.oracle, "end_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            tuner.search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, epochs=3)
        assert tuner.epochs == expected
    again, epochs = searched(build, settings, "again", fit={"epochs": 3})
    assert epochs == [2]
    same(whole, again)


def test_fewer_epochs_than_were_trained_already(settings):
    with pytest.raises(KeyboardInterrupt):
        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), verbose=0, epochs=5, callbacks=[Ends(3)])
    again, epochs = searched(build, settings, "p", fit={"epochs": 2})
    assert epochs == [] and len(again.records()[0]["curve"]["val_loss"]) == 3 and again.records()[0]["status"] == "COMPLETED"


def test_a_killed_process_loses_no_epoch(settings):
    child = os.fork() if hasattr(os, "fork") else pytest.skip("no fork")
    if not child:

        class Killed(Exception):
            def __init__(self):
                os.kill(os.getpid(), signal.SIGKILL)

        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), verbose=0, epochs=5, callbacks=[Ends(3, Killed)])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    again, epochs = searched(build, settings, "p")
    assert epochs == [3, 4] and len(again.records()[0]["curve"]["val_loss"]) == 5


class Parts(keras_tuner.HyperModel):
    def __init__(self, fit):
        super().__init__()
        self.own = fit

    def build(self, hp):
        return build(hp)


class Takes(Parts):
    def fit(self, hp, model, *args, **kwargs):
        return self.own(model, *args, **kwargs)


class TakesNothing(Parts):
    def fit(self, hp, model, x, y, validation_data, epochs, batch_size, callbacks, verbose):
        return model.fit(x, y, validation_data=validation_data, epochs=epochs, callbacks=callbacks, verbose=verbose)


def twice(model, *args, epochs, **kwargs):
    model.fit(*args, epochs=2, **kwargs)
    return model.fit(*args, epochs=epochs, **kwargs)


def without(model, *args, initial_epoch=0, **kwargs):
    return model.fit(*args, **kwargs)


def number(model, *args, **kwargs):
    return min(model.fit(*args, **kwargs).history["val_loss"])


@pytest.mark.parametrize(
    ("hypermodel", "end", "epochs"),
    [
        (TakesNothing(None), 2, [0, 1, 0, 1, 2, 3]),
        (Takes(number), 2, [0, 1, 2, 3]),
        pytest.param(Takes(without), 2, [0, 1, 0, 1, 2, 3], marks=pytest.mark.slow),
        pytest.param(Takes(twice), 3, [0, 1, 0, 1, 2, 0, 1, 0, 1, 2, 3], marks=pytest.mark.slow),
        # in the first part: it goes on there, is found to have another part, and starts anew
        pytest.param(Takes(twice), 1, [0, 1, 0, 1, 0, 1, 2, 3], marks=pytest.mark.slow),
    ],
)
def test_hypermodels_that_fit_in_their_own_way(hypermodel, end, epochs, settings):
    again, seen = searched(hypermodel, settings, "p", ends=(end,), fit={"epochs": 4})
    [record] = again.records()
    assert seen == epochs and record["status"] == "COMPLETED"
    assert again.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(record["score"], rel=1e-4)


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "altered": whole[:700] + b"????" + whole[704:], "empty": b""}[how])


@pytest.mark.parametrize("how", ["truncated", *(pytest.param(how, marks=pytest.mark.slow) for how in ("altered", "empty"))])
def test_a_damaged_state_is_named_and_the_one_before_is_used(how, settings, caplog):
    whole, _ = searched(build, settings, "whole")
    with pytest.raises(KeyboardInterrupt):
        keras.utils.set_random_seed(7)
        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, epochs=EPOCHS, callbacks=[Ends(3)])
    first, second = sorted(Path(settings["directory"], "p").glob("state_*"))
    damage(second, how)
    with caplog.at_level(logging.WARNING):
        again, epochs = searched(build, settings, "p")
    assert epochs == [2, 3, 4] and f"{second} is damaged" in caplog.text and str(first) not in caplog.text
    same(whole, again)


def test_copies_that_others_put_into_the_folder_are_no_states(settings):
    class Copied(Ends):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == self.epoch:
                for file in [*folder.glob("state_*.npz"), *folder.glob("checkpoint_*.npz")]:
                    shutil.copy(file, file.with_name(file.name.replace(".npz", " (conflicted copy).npz")))
            super().on_epoch_begin(epoch)

    folder = Path(settings["directory"], "copied")
    with pytest.raises(KeyboardInterrupt):
        Noted(build, project_name="copied", **settings).search(X, Y, validation_data=(X, Y), epochs=3, verbose=0, callbacks=[Copied(2)])
    tuner = Noted(build, project_name="copied", **settings)
    tuner.search(X, Y, validation_data=(X, Y), epochs=3, verbose=0)
    assert tuner.epochs == [2] and len(tuner.get_best_models()) == 1


@pytest.mark.slow
def test_where_nothing_can_be_read_the_trial_starts_anew(settings, caplog):
    with pytest.raises(KeyboardInterrupt):
        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), verbose=0, epochs=4, callbacks=[Ends(3)])
    damage(next(Path(settings["directory"], "p").glob("checkpoint_*")), "truncated")
    with caplog.at_level(logging.WARNING):
        again, epochs = searched(build, settings, "p", fit={"epochs": 4})
    assert epochs == [0, 1, 2, 3] and "weights of trial 0000 at its best epoch are lost" in caplog.text and len(again.get_best_models()) == 1


def test_another_model_under_the_same_values_starts_anew(settings, caplog):
    with pytest.raises(KeyboardInterrupt):
        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), verbose=0, epochs=4, callbacks=[Ends(3)])

    def wider(hp):
        hp.Boolean("flag")
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9), keras.layers.Dense(1, "sigmoid")])
        model.compile("sgd", "binary_crossentropy", run_eagerly=True)
        return model

    with caplog.at_level(logging.WARNING):
        again, epochs = searched(wider, settings, "p", fit={"epochs": 4})
    assert "starts anew: " in caplog.text and "does not fit the model: ['kernel', [4, 6]] was stored, ['kernel', [4, 9]] is there" in caplog.text
    assert epochs[-4:] == [0, 1, 2, 3] and len(again.get_best_models()) == 1


def test_the_state_of_an_earlier_search_of_that_name_is_not_used(settings):
    with pytest.raises(KeyboardInterrupt):
        Noted(build, project_name="p", **settings).search(X, Y, validation_data=(X, Y), verbose=0, epochs=4, callbacks=[Ends(3)])
    Path(settings["directory"], "p", "search.sqlite3").unlink()
    assert searched(build, settings, "p", fit={"epochs": 4})[1] == [0, 1, 2, 3]


def test_a_promoted_trial_goes_on_from_the_state_of_another(settings):
    class Promoting(Noted):
        def continued(self):
            return {"0000"}

        def on_trial_begin(self, trial):
            if trial.trial_id == "0001":
                trial.hyperparameters.values |= {"tuner/trial_id": "0000", "tuner/initial_epoch": 2, "tuner/epochs": 5}

    whole, _ = searched(build, settings, "whole")
    keras.utils.set_random_seed(7)
    tuner = Promoting(build, project_name="p", **settings | {"max_trials": 2})
    tuner.search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, epochs=2)
    assert tuner.epochs[:5] == [0, 1, 2, 3, 4]  # and one more trial, as these two are of one configuration
    assert tuner.records()[1]["curve"] == whole.records()[0]["curve"]
    best = tuner.oracle.get_best_trials()[0]
    assert tuner.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(best.score, rel=1e-5)


def test_a_promotion_leaves_the_weights_of_the_other_trial(settings):
    class Promoting(Noted):
        def continued(self):
            return {"0000"}

        def on_trial_begin(self, trial):
            if trial.trial_id == "0001":
                trial.hyperparameters.values |= {"tuner/trial_id": "0000", "tuner/initial_epoch": 2, "tuner/epochs": 3}

    tuner = Promoting(build, project_name="p", keep="all", **settings | {"max_trials": 2})
    tuner.search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, epochs=2)
    for model, trial in zip(tuner.get_best_models(2), tuner.oracle.get_best_trials(2)):
        assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(trial.score, rel=1e-5)


def test_resume_without_a_search(tmp_path):
    file, model = tmp_path / "training.npz", network(AdamW(0.01))
    model.fit(X, Y, epochs=2, verbose=0)
    stopping = EarlyStopping()
    save_state(file, model, epoch=2, callbacks=[stopping, keras.callbacks.TerminateOnNaN()], note="mine")
    draws, fresh = np.random.random(3), network(AdamW(0.01))
    assert resume(fresh, file) == 2 and (np.random.random(3) == draws).all() and State(file).facts["note"] == "mine"
    for a, b in zip([*model.variables, *model.optimizer.variables], [*fresh.variables, *fresh.optimizer.variables]):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="does not fit the optimizer: .* was stored"):
        resume(network(Lion(0.01)), file)
    damage(file, "truncated")
    with pytest.raises(DamagedState, match="training.npz is damaged"):
        resume(fresh, file)
    with pytest.raises(FileNotFoundError):
        resume(fresh, tmp_path / "nowhere.npz")
    assert [f.name for f in tmp_path.iterdir()] == ["training.npz"]
