from keras import ops

from keras_optlab.optimizers.shell import Modifier


class Cautious(Modifier):
    """Only coordinates whose step agrees in sign with the gradient move, further in proportion.

    Example:
        >>> optimizer = Cautious(Lion(1e-4))

    Reference: [Liang et al., 2024](https://arxiv.org/abs/2411.16085), Algorithm 2
    """

    def update(self, g, p, s, k):
        d, s = k.inner(g, p, s)
        agrees = ops.cast(d * g > 0, "float32")
        return d * agrees / ops.maximum(ops.mean(agrees), 1e-3), s
