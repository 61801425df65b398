"""The store: one SQLite file that plain Optuna reads, and that nothing but its owner changes."""

import logging
import subprocess
import sys

import keras_tuner
import optuna
import pytest
from keras_tuner.errors import FatalRuntimeError
from optuna.trial import TrialState
from sqlalchemy import event

from keras_optlab.search import Oracle, Tuner, store
from keras_optlab.search.space import Space
from keras_optlab.search.store import Store


def space() -> Space:
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("n", 1, 9)
    with hp.conditional_scope("kind", ["b"]):
        hp.Float("n", 0.1, 0.9)
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Fixed("epochs", 3)
    return Space(hp.space)


CONFIGURATIONS = [{"kind": "a", "n": 5, "rate": 0.01, "epochs": 3}, {"kind": "b", "n": 0.25, "rate": 0.1, "epochs": 3}]


def begin(kept: Store, number: int) -> dict:
    values = CONFIGURATIONS[number]
    kept.begin(f"{number:04d}", space().for_optuna(values), values=values, attempts=1)
    return values


def finish(kept: Store, number: int, score: float | None, steps: int = 0, **facts) -> None:
    kept.finish(f"{number:04d}", space().for_optuna(CONFIGURATIONS[number]), score, steps, **facts)


@pytest.fixture
def kept(tmp_path):
    kept = Store(tmp_path / store.FILE, "mine")
    kept.create("max", objective="val_accuracy", sampler="gp", seed=3, elapsed=0.0)
    yield kept
    kept.unlock()


def test_plain_optuna_reads_the_file(kept):
    begin(kept, 0)
    kept.note_trial("0000", {0: 0.4, 1: 0.75})
    kept.note_trial("0000", {0: 0.5, 2: 0.7})
    finish(kept, 0, 0.75, 3, seconds=1.5, curve={"loss": [1.0, None]})
    begin(kept, 1)
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{kept.path}")
    complete, running = study.trials
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE and study.user_attrs["objective"] == "val_accuracy"
    assert complete.state == TrialState.COMPLETE and complete.value == 0.75 and complete.intermediate_values == {0: 0.5, 1: 0.75, 2: 0.7}
    assert complete.params == {"kind": "a", "n": 5, "rate": 0.01} and complete.user_attrs["values"] == CONFIGURATIONS[0]
    assert complete.distributions["rate"] == optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    assert complete.user_attrs["trial_id"] == "0000" and complete.user_attrs["seconds"] == 1.5 and complete.datetime_complete is not None
    assert running.state == TrialState.RUNNING and running.params == {"kind": "b", "n [kind=b]": 0.25, "rate": 0.1}
    finish(kept, 1, None, error="MemoryError: too large")
    assert study.get_trials()[1].state == TrialState.FAIL and study.best_trial.number == 0
    study.add_trial(optuna.create_trial(state=TrialState.PRUNED, params={}, distributions={}))  # as another tool may
    assert [t["status"] for t in store.read(kept.path)["trials"]] == ["COMPLETED", "FAILED", "STOPPED"]


def test_read_needs_no_tuner(kept):
    begin(kept, 0)
    finish(kept, 0, 0.75, curve={"loss": [1.0, None]}, seconds=2.0)
    begin(kept, 1)
    for path in (kept.path, kept.path.parent, str(kept.path)):
        found = store.read(path)
        assert (found["name"], found["objective"], found["direction"], found["sampler"], found["seed"]) == ("mine", "val_accuracy", "max", "gp", 3)
        one, two = found["trials"]
        assert one | {"values": CONFIGURATIONS[0], "score": 0.75, "status": "COMPLETED", "error": None, "curve": {"loss": [1.0, None]}} == one
        assert two | {"trial_id": "0001", "score": None, "status": "RUNNING", "seconds": None, "curve": {}} == two
    with pytest.raises(FileNotFoundError, match="Received: path='.*nowhere"):
        store.read(kept.path.parent / "nowhere")


def test_parameters_declared_late_are_added_and_old_epochs_deleted(kept):
    kept.begin("0000", [], values={}, attempts=1)
    kept.note_trial("0000", {step: 0.1 * step for step in range(4)})
    finish(kept, 0, 0.1, steps=2)  # it was interrupted after four epochs, and had two when it ran again
    trial = optuna.load_study(study_name="mine", storage=f"sqlite:///{kept.path}").trials[0]
    assert trial.params == {"kind": "a", "n": 5, "rate": 0.01}
    assert trial.intermediate_values == {0: 0.0, 1: pytest.approx(0.1)}


def test_odd_paths(tmp_path):
    for name in ("a space", "{braces}", "percent%20", "hash#?&", "ümlaut"):
        kept = Store(tmp_path / name / store.FILE, name)
        kept.lock()
        kept.create("min", objective="loss")
        kept.unlock()
        assert kept.path.is_file() and store.read(kept.path)["name"] == name


def test_a_file_appears_whole_even_beside_what_a_killed_process_left(tmp_path):
    leftovers = ["search.new", "search.new-journal", f"{store.FILE}-journal"]
    for name in leftovers:
        (tmp_path / name).write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(1000))
    kept = Store(tmp_path / store.FILE)
    assert not kept.exists() and kept.load() == []
    kept.create("min", objective="loss")
    begin(kept, 0)
    assert [t["trial_id"] for t in Store(kept.path).load()] == ["0000"]
    assert not any((tmp_path / name).exists() for name in leftovers)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "newer"])
def test_a_file_that_cannot_be_read_is_named(kept, damage):
    if damage == "newer":
        kept.note(format=99)
    else:
        whole = kept.path.read_bytes()
        kept.path.write_bytes({"empty": b"", "text": b"not a database" * 100, "truncated": whole[: len(whole) // 2]}[damage])
    with pytest.raises(FatalRuntimeError, match="newer version" if damage == "newer" else "could not be read: .*overwrite=True") as raised:
        begin(Store(kept.path), 0) if Store(kept.path).load() else None
    assert str(kept.path) in str(raised.value)


def test_a_study_that_somebody_else_has_made_is_named_and_left_alone(tmp_path):
    (tmp_path / "p").mkdir()
    address = f"sqlite:///{tmp_path}/p/{store.FILE}"
    optuna.create_study(storage=address, study_name="mine").optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    settings = {"directory": tmp_path, "objective": "val_loss"}
    for build in (lambda: Tuner(print, project_name="p", **settings), lambda: Tuner(print, project_name="mine", storage=address, **settings)):
        with pytest.raises(FatalRuntimeError, match="was not made by keras_optlab"):
            build()
    with pytest.raises(FatalRuntimeError, match="was not made by keras_optlab"):
        store.read(tmp_path / "p")
    assert len(optuna.load_study(storage=address, study_name="mine").trials) == 2


def full(kept: Store) -> None:
    """From now on SQLite finds no room."""
    event.listen(kept._storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))


def test_a_full_disk_is_said_and_nothing_committed_is_lost(kept):
    begin(kept, 0)
    finish(kept, 0, 0.5, metrics={"a": [1.0]})
    begin(kept, 1)
    full(kept)
    with pytest.raises(FatalRuntimeError, match="could not be written: .*full.* Every finished trial is kept"):
        finish(kept, 1, 0.9, error="x" * 10**6)
    assert [(t["status"], t["score"]) for t in store.read(kept.path)["trials"]] == [("COMPLETED", 0.5), ("RUNNING", None)]
    again = Store(kept.path)  # there is room again
    again.load()
    again.free_all()
    again.take_up("0001")
    finish(again, 1, 0.9)
    assert [t["score"] for t in store.read(kept.path)["trials"]] == [0.5, 0.9]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FatalRuntimeError, match="could not be written"):
        Store(tmp_path / "file" / "deeper" / store.FILE).lock()
    with pytest.raises(ValueError, match="`directory` must be a folder that can be written. Received: directory='.*file'"):
        Tuner(lambda hp: None, "loss", directory=str(tmp_path / "file"))


def test_one_process_at_a_time(kept):
    kept.lock()
    kept.lock()
    with pytest.raises(FatalRuntimeError, match="in another tuner of this process"):
        Store(kept.path).lock()
    kept.unlock()
    other = Store(kept.path)
    other.lock()
    other.unlock()
    pytest.importorskip("fcntl")
    claim = "import fcntl, os, sys; f = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); f.truncate(0); f.write(str(os.getpid())); f.flush()"
    stranger = subprocess.Popen(
        [sys.executable, "-c", f"{claim}; print(flush=True); input()", kept.path.with_suffix(".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with stranger:
        stranger.stdout.readline()
        with pytest.raises(FatalRuntimeError, match=rf"is running in another process \(id {stranger.pid}\).*another `project_name`"):
            kept.lock()
        stranger.kill()
    kept.lock()  # the system has released it


def test_the_log_does_not_show_what_optuna_does(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        kept = Store(tmp_path / store.FILE)
        kept.create("min", objective="loss")
        kept.load()
    assert not caplog.records


def test_a_search_in_memory():
    oracle = Oracle("random", max_trials=3, seed=0)
    oracle.hyperparameters.Float("x", 0.0, 1.0)
    for _ in range(3):
        trial = oracle.create_trial("tuner0")
        oracle.update_trial(trial.trial_id, {"default_objective": trial.hyperparameters.get("x")})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert oracle.create_trial("tuner0").status == "STOPPED" and len({t["values"]["x"] for t in oracle.store.load()}) == 3
