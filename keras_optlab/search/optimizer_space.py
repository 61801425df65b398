"""Search spaces that follow from the declarations of optimizers and schedules."""

import math

from keras_optlab import schedules
from keras_optlab.optimizers import FormulaOptimizer, Modifier, find
from keras_optlab.optimizers.shell.hyper import SETTINGS, Hyper, Range


def optimizer_space(hp, names, schedule=None, defaults=None, **settings) -> FormulaOptimizer:
    """Declares which optimizer, and under each its own rate and other searched hyperparameters; returns the one that is chosen.

    Args:
        hp: `keras_tuner.HyperParameters`. Declared are "optimizer" and, in its conditional scopes, "lion/learning_rate", "lion/weight_decay", ...
        names: names of optimizers, the first is the default; or one name.
        schedule: what `schedule_space` returned: makes a schedule of the peak rate.
        defaults: where the search of a hyperparameter starts, such as {"adamw/learning_rate": 3e-3}, instead of its declared default.
        settings: further arguments of the optimizer, such as `clipnorm=1.0`.

    Raises:
        ValueError: for an unknown name, a modifier, or no name.

    Example:
        >>> optimizer = optimizer_space(hp, ["adamw", "lion"], schedule_space(hp, steps=1000))
    """
    classes = {name: find(name) for name in ([names] if isinstance(names, str) else names)}
    if not classes or (wrong := [n for n, cls in classes.items() if issubclass(cls, Modifier)]):
        raise ValueError(
            f"`optimizer_space(names=...)` needs names of optimizers, not of modifiers: wrap what it returns. Received: {list(names)}"
            + (f", modifiers {wrong}" if classes else "")
        )
    chosen = hp.Choice("optimizer", list(classes), default=next(iter(classes)), ordered=False)
    values = {}
    for name, cls in classes.items():
        with hp.conditional_scope("optimizer", [name]):
            searched = {"weight_decay": SETTINGS["weight_decay"]} | {n: h for n, h in cls.hypers.items() if h.tune}
            declared = {n: declare(hp, f"{name}/{n}", h, (defaults or {}).get(f"{name}/{n}", h.default)) for n, h in searched.items()}
        if name == chosen:
            values = declared
    if schedule:
        values["learning_rate"] = schedule(values["learning_rate"])
    return classes[chosen](**values | settings)


def schedule_space(hp, steps: int):
    """Declares the shape of the learning rate over a run of `steps` updates; returns a function from the peak rate to the rate or schedule.

    Args:
        hp: `keras_tuner.HyperParameters`. Declared are "schedule" and, for "cosine", "cosine/warmup", a share of the steps.
        steps: updates of the whole run: epochs times batches.
    """
    kind = hp.Choice("schedule", ["cosine", "one_cycle", "constant"], default="cosine", ordered=False)
    with hp.conditional_scope("schedule", ["cosine"]):
        share = hp.Float("cosine/warmup", 0.0, 0.3, default=0.1)
    if kind == "constant":
        return lambda peak: peak
    if kind == "one_cycle":
        return lambda peak: schedules.OneCycle(peak, steps)
    rise = round(share * steps)
    return lambda peak: schedules.Warmup(schedules.Cosine(peak, max(steps - rise, 1)), rise)


def declare(hp, name: str, h: Hyper, default):
    kind: Range = h.tune
    if kind.sampling == "choice":
        return hp.Choice(name, list(kind.values), default=default if default in kind.values else kind.values[0])
    low, high = kind.values
    middle = math.sqrt(low * high) if kind.sampling == "log" else (low + high) / 2
    return hp.Float(name, low, high, sampling=kind.sampling, default=default if default is not None and low <= default <= high else middle)
