from keras import ops

from keras_optlab.optimizers.linalg import debias, lerp
from keras_optlab.optimizers.shell import FormulaOptimizer, Slot, hyper, log


class ScheduleFreeAdamW(FormulaOptimizer):
    """AdamW without a schedule: the weights rest at the average x; the gradient is taken at y, between x and the fast sequence z.

    Train an attached model (`keras_optlab.training.attach`). Evaluation, checkpoints and files hold x, at any moment.

    Reference: [Defazio et al., 2024](https://arxiv.org/abs/2405.15682), Algorithm 1
    """

    learning_rate: float = hyper(default=2.5e-3, within=(0, float("inf")), tune=log(3e-4, 3e-2), doc="Step size, kept constant after the warm-up.")
    beta_1: float = hyper(default=0.9, within=(0, 1), doc="How far y stands from z towards x.")
    beta_2: float = hyper(default=0.999, within=(0, 1), doc="Decay of the square v.")
    epsilon: float = hyper(default=1e-8, within=(0, float("inf")), doc="Added to the root of the square.")
    warmup_steps: int = hyper(default=0, within=(0, 10**9), doc="Updates over which the rate rises from zero.")
    decay = "own"

    def slots(self, plan):
        return {"z": Slot(start="param"), "v": Slot()}

    def scalars(self):
        return {"part": 1.0, "weights": 0.0, "largest": 0.0}

    def gradient(self, evaluate, P, S, c, k):
        return evaluate.grad([lerp(s["z"], p, k.beta_1) for p, s in zip(P, S)])

    def rate(self, k):
        return k.lr * ops.minimum(1.0, k.t / max(self.warmup_steps, 1))

    def shared(self, G, P, S, c, k):
        """A step weighs in the average with the square of the largest rate so far."""
        largest = ops.maximum(c["largest"], self.rate(k))
        weights = c["weights"] + largest**2
        return {"part": ops.where(weights > 0, largest**2 / ops.maximum(weights, 1e-30), 0.0), "weights": weights, "largest": largest}, G, True

    def update(self, g, p, s, k):
        v = lerp(g * g, s["v"], k.beta_2)
        y = lerp(s["z"], p, k.beta_1)
        z = s["z"] - self.rate(k) * (g / (ops.sqrt(v / debias(k.beta_2, k.t)) + k.epsilon) + k.decay * y)
        return k.c["part"] * (p - z), {"z": z, "v": v}
