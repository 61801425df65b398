"""Callbacks for `fit`."""

from keras_optlab.callbacks.early_stopping import EarlyStopping, StoppingReason
from keras_optlab.callbacks.gradient_monitor import GradientMonitor

__all__ = ["EarlyStopping", "GradientMonitor", "StoppingReason"]
