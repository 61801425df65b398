"""What the name of a metric tells: which way is better, and which other name may have been meant."""

import difflib

BETTER_LOW = ("loss", "error", "mse", "mae", "mape", "msle", "rmse", "perplexity", "divergence", "crossentropy", "grad_norm", "alarms", "gradient_disparity")
BETTER_HIGH = ("acc", "accuracy", "auc", "precision", "recall", "f1", "f1_score", "fbeta_score", "iou", "r2_score", "cosine_similarity", "eb_criterion")


def better(monitor: str, known: dict[str, str | None]) -> str:
    """ "min" or "max" for a metric.

    Args:
        monitor: its name in the logs.
        known: the metrics of the model, each with its direction where it says so.

    Raises:
        ValueError: listing the metrics of the model, if that cannot be told.
    """
    name = monitor.removeprefix("val_")
    for metric, direction in known.items():
        if direction and (name == metric or name.endswith(f"_{metric}")):
            return direction
    for words, direction in ((BETTER_LOW, "min"), (BETTER_HIGH, "max")):
        if any(name == word or name.endswith(f"_{word}") for word in words):
            return direction
    hint = meant(name, [metric for metric in known if metric != name], monitor.removesuffix(name))
    raise ValueError(
        f'EarlyStopping(mode="auto") cannot tell which way `monitor` is better. Received: monitor={monitor!r}; '
        f'the metrics of the model are {", ".join(known)}.{hint} Otherwise pass `mode="min"` or `mode="max"`.'
    )


def meant(name: str, names, prefix: str = "") -> str:
    """ " Did you mean ...?" with the nearest name, or nothing."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {prefix + near[0]!r}?" if near else ""
