"""The median rule."""

import statistics
from collections.abc import Mapping

from keras_optlab.search.pruners.base import Curve, Pruner


class Median(Pruner):
    """Stops a training whose best epoch so far is below the median of what the whole trainings had after as many epochs; it never goes on.

    Args:
        startup: how many whole trainings there must be before one is stopped.
        warmup: epochs after which nothing is judged yet.

    Raises:
        ValueError: for an argument out of range.

    Reference: [Golovin et al., 2017](https://dl.acm.org/doi/10.1145/3097983.3098043)
    """

    def __init__(self, startup: int = 5, warmup: int = 0):
        super().__init__(warmup)
        if type(startup) is not int or startup < 1:
            raise ValueError(f"Median(startup=...) must be an integer >= 1. Received: startup={startup!r}.")
        self.startup = startup

    def goes_on(self, trial_id: str, curves: Mapping[str, Curve]) -> bool:
        epoch, epochs = len(curves[trial_id].values), curves[trial_id].epochs
        if epoch < self.first(epochs):
            return True
        whole = [curve.best(epoch) for curve in curves.values() if curve.whole and len(curve.values) >= epoch]
        return len(whole) < self.startup or curves[trial_id].best() >= statistics.median(whole)
