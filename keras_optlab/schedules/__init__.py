"""Learning-rate schedules; any hyperparameter of an optimizer may be one."""

import fnmatch

from keras_optlab.schedules.cosine import Cosine
from keras_optlab.schedules.one_cycle import OneCycle
from keras_optlab.schedules.scaled import Scaled
from keras_optlab.schedules.warmup import Warmup

CLASSES = {cls.__name__.lower(): cls for cls in (Cosine, OneCycle, Scaled, Warmup)}


def names(pattern: str = "*") -> list[str]:
    """The names of all schedules that match a wildcard pattern."""
    return fnmatch.filter(CLASSES, pattern.lower())


__all__ = ["Cosine", "OneCycle", "Scaled", "Warmup", "names"]
