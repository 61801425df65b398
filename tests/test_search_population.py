"""Population based training: who goes on from whom, what a copy inherits, and that nothing is lost."""

import json
import math
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.errors import FatalRuntimeError, FatalTypeError, FatalValueError
from search_cases import no_waiting_for_the_disk, points, statuses

from keras_optlab.search import PopulationBasedTuner, Tuner, members, store
from keras_optlab.search.space import Space
from keras_optlab.training.resume import State

pytestmark = pytest.mark.usefixtures("quick_collections")
X, Y = points(8)


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"directory": str(tmp_path), "project_name": "project", "seed": 0}


def space(**changes):
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Float("mirrored", 0.5, 0.999, sampling="reverse_log")
    hp.Float("dropout", 0.0, 0.5)
    hp.Int("batch", 1, 3)
    hp.Choice("level", [1, 2, 4, 8], ordered=True)
    with hp.conditional_scope("kind", hp.Choice("kind", ["a", "b"]) and ["b"]):
        hp.Float("only_b", 0.0, 1.0)
    return Space(hp.space)


VALUES = {"rate": 0.01, "mirrored": 0.8, "dropout": 0.25, "batch": 2, "level": 4, "kind": "a"}


@pytest.mark.parametrize("up", [True, False])
def test_values_are_changed_on_their_own_scale(up):
    coins = np.full((len(space()), 2), 0.3 if up else 0.7)
    found = members.explored(space(), VALUES, coins)
    assert found == {
        "rate": pytest.approx(0.012 if up else 0.008),
        "mirrored": pytest.approx(1.499 - 0.699 / (1.2 if up else 0.8)),
        "dropout": pytest.approx(0.3 if up else 0.2),
        "batch": 3 if up else 1,
        "level": 8 if up else 2,
        "kind": "a",
    }
    assert members.explored(space(), VALUES, coins, VALUES.keys()) == VALUES


def test_at_the_end_of_its_range_a_value_turns_back():
    top = {"rate": 1.0, "mirrored": 0.999, "dropout": 0.5, "batch": 3, "level": 8, "kind": "a"}
    found = members.explored(space(), top, np.full((len(space()), 2), 0.3))
    assert all(found[name] < top[name] for name in ("rate", "mirrored", "dropout", "batch", "level"))


def test_an_unordered_choice_is_drawn_anew_now_and_then_with_what_it_decides():
    coins = np.full((len(space()), 2), 0.7)
    coins[[p.name for p in space().parameters].index("kind")] = 0.05, 0.9
    found = members.explored(space(), VALUES, coins)
    assert found["kind"] == "b" and found["only_b"] == pytest.approx(0.7)
    assert members.explored(space(), found, np.full((len(space()), 2), 0.9))["kind"] == "b"


class Formula(PopulationBasedTuner):
    """A member is as good as its x, and a little better in each round."""

    def __init__(self, **settings):
        self.log = []
        super().__init__(**{"objective": keras_tuner.Objective("score", "max"), "population": 4, "rounds": 3} | settings)

    def run_trial(self, trial, **_):
        x = trial.hyperparameters.Float("x", 1e-3, 1.0, sampling="log")
        self.log.append((trial.trial_id, dict(trial.hyperparameters.values)))
        return {"score": self.result(trial, x)}

    def result(self, trial, x):
        return x + trial.hyperparameters.values["tuner/initial_epoch"]


def test_the_worst_quarter_copies_the_best_one_and_the_others_go_on(settings):
    tuner = Formula(epochs_per_round=2, population=8, **settings)
    tuner.search(verbose=0)
    records = tuner.records()
    assert statuses(tuner) == "C" * 24 and [r["values"]["tuner/epochs"] for r in records] == [2] * 8 + [4] * 8 + [6] * 8
    assert len({r["values"]["x"] for r in records[:8]}) == 8
    for number in (1, 2):
        before, now = records[8 * number - 8 : 8 * number], records[8 * number : 8 * number + 8]
        ranked = sorted(before, key=lambda r: -r["score"])
        best, worst = [r["trial_id"] for r in ranked[:2]], [r["trial_id"] for r in ranked[-2:]]
        for was, record in zip(before, now):
            parent = record["values"]["tuner/trial_id"]
            assert record["values"]["tuner/initial_epoch"] == 2 * number
            if was["trial_id"] in worst:
                x = tuner.oracle.records[parent]["values"]["x"]
                assert parent in best and record["values"]["x"] / x == pytest.approx(min(1.2, 1 / x)) or record["values"]["x"] / x == pytest.approx(0.8)
            else:
                assert parent == was["trial_id"] and record["values"]["x"] == was["values"]["x"]
    again = Formula(epochs_per_round=2, population=8, **settings | {"project_name": "again"})
    again.search(verbose=0)
    assert again.log == tuner.log
    other = Formula(epochs_per_round=2, population=8, **settings | {"project_name": "other", "seed": 1})
    other.search(verbose=0)
    assert other.log != tuner.log


def test_interrupted_again_and_again_it_goes_on_as_if_it_never_was(settings):
    class Interrupted(Formula):
        def result(self, trial, x):
            if self.ends and int(trial.trial_id) % 3 == 2:
                raise KeyboardInterrupt
            return super().result(trial, x)

    whole = Formula(**settings | {"project_name": "whole"})
    whole.search(verbose=0)
    log = []
    for ends in (1, 0, 1, 0, 1, 0, 1, 0):
        tuner = Interrupted(**settings)
        tuner.ends = ends
        if ends:
            with pytest.raises(KeyboardInterrupt):
                tuner.search(verbose=0)
            log += tuner.log[:-1]
        else:
            begun, populate = len(tuner.records()), tuner.oracle.populate_space
            tuner.oracle.populate_space = lambda trial_id: {"status": "STOPPED"} if int(trial_id) >= begun else populate(trial_id)
            tuner.search(verbose=0)
            log += tuner.log
    assert log == whole.log and tuner.remaining_trials == 0
    assert [r["score"] for r in tuner.records()] == [r["score"] for r in whole.records()]


@pytest.mark.parametrize("failed", [{1}, {0, 1, 2}, {4, 5, 6, 7}, {5, 6, 7, 8}])
def test_failed_members_are_replaced(failed, settings):
    class Failing(Formula):
        def result(self, trial, x):
            number = int(trial.trial_id)
            if number in failed and number % 2:
                raise MemoryError
            return math.nan if number in failed else super().result(trial, x)

    tuner = Failing(**settings)
    tuner.search(verbose=0)
    assert statuses(tuner) == "".join("F" if i in failed else "C" for i in range(12))
    for record in tuner.records()[4:]:
        assert int(record["values"]["tuner/trial_id"]) not in failed
    if failed == {4, 5, 6, 7}:  # another try, from the round before, with other values
        assert all(r["values"]["tuner/trial_id"] == tuner.oracle._good(0)[0] and r["values"]["tuner/initial_epoch"] == 1 for r in tuner.records()[8:])
        assert all(r["values"]["x"] not in [one["values"]["x"] for one in tuner.records()[:4]] for r in tuner.records()[8:])


def test_a_first_round_of_failures_is_a_clear_error_and_stays_one(settings):
    class Failing(Formula):
        def result(self, trial, x):
            raise MemoryError("no room")

    for _ in range(2):
        tuner = Failing(**settings)
        with pytest.raises(FatalRuntimeError, match="All 4 members of the first round have failed.*MemoryError: no room.*overwrite=True"):
            tuner.search(verbose=0)
        assert statuses(tuner) == "FFFF"


def test_a_small_space_is_filled_more_than_once(settings):
    class Small(Formula):
        def run_trial(self, trial, **_):
            return {"score": float(trial.hyperparameters.Boolean("flag"))}

    tuner = Small(**settings)
    tuner.search(verbose=0)
    assert statuses(tuner) == "C" * 12 and {r["values"]["flag"] for r in tuner.records()[:4]} == {False, True}


def test_the_schedule_follows_the_winners_weights(settings):
    tuner = Formula(population=4, rounds=8, **settings)
    with pytest.raises(ValueError, match="Call `search` first"):
        tuner.schedule()
    tuner.search(verbose=0)
    schedule, best = tuner.schedule(), tuner.oracle.get_best_trials(1)[0]
    assert schedule == tuner.oracle.records[best.trial_id]["schedule"] == Formula(population=4, rounds=8, **settings).schedule()
    assert schedule[0]["epoch"] == 0 and schedule[0]["parent"] is None and schedule[-1]["values"] == {"x": best.hyperparameters.values["x"]}
    assert len(schedule) > 1
    for before, part in zip(schedule, schedule[1:]):
        assert part["epoch"] > before["epoch"] and part["parent"] is not None and part["values"] != before["values"]
        assert tuner.oracle.records[part["parent"]]["values"]["x"] == before["values"]["x"]
    assert [bool(r.get("schedule")) for r in tuner.records()[-4:]] == [True] * 4
    json.dumps(schedule)
    assert tuner.best_by_posterior_mean() is None and store.read(tuner.project_dir)["best_mean"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 1}, "`population` must be an integer >= 2. Received: population=1"),
        ({"rounds": 1}, "`rounds` must be an integer >= 2"),
        ({"epochs_per_round": 0.5}, "`epochs_per_round` must be an integer >= 1"),
        ({"objective": ["val_loss", "val_accuracy"]}, "`objective` must be one metric"),
        ({"max_trials": 3}, "`max_trials` has no meaning for a population"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_arguments_refused(change, message, settings):
    with pytest.raises(ValueError, match=message):
        Formula(**settings | change)


def test_another_search_is_refused(settings):
    tuner = Formula(**settings)
    with pytest.raises(ValueError, match="`epochs` follows from `rounds`.*Received: epochs=3"):
        tuner.search(epochs=3)
    tuner.search(verbose=0)
    with pytest.raises(ValueError, match="`population` was 4, is 8; `rounds` was 3, is 5"):
        Formula(population=8, rounds=5, **settings)

    class Plain(Tuner):
        run_trial = lambda self, trial, **_: {"score": trial.hyperparameters.Float("x", 0.0, 1.0)}

    Plain(objective=keras_tuner.Objective("score", "max"), sampler="qmc", max_trials=2, directory=settings["directory"], project_name="plain").search(verbose=0)
    with pytest.raises(ValueError, match="search without a population"):
        Formula(**settings | {"project_name": "plain"})


def build(hp) -> keras.Model:
    layers = [keras.Input((4,)), keras.layers.Dense(hp.Int("units", 3, 6), "relu"), keras.layers.Dropout(hp.Float("dropout", 0.0, 0.4, step=0.2))]
    model = keras.Sequential([*layers, keras.layers.Dense(1, "sigmoid")])
    rate = keras.optimizers.schedules.ExponentialDecay(hp.Float("rate", 1e-2, 1.0, sampling="log"), 4, 0.9)
    optimizer = keras.optimizers.Adam(rate) if hp.Choice("optimizer", ["adam", "sgd"]) == "adam" else keras.optimizers.SGD(hp.get("rate"), momentum=0.9)
    model.compile(optimizer, "binary_crossentropy", run_eagerly=True)
    return model


class Trained(PopulationBasedTuner):
    """Notes with what each epoch begins."""

    def __init__(self, hypermodel=build, **settings):
        self.seen = []
        super().__init__(hypermodel, "val_loss", **{"population": 4, "rounds": 3, "epochs_per_round": 2} | settings)

    def on_epoch_begin(self, trial, model, epoch, logs=None):
        weights = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
        self.seen.append((trial.trial_id, epoch, int(model.optimizer.iterations), float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)), weights))

    def run(self, **more):
        self.search(X, Y, validation_data=(X, Y), batch_size=8, verbose=0, **more)


def test_members_inherit_weights_optimizer_and_what_decides_shapes(settings):
    ends = {}

    class Noted(Trained):
        def on_trial_end(self, trial):
            values = trial.hyperparameters.values
            state = self.checkpoints.state(trial.trial_id, values["tuner/epochs"])
            model = self._build(trial.hyperparameters)
            state.into(model)
            ends[trial.trial_id] = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
            super().on_trial_end(trial)
            files = list(Path(self.project_dir).glob("state_*"))
            assert len(files) <= self.population + 1
            needed = self.oracle.sources()
            assert {file.name.split(".")[0].removeprefix("state_") for file in files} == needed

    tuner = Noted(epochs_per_round=1, **settings)
    tuner.run()
    records = tuner.oracle.records
    assert statuses(tuner) == "C" * 12 and [(i, e) for i, e, *_ in tuner.seen] == [(f"{n:04d}", e) for n in range(12) for e in (n // 4,)]
    copies = []
    for trial_id, epoch, iterations, rate, weights in tuner.seen:
        values, parent = records[trial_id]["values"], records[trial_id]["values"].get("tuner/trial_id")
        assert iterations == epoch
        assert rate == pytest.approx(values["rate"] * (0.9 ** (iterations / 4) if values["optimizer"] == "adam" else 1), rel=1e-5)
        if parent and epoch == values["tuner/initial_epoch"]:
            for mine, theirs in zip(weights, ends[parent], strict=True):
                np.testing.assert_array_equal(mine, theirs)
            old = records[parent]["values"]
            assert (values["units"], values["optimizer"]) == (old["units"], old["optimizer"])
            if int(trial_id) - int(parent) != 4:
                copies.append(values["dropout"] != old["dropout"] and values["rate"] != old["rate"])
            assert len(records[trial_id]["curve"]["val_loss"]) == values["tuner/epochs"]
            assert records[trial_id]["score"] == min(records[trial_id]["curve"]["val_loss"][values["tuner/initial_epoch"] :])
            assert records[trial_id]["curve"]["val_loss"][: values["tuner/initial_epoch"]] == records[parent]["curve"]["val_loss"]
    assert copies == [True, True]
    assert "units" in tuner.oracle.store.facts["structure"] and not {"rate", "dropout"} & set(tuner.oracle.store.facts["structure"])
    assert not list(Path(tuner.project_dir).glob("state_*"))
    best = tuner.get_best_models()[0]
    assert best.evaluate(X, Y, verbose=0) == pytest.approx(tuner.oracle.get_best_trials(1)[0].score, rel=1e-5)
    assert [part["values"].keys() for part in tuner.schedule()][0] == {"units", "dropout", "rate", "optimizer"}
    tuner.results_summary(1)


class Ends(keras.callbacks.Callback):
    """Ends the process, or what stands for it, at the beginning of its nth epoch."""

    def __init__(self, count):
        super().__init__()
        self.left = [count]

    def __deepcopy__(self, memo):
        return self

    def on_epoch_begin(self, epoch, logs=None):
        self.left[0] -= 1
        if self.left[0] < 0:
            raise KeyboardInterrupt


def fixed(hp) -> keras.Model:
    """Without random layers, and trained on whole batches: nothing but the values can make a difference."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 10.0, sampling="log"), momentum=0.9), "binary_crossentropy", run_eagerly=True)
    return model


@pytest.mark.slow
def test_interrupted_trainings_end_as_without_an_interruption(settings):
    whole = Trained(fixed, rounds=2, population=3, **settings | {"project_name": "whole"})
    whole.run()
    epochs = []
    for count in (1, 3, 5, None):
        tuner = Trained(fixed, rounds=2, population=3, **settings)
        try:
            tuner.run(callbacks=[] if count is None else [Ends(count)])
        except KeyboardInterrupt:
            assert count is not None
        epochs += [(i, e) for i, e, *_ in tuner.seen]
    assert epochs == [(i, e) for i, e, *_ in whole.seen]
    for one, two in zip(whole.records(), tuner.records(), strict=True):
        assert (one["values"], one["curve"], one["score"]) == (two["values"], two["curve"], two["score"])


def test_workers_wait_for_the_end_of_a_round(settings):
    one, two = (Formula(storage=f"sqlite:///{settings['directory']}/shared.sqlite3", heartbeat=0.1, **settings) for _ in "ab")
    trials = [worker.oracle.create_trial(f"{worker is one}{i}") for i in range(2) for worker in (one, two)]
    assert [trial.trial_id for trial in trials] == ["0000", "0001", "0002", "0003"]

    def end(worker, trial):
        worker.oracle.update_trial(trial.trial_id, worker.run_trial(trial))
        trial.status = "COMPLETED"
        worker.oracle.end_trial(trial)

    for worker, trial in zip((one, two, one), trials):
        end(worker, trial)
    assert one.oracle.create_trial("more").status == "IDLE" and one.oracle.sources() == {"0000", "0001", "0002"}
    end(two, trials[3])
    trials = [worker.oracle.create_trial("more") for worker in (one, two)]
    assert [(trial.trial_id, trial.status) for trial in trials] == [("0004", "RUNNING"), ("0005", "RUNNING")]
    assert one.oracle.parents(1) == two.oracle.parents(1) and one.oracle.sources() == {"0000", "0001", "0002", "0003"}
    for worker, trial in zip((one, two), trials):
        end(worker, trial)
    begun, *_, third, fourth = (parent for parent, _ in two.oracle.parents(1))
    assert two.oracle.sources() == {"0005", begun, third, fourth}  # it has not looked since the other one has finished its trial
    for worker in (one, two):
        worker.oracle.release()


def test_a_lost_state_fails_one_member_only(settings):
    class Losing(Trained):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            if trial.trial_id == "0003":
                [file] = Path(self.project_dir).glob(f"state_{self.oracle.parents(1)[0][0]}.*")
                file.write_bytes(file.read_bytes()[:100])

    tuner = Losing(fixed, rounds=2, epochs_per_round=1, **settings)
    tuner.run()
    failed = [r for r in tuner.records() if r["status"] == "FAILED"]
    assert 1 <= len(failed) <= 2 and all("after 1 epochs is not there or damaged" in r["error"] for r in failed)
    assert tuner.oracle.get_best_trials(1)


def test_a_fit_that_cannot_go_on_is_refused(settings):
    class Deaf(keras_tuner.HyperModel):
        def build(self, hp):
            return fixed(hp)

        def fit(self, hp, model, x, y, validation_data, callbacks, epochs=1, **kwargs):
            return model.fit(x, y, validation_data=validation_data, callbacks=callbacks, epochs=epochs, verbose=0)

    with pytest.raises(FatalValueError, match="`hypermodel.fit` must hand `initial_epoch`"):
        Trained(Deaf(), population=2, epochs_per_round=1, **settings).run()

    class Short(Deaf):
        def fit(self, hp, model, x, y, validation_data, callbacks, epochs):
            raise AssertionError

    with pytest.raises(FatalTypeError, match="`hypermodel.fit` must take `initial_epoch`"):
        Trained(Short(), **settings | {"project_name": "short"}).run()


def test_a_state_can_leave_variables_as_they_are(tmp_path):
    from keras_optlab.training.resume import save_state

    def model(rate, dropout):
        layers = [keras.Input((4,)), keras.layers.Dropout(dropout), keras.layers.Dense(1)]
        made = keras.Sequential(layers)
        made.compile(keras.optimizers.Adam(rate), "mse", run_eagerly=True)
        made.optimizer.build(made.trainable_variables)
        return made

    one, two = model(0.1, 0.0), model(0.2, 0.5)
    one.optimizer.iterations.assign(7)
    save_state(tmp_path / "state.npz", one, 1)
    state = State(tmp_path / "state.npz")
    with pytest.raises(ValueError, match="does not fit the model.*seed_generator_state"):
        state.into(two)
    state.keep = ("learning_rate", "seed_generator_state")
    state.into(two)
    assert int(two.optimizer.iterations) == 7 and float(two.optimizer.learning_rate) == pytest.approx(0.2)
    np.testing.assert_array_equal(one.layers[-1].kernel, two.layers[-1].kernel)
