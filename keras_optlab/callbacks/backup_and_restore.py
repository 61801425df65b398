"""Keeps a training on disk, so that a program that is run again goes on where it was."""

import os
from pathlib import Path

import keras

from keras_optlab.training import keras_seams as seams
from keras_optlab.training.resume import State, save_state

NAME = "training.npz"


class BackupAndRestore(keras.callbacks.Callback):
    """Saves a training at the end of every epoch, and in a later `fit` goes on from there. Takes the place of `keras.callbacks.BackupAndRestore`.

    Beside weights, optimizer and epoch, which Keras' has, it keeps the states of other callbacks and the global random numbers of Python, NumPy and PyTorch.
    So a run that was killed and is begun again stops where it would have stopped uninterrupted. What `tf.data` has drawn for itself is not kept: a `shuffle`
    begins anew. The file appears whole or not at all, fits the same model and optimizer only, and is removed when the training ends, unless by an exception.

    Args:
        backup_dir: folder for the file, made if there is none.
        callbacks: those of the same `fit` whose state is to be kept: all with `get_state` and `set_state`, such as `EarlyStopping` and `TrainingDoctor`. In the
            list that `fit` gets, this one must stand behind them. Defaults to none.
        delete_checkpoint: whether the file goes when the training ends. Defaults to `True`.

    Raises:
        ValueError: if `backup_dir` is empty, a callback has no state to keep, or in `fit` does not stand before this one; if the file is one of another model.
        DamagedState: naming the file, if it is truncated or altered.

    Example:

        stopping = EarlyStopping(patience=5)
        backup = BackupAndRestore("backup", callbacks=[stopping])
        model.fit(x, y, validation_split=0.2, epochs=100, callbacks=[stopping, backup])
    """

    def __init__(self, backup_dir: str | os.PathLike, callbacks=(), delete_checkpoint: bool = True):
        super().__init__()
        if not os.fspath(backup_dir):
            raise ValueError(f"BackupAndRestore(backup_dir=...): `backup_dir` must name a folder. Received: {backup_dir!r}")
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        for callback in callbacks:
            if not (hasattr(callback, "get_state") and hasattr(callback, "set_state")):
                raise ValueError(f"BackupAndRestore(callbacks=...): `callbacks` must have `get_state` and `set_state`. Received: {callback!r}")
        self.backup_dir, self.callbacks, self.delete_checkpoint = backup_dir, callbacks, delete_checkpoint
        self._path = Path(backup_dir) / NAME

    def on_train_begin(self, logs=None):
        given = (seams.fit_arguments(self.model) or {}).get("callbacks")
        given = list(getattr(given, "callbacks", given) or [])
        for callback in self.callbacks:
            if callback.model is not self.model or given and self in given and callback not in given[: given.index(self)]:
                raise ValueError(
                    "BackupAndRestore(callbacks=...): each of `callbacks` must stand before this one in the `callbacks` of `fit`. "
                    f"Received: {type(callback).__name__}, which does not."
                )
        if self._path.exists():
            state = State(self._path)
            state.into(self.model)
            state.into_callbacks(self.callbacks)
            state.into_generators()
            seams.begin_at(self.model, state.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        seams.begin_at(self.model, None)  # a `fit` after this one begins where it says

    def on_epoch_end(self, epoch, logs=None):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        save_state(self._path, self.model, epoch + 1, self.callbacks)

    def on_train_end(self, logs=None):
        seams.begin_at(self.model, None)  # there may have been no epoch left
        if self.delete_checkpoint:
            self._path.unlink(missing_ok=True)
