from keras import ops

from keras_optlab.optimizers.shell import FormulaOptimizer, Slot, hyper, log


class Prodigy(FormulaOptimizer):
    """Adam that estimates its own step size d, from below, by how far the weights p have come from their start p0; leave the rate at 1.

    r is the weighted sum of gradients; m and v hold d times Adam's.

    Reference: [Mishchenko & Defazio, 2023](https://arxiv.org/abs/2306.06101), Algorithm 4
    """

    learning_rate: float = hyper(
        default=1.0, within=(0, float("inf")), tune=log(0.3, 3.0), doc="Multiple of the estimated step size; a schedule may shrink it."
    )
    beta_1: float = hyper(default=0.9, within=(0, 1), doc="Decay of the mean.")
    beta_2: float = hyper(default=0.999, within=(0, 1), doc="Decay of the square; its root is the decay of the estimate's sums.")
    epsilon: float = hyper(default=1e-8, within=(0, float("inf")), doc="Added to the root of the square, times d.")
    d0: float = hyper(default=1e-6, static=True, within=(1e-30, float("inf")), doc="First estimate of the step size; far too small is right.")
    d_coef: float = hyper(default=1.0, within=(1e-30, float("inf")), tune=log(0.3, 3.0), doc="Factor of the estimate.")
    decay = "own"

    def slots(self, plan):
        return {"m": Slot(), "v": Slot(), "r": Slot(), "p0": Slot(start="param")}

    def scalars(self):
        return {"d": self.d0, "d_old": self.d0, "numerator": 0.0}

    def r(self, g, s, d, k):
        return k.beta_2**0.5 * s["r"] + d / k.d0 * d * k.lr * g

    def shared(self, G, P, S, c, k):
        d = c["d"]
        gained = sum(ops.sum(g * (s["p0"] - p)) for g, p, s in zip(G, P, S))
        numerator = k.beta_2**0.5 * c["numerator"] + d / k.d0 * d * k.lr * gained
        denominator = sum(ops.sum(ops.abs(self.r(g, s, d, k))) for g, s in zip(G, S))
        known = (denominator > 0) & (k.lr > 0)
        estimate = ops.where(known, k.d_coef * numerator / ops.maximum(denominator, 1e-30), d)
        return {"d": ops.maximum(d, estimate), "d_old": d, "numerator": numerator}, G, True

    def update(self, g, p, s, k):
        d = k.c["d_old"]
        m = k.beta_1 * s["m"] + (1 - k.beta_1) * d * g
        v = k.beta_2 * s["v"] + (1 - k.beta_2) * d * d * g * g
        step = m / (ops.sqrt(v) + k.c["d"] * k.epsilon) + k.decay * p
        return d * k.lr * step, s | {"m": m, "v": v, "r": self.r(g, s, d, k)}
