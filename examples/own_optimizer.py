"""An optimizer of one's own: a few declarations and a pure formula. The shell makes a Keras optimizer of it and the laws prove it."""

import numpy as np
from keras import ops

from keras_optlab.optimizers import Cautious, FormulaOptimizer, hyper
from keras_optlab.problems import rosenbrock
from keras_optlab.testing import check_optimizer, train, values


class Signum(FormulaOptimizer, package="my_project"):
    """The sign of the momentum m: every coordinate moves by the learning rate.

    Reference: [Bernstein et al., 2018](https://arxiv.org/abs/1802.04434)
    """

    learning_rate: float = hyper(default=1e-3, within=(0, float("inf")), doc="Step size.")
    momentum: float = hyper(default=0.9, within=(0, 1), doc="Decay of the momentum.")
    slots = ("m",)

    def update(self, g, p, s, k):
        m = k.momentum * s["m"] + (1 - k.momentum) * g
        return k.lr * ops.sign(m), {"m": m}


if __name__ == "__main__":
    problem = rosenbrock()
    variables = problem.variables()
    train(Cautious(Signum(5e-3)), problem, 500, variables=variables)
    print("Rosenbrock's valley after 500 steps:", *np.round(values(variables), 2), "(the minimum is at 1, 1)")
    check_optimizer(
        lambda **settings: Signum(**{"learning_rate": 5e-3} | settings), skip=("replicas", "new_process")
    )  # these need 2 devices, an importable module
    print("Signum obeys the laws.")
