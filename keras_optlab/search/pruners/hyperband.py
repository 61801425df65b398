"""Hyperband."""

from collections.abc import Mapping

from keras_optlab.search.pruners.asha import ASHA
from keras_optlab.search.pruners.base import Curve


class Hyperband(ASHA):
    """ASHA in brackets: some trainings are judged at every rung, others later or never, for spaces where early epochs mislead.

    Each bracket gets about as many epochs as the others; what fails costs no more than its own place.

    Args:
        factor: the best 1 / factor go on; the rungs are a factor apart.
        warmup: epochs after which nothing is judged yet.

    Raises:
        ValueError: for an argument out of range.

    Reference: [Li et al., 2018](https://jmlr.org/papers/v18/16-558.html)
    """

    def brackets(self, curves: Mapping[str, Curve]) -> dict[str, int]:
        plans = {epochs: self.plan(epochs, len(curves)) for epochs in {curve.epochs for curve in curves.values()}}
        return {trial_id: plans[curve.epochs][place] for place, (trial_id, curve) in enumerate(curves.items())}

    def plan(self, epochs: int, count: int) -> list[int]:
        """The brackets of the first `count` trainings, if all have `epochs` epochs: the next one goes where least was spent."""
        costs, plan = self.costs(epochs), []
        spent = [0.0] * len(costs)
        for _ in range(count):
            plan.append(min(range(len(costs)), key=lambda bracket: spent[bracket] + costs[bracket]))
            spent[plan[-1]] += costs[plan[-1]]
        return plan

    def costs(self, epochs: int) -> list[float]:
        """How many epochs a training takes on average in each bracket."""
        levels = [*self.rungs(epochs), epochs]
        return [levels[b] + sum((levels[k] - levels[k - 1]) / self.factor ** (k - b) for k in range(b + 1, len(levels))) for b in range(len(levels))]
