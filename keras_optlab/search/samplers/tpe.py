"""Optuna's tree-structured Parzen estimator."""

import optuna

from keras_optlab.search.samplers.study import OptunaSampler


class TPE(OptunaSampler):
    """Suggests what is likely under the good trainings and unlikely under the others, jointly over the parameters that are active together.

    The engine is Optuna's; it begins with the defaults (or the middle) and nine random draws. A failed training counts as worse than all
    others. With several objectives the good ones are those of the first Pareto fronts.

    Reference: [Bergstra et al., 2011](https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization);
        [Watanabe, 2023](https://arxiv.org/abs/2304.11127)
    """

    def engine(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
