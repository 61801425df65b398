from keras import ops

from keras_optlab.optimizers.linalg import lerp
from keras_optlab.optimizers.shell import FormulaOptimizer, hyper, log


class Lion(FormulaOptimizer):
    """Sign of an interpolated momentum m: one slot, every coordinate moves by exactly the learning rate.

    Reference: [Chen et al., 2023](https://arxiv.org/abs/2302.06675)
    """

    learning_rate: float = hyper(default=1e-3, within=(0, float("inf")), tune=log(1e-5, 1e-2), doc="Step size; 3-10x below AdamW's.")
    beta_1: float = hyper(default=0.9, within=(0, 1), doc="Weight of the momentum inside the sign.")
    beta_2: float = hyper(default=0.99, within=(0, 1), doc="Decay of the momentum.")
    slots = ("m",)
    weight_first = True

    def update(self, g, p, s, k):
        return k.lr * ops.sign(lerp(g, s["m"], k.beta_1)), {"m": lerp(g, s["m"], k.beta_2)}
