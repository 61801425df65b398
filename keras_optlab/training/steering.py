"""What can be changed in a training between two epochs: weights with the state of the optimizer, the rate, the clipping."""

import keras
import numpy as np

from keras_optlab.optimizers.shell import keras_seams as seams
from keras_optlab.schedules import Scaled
from keras_optlab.training import instrument
from keras_optlab.training.optimizer_facts import innermost
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
    optimizer = innermost(model.optimizer)
    rate = seams.rate(optimizer)
    found = {"clip": None if optimizer.global_clipnorm is None else float(optimizer.global_clipnorm)}
    if isinstance(rate, keras.Variable):
        found["rate"] = float(keras.ops.convert_to_numpy(rate.value))
    elif isinstance(rate, KerasSchedule):
        found["scale"] = rate.factor if isinstance(rate, Scaled) else 1.0
    return found


def set_to(model, wanted: dict) -> None:
    """Sets what is in `wanted`, as `settings` gives it. A schedule or a norm is a constant in the train function, which is made anew for it."""
    optimizer, before = innermost(model.optimizer), settings(model)
    scale, clip = wanted.get("scale", before.get("scale")), wanted.get("clip", before["clip"])
    rate = seams.rate(optimizer)
    if scale != before.get("scale"):
        plain = rate.learning_rate if isinstance(rate, Scaled) else rate
        optimizer.learning_rate = plain if scale == 1 else Scaled(plain, scale)
    optimizer.global_clipnorm = clip
    if (scale, clip) != (before.get("scale"), before["clip"]):
        try:
            instrument.renew(model)
        except Exception:  # of a `make_train_function` of the user's own, whose training goes on as it was
            optimizer.global_clipnorm = before["clip"]
            if scale != before.get("scale"):
                optimizer.learning_rate = rate
            raise
    if "rate" in wanted:
        optimizer.learning_rate = wanted["rate"]


def can_clip(model, norm: float) -> bool:
    """Whether a norm is one that is not clipped to already; Keras clips in one way only."""
    optimizer = innermost(model.optimizer)
    return optimizer.clipnorm is None and optimizer.clipvalue is None and 0 < norm < (optimizer.global_clipnorm or np.inf)


def _steered(model) -> list:
    rate, parts = seams.rate(innermost(model.optimizer)), parts_of(model)
    return [*parts["model"], *(v for v in parts["optimizer"] if v is not rate)]
