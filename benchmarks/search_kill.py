"""Kills searches at random moments with SIGKILL, runs them again until they are done, and counts what is lost or repeated.

    python benchmarks/search_kill.py [--kills 200] [--trials 12] [--kinds numbers,fit,4-numbers,4-fit] [--seed 0]

One process imports everything and forks the searches. In turn it kills them from outside after a random time, or they kill themselves before
a random statement or commit. Two kinds of search take turns: `numbers`, whose trials are formulas (define-by-run, some raise), and
`fit`, which trains small networks and writes checkpoints of 2 MB. `4-` in front: four workers share it over a PostgreSQL server that is started here (over one
SQLite file where there is none), and one after the other is killed and replaced. A ledger apart from the store, to which trials write when they start and
when `on_trial_end` has returned, says what must be there:

set back    a training that went on before the last epoch that had begun
lost        a trial that the ledger or an earlier reading of the store has as finished, and the store no longer has, or with other values
repeated    a trial that started again after it was finished, or values that were finished under two ids
changed     an interrupted trial that started again with other values, or a score that is not the one of its values
unreadable  a kill after which the file could not be read
unfinished  a search that did not end with all of its trials finished, or whose best model is not the one that was scored
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import optuna
from keras_tuner.errors import FatalError
from sqlalchemy import Engine, event

from keras_optlab.search import Tuner, store

sys.path.insert(0, str(Path(__file__).parent))
from postgresql import server  # noqa: E402

DEFAULTS = {"numbers": {"x": 0.0, "kind": "a"}, "fit": {}}


class Ledger:
    """What trials have said, one JSON line each; a line is in the system's hands once written, and survives a killed process."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, what: str, trial, **more) -> None:
        line = {
            "what": what,
            "id": trial.trial_id,
            "values": trial.hyperparameters.values,
            "status": trial.status,
            "score": trial.score,
            "pid": os.getpid(),
        } | more
        line = json.dumps(line)
        with open(self.path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


class Noted(Tuner):
    def on_trial_begin(self, trial):
        self.ledger.write("start", trial)

    def on_epoch_begin(self, trial, model, epoch, logs=None):
        self.ledger.write("epoch", trial, epoch=epoch)

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        self.ledger.write("end", trial)


def formula(values: dict) -> float:
    return (values["x"] - 0.3) ** 2 + (0.1 * values["n"] if values["kind"] == "b" else 0.5)


class Numbers(Noted):
    def run_trial(self, trial, **_):
        hp = trial.hyperparameters
        values = {"x": hp.Float("x", 0.0, 1.0), "kind": hp.Choice("kind", ["a", "b"])}
        with hp.conditional_scope("kind", ["b"]):
            n = hp.Int("n", 0, 5)
        time.sleep(random.random() / 100)
        if values["x"] > 0.8:
            raise MemoryError("too large")
        return formula(values | {"n": n})


def build(hp) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(512, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-4, 3e-2, sampling="log")), "mse", run_eagerly=True)
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    return x, x[:, :1]


def make(kind: str, folder: Path, trials: int, seed: int) -> Noted:
    workers = {"storage": storage_of(folder), "lease": 8.0, "heartbeat": 1.0} if kind.startswith("4-") else {}
    settings = {"max_trials": trials, "seed": seed, "directory": folder, "project_name": "search", "sampler": ("gp", "random")[seed % 2]} | workers
    tuner = Numbers(**settings) if kind.endswith("numbers") else Noted(build, objective="val_loss", **settings)
    tuner.ledger = Ledger(folder / "ledger")
    return tuner


def storage_of(folder: Path) -> str | None:
    """Where the workers of the search in a folder meet, if it has several."""
    file = folder / "storage"
    return file.read_text() if file.exists() else None


def search(tuner: Noted, kind: str) -> None:
    x, y = data()
    if kind.endswith("numbers"):
        tuner.search(verbose=0)
    else:
        tuner.search(x, y, validation_data=(x, y), epochs=3, batch_size=32, verbose=0)


def best_model_is_right(tuner: Noted, trials: int) -> bool:
    x, y = data()
    tuner.oracle.begin()
    tuner._clear()
    tuner.oracle.release()
    files = [file.name.split(".")[0] for pattern in ("checkpoint_*", "state_*") for file in Path(tuner.project_dir).glob(pattern)]
    best = tuner.oracle.get_best_trials(1)[0]
    found = tuner.get_best_models()[0].evaluate(x, y, batch_size=32, verbose=0)
    return files == [f"checkpoint_{best.trial_id}"] and abs(found - best.score) < 1e-4 * max(1, best.score)


def strike_at(statement: int) -> None:
    """Kills this process before its `statement`-th SQL statement or commit."""
    count = itertools.count()

    def strike(*_):
        if next(count) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", strike)
    event.listen(Engine, "commit", strike)


def forked(work, *arguments) -> int:
    """Starts `work` in a child process; its exit status is 0 where it returns something true or nothing."""
    child = os.fork()
    if child:
        return child
    try:
        result = work(*arguments)
        os._exit(0 if result is None or result else 3)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(4)


def wait(child: int, seconds: float | None = None) -> bool:
    """Kills the child after `seconds` if it still runs. Returns whether it was killed; any other bad end is an error."""
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        sys.exit(f"A search ended with status {status}.")
    return status != 0


def run(kind: str, folder: Path, trials: int, seed: int, statement: int | None) -> None:
    if statement is not None:
        strike_at(statement)
    search(make(kind, folder, trials, seed), kind)


def read(folder: Path) -> dict | None:
    """The trials in the store, if there is one, after a look at it with plain Optuna."""
    storage, file = storage_of(folder), folder / "search" / store.FILE
    if storage is None and not file.exists():
        return None
    try:
        records = {record["trial_id"]: record for record in store.read(storage or file, "search")["trials"]}
    except FileNotFoundError:  # the first worker was killed before it had begun
        return None
    if records and storage is None:
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{file}")
        assert [trial.state.is_finished() for trial in study.trials] == [record["status"] != "RUNNING" for record in records.values()]
    return records


def check(folder: Path, done: dict, counts: Counter) -> None:
    """Compares the store with the ledger and with what earlier readings had as finished (`done`), which it extends."""
    before = [line for line in Ledger(folder / "ledger").read() if line["what"] == "end"]  # what has ended by now must be in the store
    try:
        records = read(folder)
    except (FatalError, AssertionError) as error:
        print(error)
        counts["unreadable"] += 1
        return
    if records is None:
        return
    started, ended = {}, {line["id"]: {key: line[key] for key in ("values", "status", "score")} for line in before}
    over = set()
    for line in Ledger(folder / "ledger").read():
        if line["what"] == "end":
            counts["repeated"] += line["id"] in over
            over.add(line["id"])
        elif line["what"] == "start" and (line["id"] in over or line["id"] in done and started.get(line["id"], 0) == done[line["id"]]["starts"]):
            counts["repeated"] += 1
        if line["what"] == "start":
            started[line["id"]] = started.get(line["id"], 0) + 1
    for trial_id, expected in [*done.items(), *ended.items()]:
        counts["lost"] += any(records.get(trial_id, {}).get(key) != expected[key] for key in ("values", "status", "score"))
    finished = {trial_id: record for trial_id, record in records.items() if record["status"] != "RUNNING"}
    counts["repeated"] += len(finished) - len({json.dumps(record["values"], sort_keys=True) for record in finished.values()})
    for trial_id, record in finished.items():
        done.setdefault(trial_id, {key: record[key] for key in ("values", "status", "score")} | {"starts": started[trial_id]})


def check_values(kind: str, folder: Path, counts: Counter) -> None:
    first, begun, fresh, owner = {}, {}, {}, {}
    for line in Ledger(folder / "ledger").read():
        trial = line["id"]
        if line["what"] == "epoch":
            if owner[trial] != line["pid"]:  # it has not yet seen that it has lost the trial
                continue
            if trial in fresh:
                counts["set back"] += line["epoch"] < fresh.pop(trial)
                counts["went on inside"] += line["epoch"] > 0
            begun[trial] = max(begun.get(trial, 0), line["epoch"])
            continue
        if line["what"] == "start":
            owner[trial], fresh[trial] = line["pid"], begun.get(trial, 0)
        values = DEFAULTS[kind.removeprefix("4-")] | line["values"]  # the first trial starts before anything is declared
        if line["what"] == "start":
            counts["changed"] += first.setdefault(line["id"], values) != values
        elif kind.endswith("numbers"):
            right = None if values["x"] > 0.8 else formula(values)
            counts["changed"] += line["score"] != right


def one(kind: str, folder: Path, arguments, number: int, done: dict, counts: Counter) -> None:
    """A search of one process, killed and run again until it ends."""
    patience, killed = 1.0, True
    while killed:
        inside, before = random.random() < 0.5, len(done)
        statement = int(patience * random.triangular(0, 300, 30)) if inside else None
        child = forked(run, kind, folder, arguments.trials, number, statement)
        killed = wait(child, None if inside else patience * random.uniform(0.05, 0.6 if kind == "numbers" else 2.5))
        counts["kills"] += killed
        counts[f"kills {'at a statement' if inside else 'from outside'}, {kind}"] += killed
        check(folder, done, counts)
        patience = 1.0 if len(done) > before else 1.2 * patience  # a busy machine needs a while to start


def four(kind: str, folder: Path, arguments, number: int, done: dict, counts: Counter) -> None:
    """A search of four workers; one after the other is killed and replaced until all have ended."""
    begin = lambda: forked(run, kind, folder, arguments.trials, number, int(random.triangular(0, 600, 60)) if random.random() < 0.3 else None)
    workers, patience = [begin() for _ in range(4)], 1.0
    while workers:
        before = len(done)
        time.sleep(patience * random.uniform(0.1, 1.5))
        if workers and random.random() < 0.7:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(workers), signal.SIGKILL)
        for child in list(workers):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                workers.remove(child)
                if wait(child):
                    counts["kills"] += 1
                    counts[f"kills, {kind}"] += 1
                    workers.append(begin())
        check(folder, done, counts)
        patience = 1.0 if len(done) > before else 1.2 * patience


def database(stack: contextlib.ExitStack) -> str | None:
    try:
        return stack.enter_context(server())
    except FileNotFoundError as error:
        print(f"{error}: the workers share an SQLite file.")
        return None


def forget(address: str) -> None:
    """Deletes the search in a database."""
    store.Store(address, "search").delete()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=12, help="trials of a search")
    parser.add_argument("--kinds", default="numbers,fit,4-numbers,4-fit")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    counts, start, kinds = Counter(), time.monotonic(), arguments.kinds.split(",")
    with contextlib.ExitStack() as stack:
        address = database(stack) if any(kind.startswith("4-") for kind in kinds) else None
        for number in itertools.count():
            kind, folder, done = kinds[number % len(kinds)], Path(tempfile.mkdtemp(prefix="search_kill_")), {}
            if kind.startswith("4-"):
                (folder / "storage").write_text(address or f"sqlite:///{folder}/shared.sqlite3")
            (four if kind.startswith("4-") else one)(kind, folder, arguments, number, done, counts)
            counts["searches"] += 1
            counts["trials"] += len(done)
            counts["taken up again"] += sum(line["what"] == "start" for line in Ledger(folder / "ledger").read()) - len(done)
            counts["unfinished"] += len(done) != arguments.trials
            check_values(kind, folder, counts)
            if kind.endswith("fit"):
                counts["unfinished"] += wait(forked(lambda: best_model_is_right(make(kind, folder, arguments.trials, number), arguments.trials)))
            if address and kind.startswith("4-"):
                forget(address)
            shutil.rmtree(folder)
            if counts["kills"] >= arguments.kills:
                break
    faults = {key: counts[key] for key in ("set back", "lost", "repeated", "changed", "unreadable", "unfinished")}
    told = {key: counts[key] for key in sorted(counts) if key not in faults}
    print(json.dumps(told | faults | {"seconds": round(time.monotonic() - start)}))
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
