"""The optimization toolkit for Keras 3. Importing it registers every class with Keras."""

import importlib

from keras_optlab import layers, optimizers, schedules  # noqa: F401 (registers every class)

__version__ = "0.1.0"
LAZY = ("callbacks", "cli", "data", "diagnosis", "problems", "report", "results", "search", "testing", "training")


def __getattr__(name: str):
    if name == "diagnose":
        return importlib.import_module("keras_optlab.training").diagnose
    if name in LAZY:
        return importlib.import_module(f"keras_optlab.{name}")
    raise AttributeError(f"module 'keras_optlab' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *LAZY, "diagnose"])
