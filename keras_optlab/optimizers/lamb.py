from keras import ops

from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.linalg import lerp, norm


class LAMB(AdamW):
    """AdamW for large batches: every weight moves by the learning rate times its own norm.

    Reference: [You et al., 2020](https://arxiv.org/abs/1904.00962), Algorithm 2
    """

    decay = "own"

    def update(self, g, p, s, k):
        m, v = lerp(g, s["m"], k.beta_1), lerp(g * g, s["v"], k.beta_2)
        u = self.direction(g, m, v, k) + k.decay * p
        length, step = norm(p), norm(u)
        ratio = ops.where((length > 0) & (step > 0), length / ops.maximum(step, 1e-30), 1.0)
        return k.lr * ratio * u, {"m": m, "v": v}
