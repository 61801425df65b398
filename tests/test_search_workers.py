"""Several workers on one search: leases, tokens, and what each sees of the others. Over a shared SQLite file, and over PostgreSQL where it is installed."""

import logging
import time
from pathlib import Path

import keras_tuner
import optuna
import pytest
from keras_tuner.errors import FatalRuntimeError
from search_cases import Formula, no_waiting_for_the_disk, statuses
from sqlalchemy.pool import NullPool

from benchmarks.postgresql import server
from keras_optlab import cli
from keras_optlab.search import Oracle, Tuner, store
from keras_optlab.search.heartbeat import Heartbeat
from keras_optlab.search.store import Store
from keras_optlab.search.tables import LeaseLost


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path):
    if request.param == "sqlite":
        with no_waiting_for_the_disk():
            yield f"sqlite:///{tmp_path}/shared.sqlite3"
    else:
        yield request.getfixturevalue("database")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    try:
        with server() as address:
            yield address
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def settings(storage, tmp_path, request):
    yield {"storage": storage, "directory": str(tmp_path), "project_name": request.node.name[:60], "lease": 30.0, "heartbeat": 10.0}
    for worker in Plain.made:
        if worker.oracle._beats is not None:
            worker.oracle._beats.end()
    Plain.made.clear()


class Plain(Formula):
    made: list = []

    def __init__(self, **settings):
        super().__init__(**settings)
        self.made.append(self)


def test_two_workers_in_turn_see_each_other_before_they_suggest(settings, storage, capsys):
    Plain(max_trials=1, **settings).search(verbose=0)  # now it is known what is searched
    one, two = (Plain(sampler="gp", max_trials=7, **settings) for _ in range(2))
    for number in range(3):
        trials = [(worker, worker.oracle.create_trial(worker.tuner_id)) for worker in (one, two)]
        assert [trial.trial_id for _, trial in trials] == [f"{2 * number + 1:04d}", f"{2 * number + 2:04d}"]
        assert len(two.oracle.records) == 2 * number + 3  # the one that is running too
        for worker, trial in trials:
            worker._run(trial)
            worker.on_trial_end(trial)
    assert len({str(record["values"]) for record in one.records()}) == 7 and statuses(one) == "C" * 7
    for worker in (one, two):
        assert worker.oracle.create_trial(worker.tuner_id).status == "STOPPED"
        assert {len(worker.oracle.get_best_trials(None)), len(worker.oracle.end_order)} == {7}
    assert cli.main(["report", one.project_dir, "--storage", storage]) == 0 and f"{settings['project_name']}.html" in capsys.readouterr().out
    page = Path(f"{one.project_dir}.html").read_text()
    assert "test_two_workers_in_turn" in page and all(record["trial_id"] in page for record in one.records())
    plain = optuna.storages.RDBStorage(storage.replace("postgresql:", "postgresql+psycopg:"), engine_kwargs={"poolclass": NullPool})
    study = optuna.load_study(study_name=settings["project_name"], storage=plain)
    assert [trial.number for trial in study.trials] == list(range(7)) and study.best_value == one.oracle.get_best_trials()[0].score
    assert all(0 <= (trial.datetime_complete - trial.datetime_start).total_seconds() < 60 for trial in study.trials)


def test_that_the_space_is_exhausted_is_said_once_at_the_end(settings, caplog):
    class Few(Plain):
        def run_trial(self, trial, **_):
            return float(trial.hyperparameters.Int("n", 1, 2))

    said = "The search space is exhausted: no configuration is left that was not tried."
    one, two = (Few(**settings | {"heartbeat": 0.01, "sampler": "gp"}) for _ in range(2))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            trial = one.oracle.create_trial("one")
            for _ in range(2):  # what there is to search is not known yet, or the last one runs
                assert two.oracle.create_trial("two").status == "IDLE"
            one._run(trial)
            one.on_trial_end(trial)
        assert said not in caplog.messages
        two.search()
    assert caplog.messages.count(said) == 1 and len(two.records()) == 2


def test_a_suggestion_made_from_an_old_view_is_not_started(settings):
    one, two = (Plain(sampler="random", seed=5, max_trials=2, **settings) for _ in range(2))
    for worker in (one, two):
        worker.oracle.hyperparameters.Float("x", 0.0, 1.0)
        worker.oracle.begin()
    ask, made = two.oracle.populate_space, []

    def slow(trial_id):
        if not made:
            made.append(one.oracle.create_trial("one"))  # while `two` is thinking
        return ask(trial_id)

    two.oracle.populate_space = slow
    trial = two.oracle.create_trial("two")
    assert trial.trial_id == "0001" and trial.hyperparameters.values != made[0].hyperparameters.values
    assert one.oracle.create_trial("three").status == "IDLE"  # both run: there is nothing to start, but one may be given back
    assert len(one.records()) == 2
    one.oracle.release()
    two.oracle.release()


def silent(worker: Tuner) -> None:
    """As if it had stood still for longer than its leases."""
    worker.oracle._beats.end()
    worker.oracle.store._tables.free_all()


def test_a_silent_worker_loses_its_trial_and_what_it_writes_is_refused(settings):
    Plain(max_trials=1, **settings).search(verbose=0)
    dead, alive = (Plain(max_trials=2, **settings) for _ in range(2))
    lost = dead.oracle.create_trial("dead")
    assert alive.oracle.create_trial("alive").status == "IDLE"
    silent(dead)
    trial = alive.oracle.create_trial("alive")
    assert (trial.trial_id, trial.hyperparameters.values) == (lost.trial_id, lost.hyperparameters.values)
    assert (alive.oracle.token("0001"), dead.oracle.token("0001")) == (2, 1)
    dead._run(lost)  # it wakes up and ends its trial
    with pytest.raises(LeaseLost, match="Trial 0001 was taken over by another worker: this one was silent for 30 s"):
        dead.on_trial_end(lost)
    with pytest.raises(LeaseLost):
        dead.oracle.store.note_trial("0001", {0: 1.0}, note="late")
    assert statuses(alive) == "CR" and "note" not in alive.records()[1] and dead.oracle.store.renew() == []
    dead.oracle.forget("0001")
    assert dead.oracle.create_trial("dead").status == "IDLE"
    alive._run(trial)
    alive.on_trial_end(trial)
    assert dead.oracle.create_trial("dead").status == "STOPPED" and statuses(dead) == "CC" and dead.records()[1]["attempts"] == 2


def test_a_search_goes_on_after_it_has_lost_a_trial(settings, caplog):
    class Sleeping(Plain):
        def result(self, x, n):
            if len(self.log) == 2:
                thief = self.oracle.store.copy()
                thief.load()
                silent(self)
                assert thief.take_up("0001")["attempts"] == 2
                thief.give_back("0001")
            return super().result(x, n)

    tuner = Sleeping(max_trials=3, **settings)
    with caplog.at_level(logging.WARNING):
        tuner.search(verbose=0)
    assert "Trial 0001 was taken over by another worker" in caplog.text
    assert [trial_id for trial_id, _ in tuner.log] == ["0000", "0001", "0001", "0002"] and statuses(tuner) == "CCC"


def test_beats_keep_a_trial_and_report_a_lost_one(settings):
    tuner = Plain(max_trials=1, **settings | {"lease": 4.0, "heartbeat": 0.2})
    trial = tuner.oracle.create_trial("one")
    other = tuner.oracle.store.copy()
    other.load()
    time.sleep(5.0)  # longer than the lease
    assert other.free() == [] and other.take_up(trial.trial_id) is None
    silent(tuner)
    assert other.free() == ["0000"] and other.take_up("0000") is not None
    tuner.oracle._beats = Heartbeat(tuner.oracle.store, 0.05)
    while not tuner.oracle._beats.lost:
        time.sleep(0.02)
    with pytest.raises(LeaseLost, match="silent for more than 4 s"):
        tuner.oracle.check("0000")
    tuner.oracle.release()


def test_an_interrupted_worker_gives_its_trial_back_at_once(settings):
    class Interrupted(Plain):
        def result(self, x, n):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(max_trials=2, **settings).search(verbose=0)
    other = Plain(max_trials=2, **settings)
    other.search(verbose=0)
    assert [trial_id for trial_id, _ in other.log] == ["0000", "0001"] and [record["attempts"] for record in other.records()] == [1, 1]


def test_spaces_that_two_workers_declare_are_united(settings):
    class Declares(Plain):
        def run_trial(self, trial, **_):
            return trial.hyperparameters.Float(self.what, 0.0, 1.0)

    Plain(max_trials=1, **settings).search(verbose=0)
    one, two = (Declares(max_trials=4, **settings) for _ in range(2))
    one.what, two.what = "y", "z"
    trials = [(worker, worker.oracle.create_trial(worker.tuner_id)) for worker in (one, two)]
    for worker, trial in trials:
        worker._run(trial)
        worker.on_trial_end(trial)
    trial = one.oracle.create_trial(one.tuner_id)
    assert set(trial.hyperparameters.values) - {"n"} == {"x", "kind", "y", "z"}
    one.oracle.release()
    two.oracle.release()


def test_the_time_of_workers_side_by_side_counts_once(settings):
    stores = [Store(settings["storage"], "time") for _ in range(2)]
    stores[0].create("min", objective="loss", elapsed=0.0)
    stores[0].count(10.0)
    assert stores[0].facts["elapsed"] == 10.0
    time.sleep(0.2)
    stores[1].load()
    stores[1].count(10.0)  # all but the last 0.2 seconds were counted
    assert 10.1 < stores[1].facts["elapsed"] < 19.0


def test_overwrite_spares_a_search_that_others_run(settings):
    one = Plain(max_trials=2, **settings)
    one.oracle.create_trial("one")
    with pytest.raises(FatalRuntimeError, match="`overwrite=True` would delete the search .* while other workers run it"):
        Plain(max_trials=2, overwrite=True, **settings)
    one.oracle.release()
    tuner = Plain(max_trials=2, overwrite=True, **settings)
    assert tuner.records() == []
    tuner.search(verbose=0)
    assert statuses(tuner) == "CC"


def test_a_worker_with_another_space_or_objective_is_refused(settings):
    class Declared(Tuner):
        def run_trial(self, trial, **_):
            return {"val_loss": trial.hyperparameters.get("x")}

    Declared(lambda hp: hp.Float("x", 0.0, 1.0) and None, "val_loss", max_trials=1, **settings).search(verbose=0)
    with pytest.raises(ValueError, match="holds a search that differs.*max_value=1.0.*max_value=2.0.*Received: `storage`="):
        Declared(lambda hp: hp.Float("x", 0.0, 2.0) and None, "val_loss", max_trials=1, **settings)


def test_read_takes_a_storage(settings):
    Plain(max_trials=2, **settings).search(verbose=0)
    found = store.read(settings["storage"], settings["project_name"])
    assert found["name"] == settings["project_name"] and len(found["trials"]) == 2
    with pytest.raises(FileNotFoundError, match="There is no search"):
        store.read(settings["storage"], "nobody's")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"storage": "here"}, "`storage` must be an address"),
        ({"storage": "oracle://scott:tiger@host/db"}, "`storage` must be an address.*Received: storage='oracle://...'"),
        ({"storage": "nothing at all://scott:tiger"}, "`storage` must be an address"),
        ({"storage": "postgresql:/scott:tiger@host/db"}, "`storage` must be an address.*without"),
        ({"storage": "postgresql://scott:p@tiger@host/db"}, "`storage` must be an address.*Write @, / and : in a password as %40"),
        ({"storage": "postgresql://host/db?user=scott&password=tiger"}, "`storage` must be an address"),
        ({"heartbeat": 60.0}, "`heartbeat` must be a positive number of seconds, and less than `lease`. Received: heartbeat=60.0, lease=60.0"),
        ({"lease": 0.0}, "`heartbeat` must be"),
    ],
)
def test_arguments_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        Formula(directory=str(tmp_path), **change)
    assert "tiger" not in str(raised.value)


SECRET = "s3cr3t%21word"


def test_no_password_is_told(tmp_path, caplog):
    pytest.importorskip("psycopg")
    address = f"postgresql://me:{SECRET}@127.0.0.1:1/db"
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(FatalRuntimeError, match="`storage`='postgresql.*://me:\\*\\*\\*@127.0.0.1:1/db' could not be read") as raised,
    ):
        Formula(storage=address, directory=str(tmp_path), max_trials=1)
    texts = [caplog.text, repr(Store(address)), str(Store(address)), str(vars(Store(address)))]
    error = raised.value
    while error is not None:
        texts.append(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any(secret in text for secret in (SECRET, "s3cr3t!word") for text in texts)


def test_a_newer_format_names_the_storage(settings):
    kept = Store(settings["storage"], "newer")
    kept.create("min", objective="loss")
    kept.note(format=99)
    with pytest.raises(FatalRuntimeError, match="`storage`=.* was written by a newer version of keras_optlab .format 99"):
        Store(settings["storage"], "newer").load()


def test_our_oracle_shares_a_search_with_a_plain_keras_tuner(settings, storage, tmp_path):
    class Theirs(keras_tuner.Tuner):
        run_trial, result = Formula.run_trial, Formula.result

    made = Oracle("random", max_trials=3, seed=0, path=storage, project_name=settings["project_name"], lease=30.0, heartbeat=10.0)
    theirs = Theirs(oracle=made, directory=str(tmp_path / "theirs"), project_name="plain")
    theirs.log = []
    theirs.search(verbose=0)
    ours = Plain(max_trials=5, **settings)
    ours.search(verbose=0)
    assert len(theirs.log) == 3 and [trial_id for trial_id, _ in ours.log] == ["0003", "0004"] and statuses(ours) == "CCCCC"
