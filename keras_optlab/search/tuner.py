"""The tuner: KerasTuner's interface over our samplers and our store."""

import math
import os
import statistics
import time
import traceback
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FatalError, FatalTypeError

from keras_optlab.search import goals, live, outcomes, pruners, pruning, refit, store
from keras_optlab.search.checkpoints import Checkpoints
from keras_optlab.search.keeper import Keeper
from keras_optlab.search.log import logger
from keras_optlab.search.noise import best_mean
from keras_optlab.search.oracle import Oracle
from keras_optlab.search.space import Compared
from keras_optlab.search.summary import summary
from keras_optlab.search.tables import LeaseLost
from keras_optlab.search.trainer import Trainer
from keras_optlab.search.watch import OutOfTime
from keras_optlab.training.resume import State


class Tuner(keras_tuner.Tuner):
    """A `keras_tuner.Tuner` that loses nothing: killed at any moment, it goes on where it stopped when the same script runs again.

    Everything is in `<directory>/<project_name>/search.sqlite3`, an Optuna study. A trial that raises, runs out of memory or scores NaN or
    infinity is a result, from which the sampler learns; only KerasTuner's `FatalError`s, Ctrl-C, and an error before anything was declared
    end a search. An interrupted trial goes on after its last epoch, with weights, optimizer, schedule and seeds. What cannot be restored: what a shuffled
    `tf.data.Dataset` has drawn, and callbacks without `get_state()` and `set_state(state)`, which begin anew.

    Args:
        hypermodel: a `keras_tuner.HyperModel` or a function `build(hp)` that returns a compiled model; `None`: `run_trial` is overridden
            and declares the space.
        objective: a metric such as "val_accuracy", or a `keras_tuner.Objective`; `None`: trials return one number to be minimized. Or a list of them: the
            first one says which epoch of a training is its best, stands as the score, and orders the Pareto front, which is what `get_best_trials` and
            `get_best_models` then give. "parameters" (`model.count_params()`) and "latency" (median seconds of `predict_on_batch` with one sample, after the
            training) are measured here, unless the metrics hold them, and are to be small.
        constraints: bounds, `{metric: bound}`, of objectives, "parameters" or "latency": the most it may be, or the least where more is better. A trial that
            breaks one is completed but never among the best. The sampler takes it for a failure; while no trial keeps the bounds, for the worse the more
            it breaks them.
        sampler: a name out of `keras_optlab.search.samplers.names()`, or a subclass of `Sampler`; `None`: "gp".
        pruner: what stops trainings early: "asha", "hyperband", "median", or a `keras_optlab.search.pruners.Pruner`; `None`: nothing. What it stops is
            a trial with the status "STOPPED", and never among the best. Where it goes on after all, that is one more trial, with "tuner/trial_id" (where
            it goes on from), "tuner/initial_epoch" and "tuner/epochs" among its values. How many epochs a training has is what `model.fit` is
            given; where `run_trial` is overridden by a loop that calls `on_epoch_end` itself, what `search` is given as `epochs`. For `asha`
            at most 6 states of stopped trainings are kept on disk, for `hyperband` 9.
        max_trials: how many configurations to train, failed and stopped ones included; `None`: as many as there are. One that goes on counts once.
        max_minutes: wall clock of `search`, all its runs together; of several workers, the time in which at least one was there. No trial starts where less
            than half the usual time of one is left; one that is running at the end is stopped: it counts with its best epoch, or, if it has none yet, is
            taken up again when there is more time.
        seed: an integer >= 0; `None`: a random one, which is stored. It fixes the suggestions.
        overwrite: whether to delete the search of that name and start anew.
        executions_per_trial: how often each configuration is trained; its score is the mean of the best epochs.
        cross_validation: number of folds, at least 2, or `None`. Each configuration is then trained once for each fold of what `search` is given: arrays x and
            y, or an `ImageData`, whose training and validation part are parted anew. Folds are the same for all trials, and stratified where y is whole
            numbers, strings or one-hot rows and no class has fewer members than there are folds. The score is the mean over the folds; what is kept of
            the weights is the best fold's.
        refit: whether the best configuration is trained once more at the end, on training and validation data together, for the median of its best epochs
            over executions or folds, without the callbacks that monitor a metric. `get_best_models` then gives that model for it. `max_minutes`
            keeps the usual time of a training for it. Needs the data as `cross_validation` does. What was interrupted starts anew; of several workers each one
            that sees the end of the search trains it.
        hyperparameters: `keras_tuner.HyperParameters` that override or add to what the hypermodel declares.
        tune_new_entries: whether others are searched; else they keep their defaults.
        allow_new_entries: whether the hypermodel may declare others.
        storage: a URL such as "postgresql://user:password@host/name": any number of processes on any number of machines run the same script and share the
            search `project_name`. Where `directory` is shared too, an interrupted trial goes on after its last epoch, else from its first one. `None`: one
            process, and an SQLite file in the project's folder.
        keep: of which trials the weights at their best epoch are kept: "best" (of several objectives the whole Pareto front), a number of the best ones, or
            "all".
        optimizer, loss, metrics: what the models are compiled with instead of their own; `None`: as the hypermodel does.
        distribution_strategy: a `tf.distribute.Strategy` under which the models are built, or `None`.
        lease: with `storage`, seconds after which a worker that was silent has lost its trial to another.
        heartbeat: seconds between two signs of life of a worker, less than `lease`.
        directory: where projects are kept, default ".".
        project_name: name of the project's folder, default "untitled_project".

    Raises:
        ValueError: for an argument out of range, or if the project holds a search for another objective or space (the differences are listed).
        Exception: whatever `hypermodel` raises at the default values, with which the space is first asked for: better before a search than in each trial.

    Example:

        tuner = keras_optlab.search.Tuner(build, objective="val_accuracy", max_trials=20, project_name="digits_search")
        tuner.search(x, y, validation_data=(x_val, y_val), epochs=10)
        model = tuner.get_best_models()[0]
    """

    def __init__(
        self,
        hypermodel=None,
        objective=None,
        sampler=None,
        *,
        pruner=None,
        max_trials: int | None = None,
        max_minutes: float | None = None,
        seed: int | None = None,
        overwrite: bool = False,
        executions_per_trial: int = 1,
        cross_validation: int | None = None,
        refit: bool = False,
        hyperparameters=None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        storage: str | None = None,
        keep: str | int = "best",
        constraints: dict[str, float] | None = None,
        optimizer=None,
        loss=None,
        metrics=None,
        distribution_strategy=None,
        lease: float = 60.0,
        heartbeat: float = 15.0,
        directory: str | os.PathLike | None = None,
        project_name: str | None = None,
    ):
        if hypermodel is None and type(self).run_trial is Tuner.run_trial:
            raise ValueError("`hypermodel` must be a HyperModel or a function `build(hp)`, unless `run_trial` is overridden. Received: hypermodel=None.")
        if max_minutes is not None and not (isinstance(max_minutes, int | float) and 0 < max_minutes < math.inf):
            raise ValueError(f"`max_minutes` must be a positive number, or None. Received: max_minutes={max_minutes!r}.")
        if type(executions_per_trial) is not int or executions_per_trial < 1:
            raise ValueError(f"`executions_per_trial` must be an integer >= 1. Received: executions_per_trial={executions_per_trial!r}.")
        if cross_validation is not None and (type(cross_validation) is not int or cross_validation < 2 or executions_per_trial > 1):
            raise ValueError(
                "`cross_validation` must be an integer >= 2, or None, and with it `executions_per_trial` must be 1: each fold is one. "
                f"Received: cross_validation={cross_validation!r}, executions_per_trial={executions_per_trial}."
            )
        if hypermodel is None and (cross_validation or refit):
            raise ValueError(f"`cross_validation` and `refit` need a `hypermodel`. Received: {cross_validation=}, {refit=}, hypermodel=None.")
        pruner = pruners.get(pruner)
        if pruner is not None and (executions_per_trial > 1 or cross_validation or isinstance(objective, list | tuple) and len(objective) > 1):
            raise ValueError(
                "`executions_per_trial` must be 1 and `objective` one, without `cross_validation`, where a `pruner` compares single trainings. Received: "
                f"executions_per_trial={executions_per_trial}, {cross_validation=}, objective={objective!r}. "
                "Use `pruner=None`, or train the best configurations again after the search."
            )
        if keep not in ("best", "all") and (type(keep) is not int or keep < 1):
            raise ValueError(f'`keep` must be "best", "all", or how many of the best trials to keep, an integer >= 1. Received: keep={keep!r}.')
        if "KERASTUNER_ORACLE_IP" in os.environ:
            raise ValueError("Tuner() runs in one process. For KerasTuner's chief and workers, give `keras_optlab.search.Oracle` to a `keras_tuner.Tuner`.")
        folder = Path(directory or ".", project_name or "untitled_project")
        path = folder / store.FILE if storage is None else storage
        if storage is not None and "://" not in str(storage):
            raise ValueError('`storage` must be an address such as "postgresql://user:password@host/name", or None. Received: something without "://".')
        oracle = self._oracle(
            sampler, objective, max_trials, hyperparameters, allow_new_entries, tune_new_entries, seed, path, folder.name, lease, heartbeat, constraints
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"`directory` must be a folder that can be written. Received: directory={directory!r}. {error}") from error
        foreign = [folder / "oracle.json", *folder.glob("tuner*.json")]
        if overwrite:
            oracle.store.lock()
            try:
                if storage is not None:
                    oracle.store.delete()
                for file in [*folder.glob(f"{store.FILE}*"), *foreign]:
                    file.unlink(missing_ok=True)
                Checkpoints(folder).clear((), {})
            finally:
                oracle.store.unlock()
        elif any(file.exists() for file in foreign):
            raise ValueError(f"`project_name` holds a search of KerasTuner's. Received: {folder}. Give another name, or `overwrite=True`.")
        executions = cross_validation or executions_per_trial
        compiled = {"optimizer": optimizer, "loss": loss, "metrics": metrics, "distribution_strategy": distribution_strategy}
        place = {"directory": str(directory or "."), "project_name": project_name or "untitled_project"}
        super().__init__(oracle, hypermodel, executions_per_trial=executions, **compiled, **place)
        self.cross_validation, self.refit = cross_validation, refit
        self.max_minutes, self.deadline, self._end, self.checkpoints = max_minutes, math.inf, math.inf, Checkpoints(folder)
        self.keeper, self._trainer = Keeper(keep, oracle, self.checkpoints), Trainer(self)
        oracle.pruning = pruning.Pruning(pruner, oracle, self.checkpoints.with_state) if pruner else None
        self.progress = live.Progress(self)
        self._not_compared = {hp.name for hp in hyperparameters.space} if hyperparameters else set()
        oracle.reload()

    def _oracle(self, *arguments) -> Oracle:
        return Oracle(*arguments)

    def save(self) -> None:
        """Does nothing: every result is in the store already."""

    def reload(self) -> None:
        """Takes the trials from the store anew."""
        self.oracle.reload()

    def search(self, *fit_args, **fit_kwargs) -> None:
        """Runs trials until the budget is used up; returns at once if it is.

        Args:
            *fit_args: passed to `run_trial`, and by it to `hypermodel.fit`: the data.
            **fit_kwargs: likewise. `callbacks` are copied for each training; `verbose=0` silences the line per trial too.

        Raises:
            keras_tuner.errors.FatalError: for what no further trial can mend: another process on this project, a full disk, a hypermodel that
                returns no model, an objective that no epoch reports.
        """
        if "verbose" in fit_kwargs:
            self.oracle.verbose = fit_kwargs["verbose"]
        if self.refit:
            refit.check(fit_args, fit_kwargs)
        with self.progress.shown(self.oracle.verbose):
            self.oracle.begin()
            try:
                if self.max_minutes:
                    self._end = time.monotonic() + 60 * self.max_minutes - self.oracle.elapsed
                self.checkpoints.search = self.oracle.store.facts.get("id")
                self._clear()
                self.on_search_begin()
                while self._time_for_another():
                    self.pre_create_trial()
                    trial = self.oracle.create_trial(self.tuner_id)
                    if trial.status == TrialStatus.STOPPED:
                        break
                    if trial.status == TrialStatus.IDLE:
                        continue
                    self.on_trial_begin(trial)
                    try:
                        if not self._run(trial, *fit_args, **fit_kwargs):
                            break
                        self.on_trial_end(trial)
                    except LeaseLost as lost:
                        logger.warning("%s", lost)
                        self.oracle.forget(trial.trial_id)
                if self.refit:
                    self.oracle.begin()
                    refit.refit(self, fit_args, fit_kwargs)
                    self._clear()
                self.on_search_end()
            finally:
                self.oracle.release()

    def _time_for_another(self) -> bool:
        seconds = [r["seconds"] for r in self.oracle.records.values() if r["status"] == TrialStatus.COMPLETED and not r.get("cut")]
        usual = statistics.median(seconds) if seconds else 0.0
        self.deadline = self._end - (usual / self.executions_per_trial if self.refit else 0.0)
        enough = self.deadline - time.monotonic() > usual / 2
        if not enough and self.remaining_trials != 0:
            logger.info("`max_minutes` leaves no time for another trial.")
        return enough

    def _run(self, trial: Trial, *args, **kwargs) -> bool:
        """Runs a trial; False if it is to be taken up again later."""
        self._trainer.begin(kwargs.get("epochs"))
        trial.hyperparameters = Compared.of(trial.hyperparameters, self._not_compared)
        if self.oracle.pruning:
            self.oracle.pruning.stopped = None
        try:
            self._report(trial, self.run_trial(trial, *args, **kwargs))
            trial.status = TrialStatus.STOPPED if self.oracle.pruning and self.oracle.pruning.stopped else TrialStatus.COMPLETED
        except OutOfTime:
            logger.info("The time is over before the first epoch of trial %s, which is taken up again when there is more.", trial.trial_id)
            return False
        except (FatalError, LeaseLost):
            raise
        except Exception as error:  # whatever a training raises is a result: the sampler learns from it
            if not trial.hyperparameters.space:
                raise  # but nothing was declared yet, so there is nothing to learn and no other configuration to try
            trial.status, trial.message = TrialStatus.FAILED, traceback.format_exc()[-20000:]
            self.oracle.annotate(trial.trial_id, error=outcomes.reason(error))
        return True

    def _report(self, trial: Trial, results) -> None:
        if results is None and trial.metrics.exists(self.oracle.goals[0].name):
            return  # `run_trial` has called `oracle.update_trial` itself
        metrics, step, facts = outcomes.together(results, self.oracle.goals, self.oracle.needed)
        if self._trainer.watch is not None and self._trainer.watch.cut:
            facts["cut"] = True
        self.oracle.annotate(trial.trial_id, **facts)
        self.oracle.update_trial(trial.trial_id, metrics, step=step)

    def run_trial(self, trial: Trial, *args, **kwargs):
        """Trains one configuration `executions_per_trial` times; may be overridden, as in KerasTuner.

        An interrupted trial goes on after its last epoch: `initial_epoch` is given to `hypermodel.fit`, and what stands before it is restored. So does one
        whose values have "tuner/trial_id": from the state of that trial after "tuner/initial_epoch" epochs. "tuner/epochs" sets `epochs`.

        Args:
            trial: the trial, with `trial.hyperparameters`.
            *args: what `search` was given.
            **kwargs: likewise.

        Returns:
            What `hypermodel.fit` has returned, once per execution: a History, a dict of metrics or a number. An override may return one of
            them, or a list.
        """
        return self._trainer.run(trial, args, kwargs)

    def _build(self, hp) -> keras.Model:
        keras.utils.clear_session()
        model = self._build_hypermodel(hp)  # KerasTuner's: it knows `distribution_strategy`, `optimizer`, `loss` and `metrics`
        if not isinstance(model, keras.Model):
            raise FatalTypeError(f"`hypermodel` must build a keras.Model. Received: {model!r}. Does the function return the model?")
        return model

    def on_epoch_end(self, trial: Trial, model: keras.Model, epoch: int, logs: dict | None = None) -> None:
        """Asks the pruner, and sets `model.stop_training` if the trial is not to go on; an override calls it.

        Args:
            trial: the trial.
            model: the model.
            epoch: number of the epoch, from 0.
            logs: its metrics.

        Raises:
            keras_tuner.errors.FatalValueError: with a `pruner`, if a trial is more than one training, or lacks the objective or the number of epochs.
        """
        if self.oracle.pruning is not None and not getattr(model, "stop_training", False):
            model.stop_training = self.oracle.pruning.stops(trial.trial_id, epoch + 1, logs or {}, self._trainer.watch, self._trainer.epochs)

    def on_trial_end(self, trial: Trial) -> None:
        """Commits the trial; when this returns its result cannot be lost."""
        file = self.checkpoints.best(trial.trial_id, self.oracle.token(trial.trial_id))
        if file.exists():
            self.oracle.annotate(trial.trial_id, checkpoint=file.name)
        self.oracle.end_trial(trial)
        self.checkpoints.drop_states(trial.trial_id, but=1)  # who goes on from a finished trial does so from its end
        self._clear()

    def continued(self) -> set[str]:
        """Ids of finished trials from whose state another one may still go on, as "tuner/trial_id" says: a pruner that promotes has some."""
        return self.oracle.pruning.continued() if self.oracle.pruning else set()

    def _clear(self) -> None:
        """Deletes what is kept of trials no longer worth it."""
        self.keeper.clear(self.continued())

    def save_model(self, trial_id: str, model: keras.Model, step: int = 0) -> None:
        """Writes the weights of a trial, to be kept as `keep` says; an overridden `run_trial` may call it.

        Args:
            trial_id: id of the trial.
            model: the trained model.
            step: not used: a trial has one checkpoint.
        """
        self.checkpoints.save_best(trial_id, self.oracle.token(trial_id), model)

    def save_state(self, trial: Trial, model: keras.Model | None, epoch: int, callbacks=(), **facts) -> None:
        """Writes from where a running trial goes on if it is interrupted; `Watch` calls it after each epoch."""
        token = self.oracle.token(trial.trial_id)
        kept = self.checkpoints.best(trial.trial_id, token)
        facts |= {"round": self._trainer.round, "checkpoint": kept.name if kept.exists() else None, "seconds": self.oracle.seconds(trial.trial_id)}
        self.checkpoints.save_state(trial.trial_id, token, model, epoch, callbacks, **facts)

    def load_model(self, trial: Trial) -> keras.Model:
        """The model of a trial at its best epoch, with a new optimizer.

        Args:
            trial: the trial.

        Raises:
            ValueError: if its weights are not kept.
            keras_optlab.training.resume.DamagedState: if they are damaged.
        """
        file = self.keeper.weights(trial.trial_id)
        model = self._build(trial.hyperparameters)
        State(file).into(model)
        return model

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """The best trained models, each at its best epoch, or, with `refit=True`, the best one as it was trained on all data.

        The search need not have run in this process.

        Args:
            num_models: how many; no more than `keep` says.

        Raises:
            ValueError: if no trial was completed, or the weights of one that is asked for are not kept.
        """
        if not self.oracle.get_best_trials(1):
            if done := self.oracle.completed():
                nearest = min(self.oracle.records[trial.trial_id]["excess"] for trial in done)
                raise ValueError(
                    f"None of {len(done)} completed trials keeps `constraints`: the nearest one breaks them by {nearest:.0%}. Search on, or loosen them in a "
                    "new search."
                )
            errors = [record["error"] for record in self.records() if record["error"]]
            raise ValueError(f"No trial was completed yet{f': the last of {len(errors)} failed with {errors[-1]}' if errors else ''}. Call `search` first.")
        best = self.oracle.get_best_trials(num_models)
        refitted = refit.model(self, best[0]) if self.refit and best else None
        return [self.load_model(trial) for trial in best] if refitted is None else [refitted, *map(self.load_model, best[1:])]

    def pareto_front(self, weights: dict[str, float] | None = None) -> list[Trial]:
        """The completed trials that no other one beats: none is as good in every objective and better in one.

        Args:
            weights: what each objective counts, such as {"val_accuracy": 3, "latency": 1}; one that is not named counts nothing. The trial that is the least
                behind the best of each comes first, where 1 is the range of an objective over the front. `None`: the best of the first objective comes first.

        Raises:
            ValueError: for a weight that is no finite number >= 0, or of what is no objective, or if all are 0.

        Example:

            for trial in tuner.pareto_front():
                print(trial.trial_id, trial.hyperparameters.values, tuner.oracle.records[trial.trial_id]["scores"])
        """
        oracle = self.oracle
        front = oracle.get_best_trials(None if len(oracle.goals) > 1 else 1)
        if weights is None or not front:
            return front
        behind = goals.distances([goals.gains(oracle.records[trial.trial_id], oracle.goals) for trial in front], oracle.goals, weights)
        return [front[i] for i in behind.argsort(kind="stable")]

    def best_by_posterior_mean(self) -> tuple[Trial, float, float] | None:
        """The completed trial that would score best on average, and that mean and its standard deviation.

        The best score seen is partly luck where trainings are noisy. A Gaussian process over all scores, whatever the sampler, tells what each would be without
        the noise. On average over searches its favourite is no better than the best score seen, which is why that stays the default.

        Returns:
            `None` before there are four completed trials or one keeps the constraints, for several objectives, and for a population.
        """
        best = best_mean(self.oracle.store.facts | {"trials": self.oracle.records.values()}) if self.oracle.records else None
        return (self.oracle.trials[best["trial_id"]], best["mean"], best["deviation"]) if best else None

    def best_record(self) -> dict | None:
        """What a `GradientMonitor` among the callbacks has recorded in the best trial, as `{"record": ..., "findings": [...]}`; or `None`."""
        best = self.oracle.get_best_trials(1)
        return self.keeper.record(best[0].trial_id) if best else None

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints how the search stands: the best trials, what mattered, what failed.

        Args:
            num_trials: how many trials to show.
        """
        print(summary(self.oracle.store.copy().plain(), num_trials))

    def records(self) -> list[dict]:
        """All trials as plain data, read from the store.

        Returns:
            In the order of their start: `{"trial_id", "status", "score", "seconds", "values", "error", "curve", "reported"}`, the curve being
            `{metric: [value per epoch]}` and "reported" `{epoch: objective}`; and "executions" where there were several, "cut" where the time was over,
            "stopped" (the number of epochs) where the pruner stopped it.
            With several objectives "scores" has the value of each, and "score" that of the first. "excess" is there where `constraints` are broken: by which
            share of the bounds.
        """
        return self.oracle.store.copy().load()
