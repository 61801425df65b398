"""Optuna's tree-structured Parzen estimator."""

import warnings

import numpy as np

from keras_optlab.search import store
from keras_optlab.search.samplers.base import Sampler


class TPE(Sampler):
    """Suggests what is likely under the good trainings and unlikely under the others, jointly over the parameters that are active together.

    The engine is Optuna's; it begins with the defaults (or the middle) and nine random draws. A failed training counts as worse than all others.

    Reference: [Bergstra et al., 2011](https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization);
        [Watanabe, 2023](https://arxiv.org/abs/2304.11127)
    """

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

    def distribution(self, j: int):
        """Optuna's distribution of a parameter's code, or of the index of its value."""
        from optuna import distributions

        p = self.space.parameters[j]
        if p.levels is None:
            return distributions.FloatDistribution(0.0, 1.0)
        return distributions.CategoricalDistribution(range(p.levels)) if p.unordered else distributions.IntDistribution(0, p.levels - 1)

    def choose(self, trial, j: int) -> float:
        """The code that Optuna suggests for a parameter."""
        p, name = self.space.parameters[j], str(j)
        if p.levels is None:
            return trial.suggest_float(name, 0.0, 1.0)
        return p.codes[trial.suggest_categorical(name, range(p.levels)) if p.unordered else trial.suggest_int(name, 0, p.levels - 1)]

    def study(self):
        """The history as a study in memory."""
        import optuna
        from optuna.trial import TrialState, create_trial

        with store.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`
            engine = optuna.samplers.TPESampler(multivariate=True, group=True, seed=int(self.rng.integers(2**31)))
            study = optuna.create_study(sampler=engine, direction="maximize")
        succeeded = np.isfinite(self.scores)
        lowest = self.scores[succeeded].min(initial=0.0)
        for rows, scores in ((self.rows, self.scores), (self.waiting, [None] * len(self.waiting))):
            for row, on, score in zip(rows, self.space.clean(rows)[1], scores, strict=True):
                params = {str(j): self.index(j, row[j]) for j in np.flatnonzero(on)}
                about = {"params": params, "distributions": {name: self.distribution(int(name)) for name in params}}
                if score is None:
                    study.add_trial(create_trial(state=TrialState.RUNNING, **about))
                else:
                    failed = not np.isfinite(score)
                    study.add_trial(create_trial(value=lowest if failed else score, constraints={"failed": 1.0 if failed else -1.0}, **about))
        return study

    def index(self, j: int, code: float):
        p = self.space.parameters[j]
        return float(code) if p.levels is None else int(np.argmin(np.abs(p.codes - code)))
