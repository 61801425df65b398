"""What the schedules share: a config that follows from the constructor, and checks."""

import inspect
import math

import keras
import numpy as np
from keras import ops

KerasSchedule = keras.optimizers.schedules.LearningRateSchedule


class Schedule(KerasSchedule):
    def get_config(self) -> dict:
        values = {n: getattr(self, n) for n in inspect.signature(type(self)).parameters}
        return {n: keras.saving.serialize_keras_object(x) if isinstance(x, KerasSchedule) else x for n, x in values.items()}

    @classmethod
    def from_config(cls, config):
        return cls(**{n: keras.saving.deserialize_keras_object(x) if isinstance(x, dict) else x for n, x in config.items()})

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in inspect.signature(type(self)).parameters)})"


def value(rate, step):
    return ops.cast(rate(step), "float32") if isinstance(rate, KerasSchedule) else ops.convert_to_tensor(rate, "float32")


def check_rate(owner: str, rate, name: str = "learning_rate", schedule: bool = True):
    if schedule and isinstance(rate, KerasSchedule):
        return rate
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not number or not 0 <= rate < math.inf:
        kinds = "a number >= 0 or a schedule" if schedule else "a number >= 0"
        raise ValueError(f"`{owner}({name}=...)` must be {kinds}. Received: {name}={rate!r}")
    return float(rate)


def check_steps(owner: str, steps, least: int = 1) -> int:
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < least:
        raise ValueError(f"`{owner}(steps=...)` must be a whole number >= {least}: epochs times batches per epoch. Received: steps={steps!r}")
    return int(steps)
