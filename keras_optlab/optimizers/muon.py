import math

from keras import ops

from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.linalg import lerp, matrix_shape, orthogonalize
from keras_optlab.optimizers.shell import FormulaOptimizer, hyper, linear, log


class Muon(FormulaOptimizer):
    """Momentum m, orthogonalized: every hidden kernel moves with all its singular values alike.

    Convolution and attention kernels are orthogonalized as the matrices they are, never per pixel or head. Biases, norms, embeddings and the first
    and last kernel of the model take the fallback, so at least three layers are needed for Muon to do anything.

    Reference: [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/); rate matched to AdamW's as in [Liu et al., 2025](https://arxiv.org/abs/2502.16982)
    """

    learning_rate: float = hyper(default=1e-3, within=(0, float("inf")), tune=log(3e-4, 3e-2), doc="Step size, comparable to AdamW's.")
    momentum: float = hyper(default=0.95, within=(0, 1), tune=linear(0.85, 0.98), doc="Decay of the momentum.")
    nesterov: bool = hyper(default=True, doc="Look ahead along the momentum.")
    rms_rate: float = hyper(default=0.2, within=(0, float("inf")), doc="Root mean square of an update, as a multiple of the learning rate.")
    ns_steps: int = hyper(default=5, within=(1, 100), doc="Newton-Schulz steps.")
    weight_decay: float = hyper(
        default=0.004, within=(0, float("inf")), tune=log(1e-4, 1e-1), doc="Decay per update, times the learning rate; `None` for none."
    )
    fallback: FormulaOptimizer = hyper(default=AdamW, doc="The optimizer of all other weights; it uses our rate and settings.")
    fallback_rate: float = hyper(default=1.0, static=True, within=(0, float("inf")), doc="The fallback's learning rate as a multiple of ours.")
    fused = False
    slots = ("m",)

    def plan(self, v, variables):
        kernels = [x for x in variables if matrix_shape(x)]
        if matrix_shape(v) and v is not kernels[0] and v is not kernels[-1]:
            return {"shape": matrix_shape(v)}
        return {"formula": self.fallback, "lr": self.fallback_rate}

    def update(self, g, p, s, k):
        m = lerp(g, s["m"], k.momentum)
        u = lerp(g, m, k.momentum) if self.nesterov else m
        u = orthogonalize(ops.reshape(u, k.plan["shape"]), self.ns_steps)
        return k.lr * k.rms_rate * math.sqrt(max(k.plan["shape"])) * ops.reshape(u, p.shape), {"m": m}
