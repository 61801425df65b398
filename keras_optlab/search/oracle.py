"""The keeper of the trials: asks the sampler, commits every result to the store, and takes up again what was interrupted."""

import copy
import dataclasses
import math
import random
import threading
import time
import uuid

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_optlab.report.goals import undominated
from keras_optlab.search import goals, live, pruning, samplers
from keras_optlab.search.heartbeat import Heartbeat
from keras_optlab.search.log import logger
from keras_optlab.search.space import Space, differences, merged
from keras_optlab.search.store import Store
from keras_optlab.search.tables import LeaseLost
from keras_optlab.search.telling import tell
from keras_optlab.search.trials import best, headline, history, restored

DEATHS = 3  # a trial in which the process ended so often waits until all others are done: it may be what ends it
HOPELESS = 10  # so many failures at the beginning are rather a mistake in the data or in the hypermodel
FLUSH = 2.0  # seconds between two commits of the time used


@dataclasses.dataclass
class Uncommitted:
    """What a trial that runs here has brought so far and the store does not know."""

    started: float
    steps: int = 0  # epochs that were reported
    epochs: dict[int, float] = dataclasses.field(default_factory=dict)  # the objective after those not written yet
    facts: dict = dataclasses.field(default_factory=dict)


class Oracle(keras_tuner.Oracle):
    """A `keras_tuner.Oracle` with our samplers and store: a result is never lost once `end_trial` has returned.

    `keras_optlab.search.Tuner` makes its own. Give one to a plain `keras_tuner.Tuner` to have its samplers there; what that measures are the metrics of its
    trials, without "parameters" and "latency", and for its trials KerasTuner 1.4.8 needs tensorboard to be installed.

    Args:
        sampler: a name out of `keras_optlab.search.samplers.names()`, or a subclass of `Sampler`; `None`: "gp".
        objective: a metric such as "val_accuracy", or a `keras_tuner.Objective`, or a list of them, of which the first one says which epoch of a training is
            its best and stands as the score; a plain `keras_tuner.Tuner` takes those from a History only. `None`: trials return one number to be minimized.
        max_trials: how many configurations to train, failed ones included; `None`: as many as there are.
        hyperparameters: `keras_tuner.HyperParameters` that override or add to what the hypermodel declares.
        allow_new_entries: whether the hypermodel may declare others.
        tune_new_entries: whether those are searched; else they keep their defaults.
        seed: an integer >= 0; `None`: a random one, which the store remembers.
        path: the SQLite file of the search; a URL such as "postgresql://user:password@host/name", where any number of processes on any number of machines
            work on the search `project_name`; `None` keeps it in memory.
        project_name: name of the study. The name of a file's study is the one that it has.
        lease: with a URL, seconds after which a worker that was silent has lost its trial to another.
        heartbeat: seconds between two signs of life of a worker.
        constraints: bounds, `{metric: bound}`, which a trial must keep to be among the best; as in `Tuner`.

    Raises:
        ValueError: for an argument out of range, an unknown sampler, an objective that cannot be one.

    Example:

        oracle = Oracle("gp", objective="val_accuracy", max_trials=20, path="search.sqlite3")
        tuner = keras_tuner.Tuner(oracle, hypermodel=build)
    """

    def __init__(
        self,
        sampler=None,
        objective=None,
        max_trials: int | None = None,
        hyperparameters=None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        seed: int | None = None,
        path=None,
        project_name: str = "search",
        lease: float = 60.0,
        heartbeat: float = 15.0,
        constraints: dict[str, float] | None = None,
    ):
        if max_trials is not None and (type(max_trials) is not int or max_trials < 1):
            raise ValueError(f"`max_trials` must be an integer >= 1, or None. Received: max_trials={max_trials!r}.")
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ValueError(f"`seed` must be an integer >= 0, or None. Received: seed={seed!r}.")
        if not 0 < heartbeat < lease < math.inf:
            raise ValueError(f"`heartbeat` must be a positive number of seconds, and less than `lease`. Received: heartbeat={heartbeat!r}, lease={lease!r}.")
        objective = goals.declared(objective)
        self.sampler = samplers.get(sampler or "gp")
        super().__init__(objective, max_trials, hyperparameters, allow_new_entries, tune_new_entries, seed)
        self.seed = seed  # KerasTuner takes 0 for none
        self.goals: list[keras_tuner.Objective] = getattr(self.objective, "objectives", [self.objective])
        self.bounds = goals.bounds(constraints, self.goals)
        names = [goal.name for goal in self.goals]
        self.needed = [*self.goals, *(keras_tuner.Objective(name, "min") for name in self.bounds if name not in names)]
        self.store, self.heartbeat, self._beats = Store(path, project_name, lease), heartbeat, None
        self.records: dict[str, dict] = {}
        self.running = False
        self._declared: list[dict] | None = None
        self._uncommitted: dict[str, Uncommitted] = {}
        self.pruning: pruning.Pruning | None = None
        self._flushed = time.monotonic()
        self._mutex = threading.RLock()  # KerasTuner's own lock stays closed after an exception

    @property
    def elapsed(self) -> float:
        """Seconds this search has run, in all processes together."""
        return self.store.facts.get("elapsed", 0.0) + (time.monotonic() - self._flushed if self.running else 0.0)

    def save(self) -> None:
        """Does nothing: every result is in the store already."""

    def reload(self) -> None:
        """Takes trials and space from the store.

        Raises:
            ValueError: listing the differences, if the store holds a search for another objective or space.
        """
        with self._mutex:
            if self._declared is None:
                self._declared = copy.deepcopy(self.hyperparameters.get_config()["space"])
            records = self.store.load()
            if records or self.store.shared and self.store.facts:
                if (changed := self._changed()) and (self.store.shared or any(r["status"] != TrialStatus.RUNNING or r["reported"] for r in records)):
                    raise ValueError(
                        f"`project_name` holds a search that differs from this one: {'; '.join(changed)}. Received: {self.store}. "
                        "Go back to what it was, give another `project_name`, or start anew with `overwrite=True`."
                    )
                if changed:
                    records = []  # nothing of it was worth keeping: a mistake in the first trial has been mended
                else:
                    self.hyperparameters = merged(self.store.facts["space"], self.hyperparameters)
                    self.seed = self.store.facts["seed"] if self.seed is None else self.seed
            self.records = {record["trial_id"]: record for record in records}
            self.trials = {record["trial_id"]: restored(record, self.hyperparameters) for record in records}
            self.start_order = list(self.trials)
            ended = [trial_id for trial_id, trial in self.trials.items() if trial.status != TrialStatus.RUNNING]
            self.end_order = sorted(ended, key=lambda trial_id: self.records[trial_id].get("order", 0))
            self.ongoing_trials = {}

    def _look(self) -> None:
        """Takes in what other workers have done."""
        if self.store.shared:
            space, ongoing = self.store.facts["space"], {trial.trial_id for trial in self.ongoing_trials.values()}
            changed = self.store.changed()
            if self.store.facts["space"] != space:
                self.hyperparameters = merged(self.store.facts["space"], self.hyperparameters)
            for record in changed:
                trial_id = record["trial_id"]
                if trial_id not in ongoing:
                    if trial_id not in self.trials:
                        self.start_order.append(trial_id)
                    if record["status"] != TrialStatus.RUNNING:
                        self.end_order.append(trial_id)
                    self._take_in(record)

    def _take_in(self, record: dict) -> Trial:
        trial_id = record["trial_id"]
        self.records[trial_id], self.trials[trial_id] = record, restored(record, self.hyperparameters)
        return self.trials[trial_id]

    def _changed(self) -> list[str]:
        """Sentences on what separates this search from the stored one."""
        facts, complete = self.store.facts, bool(self._declared and self.store.facts["declared"])
        changed = goals.differences(facts, goals.facts(self.goals, self.bounds))
        return changed + differences(facts["declared"] if complete else facts["space"], self._declared, complete)

    def begin(self) -> None:
        """Claims the project for this process, starts its file if it is new, and the clock.

        Raises:
            keras_tuner.errors.FatalRuntimeError: if another process has it, or it cannot be written.
            ValueError: as in `reload`.
        """
        with self._mutex:
            if self.running:
                return
            self.store.lock()
            try:
                self.reload()
                if not (self.store.facts if self.store.shared else self.records):
                    self.seed = random.randrange(1, 10000) if self.seed is None else self.seed
                    space = self.hyperparameters.get_config()["space"]
                    facts = goals.facts(self.goals, self.bounds) | {"sampler": self.sampler.__name__, "seed": self.seed, "elapsed": 0.0, "id": uuid.uuid4().hex}
                    self.store.create(**facts, space=space, declared=self._declared)
                if self.store.shared:
                    self.reload()  # another worker may have been faster
                    self._beats = Heartbeat(self.store, self.heartbeat)
                else:
                    self.store.free_all()
            except BaseException:
                self.store.unlock()
                raise
            self.running, self._flushed = True, time.monotonic()

    def release(self) -> None:
        """Stops the clock and gives the project free for other processes; what was not committed is forgotten."""
        with self._mutex:
            if self.running:
                try:
                    if self._beats is not None:
                        self._beats.end()
                    self._flush()
                    if self.ongoing_trials:  # an exception has ended the search, perhaps in the middle of a commit
                        for trial in self.ongoing_trials.values():  # an end like this one is no death of the process
                            self.store.give_back(trial.trial_id, attempts=self.records[trial.trial_id]["attempts"] - 1)
                        self.reload()
                finally:
                    self.running, self._beats = False, None
                    self.store.unlock()

    def _flush(self) -> None:
        now = time.monotonic()
        self.store.count(now - self._flushed)
        self._flushed = now

    def populate_space(self, trial_id: str) -> dict:
        """The sampler's next values: `{"status": "RUNNING", "values": ...}`, or `{"status": "STOPPED"}` if none are left."""
        sampler = self.sampler(Space(self.hyperparameters.space), self.seed)
        tell(sampler, self.records, self.goals, DEATHS)
        values = sampler.ask()
        return {"status": TrialStatus.STOPPED} if values is None else {"status": TrialStatus.RUNNING, "values": values}

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial to run, an interrupted one first; its status is "STOPPED" when there is none, "IDLE" while other workers run the last ones."""
        with self._mutex:
            self.begin()
            if tuner_id in self.ongoing_trials:
                return self.ongoing_trials[tuner_id]
            self.tuner_ids.add(tuner_id)
            trial = self._next()
            if trial is not None:
                self.ongoing_trials[tuner_id] = trial
                self._uncommitted[trial.trial_id] = Uncommitted(time.monotonic())
                return trial
            unknown = bool(self.ongoing_trials) and not self.hyperparameters.space  # what the first trial of several workers will declare
            wait = unknown or self.store.shared and len(self.end_order) < len(self.trials)  # one of them may be given back
            if not wait:
                if not self._enough():
                    logger.info("The search space is exhausted: no configuration is left that was not tried.")
                self.tuner_ids.discard(tuner_id)
                if not self.tuner_ids and not self.ongoing_trials:
                    self.release()
        if wait:
            time.sleep(min(1.0, self.heartbeat))
        return Trial(self.hyperparameters.copy(), status=TrialStatus.IDLE if wait else TrialStatus.STOPPED)

    def _next(self) -> Trial | None:
        while True:
            self._look()
            if trial := self._take_up(DEATHS):
                return trial
            values = self._values()
            if values is None:
                return self._take_up(math.inf)
            if trial := self._start(values):
                return trial  # else another worker was faster, and what it has started is to be known before a suggestion

    def _take_up(self, deaths: float) -> Trial | None:
        ongoing = {trial.trial_id for trial in self.ongoing_trials.values()}
        free = self.store.free() if self.store.shared else [i for i, record in self.records.items() if record["status"] == TrialStatus.RUNNING]
        for trial_id in free:
            if trial_id in self.records and trial_id not in ongoing and self.records[trial_id]["attempts"] < deaths:
                record = self.store.take_up(trial_id)
                if record is not None:
                    logger.info("Trial %s was interrupted and is taken up again.", trial_id)
                    return self._take_in(record)
        return None

    def _values(self) -> dict | None:
        """Those of the next trial, in which a stopped one goes on or a new configuration begins; `None` if there is neither."""
        values = self.pruning.promote() if self.pruning else None
        if values is None and not self._enough():
            values = self.populate_space(f"{len(self.trials):04d}").get("values")
        return self.pruning.promote(ending=True) if values is None and self.pruning else values

    def _enough(self) -> bool:
        """Whether as many configurations have begun as `max_trials` says."""
        return bool(self.max_trials) and len(pruning.configurations(self.records)) >= self.max_trials

    def _start(self, values: dict) -> Trial | None:
        trial_id = f"{len(self.trials):04d}"
        if not self.store.begin(trial_id, Space(self.hyperparameters.space).for_optuna(values), values=values, attempts=1):
            return None
        record = {"trial_id": trial_id, "status": TrialStatus.RUNNING, "score": None, "values": values, "attempts": 1, "error": None, "reported": {}}
        self.start_order.append(trial_id)
        return self._take_in(record)

    def check(self, trial_id: str) -> None:
        """Raises `LeaseLost` if another worker has taken over a running trial."""
        if self._beats is not None and trial_id in self._beats.lost:
            raise LeaseLost(f"Trial {trial_id} was taken over by another worker, because this one was silent for more than {self.store.lease:g} s.")

    def forget(self, trial_id: str) -> None:
        """Lets go of a running trial that another worker has taken over."""
        with self._mutex:
            self._take_in(self.records[trial_id])
            self._forget_ongoing(trial_id)
            if self._beats is not None:
                self._beats.lost.discard(trial_id)

    def _forget_ongoing(self, trial_id: str) -> None:
        for tuner_id in [t for t, ongoing in self.ongoing_trials.items() if ongoing.trial_id == trial_id]:
            del self.ongoing_trials[tuner_id]

    def token(self, trial_id: str) -> int:
        """How often a trial was taken up, which is part of the names of its files."""
        return self.store.token(trial_id)

    def seconds(self, trial_id: str) -> float:
        """How long a trial has run."""
        return time.monotonic() - self._uncommitted[trial_id].started

    def credit(self, trial_id: str, seconds: float) -> None:
        """Counts the seconds that a running trial had before it was interrupted."""
        self._uncommitted[trial_id].started -= seconds

    def report(self, trial_id: str, step: int, value: float) -> None:
        """Notes the objective after epoch `step` of a running trial. It is committed at once where there are workers, else every few seconds."""
        with self._mutex:
            new = self._uncommitted[trial_id]
            new.epochs[step] = self.records[trial_id]["reported"][step] = value
            new.steps = max(new.steps, step + 1)
            due = time.monotonic() - self._flushed > FLUSH
            if due or self.store.shared:
                self.store.note_trial(trial_id, new.epochs)
                new.epochs.clear()
            if due:
                self._flush()

    def annotate(self, trial_id: str, **facts) -> None:
        """Notes facts of a running trial, to be committed together with its result."""
        self._uncommitted[trial_id].facts |= facts

    def update_trial(self, trial_id: str, metrics: dict, step: int = 0) -> Trial:
        """Takes the metrics of a running trial.

        Args:
            trial_id: id of the trial.
            metrics: name -> value.
            step: the epoch they belong to.

        Raises:
            ValueError: if an objective is not among them.
        """
        with self._mutex:
            trial, directions = self.trials[trial_id], {goal.name: goal.direction for goal in self.needed}
            for name in directions.keys() - metrics.keys():
                raise ValueError(f"`objective` must be one of the reported metrics. Received: objective='{name}', metrics: {', '.join(metrics) or 'none'}.")
            for metric, value in metrics.items():
                if not trial.metrics.exists(metric):
                    trial.metrics.register(metric, directions.get(metric))
                trial.metrics.metrics[metric].update(float(value), step)
            return trial

    def score_trial(self, trial: Trial) -> None:
        """Sets `score` to the best finite value of the (first) objective, and `best_step` to its epoch; to NaN or infinity if there is none."""
        trial.best_step, trial.score = best(trial, self.goals[0])

    def end_trial(self, trial: Trial) -> None:
        """Commits the result of a trial: its score, that a pruner has stopped it, or, if it raised or scored NaN or infinity, that it failed and why."""
        with self._mutex:
            own = self.trials[trial.trial_id]
            own.hyperparameters, own.status, own.message = trial.hyperparameters, trial.status, trial.message
            self.update_space(own.hyperparameters)
            facts = self._uncommitted[own.trial_id].facts
            if own.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED):
                self.score_trial(own)
                scores = {goal.name: history(own, goal.name)[own.best_step] for goal in self.needed}
                failed = [f"The objective `{name}` was {value}." for name, value in scores.items() if not math.isfinite(value)]
                if failed:
                    own.message = facts["error"] = failed[0]
                    own.status, own.score = TrialStatus.FAILED, None
                elif own.status == TrialStatus.STOPPED:
                    own.score = None
                else:
                    facts |= {"scores": {goal.name: scores[goal.name] for goal in self.goals}} if len(self.goals) > 1 else {}
                    facts |= {"excess": by} if (by := goals.excess(self.bounds, scores)) else {}
            else:
                own.status, own.score = TrialStatus.FAILED, None
                facts.setdefault("error", headline(own.message or ""))
            if own.status == TrialStatus.FAILED:
                trial.status, trial.message = own.status, own.message
                facts.pop("stopped", None)
                facts["message"] = own.message
            self._commit(own, facts)
            logger.info("%s", live.line(self.records[own.trial_id], self.goals, self.get_best_trials(None)))
            if len(self.end_order) == HOPELESS and all(self.records[trial_id]["status"] == TrialStatus.FAILED for trial_id in self.end_order):
                logger.warning(
                    "The first %d trials have all failed, and the search goes on. The last one failed with: %s", HOPELESS, self.records[own.trial_id]["error"]
                )

    def _commit(self, trial: Trial, facts: dict) -> None:
        trial_id, values, new = trial.trial_id, dict(trial.hyperparameters.values), self._uncommitted[trial.trial_id]
        facts = {"seconds": self.seconds(trial_id), "metrics": trial.metrics.get_config(), "order": len(self.end_order)} | facts
        facts |= {"values": values} if values != self.records[trial_id]["values"] else {}
        facts |= {"best_step": trial.best_step} if trial.best_step else {}
        space, now = self.hyperparameters.get_config()["space"], time.monotonic()
        parameters = Space(self.hyperparameters.space).for_optuna(values)
        grown = None if space == self.store.facts["space"] else lambda stored: merged(stored, self.hyperparameters).get_config()["space"]
        score = list(facts["scores"].values()) if "scores" in facts else trial.score
        self.store.finish(trial_id, parameters, score, new.steps, new.epochs, now - self._flushed, grown, **facts)
        self._flushed = now
        self.records[trial_id] |= facts | {"status": trial.status, "score": trial.score}
        self.end_order.append(trial_id)
        self._forget_ongoing(trial_id)

    def get_best_trials(self, num_trials: int | None = 1) -> list[Trial]:
        """Up to `num_trials` completed trials (`None`: all), the best one first; of equal scores, the one that was reached first.

        Those that break the constraints are left out. Of several objectives it is the Pareto front, the trials that no other one beats, ordered by the
        first objective.
        """
        done = [trial for trial in self.completed() if not self.records[trial.trial_id].get("excess")]
        if len(self.goals) > 1 and done:
            kept = undominated(np.array([goals.gains(self.records[trial.trial_id], self.goals) for trial in done]), ["max"] * len(self.goals))
            done = [trial for trial, best in zip(done, kept) if best]
        return sorted(done, key=lambda trial: trial.score, reverse=self.goals[0].direction == "max")[:num_trials]

    def completed(self) -> list[Trial]:
        """The completed trials, in the order of their end."""
        return [self.trials[trial_id] for trial_id in self.end_order if self.trials[trial_id].status == TrialStatus.COMPLETED]

    def remaining_trials(self) -> int | None:
        """How many trials are left to finish; `None` without `max_trials`."""
        ended = sum(trials[-1]["status"] != TrialStatus.RUNNING for trials in pruning.configurations(self.records).values())
        return max(0, self.max_trials - ended) if self.max_trials else None
