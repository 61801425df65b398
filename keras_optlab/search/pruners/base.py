"""What a pruner is told and what it decides; it knows neither models nor tuners."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
    """What a pruner sees of the training of one configuration.

    Args:
        values: the objective after each epoch, larger is better; NaN where there was none.
        epochs: how many epochs the whole training has.
        paused: whether it was stopped in a state from which it can go on.
        ended: whether it has come to an end of its own, if an early one.
    """

    values: Sequence[float]
    epochs: int
    paused: bool = False
    ended: bool = False

    @property
    def whole(self) -> bool:
        return self.ended or len(self.values) >= self.epochs

    def best(self, epoch: int | None = None) -> float:
        """The best value of the first `epoch` epochs, or of all; minus infinity if there is none."""
        values = np.asarray(self.values[:epoch], float)
        return float(np.max(values, where=np.isfinite(values), initial=-math.inf))


class Pruner:
    """Decides after each epoch whether a training goes on, and which of the stopped ones is taken up again.

    It keeps nothing: a decision depends on the curves alone, so that a search that was killed goes on as if it had not been. A new pruner
    overrides `goes_on`, and `promote` if it takes up what it has stopped.

    Args:
        warmup: epochs after which nothing is judged yet, such as those of a learning rate warm-up. After fewer than 3, or than a ninth of the
            whole, nothing ever is: the order of trainings there says little about their order at the end.

    Raises:
        ValueError: for a warm-up that is no integer >= 0.
    """

    def __init__(self, warmup: int = 0):
        if type(warmup) is not int or warmup < 0:
            raise ValueError(f"{type(self).__name__}(warmup=...) must be a number of epochs >= 0. Received: warmup={warmup!r}.")
        self.warmup = warmup

    def first(self, epochs: int) -> int:
        """The first epoch, counted from 1, after which a training of `epochs` epochs may be stopped."""
        return max(3, self.warmup, math.ceil(epochs / 9))

    def goes_on(self, trial_id: str, curves: Mapping[str, Curve]) -> bool:
        """Whether a training goes on after the last epoch of its curve, which is not the last epoch of the whole.

        Args:
            trial_id: the training.
            curves: every training of the search by its id, in the order of their start; those under way in parallel too.
        """
        raise NotImplementedError

    def promote(self, curves: Mapping[str, Curve], ending: bool = False) -> str | None:
        """The paused training to go on with, or `None` if a new one is to begin.

        Args:
            curves: every training of the search.
            ending: whether no new one can begin.
        """
        return None

    def promotable(self, curves: Mapping[str, Curve]) -> list[str]:
        """The paused trainings whose state is worth keeping; the others never go on."""
        return []
