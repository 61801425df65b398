"""The members of `keras.optimizers.Optimizer` that are not public and cannot be avoided, each behind a name of ours."""

import contextlib

from keras import ops


def all_variables(optimizer) -> list:
    """The weights the optimizer was built with, in order."""
    return optimizer._trainable_variables


def micro_steps(optimizer):
    """The counter of calls; the public `iterations` is already divided by the accumulation steps."""
    return optimizer._iterations


def rate(optimizer):
    """The learning rate as it is kept: a variable, a schedule or a callable. The public property is its value now."""
    return optimizer._learning_rate


@contextlib.contextmanager
def constant_rate(optimizers: list, rate: float):
    """Lets optimizers tell a number for their rate in a config, past attribute tracking."""
    kept = [vars(optimizer)["_learning_rate"] for optimizer in optimizers]
    for optimizer in optimizers:
        vars(optimizer)["_learning_rate"] = ops.convert_to_tensor(rate)
    try:
        yield
    finally:
        for optimizer, before in zip(optimizers, kept):
            vars(optimizer)["_learning_rate"] = before


def index(optimizer, variable) -> int | None:
    """Place of a weight among `all_variables`, also of a raw tf.Variable or one replica's copy; None if it is unknown."""
    return optimizer._trainable_variables_indices.get(optimizer._var_key(variable))


def layout(variable):
    """How `keras.distribution` spreads a variable."""
    return getattr(variable, "_layout", None)
