"""Stops a run that no longer improves, and says why."""

import math
import numbers
import sys
import warnings

import keras
import numpy as np
from keras import ops

from keras_optlab.callbacks.metric_names import better, meant
from keras_optlab.callbacks.stopping_criteria import EB, GL, PQ, UP, StoppingReason, Track
from keras_optlab.diagnosis import TrainingWarning
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.gradient_noise import GradientNoise
from keras_optlab.training.resume import copied

OF_GRADIENTS = ("gradient_disparity", "eb_criterion")  # what this callback measures itself
FROM_CALLBACKS = ("learning_rate", "lr", "grad_norm", "alarms", "acts", *OF_GRADIENTS)  # what the callbacks of these modules add to the logs
MODULES = ("keras.", "keras_optlab.search.", *(f"keras_optlab.callbacks.{name}" for name in ("early_stopping", "gradient_monitor", "training_doctor")))
LOOKS = 10  # within the patience in steps: each look waits for the device
STATE = (
    "stopped_epoch",
    "stopped_step",
    "best_epoch",
    "best_step",
    "best_weights",
    "_best_optimizer",
    "_validation",
    "_training",
    "_step",
    "_told",
    "_culprit",
)


class EarlyStopping(keras.callbacks.Callback):
    """Stops training when a metric has stopped improving. Takes the place of `keras.callbacks.EarlyStopping`, with the same arguments.

    A value that is not finite is never the best one, and ends the run at once where the weights are not finite either. A metric whose direction cannot be known
    is refused before the second batch. One that will not come is told as soon as that is certain, after its first epoch at the latest, with all that exist.

    With several metrics the run goes on as long as any of them still improves. `baseline`, the thresholds, `best` and the best weights belong to the first one.

    Without validation data there are two figures of gradients, taken at the end of each epoch on five batches of the training data, and added to the logs.
    `monitor="gradient_disparity"` is the mean distance between the gradients of two of these batches, with the losses of each divided by their deviation: it
    falls, and rises once what is particular to each batch is learned by heart, wrong labels above all. `criterion=EB()` asks whether the gradient is more than
    noise. They are for few data and for labels that may be wrong: of 900 digits with one label in five at random a net got .94 of others right where the
    disparity stopped it (patience 5), .91 with EB and .86 after all epochs; of 900 clean ones .965, .965 and .98. Either needs a model without a `train_step`
    of its own and takes the time of some 5 steps an epoch, EB that of some 15. Training stays what it is; batches of a stream come as in `GradientMonitor`.

    With `patience_steps`, metrics of training are looked at ten times within that many steps, each time over the steps since the last look; this needs metrics
    that add up over batches, as Keras' do. In an epoch shorter than that, and for all other metrics, the value at the end of the epoch is taken.

    Args:
        monitor: name of the metric in the logs, or a list of names. Defaults to `"val_loss"`.
        min_delta: smallest change that counts as an improvement, in units of the metric or relative (`min_delta_mode`). Defaults to `0`.
        patience: epochs without improvement after which training stops. Defaults to `0`.
        verbose: 1 to write a line when it stops. Defaults to `0`.
        mode: "min", "max", or "auto" to take the direction from the metric; a list for several. Defaults to `"auto"`.
        baseline: value that has to be beaten within the patience. Defaults to `None`.
        restore_best_weights: whether the model ends with the weights of its best epoch or look, and the optimizer with the state it had there (momentum,
            iterations, learning rate), whatever callback ends the run; a copy of both lies in the memory of the host. Defaults to `False`.
        start_from_epoch: epochs to let pass first. Defaults to `0`.
        patience_steps: training steps in place of `patience`, at least 1. Defaults to `None`.
        start_from_step: training steps to let pass first. Defaults to `0`.
        min_delta_mode: "absolute", or "relative" where `min_delta` is a share of the value to be improved on. Defaults to `"absolute"`.
        smoothing: weight of the past in a moving average, in [0, 1), which then is judged in place of the metric. Defaults to `0`, none.
        check_finite: whether the first value that is not finite stops the run. Defaults to `False`.
        stopping_threshold: value good enough to stop at once. Defaults to `None`.
        divergence_threshold: value so bad that the run stops at once when it is worse. Defaults to `None`.
        criterion: `GL(alpha)`, `PQ(alpha)` or `UP(s)` in place of a patience, for a single loss or the gradient disparity; or `EB()`, which leaves no choice of
            `monitor`: it is "eb_criterion" then. Defaults to `None`.

    Attributes:
        stopping_reason: member of `StoppingReason`.
        stopping_message: its sentence, with the figures.
        best, best_epoch, wait, stopped_epoch: as in Keras, epochs counted from 0. `best` is `None` before the first finite value.
        best_step, stopped_step: how many training steps were done then.

    Raises:
        ValueError: if an argument is out of range or does not go with another, or if `mode="auto"` cannot tell the direction of the metric.

    Example:

        stopping = EarlyStopping(patience=5, restore_best_weights=True)
        model.fit(x, y, validation_split=0.2, epochs=100, callbacks=[stopping])
        print(stopping.stopping_reason, stopping.stopping_message)

    Reference: [Forouzesh & Thiran, 2021](https://arxiv.org/abs/2107.06665) for the gradient disparity; see the criteria for theirs.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
        *,
        patience_steps=None,
        start_from_step=0,
        min_delta_mode="absolute",
        smoothing=0.0,
        check_finite=False,
        stopping_threshold=None,
        divergence_threshold=None,
        criterion=None,
    ):
        super().__init__()
        names = list(monitor) if isinstance(monitor, list | tuple) else [monitor]
        modes = list(mode) if isinstance(mode, list | tuple) else [mode] * len(names)
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            _refuse("monitor", "the name of a metric, or a list of different names", monitor)
        if not all(one in ("auto", "min", "max") for one in modes) or len(modes) != len(names):
            _refuse("mode", '"auto", "min" or "max", or a list with one of them for each metric', mode)
        for name, value, least, unit in (
            ("patience", patience, 0, "epochs"),
            ("start_from_epoch", start_from_epoch, 0, "epochs"),
            ("patience_steps", patience_steps, 1, "steps"),
            ("start_from_step", start_from_step, 0, "steps"),
        ):
            if (value is not None or name != "patience_steps") and not (_is_number(value, numbers.Integral) and value >= least):
                _refuse(name, f"a number of {unit}, an integer of at least {least}", value)
        if not _is_number(min_delta):
            _refuse("min_delta", "a finite number", min_delta)
        for name, value in {"baseline": baseline, "stopping_threshold": stopping_threshold, "divergence_threshold": divergence_threshold}.items():
            if value is not None and not _is_number(value):
                _refuse(name, "a finite number", value)
        if min_delta_mode not in ("absolute", "relative"):
            _refuse("min_delta_mode", '"absolute" or "relative"', min_delta_mode)
        if min_delta_mode == "relative" and abs(min_delta) >= 1:
            _refuse("min_delta", 'a share below 1 where `min_delta_mode` is "relative", such as 0.01', min_delta)
        if not _is_number(smoothing) or not 0 <= smoothing < 1:
            _refuse("smoothing", "a number of at least 0 and below 1", smoothing)
        if patience and (patience_steps is not None or criterion is not None):
            _refuse("patience", f"left out where `{'criterion' if criterion is not None else 'patience_steps'}` takes its place", patience)
        if criterion is not None:
            if not isinstance(criterion, EB | GL | PQ | UP):
                _refuse("criterion", "`GL(alpha)`, `PQ(alpha)`, `UP(s)` or `EB()` from keras_optlab.callbacks", criterion)
            if patience_steps is not None:
                _refuse("criterion", "left out where `patience_steps` is given: it counts in epochs", criterion)
            if isinstance(criterion, EB):
                if names not in (["val_loss"], ["eb_criterion"]) or modes not in (["auto"], ["max"]):
                    _refuse("criterion", "without a `monitor` or `mode` beside it where it is EB, which judges gradients", monitor, "monitor")
                monitor, names, modes = "eb_criterion", ["eb_criterion"], ["max"]
            if len(names) > 1 or isinstance(criterion, PQ) and not names[0].startswith("val_"):
                _refuse("criterion", "used with a single `monitor`, which for PQ is one of validation", monitor, "monitor")
        self.monitor, self.min_delta, self.patience, self.verbose, self.mode = monitor, abs(min_delta), patience, verbose, mode
        self.baseline, self.restore_best_weights, self.start_from_epoch = baseline, restore_best_weights, start_from_epoch
        self.patience_steps, self.start_from_step, self.min_delta_mode, self.smoothing = patience_steps, start_from_step, min_delta_mode, smoothing
        self.check_finite, self.stopping_threshold, self.divergence_threshold = check_finite, stopping_threshold, divergence_threshold
        self.criterion, self._names, self._modes, self._given = criterion, names, modes, False
        self._noise = None
        self._begin()

    def _begin(self):
        self._tracks = [Track(name, None, self.min_delta, self.min_delta_mode == "relative", self.smoothing) for name in self._names]
        for track, mode in zip(self._tracks, self._modes):
            if mode != "auto":
                self._settle(track, mode)
        self.stopped_epoch, self.stopped_step, self.best_epoch, self.best_step, self._step, self._told = 0, 0, 0, 0, 0, []
        self.best_weights, self._best_optimizer, self._validation, self._training = None, None, [], []
        self.stopping_reason, self._culprit, self._named = StoppingReason.NOT_STOPPED, 0, False
        self._epoch, self._start, self._batch, self._looked, self._sums, self._inside = 0, 0, None, 0, None, ()

    @property
    def best(self) -> float | None:
        return self._tracks[0].best

    @property
    def wait(self) -> int:
        return min((track.wait for track in self._tracks if self._comes(track)), default=0)

    @property
    def stopping_message(self) -> str:
        track, steps = self._tracks[self._culprit], self.patience_steps is not None
        others = [f"`{other.name}`" for other in self._tracks if other is not track and self._comes(other)]
        return self.stopping_reason.value.format(
            monitor=track.name,
            best=self.best,
            value=track.value,
            at=self._best_at,
            wait=self.wait,
            unit="steps" if steps else "epochs",
            others=f", nor did {' and '.join(others)}" if others else "",
            figure=self.criterion.figure(self._validation, self._training) if self._validation else None,
            lowest=min(self._validation, default=None),
            **{name: getattr(self, name) for name in ("baseline", "stopping_threshold", "divergence_threshold", "criterion")},
        )

    @property
    def _best_at(self) -> str:
        return f"epoch {self.best_epoch + 1}" if self.patience_steps is None else f"step {self.best_step}"

    def get_state(self) -> dict:
        """What a training that goes on after this epoch needs, for `set_state`: numbers, names and arrays, that `training.resume.save_state` can write."""
        plain = {name: getattr(self, name) for name in STATE}
        return plain | {
            "monitor": self._names,
            "stopping_reason": self.stopping_reason.name,
            "tracks": [{name: getattr(track, name) for name in Track.STATE} for track in self._tracks],
        }

    def set_state(self, state: dict) -> None:
        """Goes on from what `get_state` has returned: before `fit`, or at the beginning of its first epoch. A run that had stopped ends after one batch.

        Raises:
            ValueError: if the state is one of other metrics.
        """
        if state["monitor"] != self._names:
            raise ValueError(f"EarlyStopping.set_state(state): the state is of monitor={state['monitor']!r}, and this one has monitor={self.monitor!r}.")
        self._begin()
        vars(self).update({name: state[name] for name in STATE})
        self.stopping_reason, self._given = StoppingReason[state["stopping_reason"]], True
        for track, stored in zip(self._tracks, state["tracks"], strict=True):
            vars(track).update(stored)

    def on_train_begin(self, logs=None):
        if not self._given:
            self._begin()  # an instance may be used again
        measured = [name for name in self._names if name in OF_GRADIENTS]
        self._noise = GradientNoise(self.model, measured) if measured else None
        self._ask_directions()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._start, self._batch, self._looked, self._sums, self._inside = epoch, self._step, None, 0, None, ()
        self._given = False
        if self.stopping_reason is not StoppingReason.NOT_STOPPED:
            self.model.stop_training = True  # the run had stopped before its state was taken

    def on_train_batch_begin(self, batch, logs=None):
        self._batch, self._step = batch, self._start + batch
        self._ask_directions()  # on TensorFlow the metrics have their names after the first batch only
        if batch and not self._named:
            self._named = True
            self._tell_what_cannot_come()
        if self.patience_steps is not None and batch - self._looked >= -(-self.patience_steps // LOOKS) and seams.directions(self.model) is not None:
            sums = seams.metric_sums(self.model)
            values = seams.metric_values(self.model, sums, self._sums)
            self._looked, self._sums, self._inside = batch, sums, tuple(values)
            self._look(self._epoch, values)

    def on_epoch_end(self, epoch, logs=None):
        if self._batch is not None:
            self._step = self._start + min(self._batch + self.model.steps_per_execution, (self.params or {}).get("steps") or math.inf)
        logs = {} if logs is None else logs
        for name, why in self._noise.add_to(logs).items() if self._noise else ():
            self._warn(name, f"`{name}` cannot be measured: {why}")
        logs = {name: value for name, value in logs.items() if name not in self._inside}
        for name in self._wanted():
            if name not in logs and name not in self._inside and not self._may_come(name, logs):
                self._tell(name, f"is not in the logs of epoch {epoch + 1}", [*logs, *self._inside])
        self._ask_directions(logs)
        self._look(epoch, logs)

    def on_train_end(self, logs=None):
        self._given = False
        if self._noise is not None:
            self._noise.leave()
            self._noise = None
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            for variable, value in zip(self._optimizer_variables(), self._best_optimizer):
                variable.assign(value)
        if self.verbose and self.stopping_reason is not StoppingReason.NOT_STOPPED:
            kept = f" The weights of {self._best_at} are back." if self.best_weights is not None else ""
            sys.stdout.write(f"Epoch {self.stopped_epoch + 1}: stopped early. {self.stopping_message}{kept}\n")

    def _look(self, epoch, logs):
        """Judges what of the metrics is in `logs`."""
        seen = [track for track in self._tracks if track.name in logs]
        if not seen or self.stopping_reason is not StoppingReason.NOT_STOPPED:
            return
        spans = [1 if self.patience_steps is None else self._step - track.looked for track in seen]
        for track in seen:
            track.looked = self._step
        if epoch < self.start_from_epoch or self._step < self.start_from_step:
            return
        first = self._tracks[0]
        improved = [track for track, span in zip(seen, spans) if track.see(float(logs[track.name]), span, self.baseline if track is first else None)]
        if first in improved:
            self.best_epoch, self.best_step = epoch, self._step
            if self.restore_best_weights:
                self.best_weights, self._best_optimizer = copied(self.model.weights), copied(self._optimizer_variables())
        reason, track = self._verdict(epoch, logs, seen, improved)
        if reason:
            self.stopped_epoch, self.stopped_step, self.stopping_reason, self._culprit = epoch, self._step, reason, self._tracks.index(track)
            self.model.stop_training = True

    def _verdict(self, epoch, logs, seen, improved):
        """The reason to stop and the metric that gave it."""
        first = self._tracks[0]
        broken = next((track for track in seen if not math.isfinite(track.value)), None)
        if broken and self.check_finite:
            return StoppingReason.NOT_FINITE, broken
        if broken and not self._weights_finite():
            return StoppingReason.WEIGHTS_LOST, broken
        if first in seen and math.isfinite(first.value):
            if self.stopping_threshold is not None and not first.worse(first.value, self.stopping_threshold):
                return StoppingReason.SUCCESS, first
            if self.divergence_threshold is not None and first.worse(first.value, self.divergence_threshold):
                return StoppingReason.DIVERGENCE, first
            if self.criterion is not None and self._criterion_stops(first, logs):
                return self.criterion.reason, first
        if self.criterion is None and not improved and self.wait >= (self.patience_steps or self.patience) and (epoch > 0 or self.patience_steps):
            beaten = self.best is not None and (self.baseline is None or first.better(self.best, self.baseline))
            return StoppingReason.NO_IMPROVEMENT if beaten else StoppingReason.NEVER_FINITE if self.best is None else StoppingReason.BASELINE, first
        return None, None

    def _criterion_stops(self, first, logs) -> bool:
        training = float(logs.get(first.name.removeprefix("val_"), math.nan))
        if isinstance(self.criterion, PQ) and not math.isfinite(training):
            return False
        self._validation, self._training = [*self._validation, first.value], [*self._training, training]
        figure = self.criterion.figure(self._validation, self._training)
        if math.isnan(figure):
            self._warn(first.name, f"{self.criterion} takes quotients of losses, and `{first.name}` or its training loss has been negative. Use UP.")
        return self.criterion.stops(self._validation, self._training)

    def _optimizer_variables(self) -> list:
        optimizer = getattr(self.model, "optimizer", None)
        return list(optimizer.variables) if optimizer is not None else []

    def _weights_finite(self) -> bool:
        return all(np.isfinite(ops.convert_to_numpy(w).astype("float64")).all() for w in self.model.trainable_weights)

    def _ask_directions(self, sure=()):
        """Asks the model for directions that are not known; those of the names in `sure` must be found now."""
        unknown = [track for track in self._tracks if track.direction is None]
        known = seams.directions(self.model) if unknown else None
        for track in unknown:
            if known is not None or track.name in sure:
                self._settle(track, better(track.name, known or {}))

    def _settle(self, track, direction):
        track.direction = direction
        if self.criterion is not None and direction == "max" and not isinstance(self.criterion, EB):
            _refuse("criterion", "used with a loss, of which less is better", track.name, "monitor")
        if None not in (self.stopping_threshold, self.divergence_threshold) and track is self._tracks[0]:
            if not track.worse(self.divergence_threshold, self.stopping_threshold):
                side = "above" if direction == "min" else "below"
                _refuse("divergence_threshold", f"{side} `stopping_threshold={self.stopping_threshold!r}`", self.divergence_threshold)

    def _comes(self, track) -> bool:
        return track.value is not None or track.name not in self._told

    def _wanted(self) -> list:
        return [*self._names, self._names[0].removeprefix("val_")] if isinstance(self.criterion, PQ) else self._names

    def _tell_what_cannot_come(self):
        fit, known = seams.fit_arguments(self.model), seams.directions(self.model) or {}
        if fit is None or not _only_keras(self.model, fit):
            return
        kinds = ["", "val_"] if fit["validation_data"] is not None else [""]
        if all(name in FROM_CALLBACKS or name in [kind + metric for kind in kinds for metric in known] for name in self._wanted()):
            return
        there = [kind + metric for kind in kinds for metric in seams.metric_values(self.model, seams.metric_sums(self.model))]
        for name in self._wanted():
            if name not in there and name not in FROM_CALLBACKS:
                self._tell(name, "will not be in the logs", there)

    def _may_come(self, name, logs) -> bool:
        """Whether validation was only not due in this epoch (`validation_freq`)."""
        fit = seams.fit_arguments(self.model)
        return name.startswith("val_") and not any(one.startswith("val_") for one in logs) and fit is not None and fit["validation_data"] is not None

    def _tell(self, name, what, names):
        unvalidated = name.startswith("val_") and not any(one.startswith("val_") for one in names)
        hint = " Pass `validation_data`, or monitor a metric of training." if unvalidated else meant(name, names)
        self._warn(name, f"`{name}` {what}. There are: {', '.join(sorted(names))}.{hint}")

    def _warn(self, name, text):
        if name not in self._told:
            self._told = [*self._told, name]
            warnings.warn(f"EarlyStopping cannot stop this run: {text}", TrainingWarning, stacklevel=2)


def _only_keras(model, fit) -> bool:
    """Whether the logs of this `fit` hold nothing but metrics: code of the user's own may add what it likes."""
    callbacks = getattr(fit["callbacks"], "callbacks", ())
    steps = all(getattr(type(model), name) is getattr(keras.Model, name) for name in ("train_step", "test_step"))
    return steps and all(type(callback).__module__.startswith(MODULES) and not isinstance(callback, keras.callbacks.LambdaCallback) for callback in callbacks)


def _is_number(value, kind=numbers.Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(name, rule, value, shown=None):
    raise ValueError(f"EarlyStopping({name}=...): `{name}` must be {rule}. Received: {shown or name}={value!r}")
