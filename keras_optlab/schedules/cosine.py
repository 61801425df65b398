import math

import keras
from keras import ops

from keras_optlab.schedules.base import Schedule, check_rate, check_steps


@keras.saving.register_keras_serializable("keras_optlab")
class Cosine(Schedule):
    """Half a cosine from the peak down to a minimum, where it stays.

    Args:
        learning_rate: the rate of the first update, a number >= 0.
        steps: updates until the minimum is reached, a whole number >= 1.
        minimum: the last rate, a number >= 0. Defaults to 0.0.

    Example:
        >>> float(Cosine(1e-3, steps=100)(50))  # half way: half the peak

    Reference: [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1608.03983)
    """

    def __init__(self, learning_rate, steps, minimum=0.0):
        self.learning_rate = check_rate("Cosine", learning_rate, schedule=False)
        self.steps = check_steps("Cosine", steps)
        self.minimum = check_rate("Cosine", minimum, "minimum", schedule=False)

    def __call__(self, step):
        done = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.minimum + (self.learning_rate - self.minimum) * 0.5 * (1 + ops.cos(math.pi * done))
