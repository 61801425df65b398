"""A genetic algorithm for 20 to 100 trainings, on Optuna's base class."""

import math

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseGASampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from keras_optlab.search.samplers.study import OptunaSampler


class Breeding(BaseGASampler):
    """One child at a time from two of the best of all trainings that succeeded; every training is a generation.

    Args:
        population_size: how many of the best are kept.
        seed: an integer.
    """

    crossed = 0.9  # how often a child has two parents
    mutations = 2.5  # this many of the parameters plus 2 change on average: half of 3, 2 of 8
    step = 0.3  # standard deviation of a change, in units of the range

    def __init__(self, population_size: int, seed: int):
        super().__init__(population_size)
        self.rng, self.independent = np.random.default_rng(seed), RandomSampler(seed)

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        alive = [t for t in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]) if all(v <= 0 for v in t.constraints.values())]
        return sorted(alive, key=lambda t: t.value, reverse=True)[: self.population_size]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        population = self.get_parent_population(study, self.get_trial_generation(study, trial))
        return {name: d for parent in population for name, d in parent.distributions.items() if not d.single()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        population = sorted(self.get_parent_population(study, self.get_trial_generation(study, trial)), key=lambda t: t.value, reverse=True)
        if not population:
            return {}
        pair = [population[self.rng.integers(len(population), size=2).min()] for _ in range(2)]  # the winners of two tournaments
        if self.rng.random() > self.crossed:
            pair = pair[:1]
        often = self.mutations / (2 + len(search_space.keys() & pair[0].params.keys()))
        child = {}
        for name, distribution in search_space.items():
            donors = [t for t in pair if name in t.params] or [t for t in population if name in t.params]
            gene = donors[self.rng.integers(len(donors))].params[name]
            child[name] = self.mutated(gene, distribution) if self.rng.random() < often else gene
        return child

    def mutated(self, gene, distribution: BaseDistribution):
        """Another choice, or a normal step of at least one level, reflected at the bounds."""
        if isinstance(distribution, CategoricalDistribution):
            return self.rng.choice([choice for choice in distribution.choices if choice != gene]).item()
        low, high, step = distribution.low, distribution.high, self.step * self.rng.normal()
        if isinstance(distribution, FloatDistribution):
            return low + (high - low) * (1 - abs(1 - abs((gene - low) / (high - low) + step) % 2))
        moved = gene + math.copysign(max(1, round(abs(step) * (high - low))), step)
        moved = int(high - abs(high - low - abs(moved - low) % (2 * (high - low))))
        return moved if moved != gene else gene + 1 if gene < high else gene - 1

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution):
        return self.independent.sample_independent(study, trial, param_name, param_distribution)


class Genetic(OptunaSampler):
    """Evolution of the best 10: tournaments, uniform crossover, and many large mutations, which at this budget find more than fine steps.

    It starts with the defaults (or the middle) and 15 points of a Sobol sequence. Each training that ends may replace the worst of the
    best (a steady state), those that fail have no children. A child takes a conditional parameter from a parent that used it, else from
    another of the best.

    Reference: [Eiben and Smith, 2015](https://doi.org/10.1007/978-3-662-44874-8), chapters 4 and 5.
    """

    population = 10
    initial = 16

    def engine(self, seed: int) -> BaseGASampler:
        return Breeding(self.population, seed)

    def suggest(self) -> np.ndarray | None:
        n = len(self.rows) + len(self.waiting)
        few = n < self.initial or not np.isfinite(self.scores).any()
        return self.spread_row() if n and few else super().suggest()

    def results(self) -> np.ndarray:
        return self.scores[:, None]
