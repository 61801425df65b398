"""One search as an Optuna study, which plain `optuna.load_study` and optuna-dashboard read too: in an SQLite file, or in a database that workers share."""

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
from keras_tuner.errors import FatalRuntimeError
from optuna.trial import TrialState

from keras_optlab.search.connection import connect, errors, parsed
from keras_optlab.search.lock import Lock
from keras_optlab.search.tables import LeaseLost, Tables

FILE = "search.sqlite3"
FORMAT = 2
STATUS = {"COMPLETE": "COMPLETED", "FAIL": "FAILED", "PRUNED": "STOPPED", "RUNNING": "RUNNING", "WAITING": "RUNNING"}


def record(trial: optuna.trial.FrozenTrial) -> dict:
    """A trial as a dict: "trial_id", "status", "score", "seconds", "values", "error", "curve", "reported" (objective by epoch), and what else was noted."""
    plain = {"trial_id": f"{trial.number:04d}", "seconds": None, "values": dict(trial.params), "error": None, "curve": {}, "attempts": 1}
    plain["reported"] = dict(trial.intermediate_values)
    return plain | trial.user_attrs | {"status": STATUS[trial.state.name], "score": trial.values[0] if trial.state == TrialState.COMPLETE else None}


def read(path: str | os.PathLike, name: str | None = None) -> dict:
    """A search as plain data, without building a tuner; also while it runs.

    Args:
        path: the project's folder, or its `search.sqlite3`, or the `storage` of a search that has workers.
        name: the project's name, in a `storage`.

    Returns:
        `{"name", "objective", "direction", "sampler", "seed", "elapsed" (seconds), "space", "trials", "best_mean"}`; the trials as in `Tuner.records()`,
        "best_mean" as in `noise.best_mean`. With several objectives "objective" and "direction" are lists.

    Raises:
        FileNotFoundError: if there is no search.

    Example:

        search = keras_optlab.search.store.read("digits_search")
        print(search["objective"], [trial["score"] for trial in search["trials"]])
    """
    if "://" in str(path):
        store = Store(str(path), name or "search")
    else:
        path = Path(path)
        store = Store(path / FILE if path.is_dir() else path)
    if not store.exists():
        raise FileNotFoundError(f"`path` must be the folder of a search, its {FILE} or its `storage`. Received: path='{store}'. There is no search.")
    return store.plain()


class Store:
    """Keeps trials and facts of a search; what a method has written is in the database when it returns.

    A trial's result becomes true in one transaction with all that belongs to it. Whoever runs a trial holds it with a token, a number that grows each time it
    is taken up; what is written with an older one is refused.

    Args:
        path: the SQLite file, for one process at a time; a URL such as "postgresql://user:password@host/name", for any number of workers; `None`
            keeps the search in memory.
        name: name of the study.
        lease: seconds after which a worker that was silent has lost its trial.
    """

    def __init__(self, path: str | os.PathLike | None, name: str = "search", lease: float = 60.0):
        self.shared = "://" in str(path)
        self.url = parsed(path) if self.shared else None
        self.path, self.name, self.lease = None if path is None or self.shared else Path(path), name, lease
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self.facts: dict = {}
        self._storage = self._study = self._lock = self._tables = None
        self._keys: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._known: dict[int, str] = {}
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def __str__(self):
        return f"`storage`={self.url.render_as_string(hide_password=True)!r}" if self.shared else str(self.path)

    def exists(self) -> bool:
        if self.shared:
            with self._errors("read"):
                self._open()
        return self._study is not None if self.path is None else self.path.exists()

    def load(self) -> list[dict]:
        """Reads everything anew: `facts`, and every trial as a record, in the order of their start."""
        self.facts, self._keys, self._known, self._distributions = {}, {}, {}, {}
        if not self.exists():
            return []
        with self._errors("read", "If it is damaged beyond repair, move it away, or start anew with `overwrite=True`."):
            if self.path is not None:
                self._open()
            self.facts = self._storage.get_study_user_attrs(self._study)
            keys = {number: key for key, number, _ in self._tables.states()}
            trials = [(keys[trial.number], trial) for trial in self._storage.get_all_trials(self._study, deepcopy=False) if trial.number in keys]
        if self.facts.get("format", 0) > FORMAT:
            raise FatalRuntimeError(f"{self} was written by a newer version of keras_optlab (format {self.facts['format']}, here {FORMAT}). Update it.")
        if "format" not in self.facts:
            raise FatalRuntimeError(f"The study in {self} was not made by keras_optlab. It is left as it is: give another `project_name`.")
        return [self._seen(*pair) for pair in trials]

    def plain(self) -> dict:
        """The search as `read` returns it."""
        from keras_optlab.search.noise import best_mean  # the samplers import this module

        trials = self.load()
        found = {"name": self.name, **{k: self.facts.get(k) for k in ("objective", "direction", "sampler", "seed", "elapsed", "space")}, "trials": trials}
        return found | {"best_mean": best_mean(found)}

    def changed(self) -> list[dict]:
        """Records of the trials that other workers have started or finished since the last look; and `facts`, read anew."""
        with self._errors("read"):
            states = self._tables.states()
            fresh = [key for key, _, state in states if self._known.get(key) != state]
            trials = [(key, self._storage.get_trial(key)) for key in fresh]
            if fresh:
                self.facts = self._storage.get_study_user_attrs(self._study)
        return [self._seen(*pair) for pair in trials]

    def _seen(self, key: int, trial: optuna.trial.FrozenTrial) -> dict:
        self._distributions |= trial.distributions
        found, self._known[key] = record(trial), trial.state.name
        self._keys[found["trial_id"]] = key
        return found

    def create(self, direction: str | list[str], **facts) -> None:
        """Starts the study, whole or not at all, with one direction or several. Where another worker is faster, the study is its."""
        each = direction if isinstance(direction, list) else [direction]
        directions = [optuna.study.StudyDirection.MAXIMIZE if one == "max" else optuna.study.StudyDirection.MINIMIZE for one in each]
        facts |= {"format": FORMAT, "direction": direction}
        with self._errors("written"), quiet():
            name, new = self.name, None
            if self.shared:
                self._open()
                name = f"{self.name} {uuid.uuid4().hex}"
            elif self.path is None:
                self._storage = connect(None, new=True)
            else:
                new = self.path.with_suffix(".new")
                for stale in (new, f"{new}-journal", f"{self.path}-journal"):  # SQLite would play an old journal back into the new file
                    Path(stale).unlink(missing_ok=True)
                self._storage = connect(new, new=True)
            self._study = self._storage.create_new_study(directions, name)
            self._tables = Tables(self._storage.engine, self._study, self.lease)
            with self._tables.writing() as connection:
                self._tables.note_study(connection, facts)
            if self.shared and not self._tables.rename(self.name):
                self._storage.delete_study(self._study)
            if new is not None:
                os.replace(new, self.path)
            if self.path is not None or self.shared:
                self._open()
        self.facts = facts

    def note(self, **facts) -> None:
        """Writes facts of the search that changed."""
        changed = {key: value for key, value in facts.items() if self.facts.get(key) != value}
        if changed:
            with self._errors("written"), self._tables.writing() as connection:
                self._tables.note_study(connection, changed)
            self.facts |= changed

    def count(self, seconds: float) -> None:
        """Counts seconds that this worker has searched, as far as no other has counted them already."""
        with self._errors("written"), self._tables.writing(alone=True) as connection:
            self._count(connection, seconds)

    def begin(self, trial_id: str, parameters: list[tuple], **facts) -> bool:
        """Commits a trial that is about to run, and holds it.

        Args:
            trial_id: KerasTuner's id, the next one.
            parameters: what Optuna keeps of its values, from `Space.for_optuna`.
            facts: what else to note, such as `values`.

        Returns:
            Whether it is the next one: another worker may have been faster.
        """
        params, distributions = self._name(parameters)
        with self._errors("written"):
            key = self._tables.begin(int(trial_id), params, distributions, {"trial_id": trial_id, **facts}, self.owner)
        if key is None:
            return False
        self._distributions |= distributions
        self._keys[trial_id], self._tokens[trial_id], self._known[key] = key, 1, "RUNNING"
        return True

    def free(self) -> list[str]:
        """Ids of the trials that were interrupted, in the order of their start."""
        names = {key: trial_id for trial_id, key in self._keys.items()}
        with self._errors("read"):
            return [names[key] for key in self._tables.free() if key in names]

    def free_all(self) -> None:
        """Takes all trials for interrupted that are not finished: this process has the project for itself."""
        with self._errors("written"):
            self._tables.free_all()
        self._tokens = {}

    def take_up(self, trial_id: str) -> dict | None:
        """Holds an interrupted trial, and counts that in its "attempts". Returns its record, or `None` if another worker was faster."""
        key = self._keys[trial_id]
        with self._errors("written"):
            found = record(self._storage.get_trial(key))
            attempts = {"attempts": found["attempts"] + 1}
            token = self._tables.take_up(key, attempts, self.owner)
        if token is None:
            return None
        self._tokens[trial_id] = token
        return found | attempts

    def token(self, trial_id: str) -> int:
        """How often a trial was taken up that this process holds or has held."""
        return self._tokens.get(trial_id, 1)

    def note_trial(self, trial_id: str, epochs: dict | None = None, /, **facts) -> None:
        """Writes facts of a running trial, and the objective after epochs, {step: value}; renews the lease.

        Raises:
            LeaseLost: if another worker has taken it over.
        """
        with self._errors("written"), self._named(trial_id):
            self._tables.note(self._keys[trial_id], self._tokens.get(trial_id, 0), facts, epochs or {})

    def give_back(self, trial_id: str, **facts) -> None:
        """Lets other workers take up a running trial at once, and notes facts of it."""
        with self._errors("written"), contextlib.suppress(LeaseLost):
            self._tables.note(self._keys[trial_id], self._tokens.pop(trial_id, 0), facts, {}, seconds=-1.0)

    def finish(
        self,
        trial_id: str,
        parameters: list[tuple],
        score: float | list[float] | None,
        steps: int,
        epochs: dict | None = None,
        seconds: float = 0.0,
        space: Callable | None = None,
        /,
        **facts,
    ) -> None:
        """Commits the result of a running trial.

        Args:
            trial_id: KerasTuner's id.
            parameters: as in `begin`; those that were declared while it ran are added.
            score: the objective's value, or that of each of several; `None`: the trial failed, or was stopped if `facts` has "stopped".
            steps: number of epochs reported; later ones, left by an interrupted run of the same trial, are deleted.
            epochs: the objective after epochs that were not noted yet, {step: value}.
            seconds: as in `count`.
            space: a function from the stored space to the one that is to be stored.
            facts: what else to note.

        Raises:
            LeaseLost: if another worker has taken it over. Nothing is written.
        """
        params, distributions = self._name(parameters)
        scores = score if isinstance(score, list) else [] if score is None else [score]
        state = "COMPLETE" if scores else "PRUNED" if "stopped" in facts else "FAIL"
        arguments = (self._keys[trial_id], self._tokens.get(trial_id, 0), params, distributions, facts, epochs or {}, steps, state, scores)
        with self._errors("written"), self._named(trial_id), self._tables.finishing(*arguments) as connection:
            changes = {}
            if space is not None:
                self.facts = self._tables.study_facts(connection) if self.shared else self.facts
                changes["space"] = space(self.facts["space"])
            self._count(connection, seconds)
            if changes and changes["space"] != self.facts["space"]:
                self._tables.note_study(connection, changes)
        self.facts |= changes
        self._distributions |= distributions
        self._known[self._keys[trial_id]] = state
        del self._tokens[trial_id]

    def _count(self, connection, seconds: float) -> None:
        if not self.shared:
            new = {"elapsed": self.facts.get("elapsed", 0.0) + seconds}
        else:  # the time in which at least one worker was there, by the database's clock
            facts, now = self._tables.study_facts(connection), self._tables.clock(connection)
            new = {"elapsed": facts["elapsed"] + max(0.0, min(seconds, now - facts.get("counted", 0.0))), "counted": now}
        self._tables.note_study(connection, new)
        self.facts |= new

    def renew(self) -> list[str]:
        """Renews the leases of the trials that this process holds, from any thread. Returns those that it has lost."""
        lost = []
        with self._errors("written"):
            for trial_id, token in list(self._tokens.items()):
                try:
                    self._tables.note(self._keys[trial_id], token, {}, {})
                except LeaseLost:
                    lost.append(trial_id)
        return lost

    def copy(self) -> "Store":
        """Another view of the same search."""
        return Store(self.url or self.path, self.name, self.lease)

    def delete(self) -> None:
        """Deletes a shared study.

        Raises:
            FatalRuntimeError: if a worker is running one of its trials.
        """
        if self.exists():
            if self._tables.held():
                raise FatalRuntimeError(f"`overwrite=True` would delete the search {self} while other workers run it. End them first, or leave it out.")
            with self._errors("written"):
                self._tables.free_all(forget=True)
                self._storage.delete_study(self._study)
            self._study = None

    @contextlib.contextmanager
    def _named(self, trial_id: str) -> Iterator[None]:
        try:
            yield
        except LeaseLost:
            self._tokens.pop(trial_id, None)
            raise LeaseLost(f"Trial {trial_id} was taken over by another worker: this one was silent for {self.lease:g} s. Its result is refused.") from None

    def _name(self, parameters: list[tuple]) -> tuple[dict, dict]:
        """Optuna knows one kind of distribution per name, KerasTuner one per name and conditions: the second kind gets the longer name."""
        params, distributions = {}, {}
        for name, longer, value, distribution in parameters:
            try:
                optuna.distributions.check_distribution_compatibility(self._distributions.get(name, distribution), distribution)
            except ValueError:
                name = longer
            params[name], distributions[name] = value, distribution
        return params, distributions

    def _open(self) -> None:
        """Connects to the study; without it `_study` is `None`."""
        if self._storage is None or not self.shared:
            self._storage = connect(self.url or self.path, new=self.shared)
        try:
            name = self.name if self.shared else optuna.get_all_study_names(self._storage)[0]
            self._study = self._storage.get_study_id_from_name(name)
        except KeyError:
            self._study = None
        else:
            self.name, self._tables = name, Tables(self._storage.engine, self._study, self.lease)

    def _errors(self, what: str, advice: str = ""):
        return errors(str(self), self.url, what, advice)

    def lock(self) -> None:
        """Claims the project for this process until `unlock`, or until the process ends, however it does; a shared one needs none.

        Raises:
            FatalRuntimeError: if it is claimed already.
        """
        if self.path is not None and self._lock is None:
            with self._errors("written"):
                self._lock = Lock(self.path)

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
