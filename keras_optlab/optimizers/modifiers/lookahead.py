from keras import ops

from keras_optlab.optimizers.linalg import lerp
from keras_optlab.optimizers.shell import Modifier, Slot, hyper


class Lookahead(Modifier):
    """Every k updates the weights go back to a slow copy that has moved a share alpha of their way.

    Example:
        >>> optimizer = Lookahead(AdamW(1e-3, clipnorm=1.0), k=5)

    Reference: [Zhang et al., 2019](https://arxiv.org/abs/1907.08610)
    """

    k: int = hyper(default=5, within=(1, 10**9), doc="Updates between two meetings.")
    alpha: float = hyper(default=0.5, within=(0, 1.000001), doc="Share of the way the slow weights go.")

    def slots(self, plan):
        return {"slow": Slot(start="param")}

    def update(self, g, p, s, k):
        d, new = k.inner(g, p, s)
        meet = k.t % k.k == 0
        slow = ops.where(meet, lerp(p - d, s["slow"], 1 - k.alpha), s["slow"])
        return ops.where(meet, p - slow, d), new | {"slow": slow}
