"""The members of `keras.Model` and of Keras' optimizers and metrics that are not public and cannot be avoided in this room, each behind a name of ours."""

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


def directions(model) -> dict[str, str | None] | None:
    """The compiled metrics, and which way is better where they say so: {"accuracy": "max", "my_metric": None}. None before Keras has built them."""
    groups = list(model.metrics)
    if not all(getattr(group, "built", True) for group in groups if hasattr(group, "metrics")):
        return None
    metrics = [m for group in groups for m in getattr(group, "metrics", [group])]
    return {m.name: {"up": "max", "down": "min"}.get(getattr(m, "_direction", None)) for m in metrics}
