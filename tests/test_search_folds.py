"""Cross-validation, and the training of the winner on all data."""

import logging
from pathlib import Path
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.errors import FatalValueError
from search_cases import no_waiting_for_the_disk

from keras_optlab import data
from keras_optlab.search import Tuner, folds, refit

pytestmark = pytest.mark.usefixtures("quick_collections")
X = np.arange(24.0, dtype="float32")[:, None]
Y = np.repeat([0, 1, 2], [12, 8, 4])


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"objective": "val_loss", "directory": str(tmp_path), "project_name": "project", "seed": 0, "sampler": "grid"}


class Noted(keras_tuner.HyperModel):
    """Trains nothing and notes what it was given; the validation loss of `a` in a training is `losses[a]`, epoch by epoch."""

    losses = {1: [3.0, 2.0, 4.0], 2: [1.0, 2.0, 2.0], 3: [9.0, 9.0, 5.0]}
    ends = ()

    def __init__(self):
        super().__init__()
        self.given = []

    def build(self, hp):
        hp.Choice("a", list(self.losses))
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile("sgd", "mse")
        return model

    def fit(self, hp, model, x, y, callbacks, **kwargs):
        self.given.append(SimpleNamespace(a=hp.get("a"), x=x, y=y, callbacks=callbacks, **kwargs))
        if len(self.given) in self.ends:
            raise KeyboardInterrupt
        model.layers[0].kernel.assign([[len(self.given)]])
        history = keras.callbacks.History()
        history.history = {"val_loss": [loss + 0.1 * len(self.given) for loss in self.losses[hp.get("a")]]}
        return history


def rows(array) -> list[int]:
    return sorted(int(value) for value in np.ravel(array))


def test_each_fold_is_an_execution_and_all_trials_see_the_same_ones(settings):
    noted = Noted()
    tuner = Tuner(noted, cross_validation=4, **settings)
    tuner.search(X, Y, sample_weight=2 * X[:, 0], verbose=0)
    assert len(noted.given) == 12
    for given in noted.given:
        x, y, weight = given.validation_data
        assert np.bincount(y).tolist() == [3, 2, 1] and rows(np.r_[x, given.x]) == rows(X)
        assert (Y[x[:, 0].astype(int)] == y).all() and (Y[given.x[:, 0].astype(int)] == given.y).all()
        assert (weight == 2 * x[:, 0]).all() and (given.sample_weight == 2 * given.x[:, 0]).all()
    held = [rows(given.validation_data[0]) for given in noted.given]
    assert held[:4] == held[4:8] == held[8:] and sorted(sum(held[:4], [])) == rows(X) and held[0] != rows(X)[:6]
    records = tuner.records()
    assert [len(record["executions"]) for record in records] == [4, 4, 4]
    for record in records:
        assert record["score"] == pytest.approx(np.mean([execution["score"] for execution in record["executions"]]))
    assert len(list(Path(tuner.project_dir).glob("checkpoint_*"))) == 1


def test_an_interrupted_trial_goes_on_with_the_fold_that_it_was_in(settings):
    noted = Noted()
    noted.ends = (3,)
    with pytest.raises(KeyboardInterrupt):
        Tuner(noted, cross_validation=4, max_trials=1, **settings).search(X, Y, verbose=0)
    tuner = Tuner(noted, cross_validation=4, max_trials=1, **settings)
    tuner.search(X, Y, verbose=0)
    held = [rows(given.validation_data[0]) for given in noted.given]
    assert held[2] == held[3] and sorted(sum([*held[:2], *held[3:]], [])) == rows(X) and len(tuner.records()[0]["executions"]) == 4


def test_folds_of_numbers_of_rare_classes_and_of_several_inputs():
    real = [held for _, held in folds.parts(np.linspace(0, 1, 10) ** 2, 10, 5, 0)]
    rare = [held for _, held in folds.parts(np.r_[0, np.ones(9, int)], 10, 5, 2**40)]
    assert all(len(held) == 2 for held in real + rare) and rows(np.concatenate(real)) == rows(np.concatenate(rare)) == list(range(10))
    one_hot = keras.utils.to_categorical(Y)
    assert (folds.classes(one_hot) == Y).all() and (folds.classes(Y[:, None].astype("float32")) == Y).all() and folds.classes(Y + 0.5) is None
    words = np.array(list("abc"))[Y]
    assert (folds.classes(words.astype(object)) == words).all() and folds.classes(np.array([1, None, "a"], object)) is None
    args, kwargs = folds.fold(2, 0, 0, (), {"x": {"a": X, "b": [X, X]}, "y": [X, X], "epochs": 3})
    (x, y), training = kwargs["validation_data"], kwargs["x"]
    assert args == () and kwargs["epochs"] == 3 and len(y[1]) == len(x["b"][1]) == len(training["a"]) == 12 and rows(y[0]) == rows(x["a"])
    assert rows(np.r_[training["b"][0], x["a"]]) == rows(X)


BAD = {
    "validation": ((X, Y), {"validation_data": (X, Y)}, "without `validation_data` and `validation_split`"),
    "split": ((X, Y), {"validation_split": 0.2}, "without `validation_data` and `validation_split`"),
    "dataset": ((tf.data.Dataset.from_tensor_slices((X, Y)),), {}, "TensorSliceDataset, 1 arg.*or search without"),
    "generator": ((x for x in X), {}, "needs the data as arrays"),
    "no labels": ((X,), {}, "Received: x ndarray"),
    "nothing": ((), {}, "neither x nor y"),
    "three": ((X, Y, 32), {}, "everything else by name"),
    "lengths": ((X, Y[1:]), {}, r"as many samples in each array. Received: \{'x': \[24\], 'y': \[23\]\}"),
    "few": ((X[:2], Y[:2]), {}, "at most the number of samples, 2"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_cross_validated(kind):
    args, kwargs, message = BAD[kind]
    with pytest.raises(FatalValueError, match=message):
        folds.fold(3, 0, 0, (args,) if kind == "generator" else args, kwargs)


@pytest.mark.parametrize("given", [{"cross_validation": 1}, {"cross_validation": True}, {"cross_validation": 3, "executions_per_trial": 2}])
def test_arguments_that_do_not_go_together(given, settings):
    with pytest.raises(ValueError, match="`cross_validation` must be.*Received"):
        Tuner(Noted(), **given, **settings)


@pytest.mark.parametrize("given", [{"cross_validation": 3}, {"objective": ["val_loss", "val_accuracy"]}])
def test_pruners_compare_single_trainings_on_one_objective(given, settings):
    with pytest.raises(ValueError, match="`executions_per_trial` must be 1 and `objective` one, without `cross_validation`"):
        Tuner(Noted(), **settings | {"pruner": "asha"} | given)


def test_images_are_parted_anew_without_those_of_the_test():
    images = data.load("digits")
    (fold,), kwargs = folds.fold(3, 1, 0, (images,), {"epochs": 2})
    counts = {part: np.array(count) for part, count in images.counts.items()}
    outside = counts["train"] + counts["validation"]
    assert np.abs(np.array(fold.counts["validation"]) - outside / 3).max() < 1 and fold.counts["test"] == images.counts["test"]
    assert (np.array(fold.counts["train"]) + fold.counts["validation"] == outside).all() and kwargs == {"epochs": 2}
    (whole,), kwargs = refit.whole((images,), {"epochs": 2})
    assert whole.counts["train"] == outside.tolist() and sum(whole.counts["validation"]) == 0 and kwargs == {"epochs": 2, "validation_data": None}
    assert len(images.labels) == sum(outside) and images.counts == {part: count.tolist() for part, count in counts.items()}


def test_the_winner_is_trained_on_all_data_for_the_median_best_epoch(settings, caplog):
    noted, stopping = Noted(), keras.callbacks.EarlyStopping("val_loss")
    tuner = Tuner(noted, cross_validation=3, refit=True, **settings)
    with caplog.at_level(logging.INFO):
        tuner.search(X, Y, epochs=3, callbacks=[stopping, keras.callbacks.TerminateOnNaN()])
    last, best = noted.given[-1], tuner.oracle.get_best_trials(1)[0]
    assert len(noted.given) == 10 and last.a == best.hyperparameters.get("a") == 2 and last.epochs == 1 and rows(last.x) == rows(X)
    assert not hasattr(last, "validation_data") and [type(c).__name__ for c in last.callbacks] == ["TerminateOnNaN"]
    assert f"Trial {best.trial_id}, the best one, is trained anew on all data for 1 epochs." in caplog.text
    again = Tuner(noted, cross_validation=3, refit=True, keep="all", **settings)
    again.search(X, Y, epochs=3, verbose=0)
    assert len(noted.given) == 10  # nothing is left to do
    kernels = [model.layers[0].kernel.numpy().item() for model in again.get_best_models(1)]
    assert kernels == [10.0] and 1 <= again.load_model(best).layers[0].kernel.numpy().item() <= 9
    assert Tuner(noted, **settings).get_best_models()[0].layers[0].kernel.numpy().item() <= 9


def test_an_interrupted_refit_is_made_up_for_and_a_new_winner_gets_its_own(settings):
    noted = Noted()
    noted.ends = (2,)
    make = lambda trials: Tuner(noted, refit=True, max_trials=trials, **settings)
    given = {"x": X[:16], "y": Y[:16], "validation_data": (X[16:], Y[16:]), "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        make(1).search(**given)
    assert [record["status"] for record in make(1).records()] == ["COMPLETED"]
    make(1).search(**given)
    assert [len(one.x) for one in noted.given] == [16, 24, 24] and rows(noted.given[2].x) == rows(X)
    tuner = make(3)
    Path(tuner.project_dir, "refit_0.npz").touch()  # left by one that was killed while it wrote
    tuner.search(**given)
    best = tuner.oracle.get_best_trials()[0]
    winners = 1 + (noted.given[2].a != 2)
    assert [len(one.x) for one in noted.given].count(24) == 1 + winners and tuner.oracle.store.facts["refit"]["trial_id"] == best.trial_id
    kept = [file.name for pattern in ("checkpoint_*.refit.npz", "refit_*") for file in Path(tuner.project_dir).glob(pattern)]
    assert kept == [f"checkpoint_{best.trial_id}.refit.npz"]
    assert noted.given[-1].a == 2 and tuner.get_best_models()[0].layers[0].kernel.numpy().item() == len(noted.given)


def test_refit_refuses_before_the_search_what_it_could_not_take(settings):
    noted = Noted()
    with pytest.raises(FatalValueError, match="`refit` needs the data as arrays"):
        Tuner(noted, refit=True, **settings).search(X, Y, validation_data=tf.data.Dataset.from_tensor_slices((X, Y)))
    assert not noted.given

    class Own(Tuner):
        def run_trial(self, trial, **_):
            return 0.0

    with pytest.raises(ValueError, match="need a `hypermodel`.*refit=True"):
        Own(refit=True, **settings)


def test_a_training_that_reports_no_epochs_is_refitted_as_it_is(settings):
    class Number(Noted):
        def fit(self, hp, model, x, y, callbacks, verbose):
            super().fit(hp, model, x, y, callbacks)
            return {"val_loss": float(hp.get("a"))}

    noted = Number()
    tuner = Tuner(noted, refit=True, executions_per_trial=2, max_trials=2, **settings)
    tuner.search(X, Y, verbose=0)
    assert len(noted.given) == 5 and tuner.oracle.store.facts["refit"]["epochs"] is None


def test_weights_of_samples_that_one_part_lacks_are_one():
    args, kwargs = refit.whole((X, Y), {"validation_data": (X[:2], Y[:2], X[:2, 0]), "validation_freq": 2, "validation_split": 0.5, "epochs": 4})
    assert len(args[0]) == len(args[1]) == 26 and kwargs.keys() == {"epochs", "sample_weight"} and kwargs["sample_weight"].tolist() == [1] * 24 + [0, 1]


def test_epochs_of_a_record():
    curve = {"val_loss": [1.0]}
    assert (
        refit.epochs({"best_step": 4, "curve": curve}) == 5 and refit.epochs({"curve": curve}) == 1 and refit.epochs({"curve": {}}) is refit.epochs({}) is None
    )
    assert refit.epochs({"curve": curve, "executions": [{"best_step": step, "curve": curve} for step in (0, 7, 3)]}) == 4


def test_time_is_kept_for_the_refit(settings, clock):
    class Slow(Noted):
        losses = {a: [float(a)] for a in range(1, 9)}

        def fit(self, *args, **kwargs):
            clock.now += 20
            return super().fit(*args, **kwargs)

    noted = Slow()
    Tuner(noted, refit=True, max_minutes=2, **settings).search(X, Y, validation_data=(X, Y), verbose=0)
    assert [len(one.x) for one in noted.given] == [24] * 5 + [48] and clock.now == 1120
