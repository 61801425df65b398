from keras import ops

from keras_optlab.optimizers.linalg import debias, lerp
from keras_optlab.optimizers.shell import FormulaOptimizer, hyper, log


class AdamW(FormulaOptimizer):
    """Adam (running mean m and square v of the gradient, both corrected for their start at zero) with decoupled weight decay.

    Reference: [Kingma & Ba, 2015](https://arxiv.org/abs/1412.6980), Algorithm 1; [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)
    """

    learning_rate: float = hyper(default=1e-3, within=(0, float("inf")), tune=log(1e-4, 1e-2), doc="Step size.")
    beta_1: float = hyper(default=0.9, within=(0, 1), doc="Decay of the mean.")
    beta_2: float = hyper(default=0.999, within=(0, 1), doc="Decay of the square.")
    epsilon: float = hyper(default=1e-7, within=(0, float("inf")), doc="Added to the root of the square.")
    weight_decay: float = hyper(
        default=0.004, within=(0, float("inf")), tune=log(1e-4, 1e-1), doc="Decay per update, times the learning rate; `None` for none."
    )
    slots = ("m", "v")

    def update(self, g, p, s, k):
        m, v = lerp(g, s["m"], k.beta_1), lerp(g * g, s["v"], k.beta_2)
        return k.lr * self.direction(g, m, v, k), {"m": m, "v": v}

    def direction(self, g, m, v, k):
        return m / debias(k.beta_1, k.t) / (ops.sqrt(v / debias(k.beta_2, k.t)) + k.epsilon)
