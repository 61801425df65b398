"""What ends a process loses nothing: Ctrl-C, kills, full disks, the end of the time; and what a restart accepts."""

import logging

import keras_tuner
import pytest
from keras_tuner.errors import FatalRuntimeError
from search_cases import Formula, no_waiting_for_the_disk, statuses
from sqlalchemy import event

from keras_optlab.search import Tuner, oracle


@pytest.fixture
def settings(tmp_path):
    with no_waiting_for_the_disk():
        yield {"directory": str(tmp_path), "project_name": "project"}


def test_ctrl_c_ends_the_search_and_the_trial_goes_on_with_the_same_id_and_values(settings):
    class Interrupted(Formula):
        def result(self, x, n):
            if len(self.log) == 3:
                raise KeyboardInterrupt
            return super().result(x, n)

    tuner = Interrupted(max_trials=5, **settings)
    for _ in range(4):  # more often than a trial may kill its process: this is none
        with pytest.raises(KeyboardInterrupt):
            tuner.search(verbose=0)
        assert statuses(tuner) == "CCR" and tuner.remaining_trials == 3
        tuner.log = tuner.log[:2]
    fresh = Formula(max_trials=5, **settings)
    assert [trial.status for trial in fresh.oracle.trials.values()] == ["COMPLETED", "COMPLETED", "RUNNING"]
    fresh.search(verbose=0)
    assert statuses(fresh) == "CCCCC" and [i for i, _ in fresh.log] == ["0002", "0003", "0004"]
    reference = Formula(max_trials=5, directory=settings["directory"], project_name="reference")
    reference.search(verbose=0)
    assert tuner.log + fresh.log == reference.log


def test_killed_before_the_commit_of_the_space_and_of_the_result(settings):
    tuner = Formula(max_trials=4, **settings)

    def killed(*_, **__):
        raise SystemExit

    tuner.oracle.store.finish = killed
    with pytest.raises(SystemExit):
        tuner.search(verbose=0)
    again = Formula(max_trials=4, **settings)
    assert again.oracle.get_space().space == [] and again.records()[0]["values"] == {} and statuses(again) == "R"
    again.search(verbose=0)
    assert statuses(again) == "CCCC" and again.log[0] == tuner.log[0]


def test_ctrl_c_just_after_the_commit_loses_nothing(settings):
    tuner = Formula(max_trials=4, **settings)
    finish = tuner.oracle.store.finish

    def interrupted(trial_id, *args, **facts):
        finish(trial_id, *args, **facts)
        if trial_id == "0001":
            raise KeyboardInterrupt

    tuner.oracle.store.finish = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED", "COMPLETED"] and len(tuner.oracle.get_best_trials(9)) == 2
    tuner.search(verbose=0)
    assert [trial_id for trial_id, _ in tuner.log] == ["0000", "0001", "0002", "0003"]


def test_a_trial_in_which_the_process_dies_again_and_again_waits_until_the_others_are_done(settings):
    class Dying(Formula):
        def on_trial_begin(self, trial):
            if len(self.log) == 1:
                raise SystemExit  # as if killed: the interruption is not told to the store
            super().on_trial_begin(trial)

    for attempt in range(3):
        tuner = Dying(max_trials=4, **settings)
        tuner.log = [None] * bool(attempt)
        tuner.oracle.store.give_back = lambda *_, **__: None
        with pytest.raises(SystemExit):
            tuner.search(verbose=0)
    tuner = Formula(max_trials=4, **settings)
    tuner.search(verbose=0)
    assert [trial_id for trial_id, _ in tuner.log] == ["0002", "0003", "0001"] and statuses(tuner) == "CCCC"


def test_an_error_before_anything_is_declared_is_raised(settings):
    class Wrong(Formula):
        def run_trial(self, trial, **_):
            return undeclared + trial.hyperparameters.Float("x", 0.0, 1.0)  # noqa: F821

    with pytest.raises(NameError):
        Wrong(max_trials=3, **settings).search(verbose=0)
    mended = Formula(max_trials=3, **settings)
    mended.search(verbose=0)
    assert statuses(mended) == "CCC"


def test_of_equal_scores_the_first_one_reached_is_the_best(settings):
    class Equal(Formula):
        def result(self, x, n):
            if len(self.log) == 2:
                raise KeyboardInterrupt
            return 1.0

    tuner = Equal(max_trials=5, **settings)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    tuner.oracle.records["0001"]["attempts"] = oracle.DEATHS  # it waits, so that it ends after the others
    tuner.oracle.reload = lambda: None
    tuner.search(verbose=0)
    for one in (tuner, Formula(max_trials=5, **settings)):
        assert [trial.trial_id for trial in one.oracle.get_best_trials(5)] == ["0000", "0002", "0003", "0004", "0001"]


def test_a_finished_search_runs_no_trial_and_overwrite_starts_anew(settings):
    Formula(max_trials=3, **settings).search(verbose=0)
    tuner = Formula(max_trials=3, **settings)
    tuner.search(verbose=0)
    assert tuner.log == [] and len(tuner.oracle.trials) == 3
    tuner = Formula(max_trials=3, overwrite=True, **settings)
    assert not tuner.oracle.trials and tuner.records() == []
    tuner.search(verbose=0)
    assert [trial_id for trial_id, _ in tuner.log] == ["0000", "0001", "0002"]


def declared(high=1.0, extra=()):
    def build(hp):
        hp.Float("x", 0.0, high)
        for name in extra:
            hp.Boolean(name)

    return build


class Declared(Tuner):
    def run_trial(self, trial, **_):
        return {"val_loss": trial.hyperparameters.get("x"), "val_accuracy": 1.0}


@pytest.mark.parametrize(
    ("objective", "build", "message"),
    [
        ("val_accuracy", declared(), r"the objective was val_loss \(min\), is val_accuracy \(max\)"),
        ("val_loss", declared(2.0), "`x` was Float.*max_value=1.0.*, is Float.*max_value=2.0"),
        ("val_loss", declared(extra=["flag"]), "`flag` Boolean.* is new"),
        ("val_loss", lambda hp: hp.Boolean("flag"), "`x` Float.* is gone; `flag` Boolean.* is new"),
    ],
)
def test_a_changed_search_is_refused_with_the_differences(objective, build, message, settings):
    Declared(declared(), "val_loss", max_trials=2, **settings).search(verbose=0)
    with pytest.raises(ValueError, match=f"`project_name` holds a search that differs.*{message}.*overwrite=True"):
        Declared(build, objective, max_trials=2, **settings)
    assert statuses(Declared(declared(), "val_loss", max_trials=2, **settings)) == "CC"


def test_given_hyperparameters_override_what_is_declared(settings):
    given = keras_tuner.HyperParameters()
    given.Fixed("x", 0.25)
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        Declared(declared(extra=["flag"]), "val_loss", max_trials=3, hyperparameters=given, allow_new_entries=False, **settings)
    tuner = Declared(declared(extra=["flag"]), "val_loss", max_trials=3, hyperparameters=given, tune_new_entries=False, **settings)
    tuner.search(verbose=0)
    assert [record["values"]["x"] for record in tuner.records()] == [0.25]
    tuner = Declared(declared(extra=["flag"]), "val_loss", max_trials=3, hyperparameters=given, overwrite=True, **settings)
    tuner.search(verbose=0)
    assert sorted(record["values"]["flag"] for record in tuner.records()) == [False, True]


def test_max_minutes_are_those_of_all_runs_together(settings, clock, caplog):
    class Slow(Formula):
        def result(self, x, n):
            clock.now += 20
            if len(self.log) == self.last:
                raise KeyboardInterrupt
            return super().result(x, n)

    interrupted = Slow(max_minutes=2, **settings)
    interrupted.last = 3
    with pytest.raises(KeyboardInterrupt):
        interrupted.search(verbose=0)
    assert Slow(max_minutes=2, **settings).oracle.elapsed == 60
    clock.now += 1000  # between the runs
    resumed = Slow(max_minutes=2, **settings)
    resumed.last = 0
    with caplog.at_level(logging.INFO):
        resumed.search()
    assert len(resumed.log) == 3 and "no time for another trial" in caplog.messages[-1]
    assert statuses(resumed) == "CCCCC" and resumed.oracle.elapsed == 120
    more = Slow(max_minutes=2.5, **settings)
    more.last = 0
    more.search(verbose=0)
    assert len(more.log) == 1  # the ten seconds left are no more than half the usual twenty


def test_two_searches_on_one_project_at_once_are_refused(settings):
    class Nested(Formula):
        def result(self, x, n):
            with pytest.raises(FatalRuntimeError, match="running in another tuner of this process.*project_name"):
                Formula(max_trials=2, **settings).search(verbose=0)
            with pytest.raises(FatalRuntimeError, match="running in another tuner"):
                Formula(max_trials=2, overwrite=True, **settings)
            return super().result(x, n)

    tuner = Nested(max_trials=2, **settings)
    tuner.search(verbose=0)
    assert statuses(tuner) == "CC"


def test_a_disk_that_fills_up_ends_the_search_and_the_same_script_goes_on(settings):
    class Filling(Formula):
        def result(self, x, n):
            if len(self.log) == 3:
                event.listen(self.oracle.store._storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
                self.oracle.annotate("0002", curve={"loss": [0.123456789] * 50000})
            return super().result(x, n)

    tuner = Filling(max_trials=4, **settings)
    with pytest.raises(FatalRuntimeError, match="full.*Every finished trial is kept"):
        tuner.search(verbose=0)
    assert len(tuner.oracle.get_best_trials(9)) == 2 and statuses(tuner) == "CCR"
    again = Formula(max_trials=4, **settings)
    again.search(verbose=0)
    assert again.log[0] == tuner.log[2] and statuses(again) == "CCCC"
