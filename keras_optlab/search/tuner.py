"""The tuner: KerasTuner's interface over our samplers and our store."""

import contextlib
import errno
import json
import logging
import math
import os
import shutil
import statistics
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FatalError, FatalRuntimeError, FatalTypeError, FatalValueError

from keras_optlab.search import store
from keras_optlab.search.oracle import Oracle, logger
from keras_optlab.search.watch import OutOfTime, Watch, copies, tensorboard


class Tuner(keras_tuner.Tuner):
    """A `keras_tuner.Tuner` that loses nothing: killed at any moment, it goes on where it stopped when the same script runs again.

    Everything is in `<directory>/<project_name>/search.sqlite3`, an Optuna study. A trial that raises, runs out of memory or scores NaN or
    infinity is a result, from which the sampler learns; only KerasTuner's `FatalError`s, Ctrl-C, and an error before anything was declared
    end a search. An interrupted trial starts again with the same id and values. The weights of the best trial at its best epoch are kept, and no others.

    Args:
        hypermodel: a `keras_tuner.HyperModel` or a function `build(hp)` that returns a compiled model; `None`: `run_trial` is overridden
            and declares the space.
        objective: a metric such as "val_accuracy", or a `keras_tuner.Objective`; `None`: trials return one number to be minimized.
        sampler: "gp", "tpe", "qmc", "grid", "random", or a subclass of `keras_optlab.search.samplers.Sampler`.
        max_trials: how many configurations to train, failed ones included; `None`: as many as there are.
        max_minutes: wall clock of `search`, all its runs together. No trial starts where less than half the usual time of one is
            left; one that is running at the end is stopped: it counts with its best epoch, or, if it has none yet, is taken up again when there is more time.
        seed: an integer >= 0; `None`: a random one, which is stored. It fixes the suggestions.
        overwrite: whether to delete the search of that name and start anew.
        executions_per_trial: how often each configuration is trained; its score is the mean of the best epochs.
        hyperparameters: `keras_tuner.HyperParameters` that override or add to what the hypermodel declares.
        tune_new_entries: whether others are searched; else they keep their defaults.
        allow_new_entries: whether the hypermodel may declare others.
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
        sampler="gp",
        *,
        max_trials: int | None = None,
        max_minutes: float | None = None,
        seed: int | None = None,
        overwrite: bool = False,
        executions_per_trial: int = 1,
        hyperparameters=None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        directory: str | os.PathLike | None = None,
        project_name: str | None = None,
    ):
        if hypermodel is None and type(self).run_trial is Tuner.run_trial:
            raise ValueError("`hypermodel` must be a HyperModel or a function `build(hp)`, unless `run_trial` is overridden. Received: hypermodel=None.")
        if max_minutes is not None and not (isinstance(max_minutes, int | float) and 0 < max_minutes < math.inf):
            raise ValueError(f"`max_minutes` must be a positive number, or None. Received: max_minutes={max_minutes!r}.")
        if type(executions_per_trial) is not int or executions_per_trial < 1:
            raise ValueError(f"`executions_per_trial` must be an integer >= 1. Received: executions_per_trial={executions_per_trial!r}.")
        if "KERASTUNER_ORACLE_IP" in os.environ:
            raise ValueError("Tuner() runs in one process. For KerasTuner's chief and workers, give `keras_optlab.search.Oracle` to a `keras_tuner.Tuner`.")
        folder = Path(directory or ".", project_name or "untitled_project")
        oracle = Oracle(sampler, objective, max_trials, hyperparameters, allow_new_entries, tune_new_entries, seed, folder / store.FILE)
        oracle.store.name = folder.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"`directory` must be a folder that can be written. Received: directory={directory!r}. {error}") from error
        foreign = [folder / "oracle.json", *folder.glob("tuner*.json")]
        if overwrite:
            oracle.store.lock()
            try:
                for file in [*folder.glob(f"{store.FILE}*"), *folder.glob("checkpoint_*"), *folder.glob("record_*.json"), *foreign]:
                    file.unlink(missing_ok=True)
            finally:
                oracle.store.unlock()
        elif any(file.exists() for file in foreign):
            raise ValueError(f"`project_name` holds a search of KerasTuner's. Received: {folder}. Give another name, or `overwrite=True`.")
        super().__init__(
            oracle, hypermodel, directory=str(directory or "."), project_name=project_name or "untitled_project", executions_per_trial=executions_per_trial
        )
        self.max_minutes, self.deadline, self._watch = max_minutes, math.inf, None
        oracle.reload()

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
        with _lines(self.oracle.verbose):
            self.oracle.begin()
            try:
                if self.max_minutes:
                    self.deadline = time.monotonic() + 60 * self.max_minutes - self.oracle.elapsed
                self._prune()
                self.on_search_begin()
                while self._time_for_another():
                    self.pre_create_trial()
                    trial = self.oracle.create_trial(self.tuner_id)
                    if trial.status == TrialStatus.STOPPED:
                        break
                    self.on_trial_begin(trial)
                    if not self._run(trial, *fit_args, **fit_kwargs):
                        break
                    self.on_trial_end(trial)
                self.on_search_end()
            finally:
                self.oracle.release()

    def _time_for_another(self) -> bool:
        left = self.deadline - time.monotonic()
        usual = [r["seconds"] for r in self.oracle.records.values() if r["status"] == TrialStatus.COMPLETED and not r.get("cut")]
        enough = left > (statistics.median(usual) / 2 if usual else 0)
        if not enough and self.remaining_trials != 0:
            logger.info("`max_minutes` leaves no time for another trial.")
        return enough

    def _run(self, trial: Trial, *args, **kwargs) -> bool:
        """Runs a trial; False if it is to be taken up again later."""
        self._watch = None
        try:
            self._report(trial, self.run_trial(trial, *args, **kwargs))
            trial.status = TrialStatus.COMPLETED
        except OutOfTime:
            logger.info("The time is over before the first epoch of trial %s, which is taken up again when there is more.", trial.trial_id)
            return False
        except FatalError:
            raise
        except Exception as error:  # whatever a training raises is a result: the sampler learns from it
            if not trial.hyperparameters.space:
                raise  # but nothing was declared yet, so there is nothing to learn and no other configuration to try
            trial.status, trial.message = TrialStatus.FAILED, traceback.format_exc()[-20000:]
            self.oracle.annotate(trial.trial_id, error=f"{type(error).__name__}: {error}".splitlines()[0][:1000].rstrip(": "))
        return True

    def _report(self, trial: Trial, results) -> None:
        name = self.oracle.objective.name
        if results is None and trial.metrics.exists(name):
            return  # `run_trial` has called `oracle.update_trial` itself
        outcomes = [_outcome(result, self.oracle.objective) for result in (results if isinstance(results, list) and results else [results])]
        best = _best([metrics[name] for metrics, _, _ in outcomes], self.oracle.objective.direction)
        facts = {"curve": outcomes[best][2]} if outcomes[best][2] else {}
        if self._watch is not None and self._watch.cut:
            facts["cut"] = True
        if len(outcomes) > 1:
            facts["executions"] = [{"score": _plain(metrics[name]), "best_step": step, "curve": curve} for metrics, step, curve in outcomes]
        self.oracle.annotate(trial.trial_id, **facts)
        shared = [m for m in outcomes[0][0] if all(m in metrics for metrics, _, _ in outcomes)]
        means = {m: statistics.mean(metrics[m] for metrics, _, _ in outcomes) for m in shared}  # exact: never above the best one
        self.oracle.update_trial(trial.trial_id, means, step=outcomes[best][1])

    def run_trial(self, trial: Trial, *args, **kwargs):
        """Trains one configuration `executions_per_trial` times; may be overridden, as in KerasTuner.

        Args:
            trial: the trial, with `trial.hyperparameters`.
            *args: what `search` was given.
            **kwargs: likewise.

        Returns:
            What `hypermodel.fit` has returned, once per execution: a History, a dict of metrics or a number. An override may return one of
            them, or a list.
        """
        callbacks, results = kwargs.pop("callbacks", None) or [], []
        for execution in range(self.executions_per_trial):
            own = copies(callbacks)
            tensorboard(own, trial, execution)
            model = self._build(trial.hyperparameters)
            lazy = not model.built
            self._watch = watch = Watch(self, trial, execution, self._watch)
            result = self.hypermodel.fit(trial.hyperparameters, model, *args, callbacks=[*own, watch], **kwargs)
            if watch.cut and not watch.epochs:
                break
            results.append(result)
            if not watch.reported:  # the objective is known only now: the weights are those at the end
                watch.keep(model, _outcome(result, self.oracle.objective)[0][self.oracle.objective.name])
            if watch.kept:
                self._keep_record(trial, own)
                if lazy:
                    self.oracle.annotate(trial.trial_id, build_config=model.get_build_config())
            if watch.cut or time.monotonic() > self.deadline:
                watch.cut = watch.cut or execution + 1 < self.executions_per_trial
                break
        if not results:
            raise OutOfTime
        return results

    def _build(self, hp) -> keras.Model:
        keras.utils.clear_session()
        model = self.hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise FatalTypeError(f"`hypermodel` must build a keras.Model. Received: {model!r}. Does the function return the model?")
        return model

    def on_trial_end(self, trial: Trial) -> None:
        """Commits the trial; when this returns its result cannot be lost."""
        file = self._checkpoint(trial.trial_id)
        with contextlib.suppress(FileNotFoundError), open(file, "r+b") as weights:
            os.fsync(weights.fileno())
        self.oracle.end_trial(trial)
        self._prune()

    def _checkpoint(self, trial_id: str) -> Path:
        return Path(self.project_dir, f"checkpoint_{trial_id}.weights.h5")

    def _record(self, trial_id: str) -> Path:
        return Path(self.project_dir, f"record_{trial_id}.json")

    def _keep_record(self, trial: Trial, callbacks: list) -> None:
        monitor = next((c for c in callbacks if hasattr(getattr(c, "record", None), "to_dict") and hasattr(c, "findings")), None)
        if monitor is not None:
            text = json.dumps({"record": monitor.record.to_dict(), "findings": [finding.to_dict() for finding in monitor.findings]})
            with _writing(self._record(trial.trial_id)) as file:
                file.write_text(text)

    def _prune(self) -> None:
        """Deletes what was kept of other trials than the best one."""
        best = self.oracle.get_best_trials(1)
        keep = {self._checkpoint(best[0].trial_id), self._record(best[0].trial_id)} if best else set()
        for file in [*Path(self.project_dir).glob("checkpoint_*"), *Path(self.project_dir).glob("record_*.json")]:
            if file not in keep:
                file.unlink(missing_ok=True)

    def save_model(self, trial_id: str, model: keras.Model, step: int = 0) -> None:
        """Writes the weights of a trial, to be kept if it becomes the best; an overridden `run_trial` may call it.

        Args:
            trial_id: id of the trial.
            model: the trained model.
            step: not used: a trial has one checkpoint.
        """
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)  # so that every file holds its state, which `load_model` expects
        values = sum(math.prod(v.shape) for v in [*model.variables, *getattr(optimizer, "variables", [])])
        with _writing(self._checkpoint(trial_id)) as file:
            if shutil.disk_usage(file.parent).free < 4 * values + 2**20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # HDF5 can crash after a write for which there is no room
            model.save_weights(file)

    def load_model(self, trial: Trial) -> keras.Model:
        """The model of the best trial at its best epoch.

        Args:
            trial: the best trial.

        Raises:
            ValueError: for another trial: only the best one's weights are kept.
        """
        file = self._checkpoint(trial.trial_id)
        if not file.exists():
            best = self.oracle.get_best_trials(1)
            kept = f"only those of the best trial are kept ({best[0].trial_id})" if best else "no trial was completed yet"
            raise ValueError(
                f"The weights of trial {trial.trial_id} are not there: {kept}; a `run_trial` of your own must call `self.save_model(trial.trial_id, model)`. "
                "Ask for one model, or train again with `get_best_hyperparameters(n)`."
            )
        model = self._build(trial.hyperparameters)
        if not model.built:
            model.build_from_config(self.oracle.records[trial.trial_id]["build_config"])
        if getattr(model, "optimizer", None) is not None:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(file)
        return model

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """The best trained model; the search need not have run in this process.

        Args:
            num_models: 1, as only the best trial's weights are kept.

        Raises:
            ValueError: if no trial was completed, or the weights of one that is asked for are not kept.
        """
        if not self.oracle.get_best_trials(1):
            errors = [record["error"] for record in self.records() if record["error"]]
            raise ValueError(f"No trial was completed yet{f': the last of {len(errors)} failed with {errors[-1]}' if errors else ''}. Call `search` first.")
        return super().get_best_models(num_models)

    def best_record(self) -> dict | None:
        """What a `GradientMonitor` among the callbacks has recorded in the best trial, as `{"record": ..., "findings": [...]}`; or `None`."""
        best = self.oracle.get_best_trials(1)
        file = self._record(best[0].trial_id) if best else None
        return json.loads(file.read_text()) if file is not None and file.exists() else None

    def records(self) -> list[dict]:
        """All trials as plain data, read from the store.

        Returns:
            In the order of their start: `{"trial_id", "status", "score", "seconds", "values", "error", "curve"}`, the curve being
            `{metric: [value per epoch]}`; and "executions" where there were several, "cut" where the time was over.
        """
        return store.read(self.project_dir)["trials"] if self.oracle.store.exists() else []


def _plain(value) -> float | None:
    return float(value) if math.isfinite(value) else None


def _best(values: list[float], direction: str) -> int:
    """Index of the best finite value, or 0."""
    finite = [i for i, value in enumerate(values) if math.isfinite(value)]
    return (max if direction == "max" else min)(finite, key=lambda i: values[i]) if finite else 0


def _outcome(result, objective) -> tuple[dict, int, dict]:
    """What one training has brought: its metrics at the best epoch, that epoch, and the curve."""
    name = objective.name
    if result is None:
        raise FatalTypeError("`run_trial` and `HyperModel.fit` must return a History, a dict of metrics or a number. Received: None. Is the `return` missing?")
    if isinstance(result, keras.callbacks.History):
        logs = result.history
        if not logs.get(name):
            raise FatalValueError(
                f"`objective` must be reported by every epoch. Received: objective='{name}', reported: {', '.join(logs) or 'nothing'}. "
                f"{'Pass `validation_data` to `search`.' if name.startswith('val_') else 'Compile the model with that metric, or name another one.'}"
            )
        step = _best(logs[name], objective.direction)
        curve = {metric: [_plain(value) for value in values] for metric, values in logs.items()}
        return {metric: float(values[step]) for metric, values in logs.items() if len(values) > step}, step, curve
    if isinstance(result, dict):
        if name not in result:
            raise FatalValueError(f"`objective` must be among the metrics of a trial. Received: objective='{name}', reported: {', '.join(result)}.")
        return {metric: float(value) for metric, value in result.items()}, 0, {}
    try:
        return {name: float(result)}, 0, {}
    except (TypeError, ValueError) as error:
        raise FatalTypeError(f"`run_trial` and `HyperModel.fit` must return a History, a dict of metrics or a number. Received: {result!r}.") from error


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[Path]:
    try:
        yield file
    except (OSError, RuntimeError) as error:  # h5py raises both
        file.unlink(missing_ok=True)
        raise FatalRuntimeError(f"{file} could not be written: {error}. Every finished trial is kept: make room, then run the same command again.") from error


@contextlib.contextmanager
def _lines(verbose) -> Iterator[None]:
    """Shows the line per trial, on the handlers that the user has set up or on stderr."""
    level, handler = logger.level, logging.StreamHandler()
    if verbose:
        logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
