"""The best configuration where trainings are noisy."""

import keras_tuner
import numpy as np
import pytest
from search_cases import Formula, no_waiting_for_the_disk

from keras_optlab.search import noise, samplers, store
from keras_optlab.search.space import Space


def truth(x: float) -> float:
    return 3 - 4 * (x - 0.5) ** 2


def posterior(scores, xs):
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    sampler = samplers.GaussianProcess(Space(hp.space), seed=1)
    for x, score in zip(xs, scores, strict=True):
        sampler.tell({"x": float(x)}, score)
    return sampler.posterior()


def test_the_posterior_is_nearer_to_the_truth_than_the_scores_and_in_their_units():
    xs = np.linspace(0, 1, 25)
    true, lucks = truth(xs), 0.1 * np.random.default_rng(0).normal(size=(4, 25))
    found = [posterior(true + luck, xs) for luck in lucks]
    assert np.mean([np.abs(mean - true) for mean, _ in found]) < 0.75 * np.abs(lucks).mean()
    assert np.mean([np.abs(mean - true) < 2 * deviation for mean, deviation in found]) > 0.8 and min(deviation.min() for _, deviation in found) > 0
    luck = lucks[0]
    luck[2] = 1.0
    mean, deviation = posterior(true + luck, xs)
    assert (true + luck).argmax() == 2 and abs(xs[mean.argmax()] - 0.5) < 0.2
    failed = posterior([*(true + luck), None, np.nan], [*xs, 0.31, 0.32])
    larger = posterior(64 * (true + luck), xs)
    assert all(np.array_equal(one, other) for one, other in zip(failed, (mean, deviation)))
    assert all(np.allclose(one, 64 * other, rtol=1e-12) for one, other in zip(larger, (mean, deviation)))


def test_units_where_low_scores_are_cut_off_or_all_are_equal():
    xs = np.linspace(0, 1, 12)
    mean, _ = posterior([-1e9, *truth(xs)[1:]], xs)
    assert np.abs(mean - truth(xs))[3:].max() < 0.3
    mean, deviation = posterior([2.5] * 5, xs[:5])
    assert mean.tolist() == [2.5] * 5 and deviation.tolist() == [0] * 5


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_tuner_and_the_store_tell_it(direction, tmp_path):
    class Noisy(Formula):
        def result(self, x, n):
            return {"score": super().result(x, n) * (1 if direction == "min" else -1)}

    with no_waiting_for_the_disk():
        settings = {"objective": keras_tuner.Objective("score", direction), "directory": str(tmp_path), "project_name": "project"}
        few = Noisy(max_trials=3, **settings)
        assert few.best_by_posterior_mean() is None
        few.search(verbose=0)
        assert few.best_by_posterior_mean() is None and store.read(few.project_dir)["best_mean"] is None
        tuner = Noisy(max_trials=12, **settings)
        tuner.search(verbose=0)
        trial, mean, deviation = tuner.best_by_posterior_mean()
    ranked = [trial.trial_id for trial in tuner.oracle.get_best_trials(3)]
    assert trial.trial_id in ranked and abs(mean - trial.score) < 0.05 and 0 < deviation < 0.1
    search = store.read(tuner.project_dir)
    assert search["best_mean"] == {"trial_id": trial.trial_id, "mean": mean, "deviation": deviation}
    assert noise.best_mean(search | {"direction": ["min", "max"]}) is None
