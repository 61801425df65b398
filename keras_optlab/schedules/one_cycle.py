import math

import keras
from keras import ops

from keras_optlab.schedules.base import Schedule, check_rate, check_steps

RISE, START, END = 0.3, 1 / 25, 1e-4 / 25


@keras.saving.register_keras_serializable("keras_optlab")
class OneCycle(Schedule):
    """Up to the peak over the first 30 % of the steps, then down to nearly nothing, both along a cosine.

    It starts at 1/25 of the peak and ends at 1/250,000 of it, where it stays.

    Args:
        learning_rate: the peak, a number >= 0.
        steps: updates of the whole cycle, a whole number >= 1.

    Example:
        >>> model.compile(keras_optlab.optimizers.SGDW(OneCycle(0.1, steps=epochs * batches)))

    Reference: [Smith & Topin, 2018](https://arxiv.org/abs/1708.07120), in two phases
    """

    def __init__(self, learning_rate, steps):
        self.learning_rate = check_rate("OneCycle", learning_rate, schedule=False)
        self.steps = check_steps("OneCycle", steps)

    def __call__(self, step):
        last, top = max(self.steps - 1, 1), max(RISE * self.steps - 1, 1e-6)
        step = ops.minimum(ops.cast(step, "float32"), float(last))
        up = between(START, 1.0, step / top)
        down = between(1.0, END, (step - top) / max(last - top, 1e-6))
        return self.learning_rate * ops.where(step <= top, up, down)


def between(start, end, part):
    """Along half a cosine from start to end."""
    return end + (start - end) * 0.5 * (1 + ops.cos(math.pi * ops.clip(part, 0.0, 1.0)))
