"""Stops a run that no longer improves, and says why."""

import difflib
import enum
import math
import numbers
import sys
import warnings

import keras
import numpy as np
from keras import ops

from keras_optlab.diagnosis import TrainingWarning
from keras_optlab.training import keras_seams as seams

BETTER_LOW = ("loss", "error", "mse", "mae", "mape", "msle", "rmse", "perplexity", "divergence", "crossentropy", "grad_norm")
BETTER_HIGH = ("acc", "accuracy", "auc", "precision", "recall", "f1", "f1_score", "fbeta_score", "iou", "r2_score", "cosine_similarity")


class StoppingReason(enum.Enum):
    """Why a run ended, each with its sentence."""

    NOT_STOPPED = "Training was not stopped by this callback."
    NO_IMPROVEMENT = "`{monitor}` did not improve on {best:.6g} (epoch {best_epoch}) in {wait} epochs."
    BASELINE = "`{monitor}` did not reach the baseline of {baseline:.6g} in {wait} epochs; its best was {best:.6g} (epoch {best_epoch})."
    NEVER_FINITE = "`{monitor}` was not finite in any of {wait} epochs."
    WEIGHTS_LOST = "`{monitor}` and weights of the model are not finite: no later epoch can be better."


class EarlyStopping(keras.callbacks.Callback):
    """Stops training when a metric has stopped improving. Takes the place of `keras.callbacks.EarlyStopping`, with the same arguments.

    A value that is not finite is never the best one, and ends the run at once where the weights are not finite either. A metric whose direction cannot be known
    is refused before the second batch, and one that is not in the logs is told of after the first epoch, each with the names that exist.

    Args:
        monitor: name of the metric in the logs. Defaults to `"val_loss"`.
        min_delta: smallest change that counts as an improvement, in units of the metric. Defaults to `0`.
        patience: epochs without improvement after which training stops. Defaults to `0`.
        verbose: 1 to write a line when it stops. Defaults to `0`.
        mode: "min", "max", or "auto" to take the direction from the metric. Defaults to `"auto"`.
        baseline: value that has to be beaten within `patience` epochs. Defaults to `None`.
        restore_best_weights: whether the model ends with the weights of the best epoch. Defaults to `False`.
        start_from_epoch: epochs to let pass first. Defaults to `0`.

    Attributes:
        stopping_reason: member of `StoppingReason`.
        stopping_message: its sentence, with the figures.
        best, best_epoch, wait, stopped_epoch: as in Keras, epochs counted from 0. `best` is `None` before the first finite value.

    Raises:
        ValueError: if an argument is out of range, or if `mode="auto"` cannot tell the direction of the metric.

    Example:

        stopping = EarlyStopping(patience=5, restore_best_weights=True)
        model.fit(x, y, validation_split=0.2, epochs=100, callbacks=[stopping])
        print(stopping.stopping_reason, stopping.stopping_message)
    """

    def __init__(self, monitor="val_loss", min_delta=0, patience=0, verbose=0, mode="auto", baseline=None, restore_best_weights=False, start_from_epoch=0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'EarlyStopping(mode=...): `mode` must be "auto", "min" or "max". Received: mode={mode!r}')
        for name, value in {"patience": patience, "start_from_epoch": start_from_epoch}.items():
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
                raise ValueError(f"EarlyStopping({name}=...): `{name}` must be a number of epochs, an integer of at least 0. Received: {name}={value!r}")
        for name, value in {"min_delta": min_delta, "baseline": baseline}.items():
            if not (value is None and name == "baseline" or isinstance(value, numbers.Real) and math.isfinite(value)):
                raise ValueError(f"EarlyStopping({name}=...): `{name}` must be a finite number. Received: {name}={value!r}")
        self.monitor, self.min_delta, self.patience, self.verbose, self.mode = monitor, abs(min_delta), patience, verbose, mode
        self.baseline, self.restore_best_weights, self.start_from_epoch = baseline, restore_best_weights, start_from_epoch
        self._begin()

    def _begin(self):
        self.wait, self.stopped_epoch, self.best, self.best_epoch, self.best_weights = 0, 0, None, 0, None
        self.stopping_reason, self._direction, self._told_missing = StoppingReason.NOT_STOPPED, None if self.mode == "auto" else self.mode, False

    @property
    def stopping_message(self) -> str:
        return self.stopping_reason.value.format(monitor=self.monitor, best=self.best, best_epoch=self.best_epoch + 1, wait=self.wait, baseline=self.baseline)

    def get_state(self) -> dict:
        """What a training that goes on later needs, for `set_state`."""
        plain = {name: getattr(self, name) for name in ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")}
        return plain | {"stopping_reason": self.stopping_reason.name, "direction": self._direction, "told_missing": self._told_missing}

    def set_state(self, state: dict) -> None:
        """Goes on from what `get_state` has returned; to be called after `on_train_begin`."""
        state = dict(state)
        self.stopping_reason = StoppingReason[state.pop("stopping_reason")]
        self._direction, self._told_missing = state.pop("direction"), state.pop("told_missing")
        vars(self).update(state)

    def on_train_begin(self, logs=None):
        self._begin()  # an instance may be used again
        self._ask_direction()

    def on_train_batch_begin(self, batch, logs=None):
        self._ask_direction()  # on TensorFlow the metrics have their names after the first batch only

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.monitor not in logs:
            self._tell_missing(epoch, logs)
            return
        if epoch < self.start_from_epoch:
            return
        self._direction = self._direction or self._infer(seams.directions(self.model) or {})
        value = float(logs[self.monitor])
        self.wait += 1
        if math.isfinite(value) and self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
        elif not math.isfinite(value) and not self._weights_finite():
            self._stop(epoch, StoppingReason.WEIGHTS_LOST)
        elif self.wait >= self.patience and epoch > 0:
            beaten = self.best is not None and (self.baseline is None or self._better(self.best, self.baseline))
            self._stop(epoch, StoppingReason.NO_IMPROVEMENT if beaten else StoppingReason.NEVER_FINITE if self.best is None else StoppingReason.BASELINE)

    def on_train_end(self, logs=None):
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        if self.verbose and self.stopping_reason is not StoppingReason.NOT_STOPPED:
            kept = f" The weights of epoch {self.best_epoch + 1} are back." if self.best_weights is not None else ""
            sys.stdout.write(f"Epoch {self.stopped_epoch + 1}: stopped early. {self.stopping_message}{kept}\n")

    def _ask_direction(self):
        if self._direction is None and (known := seams.directions(self.model)) is not None:
            self._direction = self._infer(known)

    def _better(self, value, reference) -> bool:
        if reference is None:
            return True
        return value < reference - self.min_delta if self._direction == "min" else value > reference + self.min_delta

    def _stop(self, epoch, reason):
        self.stopped_epoch, self.stopping_reason, self.model.stop_training = epoch, reason, True

    def _weights_finite(self) -> bool:
        return all(np.isfinite(ops.convert_to_numpy(w).astype("float64")).all() for w in self.model.trainable_weights)

    def _infer(self, known: dict) -> str:
        name = self.monitor.removeprefix("val_")
        for metric, direction in known.items():
            if direction and (name == metric or name.endswith(f"_{metric}")):
                return direction
        for words, direction in ((BETTER_LOW, "min"), (BETTER_HIGH, "max")):
            if any(name == word or name.endswith(f"_{word}") for word in words):
                return direction
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {self.monitor.removesuffix(name) + near[0]!r}?" if near and name not in known else ""
        raise ValueError(
            f'EarlyStopping(mode="auto") cannot tell which way `monitor` is better. Received: monitor={self.monitor!r}; '
            f'the metrics of the model are {", ".join(known)}.{hint} Otherwise pass `mode="min"` or `mode="max"`.'
        )

    def _tell_missing(self, epoch, logs):
        if not self._told_missing:
            self._told_missing = True
            near = difflib.get_close_matches(self.monitor, logs, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            if self.monitor.startswith("val_") and not any(name.startswith("val_") for name in logs):
                hint += " Pass `validation_data`, or monitor a metric of training."
            warnings.warn(
                f"EarlyStopping cannot stop this run: `{self.monitor}` is not in the logs of epoch {epoch + 1}. There are: {', '.join(sorted(logs))}.{hint}",
                TrainingWarning,
                stacklevel=2,
            )
