"""Asynchronous successive halving."""

import math
from collections.abc import Mapping

from keras_optlab.search.pruners.base import Curve, Pruner


class ASHA(Pruner):
    """At each rung (after 3 and 9 of 27 epochs) the best third goes on at once; the others are paused, and go on if they come into the best third later.

    A training is judged by its best epoch so far, among all that have trained as long. Until one has come to its end the best one at a rung goes on, however
    few there are: a search that is interrupted early has a whole training. Where no new training can begin any more, each rung promotes at least its best
    one. Of those that are paused at a rung, the best `factor` keep their
    state: one goes on for about so many that arrive.

    Args:
        factor: the best 1 / factor go on; the rungs are a factor apart.
        warmup: epochs after which nothing is judged yet.

    Raises:
        ValueError: for an argument out of range.

    Reference: [Li et al., 2020](https://arxiv.org/abs/1810.05934)
    """

    def __init__(self, factor: int = 3, warmup: int = 0):
        super().__init__(warmup)
        if type(factor) is not int or factor < 2:
            raise ValueError(f"{type(self).__name__}(factor=...) must be an integer >= 2. Received: factor={factor!r}.")
        self.factor = factor

    def rungs(self, epochs: int) -> list[int]:
        """The epochs after which a training is judged; none in its last third, where stopping saves too little."""
        rungs, rung = [], self.first(epochs)
        while 1.5 * rung <= epochs:
            rungs.append(rung)
            rung *= self.factor
        return rungs

    def brackets(self, curves: Mapping[str, Curve]) -> dict[str, int]:
        """For each training, how many of the rungs it passes unjudged; only those of one bracket are compared."""
        return dict.fromkeys(curves, 0)

    def goes_on(self, trial_id: str, curves: Mapping[str, Curve]) -> bool:
        epoch, rungs = len(curves[trial_id].values), self.rungs(curves[trial_id].epochs)
        if epoch not in rungs:
            return True
        brackets, least = self.brackets(curves), int(not any(curve.whole for curve in curves.values()))
        return epoch not in rungs[brackets[trial_id] :] or trial_id in self.best(epoch, brackets[trial_id], curves, brackets, least)

    def promote(self, curves: Mapping[str, Curve], ending: bool = False) -> str | None:
        brackets = self.brackets(curves)
        rungs = {(len(curve.values), brackets[trial_id]) for trial_id, curve in curves.items() if curve.paused}
        for epoch, bracket in sorted(rungs, reverse=True):
            for trial_id in self.best(epoch, bracket, curves, brackets, least=int(ending)):
                if curves[trial_id].paused and len(curves[trial_id].values) == epoch:
                    return trial_id
        return None

    def promotable(self, curves: Mapping[str, Curve]) -> list[str]:
        brackets, places = self.brackets(curves), {}
        for trial_id, curve in curves.items():
            if curve.paused and math.isfinite(curve.best()):
                places.setdefault((len(curve.values), brackets[trial_id]), []).append(trial_id)
        return [trial_id for ids in places.values() for trial_id in sorted(ids, key=lambda i: -curves[i].best())[: self.factor]]

    def best(self, epoch: int, bracket: int, curves: Mapping[str, Curve], brackets: dict[str, int], least: int = 0) -> list[str]:
        """Who goes on after an epoch, the best first; of equals, the one that began first."""
        values = {i: curve.best(epoch) for i, curve in curves.items() if brackets[i] == bracket and len(curve.values) >= epoch}
        ranked = sorted(values, key=lambda i: -values[i])[: max(len(values) // self.factor, least)]
        return [i for i in ranked if math.isfinite(values[i])]
