"""What the samplers share whose engine is one of Optuna's: the history as a study over codes."""

import abc
import warnings

import numpy as np
import optuna
from optuna import distributions
from optuna.trial import TrialState, create_trial

from keras_optlab.search import store
from keras_optlab.search.samplers.base import Sampler, scaled


class OptunaSampler(Sampler):
    """Asks one of Optuna's samplers, with the history as a study; the first row is the default or the middle.

    Args:
        space: the search space.
        seed: an integer >= 0.
    """

    whole = False  # whether the inactive parameters take part, with random codes

    @abc.abstractmethod
    def engine(self, seed: int) -> optuna.samplers.BaseSampler:
        """Optuna's sampler."""

    def suggest(self) -> np.ndarray | None:
        if not len(self.rows) + len(self.waiting):
            return self.space.start()
        study = self.study()
        for _ in range(20):
            trial = study.ask()
            row = self.space.walk(lambda j: self.choose(trial, j))
            if self._key(row) not in self._seen:
                return row
        return self.random_row()

    def results(self) -> np.ndarray:
        """What the engine is to maximize (trainings x goals)."""
        return self.objectives

    def distribution(self, j: int) -> distributions.BaseDistribution:
        """Optuna's distribution of a parameter's code, or of the index of its value where the values are evenly spaced."""
        p = self.space.parameters[j]
        if p.unordered:
            return distributions.CategoricalDistribution(range(p.levels))
        return distributions.IntDistribution(0, p.levels - 1) if p.even else distributions.FloatDistribution(0.0, 1.0)

    def choose(self, trial: optuna.Trial, j: int) -> float:
        """The code that Optuna suggests for a parameter."""
        p, name = self.space.parameters[j], str(j)
        if not (p.unordered or p.even):
            return trial.suggest_float(name, 0.0, 1.0)
        return p.codes[trial.suggest_categorical(name, range(p.levels)) if p.unordered else trial.suggest_int(name, 0, p.levels - 1)]

    def study(self) -> optuna.Study:
        """The history as a study in memory, failures worst in every objective and marked by a constraint."""
        values = scaled(self.results())
        values = np.where(np.isfinite(values), values, np.nanmin(values, 0, initial=0.0, where=np.isfinite(values)))
        with store.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(sampler=self.engine(int(self.rng.integers(2**31))), directions=["maximize"] * values.shape[1])
        rows = np.vstack([self.rows, self.waiting])
        active = self.space.clean(rows)[1]
        if self.whole:
            rows, active = np.where(active, rows, self.hidden(len(rows))), np.ones_like(active)
        every = [self.distribution(j) for j in range(len(self.space))]
        for i, (row, on) in enumerate(zip(rows, active, strict=True)):
            about = {"params": {str(j): self.index(j, row[j]) for j in np.flatnonzero(on)}, "distributions": {str(j): every[j] for j in np.flatnonzero(on)}}
            if i < len(values):
                failed = not np.isfinite(self.scores[i])
                study.add_trial(create_trial(values=values[i], constraints={"failed": 1.0 if failed else -1.0}, **about))
            else:
                study.add_trial(create_trial(state=TrialState.RUNNING, **about))
        return study

    def hidden(self, count: int) -> np.ndarray:
        """What the inactive parameters of each training would have been: random codes, the same in every call."""
        U = np.random.default_rng([self.seed, 2]).random((count, len(self.space)))
        return np.stack([p.draw(U[:, j]) for j, p in enumerate(self.space.parameters)], 1)

    def index(self, j: int, code: float) -> float | int:
        p = self.space.parameters[j]
        return int(np.argmin(np.abs(p.codes - code))) if p.unordered or p.even else float(code)
