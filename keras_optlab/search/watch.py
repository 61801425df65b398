"""What the tuner adds to a training: its hooks, its clock, the weights of the best epoch, and own copies of the callbacks."""

import copy
import math
import os
import time

import keras
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalValueError


class OutOfTime(Exception):
    """The time was over before the first epoch of a trial."""


class Watch(keras.callbacks.Callback):
    """Calls the tuner's hooks, reports the objective, keeps the weights of the best epoch of a trial, and stops it when the time is over.

    Args:
        tuner: the tuner.
        trial: the trial.
        execution: number of the execution.
        before: the watch over the execution before.
    """

    def __init__(self, tuner, trial: Trial, execution: int, before: "Watch | None"):
        super().__init__()
        self.tuner, self.trial, self.execution = tuner, trial, execution
        self.objective = tuner.oracle.objective
        self.best = before.best if before else None
        self.epochs, self.reported, self.kept, self.cut = 0, 0, False, False

    def on_epoch_begin(self, epoch, logs=None):
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_train_batch_begin(self, batch, logs=None):
        self.tuner.on_batch_begin(self.trial, self.model, batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.tuner.on_batch_end(self.trial, self.model, batch, logs)
        self.look_at_the_clock()

    def on_epoch_end(self, epoch, logs=None):
        if self.objective.has_value(logs or {}):
            value = float(self.objective.get_value(logs))
            if not self.execution:
                self.tuner.oracle.report(self.trial.trial_id, self.reported, value)
            self.reported += 1
            self.keep(self.model, value)
        self.epochs += not self.cut
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)
        if epoch + 1 < self.params.get("epochs", math.inf):
            self.look_at_the_clock()

    def keep(self, model: keras.Model, value: float) -> None:
        """Writes the weights if no trial, and no epoch of this one, had a better value: the mean over executions cannot be the best otherwise."""
        best = self.tuner.oracle.get_best_trials(1)
        rivals = [v for v in (self.best, best[0].score if best else None) if v is not None]
        if math.isfinite(value) and all(self.objective.better_than(value, rival) for rival in rivals):
            self.best, self.kept = value, True
            self.tuner.save_model(self.trial.trial_id, model, self.epochs)

    def look_at_the_clock(self) -> None:
        if time.monotonic() > self.tuner.deadline:
            self.cut = self.model.stop_training = True


def copies(callbacks: list) -> list:
    """KerasTuner's rule: each training has its own copies of the callbacks."""
    out = []
    for callback in callbacks:
        try:
            out.append(copy.deepcopy(callback))
        except TypeError as error:
            raise FatalValueError(f"`callbacks` must be copyable, as each trial gets its own. Received: {callback!r}. {error}") from error
    return out


def tensorboard(callbacks: list, trial: Trial, execution: int) -> None:
    """Gives each training its own folder, and its values to the HParams tab where that is installed."""
    for callback in [c for c in callbacks if type(c).__name__ == "TensorBoard"]:
        callback.log_dir = os.path.join(str(callback.log_dir), trial.trial_id, f"execution{execution}")
        try:
            from tensorboard.plugins.hparams import api
        except ImportError:
            continue
        callbacks.append(api.KerasCallback(callback.log_dir, dict(trial.hyperparameters.values), trial_id=trial.trial_id))
