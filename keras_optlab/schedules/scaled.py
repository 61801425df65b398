import keras

from keras_optlab.schedules.base import KerasSchedule, Schedule, check_rate, value


@keras.saving.register_keras_serializable("keras_optlab")
class Scaled(Schedule):
    """Another schedule, each of its rates times a factor.

    Args:
        learning_rate: the schedule.
        factor: a number >= 0.

    Example:
        >>> float(Scaled(Cosine(1e-3, steps=100), 0.1)(50))  # half of a tenth of the peak
    """

    def __init__(self, learning_rate, factor):
        if not isinstance(learning_rate, KerasSchedule):
            raise ValueError(f"`Scaled(learning_rate=...)` must be a schedule; a number can be multiplied. Received: learning_rate={learning_rate!r}")
        self.learning_rate, self.factor = learning_rate, check_rate("Scaled", factor, "factor", schedule=False)

    def __call__(self, step):
        return self.factor * value(self.learning_rate, step)
