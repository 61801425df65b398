import keras
from keras import ops

from keras_optlab.schedules.base import Schedule, check_rate, check_steps, value


@keras.saving.register_keras_serializable("keras_optlab")
class Warmup(Schedule):
    """Rises linearly to a rate, or to the start of another schedule, which then begins.

    Args:
        learning_rate: the rate after the warm-up: a number, or a schedule, which sees its own step 0 when the warm-up ends.
        steps: updates of the warm-up, a whole number >= 0. The first update already has rate `learning_rate / steps`.

    Example:
        >>> keras_optlab.optimizers.AdamW(Warmup(Cosine(1e-3, steps=900), steps=100))
    """

    def __init__(self, learning_rate, steps):
        self.learning_rate = check_rate("Warmup", learning_rate)
        self.steps = check_steps("Warmup", steps, least=0)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = value(self.learning_rate, ops.maximum(step - self.steps, 0.0))
        return after * ops.minimum(1.0, (step + 1) / max(self.steps, 1))
