"""What is known of an optimizer, and twins of it with another rate, whatever it has for one."""

import keras

from keras_optlab.optimizers.shell import keras_seams as seams

SPENT = 0.01  # of its largest rate: what a schedule leaves when it is over


def innermost(optimizer):
    """The optimizer whose name, rate and settings count: that in the LossScaleOptimizer with which Keras wraps it for mixed precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def rate_of(optimizer) -> tuple[float, int | None]:
    """The largest rate that an optimizer takes in its first 10,000 steps, and from which of the first 100 steps a schedule leaves nearly nothing of it.

    Of a function of the user's own the rate of now, for it may do anything when it is called.
    """
    schedule = schedule_of(optimizer)
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate)), None
    rates = {step: float(schedule(step)) for step in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)}
    largest = max(rates.values())
    late = [step for step in rates if max(rate for at, rate in rates.items() if at >= step) <= SPENT * largest]
    return largest, late[0] if late and late[0] <= 100 else None


def schedule_of(optimizer):
    """The schedule, or the function of the user's own, that gives the rate; `None` where it is a number."""
    rate = seams.rate(innermost(optimizer))
    return None if isinstance(rate, keras.Variable) else rate


def with_rate(config: dict) -> dict:
    """The part of an optimizer's config that holds the learning rate: its own, or that of the optimizer inside."""
    if "learning_rate" in config:
        return config
    return with_rate(next(one["config"] for one in config.values() if isinstance(one, dict) and isinstance(one.get("config"), dict)))


def config_of(optimizer) -> dict:
    """An optimizer's config with a number for a rate, `rate_of`: schedules and functions of the user's own often have no config."""
    if schedule_of(optimizer) is None:
        return optimizer.get_config()
    with seams.constant_rate(_chain(optimizer), rate_of(optimizer)[0]):
        return optimizer.get_config()


def made_of(optimizer, config: dict, schedule=None):
    """A new optimizer of the same class of what `config_of` gave, as it may have been changed since; `schedule` takes the place of its rate."""
    new = type(optimizer).from_config(config)
    if schedule is not None:
        innermost(new).learning_rate = schedule
    return new


def settled_in(optimizer) -> str:
    """Name of the optimizer that rate and settings are given to: the one that others modify."""
    return type(_chain(optimizer)[-1]).__name__


def optimizer_facts(optimizer) -> dict | None:
    """`{"name", "within", "learning_rate", "scheduled", "over", "decay"}`: its name and those of the ones that it modifies, and what `rate_of` tells."""
    if optimizer is None:
        return None
    rate, over = rate_of(optimizer)
    decay = with_rate(config_of(optimizer)).get("weight_decay")
    name, *within = (type(one).__name__ for one in _chain(innermost(optimizer)))
    facts = {"name": name, "within": within, "learning_rate": rate, "scheduled": schedule_of(optimizer) is not None, "over": over}
    return facts | {"decay": decay if isinstance(decay, (int, float)) else None}


def _chain(optimizer) -> list:
    """It and those within."""
    inner = getattr(optimizer, "inner_optimizer", None) or getattr(optimizer, "inner", None)
    return [optimizer, *(_chain(inner) if isinstance(inner, keras.optimizers.Optimizer) else [])]
