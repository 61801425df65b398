"""The members of `keras.Model` and of Keras' optimizers and metrics that are not public and cannot be avoided in this room, each behind a name of ours."""

import sys

import keras
from keras import ops

EPOCH_LOGS = "_get_metrics_result_or_logs"  # fit asks this method for the logs of an epoch before any callback sees them


def layers(model) -> list:
    """The model and every layer in it at any depth, parents before their children."""
    return model._flatten_layers(include_self=True)


def gradient_sums(optimizer) -> list | None:
    """The sums in which a Keras optimizer accumulates gradients, in the order of its weights; None if it keeps none under this name."""
    return getattr(optimizer, "_accumulated_gradients", None) or None


def trainable_variables(optimizer) -> list:
    """The weights the optimizer was built with, in order."""
    return optimizer._trainable_variables


def global_seeds() -> list:
    """The variable from which Keras' random functions draw where they are given no seed; none as long as nothing has drawn so."""
    module = sys.modules[keras.random.SeedGenerator.__module__]
    generator = module.global_state.get_global_attribute(module.GLOBAL_SEED_GENERATOR)
    return [] if generator is None else [generator.state]


def directions(model) -> dict[str, str | None] | None:
    """The compiled metrics, and which way is better where they say so: {"accuracy": "max", "my_metric": None}. None before Keras has built them."""
    groups = list(model.metrics)
    if not all(getattr(group, "built", True) for group in groups if hasattr(group, "metrics")):
        return None
    metrics = [m for group in groups for m in getattr(group, "metrics", [group])]
    return {m.name: {"up": "max", "down": "min"}.get(getattr(m, "_direction", None)) for m in metrics}


def metric_sums(model) -> list:
    """The variables of each metric as they stand in the middle of an epoch, as arrays. Waits for the device."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return [[ops.convert_to_numpy(v).copy() for v in metric.variables] for metric in model.metrics]


def metric_values(model, sums: list, before: list | None = None) -> dict[str, float]:
    """The metrics by the names that they have in the logs: of the whole epoch, or of the batches since `before`, as their variables are sums over batches."""
    values = {}
    for i, metric in enumerate(model.metrics):
        parts = sums[i] if before is None else [now - then for now, then in zip(sums[i], before[i])]
        result = metric.stateless_result([ops.convert_to_tensor(part, dtype=v.dtype) for part, v in zip(parts, metric.variables)])
        values |= result if isinstance(result, dict) else {metric.name: result}
    return {name: float(value) for name, value in values.items() if getattr(value, "shape", None) == ()}


def fit_arguments(model) -> dict | None:
    """The arguments of the `fit` of this model that is running, which it does not tell its callbacks; None in a loop of the user's own."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model and "validation_freq" in frame.f_locals:
            return frame.f_locals
        frame = frame.f_back
    return None


def begin_at(model, epoch: int | None) -> None:
    """Lets the `fit` that begins start with this epoch, counted from 0; `None`: with the one that it was given."""
    model._initial_epoch = epoch


def compile_arguments(model) -> dict:
    """What `compile` was given, as it was given: its config would not bring back a function that is not registered."""
    return dict(model._compile_config.config)
