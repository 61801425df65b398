"""Trainings for which there is not the memory."""

import keras
from keras_tuner.errors import FailedTrialError

from keras_optlab.training.memory import available_memory, estimated_memory, size


class Infeasible(FailedTrialError, MemoryError):
    """A training for which there is not the memory: told before it runs, so that it costs nothing and the sampler learns where the wall is."""


def check_memory(model: keras.Model, batch_size: int, limit: float | None = None) -> None:
    """Refuses a training that would run out of memory; for the end of a hypermodel's `build`.

    Args:
        model: A built model, compiled or not.
        batch_size: Images, or whatever the model takes, in a batch.
        limit: Bytes that a training may take. Defaults to `available_memory()`.

    Raises:
        Infeasible: `estimated_memory` is above the limit. A tuner notes the trial as failed, with this message.

    Example:
        >>> def build(hp):
        ...     model = make_model(hp)
        ...     check_memory(model, hp.Choice("batch_size", [32, 128, 512]))
        ...     return model
    """
    limit = available_memory() if limit is None else limit
    estimate = estimated_memory(model, batch_size)
    if estimate > limit:
        raise Infeasible(
            f"Training would take some {size(estimate)} of memory, and the limit is {size(limit)}. Received: `batch_size` {batch_size}, "
            f"{model.count_params():,} parameters. Smaller batches, images or layers take less; a larger limit can be given."
        )
