"""What the tuner adds to a training: its hooks, its clock, checkpoints, and own copies of the callbacks."""

import copy
import math
import os
import time

import keras
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_optlab.search import outcomes
from keras_optlab.search.log import logger
from keras_optlab.training.resume import State


class OutOfTime(Exception):
    """The time was over before the first epoch of a trial."""


class StartAnew(Exception):
    """A training cannot go on from the state that it was given."""


class Watch(keras.callbacks.Callback):
    """Calls the tuner's hooks, reports the objective, keeps the weights of the best epoch of a trial and its last state, and stops it when the time is over.

    It stands after the callbacks of the user. `first` stands before them: what they do at the beginning of an epoch is done to the weights of the state from
    which the training goes on.

    Args:
        tuner: the tuner.
        trial: the trial.
        callbacks: those of the user, whose states are kept with that of the training.
        results: what the executions before have brought.
        start: the state from which this execution goes on, or `None`.
        before: the watch over the execution before.
        demanding: whether each epoch must report the objective: a mistake in its name is told after the first one.
    """

    def __init__(self, tuner, trial: Trial, callbacks: list, results: list, start: State | None, before: "Watch | None", demanding: bool = False):
        super().__init__()
        self.params = {}  # a loop of the user's own may not set them
        self.tuner, self.trial, self.callbacks, self.start = tuner, trial, callbacks, start
        self.results, self.execution = [outcomes.stored(result) for result in results], len(results)
        self.objective = tuner.oracle.goals[0]
        self.best = before.best if before else None
        self.demanding = demanding
        self.epochs, self.reported, self.fits, self.kept, self.cut = 0, 0, 0, False, False
        self.first = First(self)
        if start is not None and not start.epoch:  # the executions before are finished, this one is still to begin
            self.best, self.start = start.facts["best"], None

    def on_train_begin(self, logs=None):
        self.fits += 1
        if self.fits == 2:  # a `HyperModel.fit` that trains in several parts: `initial_epoch` cannot tell in which one it was
            self.tuner.checkpoints.drop_states(self.trial.trial_id)
            if self.first.restored:
                raise StartAnew(f"Trial {self.trial.trial_id} trains in several parts, so it starts anew.")

    def begin(self, epoch: int) -> bool:
        """Puts the model and the callbacks into the state from which to go on. Returns whether it did."""
        start, self.start = self.start, None
        if start is None:
            return False
        if epoch != start.epoch:
            logger.info("Trial %s starts anew: its `HyperModel.fit` does not give `initial_epoch` to `model.fit`.", self.trial.trial_id)
            self.best = None
            return False
        try:
            start.into(self.model)
        except ValueError as error:
            raise StartAnew(f"Trial {self.trial.trial_id} starts anew: {error}") from error
        start.into_callbacks(self.callbacks)
        start.into_generators()
        history = getattr(self.model, "history", None)
        if isinstance(history, keras.callbacks.History):
            history.history, history.epoch = start.facts["history"], list(range(epoch))
        self.best, self.kept, self.reported, self.epochs = (start.facts[name] for name in ("best", "kept", "reported", "epochs"))
        if not self.execution and isinstance(history, keras.callbacks.History):
            for step, value in enumerate(history.history.get(self.objective.name, ())):
                self.tuner.oracle.report(self.trial.trial_id, step, value)  # the last ones may not have been committed
        logger.info("Trial %s goes on after epoch %d.", self.trial.trial_id, epoch)
        return True

    def on_epoch_begin(self, epoch, logs=None):
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_train_batch_begin(self, batch, logs=None):
        self.tuner.on_batch_begin(self.trial, self.model, batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.tuner.on_batch_end(self.trial, self.model, batch, logs)
        self.tuner.oracle.check(self.trial.trial_id)
        self.look_at_the_clock()

    def on_epoch_end(self, epoch, logs=None):
        if self.objective.has_value(logs or {}):
            value = outcomes.number(self.objective.get_value(logs))
            if not self.execution:
                self.tuner.oracle.report(self.trial.trial_id, self.reported, value)
            self.reported += 1
            self.keep(self.model, value)
            self.tuner.progress.epoch(self.trial.trial_id, epoch, self.params.get("epochs"), value)
        elif self.demanding:
            raise outcomes.unreported(self.objective.name, logs or {})
        self.epochs += not self.cut
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)
        if not self.cut and self.fits == 1:
            self.save_state(epoch + 1, logs)
        if epoch + 1 < self.params.get("epochs", math.inf):
            self.look_at_the_clock()

    def keep(self, model: keras.Model, value: float) -> None:
        """Writes the weights if the trial could be among those to be kept with this value: the mean over executions cannot be better than the best one.

        Of equal epochs the later one has learned more: a few hundred validation images are soon all right.
        """
        rival = self.tuner.keeper.score_to_beat()
        better = rival is None or self.objective.better_than(value, rival)
        if math.isfinite(value) and better and (self.best is None or not self.objective.better_than(self.best, value)):
            self.best, self.kept = value, True
            self.tuner.save_model(self.trial.trial_id, model, self.epochs)

    def save_state(self, epoch: int, logs: dict | None = None) -> None:
        """Writes all that is needed to go on after `epoch` epochs, of which the last one has brought `logs`; 0: with the next execution."""
        told = getattr(self.model, "history", None) if epoch else None
        before = told.history if isinstance(told, keras.callbacks.History) else {}
        latest = {} if told is None or len(told.epoch) == epoch else logs or {}  # Keras' own History stands behind this callback
        history = {name: [outcomes.number(v) for v in [*before.get(name, ()), *([latest[name]] if name in latest else ())]] for name in {**before, **latest}}
        ended = self.model.stop_training or epoch >= self.params.get("epochs", math.inf) if epoch else False
        self.tuner.save_state(
            self.trial,
            self.model if epoch else None,
            epoch,
            self.callbacks if epoch else (),
            history=history,
            ended=ended,
            **{name: getattr(self, name) for name in ("results", "best", "kept", "reported", "epochs")},
        )

    def late(self) -> bool:
        return time.monotonic() > self.tuner.deadline

    def look_at_the_clock(self) -> None:
        if self.late():
            self.cut = self.model.stop_training = True


class First(keras.callbacks.Callback):
    """Lets `watch` restore a training as soon as all callbacks know that it begins."""

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch, self.restored = watch, False

    def on_epoch_begin(self, epoch, logs=None):
        self.restored = self.watch.begin(epoch) or self.restored

    def on_train_end(self, logs=None):
        if self.watch.start is not None:  # there was no epoch left
            self.restored = self.watch.begin(self.watch.start.epoch)


def copies(callbacks: list) -> list:
    """KerasTuner's rule: each training has its own copies of the callbacks."""
    if not isinstance(callbacks, list | tuple) or not all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks):
        raise FatalTypeError(f"`callbacks` must be a list of instances of `keras.callbacks.Callback`. Received: callbacks={callbacks!r}.")
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
