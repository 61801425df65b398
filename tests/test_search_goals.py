"""Several objectives: the Pareto front, what is measured of a model, and what is kept."""

import logging
import math
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.errors import FatalTypeError, FatalValueError
from search_cases import no_waiting_for_the_disk, points, statuses

from keras_optlab import report
from keras_optlab.report.goals import undominated
from keras_optlab.search import Oracle, Tuner, goals, samplers, store

pytestmark = pytest.mark.usefixtures("quick_collections")
X, Y = points(16)


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"directory": str(tmp_path), "project_name": "project", "seed": 0}


class Two(Tuner):
    """The more of `x` the better and the larger: but for `waste`, each is on the front."""

    def __init__(self, **given):
        super().__init__(**{"objective": ["val_accuracy", keras_tuner.Objective("size", "min")]} | given)

    def run_trial(self, trial, **_):
        x, waste = trial.hyperparameters.Float("x", 0.0, 1.0), trial.hyperparameters.Choice("waste", [0, 1])
        return self.result(x, waste)

    def result(self, x, waste):
        return {"val_accuracy": x - waste, "size": 10 * x + waste, "other": 1.0}


def beaten(record, records) -> bool:
    one, every = record["scores"], [other["scores"] for other in records]
    return any(o["val_accuracy"] >= one["val_accuracy"] and o["size"] <= one["size"] and o != one for o in every if o is not one)


def test_several_objectives_in_the_store_the_log_and_after_a_restart(settings, caplog):
    first = Two(max_trials=5, **settings)
    assert first.oracle.sampler is samplers.GaussianProcess is Oracle().sampler
    first.search(verbose=0)
    tuner = Two(max_trials=20, **settings)
    with caplog.at_level(logging.INFO):
        tuner.search()
    whole = Two(max_trials=20, **settings | {"project_name": "whole"})
    whole.search(verbose=0)
    records = tuner.records()
    assert [record["values"] for record in records] == [record["values"] for record in whole.records()]
    assert all(record["scores"] == {"val_accuracy": record["score"], "size": record["scores"]["size"]} for record in records)
    front = tuner.pareto_front()
    assert {trial.trial_id for trial in front} == {r["trial_id"] for r in records if not beaten(r, records)} and 3 < len(front) < 20
    assert [trial.score for trial in front] == sorted((trial.score for trial in front), reverse=True)
    assert [t.trial_id for t in tuner.oracle.get_best_trials(2)] == [t.trial_id for t in front[:2]]
    assert f"size {records[-1]['scores']['size']:.5g} (best {front[0].score:.5g} in {front[0].trial_id}, {len(front)} on the front)" in caplog.text
    search = store.read(tuner.project_dir)
    assert (search["objective"], search["direction"]) == (["val_accuracy", "size"], ["max", "min"])
    study = optuna.load_study(study_name="project", storage=f"sqlite:///{tuner.project_dir}/{store.FILE}")
    assert {f"{trial.number:04d}" for trial in study.best_trials} == {trial.trial_id for trial in front}
    with pytest.raises(ValueError, match=r"the objective was val_accuracy \(max\), size \(min\), is val_accuracy \(max\)\. "):
        Two(max_trials=20, **settings | {"objective": "val_accuracy"})


@pytest.mark.parametrize("sampler", samplers.names())
def test_every_sampler_takes_several_objectives_and_failures_of_one(sampler, settings):
    class Failing(Two):
        def result(self, x, waste):
            return super().result(x, waste) | ({"size": math.nan} if waste else {})

    tuner = Failing(sampler=sampler, max_trials=8, **settings)
    tuner.search(verbose=0)
    for record in tuner.records():
        assert (record["error"] == "The objective `size` was nan." and "scores" not in record) == bool(record["values"]["waste"])
    assert set(statuses(tuner)) == {"C", "F"}


def test_weights_order_the_front(settings):
    tuner = Two(max_trials=20, **settings)
    assert tuner.pareto_front({"size": 1}) == []
    tuner.search(verbose=0)
    front = tuner.pareto_front()
    assert tuner.pareto_front({"val_accuracy": 2}) == front and tuner.pareto_front({"size": 1, "val_accuracy": 0}) == front[::-1]
    x = np.array([trial.score for trial in front])
    for weight in (0.5, 1.0, 2.0):
        behind = weight * (x.max() - x) / np.ptp(x) + (x - x.min()) / np.ptp(x)
        first = tuner.pareto_front({"val_accuracy": weight, "size": 1.0})[0]
        assert behind[front.index(first)] == pytest.approx(behind.min())
    for wrong in ({"other": 1}, {"size": -1}, {"size": math.nan}, {"size": "much"}, {"size": 0}, {}):
        with pytest.raises(ValueError, match="`weights` must give some of val_accuracy, size"):
            tuner.pareto_front(wrong)


def test_one_objective_has_a_front_of_one(settings):
    tuner = Two(max_trials=3, **settings | {"objective": ["val_accuracy"]})
    assert tuner.pareto_front() == []
    tuner.search(verbose=0)
    assert [trial.trial_id for trial in tuner.pareto_front()] == [tuner.oracle.get_best_trials()[0].trial_id]
    assert store.read(tuner.project_dir)["objective"] == "val_accuracy" and all("scores" not in record for record in tuner.records())


@pytest.mark.parametrize("objective", [[], ["val_loss", "val_loss"], ["parameters", "val_loss"], "latency", ["val_loss", 3]])
def test_objectives_that_cannot_be(objective):
    with pytest.raises(ValueError, match="`objective` must be.*Received: objective="):
        Oracle(objective=objective)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [({"val_accuracy": 1.0}, FatalValueError, "objective='size', reported: val_accuracy"), (0.5, FatalTypeError, "several objectives.*Received: 0.5")],
)
def test_a_result_that_lacks_an_objective(result, error, message, settings):
    class Lacking(Two):
        def result(self, x, waste):
            return result

    with pytest.raises(error, match=message):
        Lacking(max_trials=1, **settings).search(verbose=0)


def build(hp):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Choice("units", [1, 2, 3, 4])), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


class Given(keras.callbacks.Callback):
    """The validation loss is what the test says, by units."""

    losses = {1: [4.0, 3.0], 2: [1.0, 2.0], 3: [5.0, 5.0], 4: [0.5, 0.6]}

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[self.model.layers[0].units][epoch]


def test_parameters_and_latency_are_measured_and_the_front_is_kept(settings):
    tuner = Tuner(build, ["val_loss", "parameters"], sampler="grid", **settings)
    tuner.search(X, Y, epochs=2, verbose=0, callbacks=[Given()])
    found = {record["values"]["units"]: record for record in tuner.records()}
    assert {units: record["scores"] for units, record in found.items()} == {
        units: {"val_loss": min(losses), "parameters": 6 * units + 1} for units, losses in Given.losses.items()
    }
    assert all("parameters" not in record["curve"] for record in found.values())
    front = [found[units]["trial_id"] for units in (4, 2, 1)]
    assert [trial.trial_id for trial in tuner.pareto_front()] == front
    assert sorted(file.name for file in Path(tuner.project_dir).glob("checkpoint_*")) == sorted(f"checkpoint_{trial_id}.1.npz" for trial_id in front)
    assert [model.layers[0].units for model in tuner.get_best_models(3)] == [4, 2, 1]
    few = Tuner(build, ["val_loss", "parameters", "latency"], keep=1, max_trials=2, executions_per_trial=2, **settings | {"project_name": "few"})
    few.search(X, Y, epochs=1, verbose=0, callbacks=[Given()])
    for record in few.records():
        seconds = [execution["scores"]["latency"] for execution in record["executions"]]
        assert min(seconds) > 0 and record["scores"]["latency"] == pytest.approx(sum(seconds) / 2)
    assert [file.name for file in Path(few.project_dir).glob("checkpoint_*")] == [f"checkpoint_{few.pareto_front()[0].trial_id}.1.npz"]


def test_one_sample_of_arrays_of_a_shape_or_none():
    fixed, free = (keras.Sequential([keras.Input(shape), keras.layers.Dense(1)]) for shape in ((3, 2), (None, 2)))
    assert goals.one(fixed, None).shape == goals.one(fixed, iter([])).shape == (1, 3, 2)
    assert goals.one(free, {"a": np.ones((5, 7, 2))})["a"].shape == (1, 7, 2)
    with pytest.raises(FatalValueError, match='"latency" needs.*Received: inputs .*None, None, 2'):
        goals.one(free, None)
    assert goals.latency(fixed) > 0


def test_a_front_holds_equals_and_no_beaten_one():
    gains = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    assert undominated(gains, ["max", "max"]).tolist() == [True, True, True, False, True]


class Bounded(Two):
    def __init__(self, **given):
        super().__init__(
            **{"objective": "val_accuracy", "constraints": {"parameters": 60, "val_accuracy": 0.2}, "sampler": Listening, "max_trials": 12} | given
        )

    def result(self, x, waste):
        return {"val_accuracy": x, "parameters": self.size * x}

    size = 100


class Listening(samplers.Random):
    """Remembers what it is told."""

    told: list = []

    def ask(self):
        type(self).told = [(values["x"], score[0]) for values, score in self._told]
        return super().ask()


def test_what_breaks_a_bound_is_never_the_best(settings, caplog):
    tuner = Bounded(**settings)
    with caplog.at_level(logging.INFO):
        tuner.search()
    records = tuner.records()
    assert set(statuses(tuner)) == {"C"} and len(caplog.messages) == 12
    over = {record["trial_id"]: max(0, 100 * record["score"] / 60 - 1) + max(0, 1 - record["score"] / 0.2) for record in records}
    assert all(record.get("excess", 0) == pytest.approx(over[record["trial_id"]]) for record in records)
    assert all(("breaks `constraints`" in line) == (over[line[6:10]] > 0) for line in caplog.messages)
    kept = [record for record in records if not over[record["trial_id"]]]
    best = max(kept, key=lambda record: record["score"])
    assert 0 < len(kept) < 12 and [trial.trial_id for trial in tuner.pareto_front()] == [best["trial_id"]]
    assert len(tuner.oracle.get_best_trials(None)) == len(kept) and len(tuner.oracle.completed()) == 12
    assert report.ranked(store.read(tuner.project_dir))[0]["trial_id"] == best["trial_id"] and len(report.ranked(store.read(tuner.project_dir))) == len(kept)
    assert tuner.best_by_posterior_mean()[0].trial_id in [record["trial_id"] for record in kept]
    for (x, told), record in zip(Listening.told, records):
        assert x == record["score"] and (math.isnan(told) if over[record["trial_id"]] else told == x)
    with pytest.raises(ValueError, match=r"the constraints were \{'parameters': 60.0, 'val_accuracy': 0.2\}, are \{\}"):
        Bounded(**settings | {"constraints": None})


def test_where_none_keeps_the_bounds_the_sampler_hears_which_is_nearest(settings):
    class Large(Bounded):
        size = 10**6

    tuner = Large(**settings)
    tuner.search(verbose=0)
    records = tuner.records()
    assert tuner.oracle.get_best_trials() == [] == tuner.pareto_front() and tuner.best_by_posterior_mean() is None
    assert [told for _, told in Listening.told] == [-record["excess"] for record in records[:11]]
    with pytest.raises(ValueError, match="None of 12 completed trials keeps `constraints`: the nearest one breaks them by [0-9]+%"):
        tuner.get_best_models()


def test_a_bound_of_what_is_no_objective_is_measured(settings):
    tuner = Tuner(build, "val_loss", constraints={"parameters": 20}, **settings | {"sampler": "grid"})
    tuner.search(X, Y, epochs=2, verbose=0, callbacks=[Given()])
    assert {record["values"]["units"]: "excess" in record for record in tuner.records()} == {1: False, 2: False, 3: False, 4: True}
    assert tuner.get_best_models()[0].layers[0].units == 2 and len(list(Path(tuner.project_dir).glob("checkpoint_*"))) == 1
    assert all("scores" not in record for record in tuner.records())


@pytest.mark.parametrize("constraints", [{"val_loss": 1.0}, {"parameters": math.nan}, {"latency": "fast"}, {"parameters": True}])
def test_bounds_that_cannot_be(constraints):
    with pytest.raises(ValueError, match="`constraints` must give some of parameters, latency, val_accuracy a finite bound.*Received"):
        Oracle(objective="val_accuracy", constraints=constraints)
    with pytest.raises(ValueError, match="`constraints` must be a dict .* Received: constraints=\\[1\\]"):
        Oracle(objective="val_accuracy", constraints=[1])


def test_our_oracle_of_several_objectives_drives_a_plain_keras_tuner(settings):
    class Plain(keras_tuner.Tuner):
        def run_trial(self, trial, **_):
            x, history = trial.hyperparameters.Float("x", 0.0, 1.0), keras.callbacks.History()
            history.history, history.epoch = {"val_accuracy": [x], "size": [10 * x]}, [0]
            return history

    oracle = Oracle(objective=["val_accuracy", keras_tuner.Objective("size", "min")], max_trials=4, seed=0)
    tuner = Plain(oracle, directory=settings["directory"])
    tuner.search(verbose=0)
    assert len(oracle.get_best_trials(9)) == 4 and [record["scores"]["size"] for record in oracle.records.values()] == [
        10 * record["score"] for record in oracle.records.values()
    ]
