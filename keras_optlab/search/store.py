"""One search in one SQLite file: an Optuna study, which plain `optuna.load_study` and optuna-dashboard read too."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
from keras_tuner.errors import FatalRuntimeError
from optuna.trial import TrialState

FILE = "search.sqlite3"
FORMAT = 1
STATUS = {"COMPLETE": "COMPLETED", "FAIL": "FAILED", "PRUNED": "STOPPED", "RUNNING": "RUNNING", "WAITING": "RUNNING"}
_HELD: dict[str, int] = {}  # the kernel's locks are per process: two tuners of one process would not see each other


def record(trial: optuna.trial.FrozenTrial) -> dict:
    """A trial as a plain dict: "trial_id", "status", "score", "seconds", "values", "error", "curve", and what else was noted of it."""
    plain = {"trial_id": f"{trial.number:04d}", "seconds": None, "values": dict(trial.params), "error": None, "curve": {}, "attempts": 1}
    return plain | trial.user_attrs | {"status": STATUS[trial.state.name], "score": trial.value if trial.state == TrialState.COMPLETE else None}


def read(path: str | os.PathLike) -> dict:
    """A search as plain data, without building a tuner; also while it runs.

    Args:
        path: the project's folder, or its `search.sqlite3`.

    Returns:
        `{"name", "objective", "direction", "sampler", "seed", "elapsed" (seconds), "space", "trials"}`; the trials as in `Tuner.records()`.

    Raises:
        FileNotFoundError: if there is no search.

    Example:

        search = keras_optlab.search.store.read("digits_search")
        print(search["objective"], [trial["score"] for trial in search["trials"]])
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise FileNotFoundError(f"`path` must be the folder of a search or its {FILE}. Received: path='{path}'. There is no search.")
    store = Store(file)
    trials = store.load()
    return {"name": store.name, **{k: store.facts.get(k) for k in ("objective", "direction", "sampler", "seed", "elapsed", "space")}, "trials": trials}


class Store:
    """Keeps trials and facts of a search; what a method has written is on the disk when it returns.

    A trial's result becomes true in one commit, that of its state, after all that belongs to it.

    Args:
        path: the SQLite file; `None` keeps the search in memory.
        name: name of the study.
    """

    def __init__(self, path: str | os.PathLike | None, name: str = "search"):
        self.path, self.name = None if path is None else Path(path), name
        self.facts: dict = {}
        self._storage = self._study = self._lock = None
        self._ids: dict[str, int] = {}
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def exists(self) -> bool:
        return self._study is not None if self.path is None else self.path.exists()

    def load(self) -> list[dict]:
        """Reads everything anew: `facts`, and every trial as a record, in the order of their start."""
        self.facts, self._ids, self._distributions = {}, {}, {}
        if not self.exists():
            return []
        with self._errors("read", "If it is damaged beyond repair, move it away, or start anew with `overwrite=True`."):
            if self.path is not None:
                self._open()
            self.facts = self._storage.get_study_user_attrs(self._study)
            trials = self._storage.get_all_trials(self._study)
        if self.facts.get("format", 0) > FORMAT:
            raise FatalRuntimeError(f"{self.path} was written by a newer version of keras_optlab (format {self.facts['format']}, here {FORMAT}). Update it.")
        for trial in trials:
            self._distributions |= trial.distributions
            if not trial.state.is_finished():
                self._ids[record(trial)["trial_id"]] = self._storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)
        return [record(trial) for trial in trials]

    def create(self, direction: str, **facts) -> None:
        """Starts the study; its file appears whole or not at all."""
        directions = [optuna.study.StudyDirection.MAXIMIZE if direction == "max" else optuna.study.StudyDirection.MINIMIZE]
        facts |= {"format": FORMAT, "direction": direction}
        with self._errors("written"), quiet():
            if self.path is None:
                self._storage, new = optuna.storages.InMemoryStorage(), None
            else:
                new = self.path.with_suffix(".new")
                for stale in (new, f"{new}-journal", f"{self.path}-journal"):  # SQLite would play an old journal back into the new file
                    Path(stale).unlink(missing_ok=True)
                self._storage = self._connect(new, new=True)
            self._study = self._storage.create_new_study(directions, self.name)
            for key, value in facts.items():
                self._storage.set_study_user_attr(self._study, key, value)
            if new is not None:
                os.replace(new, self.path)
                self._open()
        self.facts = facts

    def note(self, **facts) -> None:
        """Writes facts of the search that changed."""
        with self._errors("written"):
            for key, value in facts.items():
                if self.facts.get(key) != value:
                    self._storage.set_study_user_attr(self._study, key, value)
        self.facts |= facts

    def begin(self, trial_id: str, parameters: list[tuple], **facts) -> None:
        """Commits a trial that is about to run.

        Args:
            trial_id: KerasTuner's id.
            parameters: what Optuna keeps of its values, from `Space.for_optuna`.
            facts: what else to note, such as `values`.
        """
        named = self._name(parameters)
        params, distributions = {k: v for k, (v, _) in named.items()}, {k: d for k, (_, d) in named.items()}
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs={"trial_id": trial_id, **facts})
        with self._errors("written"):
            self._ids[trial_id] = self._storage.create_new_trial(self._study, trial)
        self._distributions |= distributions

    def note_trial(self, trial_id: str, **facts) -> None:
        """Writes facts of a running trial."""
        key = self._ids[trial_id]
        with self._errors("written"):
            for name, value in facts.items():
                self._storage.set_trial_user_attr(key, name, value)

    def report(self, trial_id: str, step: int, value: float) -> None:
        """Commits the objective after an epoch of a running trial."""
        with self._errors("written"):
            self._storage.set_trial_intermediate_value(self._ids[trial_id], step, value)

    def finish(self, trial_id: str, parameters: list[tuple], score: float | None, steps: int, **facts) -> None:
        """Commits the result of a running trial.

        Args:
            trial_id: KerasTuner's id.
            parameters: as in `begin`; those that were declared while it ran are added.
            score: the objective's value; `None`: the trial failed.
            steps: number of epochs reported; later ones, left by an interrupted run of the same trial, are blanked.
            facts: what else to note.
        """
        key = self._ids[trial_id]
        with self._errors("written"):
            trial = self._storage.get_trial(key)
            for name, (value, distribution) in self._name([p for p in parameters if not {p[0], p[1]} & set(trial.params)]).items():
                self._storage.set_trial_param(key, name, distribution.to_internal_repr(value), distribution)
                self._distributions[name] = distribution
            for step in trial.intermediate_values:
                if step >= steps:
                    self._storage.set_trial_intermediate_value(key, step, float("nan"))
            for name, value in facts.items():
                self._storage.set_trial_user_attr(key, name, value)
            state = TrialState.FAIL if score is None else TrialState.COMPLETE
            self._storage.set_trial_state_values(key, state, None if score is None else [score])

    def _name(self, parameters: list[tuple]) -> dict[str, tuple]:
        """Optuna knows one kind of distribution per name, KerasTuner one per name and conditions: the second kind gets the longer name."""
        out = {}
        for name, longer, value, distribution in parameters:
            try:
                optuna.distributions.check_distribution_compatibility(self._distributions.get(name, distribution), distribution)
            except ValueError:
                name = longer
            out[name] = value, distribution
        return out

    def _connect(self, path: Path, new: bool):
        from sqlalchemy import URL
        from sqlalchemy.pool import NullPool

        # A connection per transaction: nothing to be left open by a fork or an exception. Optuna expands braces in the address.
        url = URL.create("sqlite", database=str(path)).render_as_string().replace("{", "{{").replace("}", "}}")
        return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool, "connect_args": {"timeout": 30}}, skip_table_creation=not new)

    def _open(self) -> None:
        self._storage = self._connect(self.path, new=False)
        self.name = optuna.get_all_study_names(self._storage)[0]
        self._study = self._storage.get_study_id_from_name(self.name)

    @contextlib.contextmanager
    def _errors(self, what: str, advice: str = "Every finished trial is kept: free the disk or the folder, then run the same command again.") -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = error.__cause__ or error
            cause = str(getattr(cause, "orig", None) or cause).splitlines()[0]
            raise FatalRuntimeError(f"The search {self.path} could not be {what}: {cause}. {advice}") from error

    def lock(self) -> None:
        """Claims the project for this process until `unlock`, or until the process ends, however it does.

        Raises:
            FatalRuntimeError: if it is claimed already.
        """
        if self.path is None or self._lock is not None:
            return
        name = str(self.path.resolve())
        if _HELD.get(name) == os.getpid():
            raise FatalRuntimeError(f"The search {self.path} is running in another tuner of this process. Let it end, or give another `project_name`.")
        with self._errors("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path.with_suffix(".lock"), "a+")  # noqa: SIM115 (it stays open while the search runs)
        try:
            _claim(file)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise FatalRuntimeError(
                f"The search {self.path} is running in another process (id {owner}). Wait for it or end it, or give another `project_name`."
            ) from None
        with self._errors("written"):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        self._lock, _HELD[name] = file, os.getpid()

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _HELD.pop(str(self.path.resolve()), None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _claim(file) -> None:
    """Locks a file for this process, or raises OSError; the kernel releases it when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(1 << 20)  # what is locked cannot be read, and the text at the beginning names the owner
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
