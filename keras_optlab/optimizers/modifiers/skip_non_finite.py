from keras import ops

from keras_optlab.optimizers.shell import Modifier


class SkipNonFinite(Modifier):
    """An update with a NaN or an infinity in any gradient does not take place and is not counted.

    Example:
        >>> optimizer = SkipNonFinite(AdamW(1e-3))
    """

    def shared(self, G, P, S, c, k):
        return c, G, ops.all(ops.stack([ops.all(ops.isfinite(g)) for g in G]))
