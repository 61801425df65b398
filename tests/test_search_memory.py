"""Trainings that do not fit into memory are refused before they run."""

import keras_tuner
import pytest
from test_memory import MIB, dense

from keras_optlab.search import Infeasible, Tuner, check_memory


def test_what_does_not_fit_is_refused():
    check_memory(dense(), 8, limit=MIB)
    with pytest.raises(Infeasible, match=r"some 1\.7 GiB.*limit is 1 MiB.*`batch_size` 1500000, 10,000 parameters"):
        check_memory(dense(), 1_500_000, limit=MIB)
    with pytest.raises(MemoryError):
        check_memory(dense(), 10**12)


def test_a_build_function_meets_the_wall(tmp_path):
    class Untrained(keras_tuner.HyperModel):
        def build(self, hp):
            model = dense()
            check_memory(model, hp.Choice("batch_size", [8, 16, 10**9]), limit=MIB)
            return model

        def fit(self, hp, model, *args, **kwargs):
            return float(hp.get("batch_size"))

    tuner = Tuner(Untrained(), objective=keras_tuner.Objective("loss", "min"), max_trials=3, directory=tmp_path)
    tuner.search(verbose=0)
    status = {trial.hyperparameters.get("batch_size"): trial.status for trial in tuner.oracle.trials.values()}
    assert status == {8: "COMPLETED", 16: "COMPLETED", 10**9: "FAILED"}
    assert issubclass(Infeasible, keras_tuner.errors.FailedTrialError)  # so that KerasTuner's own tuners do not count it as a crash either
