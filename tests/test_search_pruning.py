"""Pruned searches: what is stopped, what goes on, and that it goes on as if it had never stopped."""

import math
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.errors import FatalValueError
from search_cases import network, no_waiting_for_the_disk, points, statuses

from keras_optlab.optimizers import AdamW
from keras_optlab.schedules import Cosine
from keras_optlab.search import Tuner, samplers, store
from keras_optlab.search.pruners import ASHA, Pruner

pytestmark = pytest.mark.usefixtures("quick_collections")
X, Y = points(24)
DATA = {"x": X, "y": Y, "validation_data": (X, Y), "batch_size": 12, "verbose": 0}


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"objective": "val_loss", "seed": 0, "directory": str(tmp_path), "project_name": "p"}


class Loop(Tuner):
    """Trainings that are formulas, in a loop of its own. `log` holds (trial, epoch)."""

    def __init__(self, **more):
        self.log = []
        super().__init__(**{"sampler": "random", "pruner": "asha"} | more)

    def run_trial(self, trial, epochs, **_):
        hp, model, history = trial.hyperparameters, type("Model", (), {"stop_training": False})(), []
        x = hp.Float("x", 0.0, 1.0)
        for epoch in range(hp.values.get("tuner/initial_epoch", 0), epochs):
            self.log.append((trial.trial_id, epoch))
            history.append(self.value(x, epoch))
            self.on_epoch_end(trial, model, epoch, {"val_loss": history[-1]})
            if model.stop_training:
                self.checkpoints.save_state(trial.trial_id, 1, None, epoch + 1)
                break
        better = max if self.oracle.objective.direction == "max" else min
        return better([value for value in history if math.isfinite(value)], default=math.nan)

    def value(self, x, epoch):
        return (x - 0.3) ** 2 + 1 / (epoch + 1)


def test_two_thirds_stop_the_rest_is_whole_and_only_the_whole_are_ranked(settings):
    tuner = Loop(max_trials=12, **settings)
    tuner.search(epochs=27)
    records = {record["trial_id"]: record for record in tuner.records()}
    first = [record for record in records.values() if "tuner/trial_id" not in record["values"]]
    assert len(first) == 12 and tuner.remaining_trials == 0
    whole = [record for record in records.values() if record["status"] == "COMPLETED"]
    assert whole and all(max(record["reported"]) == 26 for record in whole)
    stopped = [record for record in records.values() if record["status"] == "STOPPED"]
    assert {record["stopped"] for record in stopped} == {3, 9} and all(record["score"] is None for record in stopped)
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(99)} == {record["trial_id"] for record in whole}
    assert all(tuner.oracle.trials[record["trial_id"]].status == "STOPPED" for record in stopped)
    assert len(tuner.log) == len(set((id_of(records, trial), epoch) for trial, epoch in tuner.log))  # no epoch of a configuration twice
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tuner.oracle.store.path}")
    assert [trial.state.name for trial in study.trials] == [{"STOPPED": "PRUNED", "COMPLETED": "COMPLETE"}[r["status"]] for r in records.values()]
    assert study.best_value == min(record["score"] for record in whole)


def id_of(records: dict, trial_id: str) -> str:
    parent = records[trial_id]["values"].get("tuner/trial_id")
    return trial_id if parent is None else id_of(records, parent)


def test_a_promoted_trial_says_where_it_comes_from_and_has_the_values_of_its_parent(settings):
    tuner = Loop(max_trials=18, **settings)
    tuner.search(epochs=27)
    records = {record["trial_id"]: record for record in tuner.records()}
    promoted = [record for record in records.values() if "tuner/trial_id" in record["values"]]
    assert promoted
    for record in promoted:
        parent = records[record["values"]["tuner/trial_id"]]
        assert parent["status"] == "STOPPED" and record["values"]["x"] == parent["values"]["x"]
        assert record["values"]["tuner/initial_epoch"] == parent["stopped"] and record["values"]["tuner/epochs"] == 27


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_best_are_found_in_either_direction(pruner, direction, settings):
    class Signed(Loop):
        def value(self, x, epoch):
            return super().value(x, epoch) * (1 if direction == "min" else -1)

    tuner = Signed(max_trials=25, **settings | {"objective": keras_tuner.Objective("val_loss", direction), "pruner": pruner})
    tuner.search(epochs=12)
    xs = [record["values"]["x"] for record in tuner.records()]
    assert abs(tuner.get_best_hyperparameters()[0].get("x") - 0.3) == min(abs(x - 0.3) for x in xs)
    assert len(tuner.log) < 25 * 12 * 0.8


def test_a_killed_search_goes_on_with_the_same_decisions(settings):
    class Killed(Loop):
        end = 10**9

        def value(self, x, epoch):
            if len(self.log) > self.end:
                raise KeyboardInterrupt
            return super().value(x, epoch)

    whole = Killed(max_trials=9, **settings | {"sampler": "gp"})
    whole.search(epochs=27)
    kept = [(r["values"], r["status"]) for r in whole.records()]
    for end in (2, 13, 30, 9999):
        tuner = Killed(max_trials=9, **settings | {"sampler": "gp", "project_name": "killed"})
        tuner.end = end
        try:
            tuner.search(epochs=27)
        except KeyboardInterrupt:
            assert tuner.records()[-1]["status"] == "RUNNING"
    assert [(r["values"], r["status"]) for r in tuner.records()] == kept


def test_nan_at_a_rung_is_a_failure(settings):
    class Nan(Loop):
        def value(self, x, epoch):
            return math.nan if x > 0.5 else super().value(x, epoch)

    tuner = Nan(max_trials=8, **settings)
    tuner.search(epochs=9)
    for record in tuner.records():
        assert (record["status"] == "FAILED") == (record["values"]["x"] > 0.5)
    assert not tuner.log.count(("0000", 8)) or "C" in statuses(tuner)


def test_a_failure_after_a_promotion_costs_only_itself(settings):
    class Fails(Loop):
        def value(self, x, epoch):
            if epoch == 4 and self.log[-1][0] not in failed and len(failed) < 2:
                failed.add(self.log[-1][0])
                raise MemoryError
            return super().value(x, epoch)

    failed: set = set()
    tuner = Fails(max_trials=20, **settings)
    tuner.search(epochs=27)
    records = {record["trial_id"]: record for record in tuner.records()}
    assert {i for i, record in records.items() if record["status"] == "FAILED"} == failed and len(failed) == 2
    assert not any(record["values"].get("tuner/trial_id") in failed for record in records.values())
    assert "COMPLETED" in {record["status"] for record in records.values()}


def test_what_samplers_are_told_of_stopped_trials(settings):
    seen = []

    class Listening(samplers.Random):
        def tell(self, values, score):
            seen.append((values["x"], score, values))
            super().tell(values, score)

    tuner = Loop(max_trials=15, **settings | {"sampler": Listening})
    tuner.search(epochs=27)
    found, records = {x: score for x, score, _ in seen}, tuner.records()
    assert len(found) == 14 and not any(name.startswith("tuner/") for *_, values in seen for name in values)
    assert all(math.isfinite(score) for score in found.values())  # a stopped trial is no failure
    best = max(-record["score"] for record in records if record["status"] == "COMPLETED")
    assert max(found.values()) <= best
    late = seen[-14:]
    order = [score for _, score, _ in sorted(late, key=lambda one: abs(one[0] - 0.3))]
    assert order == sorted(order, reverse=True)  # the better, the better


def test_no_configuration_is_trained_twice_and_a_finite_space_ends(settings):
    class Finite(Loop):
        def run_trial(self, trial, **more):
            trial.hyperparameters.Int("n", 1, 12)
            return super().run_trial(trial, **more)

        def value(self, x, epoch):
            return x + 1 / (epoch + 1)

    hp = keras_tuner.HyperParameters()
    hp.Fixed("x", 0.5)
    tuner = Finite(hyperparameters=hp, **settings)
    tuner.search(epochs=9)
    first = [record["values"]["n"] for record in tuner.records() if "tuner/trial_id" not in record["values"]]
    assert sorted(first) == list(range(1, 13)) and "C" in statuses(tuner)


def test_the_states_of_paused_trials_are_few_and_without_theirs_none_goes_on(settings):
    class Counting(Loop):
        most = 0

        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            self.most = max(self.most, len(list(Path(self.project_dir).glob("state_*"))))

    tuner = Counting(max_trials=40, **settings)
    tuner.search(epochs=27)
    assert 3 <= tuner.most <= 6
    for file in Path(tuner.project_dir).glob("state_*"):
        file.unlink()
    again = Loop(max_trials=41, **settings)
    again.search(epochs=27)
    assert len(again.records()) - len(tuner.records()) <= 3  # the new one, and what it needs itself to become whole


def test_a_pruner_of_ones_own(settings):
    class Third(Pruner):
        def goes_on(self, trial_id, curves):
            return len(curves[trial_id].values) < 5

    tuner = Loop(max_trials=3, **settings | {"pruner": Third()})
    tuner.search(epochs=9)
    assert statuses(tuner) == "SSS" and all(record["stopped"] == 5 for record in tuner.records())
    with pytest.raises(ValueError, match="No trial was completed yet"):
        tuner.get_best_models()


def build(hp):
    return network(AdamW(Cosine(hp.Float("rate", 1e-3, 1e-1, sampling="log"), 30), use_ema=True, ema_momentum=0.8))


class Promotes(Pruner):
    """Pauses the first training after three and after four epochs, and lets it go on after the next one has ended."""

    def goes_on(self, trial_id, curves):
        return trial_id != "0000" or len(curves[trial_id].values) not in (3, 4)

    def promote(self, curves, ending=False):
        return "0000" if curves and curves["0000"].paused and (ending or len(curves["0000"].values) == 4) else None

    def promotable(self, curves):
        return ["0000"] if curves and curves["0000"].paused else []


class Noted(Tuner):
    def __init__(self, *args, **more):
        self.epochs, self.rates = [], {}
        super().__init__(*args, **more)

    def on_trial_begin(self, trial):
        keras.utils.set_random_seed(int(1000 * trial.hyperparameters.get("rate")))  # the same for a configuration, whatever ran before
        super().on_trial_begin(trial)

    def on_epoch_end(self, trial, model, epoch, logs=None):
        self.epochs.append((trial.trial_id, epoch))
        self.rates[trial.trial_id, epoch] = float(model.optimizer.learning_rate), int(model.optimizer.iterations)
        super().on_epoch_end(trial, model, epoch, logs)


TWO = {"sampler": "random", "max_trials": 2, "keep": "all"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same two configurations without a pruner."""
    with no_waiting_for_the_disk():
        tuner = Noted(build, "val_loss", seed=0, directory=str(tmp_path_factory.mktemp("whole")), **TWO)
        tuner.search(**DATA, epochs=5)
    return tuner


def test_a_promoted_training_is_the_same_as_one_that_was_never_stopped(settings, whole):
    tuner = Noted(build, **settings | TWO, pruner=Promotes())
    tuner.search(**DATA, epochs=5)
    assert statuses(tuner) == "SCSC" and [r["values"].get("tuner/trial_id") for r in tuner.records()] == [None, None, "0000", "0002"]
    assert [epoch for trial, epoch in tuner.epochs if trial != "0001"] == list(range(5))
    one, two = whole.records()[0], tuner.records()[3]
    assert two["curve"] == one["curve"] and two["score"] == one["score"] and two["best_step"] == one["best_step"]
    assert tuner.rates["0003", 4] == whole.rates["0000", 4] and whole.rates["0000", 4] != whole.rates["0000", 3]  # 10 steps along the schedule
    models = [t.load_model(t.oracle.trials[i]) for t, i in ((whole, "0000"), (tuner, "0003"))]
    for a, b in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(a, b)
    names = sorted(file.name.partition(".")[0] for file in Path(tuner.project_dir).iterdir() if not file.name.startswith("search"))
    assert names == ["checkpoint_0001", "checkpoint_0003"]


@pytest.mark.slow
def test_a_promoted_training_that_is_killed_goes_on_from_its_parent(settings, whole):
    class Killed(Noted):
        killed = 0

        def on_epoch_begin(self, trial, model, epoch, logs=None):
            if "tuner/trial_id" in trial.hyperparameters.values and Killed.killed < 2:
                Killed.killed += 1
                raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Killed(build, pruner=Promotes(), **settings | TWO).search(**DATA, epochs=5)
    tuner = Killed(build, pruner=Promotes(), **settings | TWO)
    tuner.search(**DATA, epochs=5)
    assert tuner.epochs == [("0002", 3), ("0003", 4)]
    assert tuner.records()[3]["curve"] == whole.records()[0]["curve"]


def test_asha_with_models_keeps_the_best_whole_one(settings):
    tuner = Tuner(build, max_trials=4, pruner="asha", sampler="random", **settings)
    tuner.search(**DATA, epochs=5)
    best = min((r for r in tuner.records() if r["status"] == "COMPLETED"), key=lambda record: record["score"])
    assert len(best["curve"]["val_loss"]) == 5 and statuses(tuner).count("S") >= 2
    assert tuner.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(best["score"], rel=1e-5)
    assert store.read(tuner.project_dir)["trials"] == tuner.records()


class Fit(keras_tuner.HyperModel):
    """Knows itself how many epochs it trains, and may train in two parts."""

    def __init__(self, parts=1, **more):
        super().__init__()
        self.parts, self.more = parts, more

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        for _ in range(self.parts):
            history = model.fit(*args, epochs=hp.Choice("epochs", [5, 6]), **kwargs, **self.more)
        return history


def test_a_hypermodel_that_sets_the_epochs_itself(settings):
    tuner = Tuner(Fit(), max_trials=3, pruner="asha", sampler="random", **settings)
    tuner.search(**DATA)
    records = tuner.records()
    assert "S" in statuses(tuner) and all(record["epochs"] == record["values"]["epochs"] for record in records)
    assert all(len(record["curve"]["val_loss"]) == record["epochs"] for record in records if record["status"] == "COMPLETED")


@pytest.mark.parametrize(
    ("hypermodel", "pruner", "message"),
    [
        (Fit(parts=2), "asha", "call `model.fit` once. Received: a second training"),
        (Fit(validation_freq=2), "asha", "objective after every epoch. Received: nothing called 'val_loss' after epoch 1"),
    ],
)
def test_what_cannot_be_pruned_is_said_at_the_first_trial(hypermodel, pruner, message, settings):
    with pytest.raises(FatalValueError, match=message):
        Tuner(hypermodel, max_trials=4, pruner=pruner, sampler="random", **settings).search(**DATA)


def test_errors_name_the_argument(settings):
    with pytest.raises(ValueError, match="`pruner` must be one of asha, hyperband, median, or None. Received: pruner='ahsa'. Did you mean 'asha'"):
        Loop(**settings | {"pruner": "ahsa"})
    with pytest.raises(ValueError, match="`executions_per_trial` must be 1 .* Received: executions_per_trial=2"):
        Loop(**settings, executions_per_trial=2)

    class Blind(Loop):
        def run_trial(self, trial, **more):
            return super().run_trial(trial, epochs=9)

    with pytest.raises(FatalValueError, match="Received: no `epochs` in `search`"):
        Blind(max_trials=1, **settings).search()


def test_a_search_without_the_pruner_takes_the_stopped_trials_as_they_are(settings):
    first = Loop(max_trials=5, **settings)
    first.search(epochs=9)
    before = statuses(first)
    again = Loop(max_trials=7, **settings | {"pruner": None})
    again.search(epochs=9)
    assert statuses(again) == before + "CC" and not list(Path(again.project_dir).glob("state_*"))
    changed = Loop(max_trials=9, **settings | {"pruner": ASHA(factor=2)})
    changed.search(epochs=9)
    assert statuses(changed).startswith(before + "CC")


def test_workers_in_turn_share_the_paused_trials(settings, tmp_path):
    shared = settings | {"storage": f"sqlite:///{tmp_path}/shared.sqlite3", "max_trials": 9}
    workers = [Loop(**shared) for _ in range(2)]
    by, over = {}, set()
    while len(over) < 2:
        trials = [(worker, worker.oracle.create_trial(worker.tuner_id)) for worker in workers]  # both before either runs
        for worker, trial in trials:
            if trial.status == "RUNNING":
                by[trial.trial_id] = worker
                worker._run(trial, epochs=27)
                worker.on_trial_end(trial)
            elif trial.status == "STOPPED":
                over.add(worker)
    records = {record["trial_id"]: record for record in workers[0].records()}
    parents = [(trial_id, record["values"]["tuner/trial_id"]) for trial_id, record in records.items() if "tuner/trial_id" in record["values"]]
    assert len({parent for _, parent in parents}) == len(parents)  # nobody goes on twice
    assert any(by[child] is not by[parent] for child, parent in parents)
    assert sum("tuner/trial_id" not in record["values"] for record in records.values()) == 9
    assert "COMPLETED" in {record["status"] for record in records.values()}
    log = [(id_of(records, trial), epoch) for worker in workers for trial, epoch in worker.log]
    assert len(log) == len(set(log))
