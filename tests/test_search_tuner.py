"""The tuner without trainings: trials are formulas, written as KerasTuner's users write them."""

import logging
import math

import keras_tuner
import optuna
import pytest
from keras_tuner.errors import FatalTypeError, FatalValueError
from search_cases import Formula, no_waiting_for_the_disk, statuses

from keras_optlab.search import Oracle, Tuner, samplers
from keras_optlab.search.oracle import headline

NAMES = samplers.names()


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"directory": str(tmp_path), "project_name": "project"}


@pytest.mark.parametrize("sampler", NAMES)
def test_define_by_run_with_every_sampler_and_on_resume(sampler, settings):
    whole = Formula(sampler=sampler, max_trials=9, directory=settings["directory"], project_name="whole")
    whole.search(verbose=0)
    first = Formula(sampler=sampler, max_trials=4, **settings)
    first.search(verbose=0)
    again = Formula(sampler=sampler, max_trials=9, **settings)
    assert {p.name for p in again.oracle.get_space().space} == {"x", "kind", "n"}
    again.search(verbose=0)
    assert first.log + again.log == whole.log and len({str(values) for _, values in whole.log}) == 9
    assert all(("n" in values) == (values["kind"] == "b") for _, values in whole.log)
    assert statuses(again) == "C" * 9 and again.remaining_trials == 0
    best = min(range(9), key=lambda i: again.records()[i]["score"])
    assert again.get_best_hyperparameters()[0].values == whole.log[best][1]


def test_a_space_that_grows_late_and_after_a_restart(settings):
    class Growing(Formula):
        declared = ("x",)

        def run_trial(self, trial, **_):
            return sum(trial.hyperparameters.Float(name, 0.0, 1.0) for name in self.declared)

    Growing(max_trials=3, **settings).search(verbose=0)
    tuner = Growing(max_trials=7, **settings)
    tuner.declared = ("x", "y")
    tuner.search(verbose=0)
    values = [record["values"] for record in tuner.records()]
    assert [len(v) for v in values] == [1, 1, 1, 2, 2, 2, 2] and len({v.get("y") for v in values[3:]}) >= 3
    tuner = Growing(max_trials=8, **settings)  # an older script: the stored space only grows
    tuner.search(verbose=0)
    assert len(tuner.records()[7]["values"]) == 2
    assert tuner.oracle.trials["0000"].hyperparameters.Float("y", 0.0, 1.0) == 0.0  # the default, with which it was trained


def test_plain_optuna_loads_the_study(settings):
    tuner = Formula(max_trials=4, **settings)
    tuner.search(verbose=0)
    study = optuna.load_study(study_name="project", storage=f"sqlite:///{tuner.project_dir}/search.sqlite3")
    assert [trial.params for trial in study.trials] == [values for _, values in tuner.log]
    assert study.best_value == tuner.oracle.get_best_trials()[0].score


FAILURES = [ValueError("one\ntwo"), MemoryError(), math.nan, math.inf, -math.inf, keras_tuner.errors.FailedTrialError("no"), "numpy"]


@pytest.mark.parametrize("sampler", NAMES)
def test_failures_are_results_and_any_number_in_a_row_does_not_end_the_search(sampler, settings):
    class Failing(Formula):
        def result(self, x, n):
            number = len(self.log) - 1
            if number < len(FAILURES):
                if isinstance(FAILURES[number], Exception):
                    raise FAILURES[number]
                return float(FAILURES[number])  # "numpy" is no number: a ValueError
            return super().result(x, n)

    tuner = Failing(sampler=sampler, max_trials=9, **settings)
    tuner.search(verbose=0)
    assert statuses(tuner) == "FFFFFFFCC"
    errors = [record["error"] for record in tuner.records()]
    assert errors[:2] == ["ValueError: one", "MemoryError"] and "default_objective` was nan" in errors[2] and "inf" in errors[3] and errors[7] is None
    assert "two" in tuner.oracle.get_trial("0000").message and "Traceback" in Formula(max_trials=9, **settings).oracle.get_trial("0000").message
    assert [trial.trial_id for trial in tuner.oracle.get_best_trials(9)] == sorted(("0007", "0008"), key=lambda i: tuner.oracle.get_trial(i).score)
    again = Failing(sampler=sampler, max_trials=11, **settings)
    again.search(verbose=0)
    assert len(again.log) == 2  # a project with failures is not poisoned


@pytest.mark.parametrize(("direction", "infinite"), [("min", -math.inf), ("min", math.inf), ("max", math.inf), ("max", -math.inf)])
def test_infinity_is_never_best(direction, infinite, settings):
    class Infinite(Formula):
        def run_trial(self, trial, **_):
            x = trial.hyperparameters.Float("x", 0.0, 1.0)
            return {"score": infinite if x > 0.5 else x}

    tuner = Infinite(objective=keras_tuner.Objective("score", direction), max_trials=12, **settings)
    tuner.search(verbose=0)
    assert math.isfinite(tuner.oracle.get_best_trials()[0].score) and {"C", "F"} == set(statuses(tuner))


def test_tensorflows_memory_error_is_a_result(settings):
    errors = pytest.importorskip("tensorflow").errors

    class Large(Formula):
        def result(self, x, n):
            raise errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nwith shape [9]")

    tuner = Large(max_trials=4, **settings)
    tuner.search(verbose=0)
    assert [record["error"] for record in tuner.records()] == ["ResourceExhaustedError: OOM when allocating tensor"] * 4


@pytest.mark.parametrize("sampler", NAMES)
def test_a_finite_space_is_visited_once_and_its_end_is_said(sampler, settings, caplog):
    class Finite(Formula):
        def run_trial(self, trial, **_):
            return trial.hyperparameters.Choice("a", [1, 2, 3]) * trial.hyperparameters.Int("b", 1, 4)

    tuner = Finite(sampler=sampler, max_trials=30, **settings)
    with caplog.at_level(logging.INFO):
        tuner.search()
    assert len(tuner.records()) == 12 == len({str(record["values"]) for record in tuner.records()})
    assert "no configuration is left" in caplog.messages[-1]


RESULTS = {
    "number": lambda tuner, trial: 0.5,
    "dict": lambda tuner, trial: {"loss": 0.5, "other": 1},
    "list": lambda tuner, trial: [0.25, 0.75],
    "dicts": lambda tuner, trial: [{"loss": 0.25}, {"loss": 0.75}],
    "told": lambda tuner, trial: tuner.oracle.update_trial(trial.trial_id, {"loss": 0.5}) and None,
}


@pytest.mark.parametrize("kind", RESULTS)
def test_what_run_trial_may_return(kind, settings):
    class Returning(Tuner):
        def run_trial(self, trial, **_):
            trial.hyperparameters.Boolean("flag")
            return RESULTS[kind](self, trial)

    tuner = Returning(objective=keras_tuner.Objective("loss", "min"), max_trials=2, **settings)
    tuner.search(verbose=0)
    assert [record["score"] for record in tuner.records()] == [0.5, 0.5]
    scores = [execution["score"] for execution in tuner.records()[0].get("executions", [])]
    assert scores == ([0.25, 0.75] if kind in ("list", "dicts") else [])


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (None, FatalTypeError, "Received: None. Is the `return` missing"),
        ("text", FatalTypeError, "Received: 'text'"),
        ({"acc": 1.0}, FatalValueError, "objective='loss', reported: acc"),
    ],
)
def test_a_result_that_cannot_be_one_ends_the_search_and_the_trial_can_go_on(result, error, message, settings):
    class Returning(Tuner):
        def run_trial(self, trial, **_):
            trial.hyperparameters.Boolean("flag")
            return result

    objective = keras_tuner.Objective("loss", "min")
    tuner = Returning(objective=objective, max_trials=2, **settings)
    with pytest.raises(error, match=message):
        tuner.search(verbose=0)
    result = {"loss": 1.0}
    tuner = Returning(objective=objective, max_trials=2, **settings)
    tuner.search(verbose=0)
    assert statuses(tuner) == "CC"


def test_our_oracle_drives_a_plain_keras_tuner(tmp_path):
    class Plain(keras_tuner.Tuner):
        run_trial = Formula.run_trial
        result = Formula.result

    def make(trials):
        made = Oracle("gp", max_trials=trials, seed=0, path=tmp_path / "search.sqlite3")
        tuner = Plain(oracle=made, directory=str(tmp_path), project_name="plain")
        tuner.log = []
        return tuner

    first, second = make(3), make(6)
    first.search(verbose=0)
    second.search(verbose=0)
    reference = Formula(sampler="gp", max_trials=6, directory=str(tmp_path), project_name="ours")
    reference.search(verbose=0)
    assert first.log + second.log == reference.log
    assert len(second.oracle.trials) == 6 and second.get_best_hyperparameters()[0].values == reference.get_best_hyperparameters()[0].values


def test_summaries_after_a_restart(settings, capsys):
    Formula(max_trials=3, **settings).search(verbose=0)
    tuner = Formula(max_trials=3, **settings)
    tuner.search_space_summary()
    assert "Default search space size: 3" in capsys.readouterr().out
    tuner.results_summary(2)
    out = capsys.readouterr().out
    assert out.count("default_objective ") == 2 and "x=" in out


def test_the_line_per_trial_is_short_and_verbose_0_is_silent(settings, caplog, capsys):
    class Long(Formula):
        def result(self, x, n):
            for i in range(15):
                self.oracle.trials[self.log[-1][0]].hyperparameters.Float(f"optimizer/parameter_{i}", 0.1234567, 1.0)
            if len(self.log) == 2:
                raise ValueError("first line\nsecond line")
            return super().result(x, n)

    tuner = Long(max_trials=3, **settings)
    with caplog.at_level(logging.INFO):
        tuner.search()
    assert len(caplog.messages) == 3 and all("\n" not in line and len(line) < 200 for line in caplog.messages)
    assert caplog.messages[0].startswith("Trial 0000: default_objective 0.09 (best 0.09 in 0000), ")
    assert " s: x=0, kind=a, parameter_0=0.123" in caplog.messages[0]
    assert "failed with ValueError: first line (best" in caplog.messages[1]
    capsys.readouterr()
    Formula(max_trials=4, **settings).search(verbose=0)
    assert capsys.readouterr() == ("", "")


def test_the_headline_of_a_traceback_is_its_last_error():
    first = "Traceback (most recent call last):\n  File a\nKeyError: 1\n\nDuring it:\n\n"
    assert headline(f"{first}Traceback (most recent call last):\n  File b\n    f()\nValueError: one\n\ntwo\n") == "ValueError: one"
    assert headline("only this") == "only this" and headline("") == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_trials": 0}, "`max_trials` must be an integer >= 1.*Received: max_trials=0"),
        ({"max_minutes": -1}, "`max_minutes` must be a positive number.*Received: max_minutes=-1"),
        ({"max_minutes": math.nan}, "`max_minutes`"),
        ({"keep": 0}, '`keep` must be "best", "all", or how many.*Received: keep=0'),
        ({"keep": "worst"}, "`keep` must be"),
        ({"seed": -1}, "`seed` must be an integer >= 0.*Received: seed=-1"),
        ({"executions_per_trial": 0}, "`executions_per_trial`.*Received: executions_per_trial=0"),
        ({"sampler": "gb"}, "Did you mean 'gp'"),
        ({"objective": ["val_loss", "val_loss"]}, "`objective` must be a metric or a list of different ones"),
        ({"objective": "my_own_metric"}, "optimization direction"),
    ],
)
def test_arguments_refused(change, message, settings):
    with pytest.raises(ValueError, match=message):
        Formula(**settings | change)
    with pytest.raises(ValueError, match="`hypermodel` must be a HyperModel or a function"):
        Tuner(**settings)


def test_a_folder_of_keras_tuners_is_left_alone(settings, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "oracle.json").write_text("{")
    with pytest.raises(ValueError, match="holds a search of KerasTuner's"):
        Formula(max_trials=1, **settings)
    tuner = Formula(max_trials=1, overwrite=True, **settings)
    tuner.search(verbose=0)
    assert sorted(file.name for file in folder.iterdir()) == ["search.lock", "search.sqlite3"]
