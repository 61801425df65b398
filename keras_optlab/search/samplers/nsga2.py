"""Optuna's NSGA-II, for several objectives."""

from optuna.samplers import BaseGASampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from keras_optlab.search.samplers.study import OptunaSampler


class Generations(NSGAIISampler):
    """Optuna's, with as many trainings to a generation as its population holds, in the order in which they ended."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])) // self.population_size

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        told = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return told[generation * self.population_size : (generation + 1) * self.population_size]


class NSGA2(OptunaSampler):
    """Evolution towards the Pareto front of several objectives: non-dominated sorting, crowding distance, constrained domination of failures.

    The engine is Optuna's, with generations of 12 instead of 50 for searches of 20 to 100 trainings. A parameter that a parent did not use
    is drawn anew.

    Reference: [Deb et al., 2002](https://doi.org/10.1109/4235.996017)
    """

    whole = True
    population = 12

    def engine(self, seed: int) -> BaseGASampler:
        return Generations(population_size=self.population, seed=seed)

    def study(self) -> Study:
        study = super().study()
        for generation in range(1, len(self.rows) // self.population):  # each is selected from the one before, which Optuna would do by recursion
            study.sampler.get_parent_population(study, generation)
        return study
