from keras_optlab.optimizers.shell import FormulaOptimizer, hyper, linear, log


class SGDW(FormulaOptimizer):
    """Stochastic gradient descent with heavy-ball or Nesterov momentum m and decoupled weight decay.

    Reference: [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101), momentum as in [Sutskever et al., 2013](https://proceedings.mlr.press/v28/sutskever13.html)
    """

    learning_rate: float = hyper(default=0.01, within=(0, float("inf")), tune=log(1e-3, 1.0), doc="Step size.")
    momentum: float = hyper(default=0.9, within=(0, 1), tune=linear(0.8, 0.98), doc="Share of the last step that is kept.")
    nesterov: bool = hyper(default=False, doc="Look ahead along the momentum.")
    slots = ("m",)

    def update(self, g, p, s, k):
        m = k.momentum * s["m"] + g
        return k.lr * (g + k.momentum * m if self.nesterov else m), {"m": m}
