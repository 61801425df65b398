from keras import ops

from keras_optlab.optimizers.shell import Modifier, hyper, log


class SAM(Modifier):
    """Sharpness-aware minimization: the gradient is taken a distance rho uphill of the weights, where the loss around them is largest.

    Two gradients on one batch, so it trains an attached model (`keras_optlab.training.attach`); the weights themselves never leave their place.

    Example:
        >>> optimizer = SAM(AdamW(1e-3), rho=0.05)

    Reference: [Foret et al., 2021](https://arxiv.org/abs/2010.01412)
    """

    rho: float = hyper(default=0.05, within=(0, float("inf")), tune=log(0.01, 0.5), doc="Radius of the neighbourhood.")

    def gradient(self, evaluate, P, S, c, k):
        G = evaluate.grad(P)
        length = ops.sqrt(sum(ops.sum(g * g) for g in G))
        return evaluate.grad([p + k.rho / ops.maximum(length, 1e-12) * g for p, g in zip(P, G)])
