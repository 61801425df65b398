"""What can be changed in a training between two epochs: weights with the state of the optimizer, the rate, the clipping."""

import keras
import numpy as np

from keras_optlab.optimizers.shell import keras_seams as seams
from keras_optlab.schedules import Scaled
from keras_optlab.training import instrument
from keras_optlab.training.resume import copied, parts_of

KerasSchedule = keras.optimizers.schedules.LearningRateSchedule


def state(model) -> list[np.ndarray]:
    """Copies of weights, statistics, seeds and all of the optimizer but a rate that is a variable, for `put_back`."""
    return copied(_steered(model))


def put_back(model, values: list[np.ndarray]) -> None:
    for variable, value in zip(_steered(model), values, strict=True):
        variable.assign(value)


def finite(model) -> bool:
    """Whether all weights and statistics are."""
    return all(np.isfinite(value).all() for value in copied(parts_of(model)["model"]) if value.dtype.kind == "f")


def settings(model) -> dict:
    """What `set_to` takes: "rate", or for a schedule the factor "scale", or neither for a function of the user's own; "clip", a global norm or `None`."""
    optimizer = _innermost(model)
    rate = seams.rate(optimizer)
    found = {"clip": None if optimizer.global_clipnorm is None else float(optimizer.global_clipnorm)}
    if isinstance(rate, keras.Variable):
        found["rate"] = float(keras.ops.convert_to_numpy(rate.value))
    elif isinstance(rate, KerasSchedule):
        found["scale"] = rate.factor if isinstance(rate, Scaled) else 1.0
    return found


def set_to(model, wanted: dict) -> None:
    """Sets what is in `wanted`, as `settings` gives it. A schedule or a norm is a constant in the train function, which is made anew for it."""
    optimizer, before = _innermost(model), settings(model)
    if "rate" in wanted:
        optimizer.learning_rate = wanted["rate"]
    scale, clip = wanted.get("scale", before.get("scale")), wanted.get("clip", before["clip"])
    if scale != before.get("scale"):
        rate = seams.rate(optimizer)
        plain = rate.learning_rate if isinstance(rate, Scaled) else rate
        optimizer.learning_rate = plain if scale == 1 else Scaled(plain, scale)
    optimizer.global_clipnorm = clip
    if (scale, clip) != (before.get("scale"), before["clip"]):
        instrument.renew(model)


def can_clip(model, norm: float) -> bool:
    """Whether a norm is one that is not clipped to already; Keras clips in one way only."""
    optimizer = _innermost(model)
    return optimizer.clipnorm is None and optimizer.clipvalue is None and 0 < norm < (optimizer.global_clipnorm or np.inf)


def _innermost(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)  # LossScaleOptimizer


def _steered(model) -> list:
    rate, parts = seams.rate(_innermost(model)), parts_of(model)
    return [*parts["model"], *(v for v in parts["optimizer"] if v is not rate)]
