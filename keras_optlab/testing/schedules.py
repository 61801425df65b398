"""The laws every schedule obeys."""

import json
import math

import keras
from keras import ops


def check_schedule(make) -> None:
    """Checks a learning-rate schedule: JSON round trip, finite and not negative at every step, the same number eagerly and for an array of steps.

    Args:
        make: a function without arguments that returns a `LearningRateSchedule`.

    Example:
        >>> check_schedule(lambda: keras_optlab.schedules.Cosine(1e-3, steps=100))
    """
    schedule = make()
    config = json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    again = keras.optimizers.schedules.deserialize(config)
    for step in (0, 1, 2, 7, 99, 100, 101, 10**6):
        rate = float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(step))))
        assert math.isfinite(rate) and rate >= 0, f"{schedule!r} is {rate} at step {step}"
        assert rate == float(ops.convert_to_numpy(again(ops.convert_to_tensor(step)))), f"{schedule!r} changes on its way through its config"
