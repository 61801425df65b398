"""Callbacks for `fit`."""

from keras_optlab.callbacks.backup_and_restore import BackupAndRestore
from keras_optlab.callbacks.early_stopping import EarlyStopping
from keras_optlab.callbacks.gradient_monitor import GradientMonitor
from keras_optlab.callbacks.stopping_criteria import EB, GL, PQ, UP, StoppingReason
from keras_optlab.callbacks.training_doctor import TrainingDoctor

__all__ = ["BackupAndRestore", "EB", "GL", "PQ", "UP", "EarlyStopping", "GradientMonitor", "StoppingReason", "TrainingDoctor"]
