"""Outputs of a model with their losses and targets, and what losses want; for the rules that hold them against each other."""

import math
from typing import NamedTuple

import numpy as np

from keras_optlab.diagnosis.record import Record

SPARSE = ("sparse_categorical_crossentropy",)
ONE_HOT = ("categorical_crossentropy", "categorical_focal_crossentropy", "kl_divergence")
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
DISTANCE = ("mean_squared_error", "mean_absolute_error", "mean_squared_logarithmic_error", "mean_absolute_percentage_error", "huber", "log_cosh")
TRIED = 50  # steps after which a run that has brought nothing is stuck
LEARNED, WELL = 0.1, 0.5  # share of the loss that must be gone, for something and for much to be learned
LARGE = 100.0
EACH = 10  # examples of a class from which on they tell how frequent it is
ROUNDING = 1e-3  # of what soft targets leave: less above it is nothing
FALLING = 0.95  # of the loss of the epoch before: a run that may yet come below guessing
SHARES = ("softmax", "sigmoid", "hard_sigmoid", "sparsemax")  # functions that give probabilities


class Head(NamedTuple):
    """One output.

    Attributes:
        name: how messages call it.
        layer: name of the layer that makes its numbers, `None` where it is not known.
        units: length of its last axis, `None` where it is not known.
        activation: function that it ends with, "linear" for none, `None` where it is not known.
        loss: name of Keras' loss, or `None`.
        from_logits: whether the loss brings the function along.
        smoothing: of the labels.
        target: facts of its targets, or `None`; without the class that the loss ignores where it is the lowest or the highest.
        places: how many such vectors it gives for each example, such as steps of a sequence; `None` where it is not known.
    """

    name: str
    layer: str | None
    units: int | None
    activation: str | None
    loss: str | None
    from_logits: bool
    smoothing: float
    target: dict | None
    places: int | None

    @property
    def flat(self) -> bool:
        """Whether each example has one number for a target."""
        return self.target is not None and self.target["shape"] in ([], [1])

    @property
    def labels(self) -> bool:
        """Whether the targets are numbers of classes."""
        return self.flat and self.target["integer"] and self.target["classes"] is not None


def heads(record: Record) -> list[Head]:
    """The outputs of which the facts tell, each with its loss and targets where their numbers agree."""
    outputs, losses = record.facts.get("outputs", []), record.facts.get("losses", [])
    targets = record.facts.get("data", {}).get("y", [])
    losses = losses * len(outputs) if len(losses) == 1 else losses
    named = {target["name"].removeprefix("y").removeprefix("/"): target for target in targets}
    if not all(name == "" or name.isdigit() for name in named):  # targets in a dict, whose order says nothing
        targets = [named.get(output["name"]) for output in outputs]
    found = []
    for i, output in enumerate(outputs):
        loss = losses[i] if len(losses) == len(outputs) else None
        target = targets[i] if len(targets) == len(outputs) and targets[i] and targets[i].get("max") is not None else None
        ignored, units = (loss or {}).get("ignored"), output["shape"][-1] if output["shape"] else None
        if target and ignored == target["min"] and ignored < 0:
            target = target | {"min": 0.0}
        elif target and units and ignored == target["max"] and ignored >= units:
            target = target | {"max": units - 1.0}
        shape, name = output["shape"], f"output `{output['name']}`" if len(outputs) > 1 else "the model"
        places = None if None in shape[:-1] else math.prod(shape[:-1])
        found.append(
            Head(
                name,
                output["layer"],
                units,
                output["activation"],
                loss and loss["name"],
                bool(loss and loss["from_logits"]),
                loss.get("smoothing", 0.0) if loss else 0.0,
                target,
                places,
            )
        )
    return found


def gained(record: Record) -> float | None:
    """By which share the loss of a run has fallen, without penalties on weights; `None` where it is not known."""
    sampled = [loss for loss in record.loss if not math.isnan(loss)]
    logged = [loss if math.isfinite(loss) else math.inf for loss in record.logs.get("loss", [])]
    if not sampled and not logged:
        return None
    first, last = beside(record)
    guessed, now = spread(record), (logged or sampled)[-1] - last
    share = share_gained((sampled or logged)[0] - first, now, record.facts.get("guess"), guessed)
    return share if guessed is None or now <= (1 - LEARNED) * guessed else min(share, _share(guessed, now))  # whatever height numbers have fallen from


def beside(record: Record) -> tuple[float, float]:
    """What is in the first loss and in the last one without being there to be learned: penalties on weights, and what soft targets leave."""
    (first, last), floor = record.facts.get("penalty", (0.0, 0.0)), record.facts.get("floor") or 0.0
    return first + floor, last + floor


def share_gained(first: float, now: float, guess: float | None, spread: float | None) -> float:
    """By which share a loss is below that of guessing by the shares of the classes; of numbers, below the first one, or that of guessing where it is more.

    -1 where it is not finite. So a model that comes trained has gained, and one whose loss falls from an absurd height to that of guessing has not.
    """
    begun = max(first, spread or -math.inf) if guess is None else guess
    return _share(begun, now)


def _share(begun: float, now: float) -> float:
    return max(-1.0, (begun - now) / max(abs(begun), 1e-7)) if math.isfinite(now) and math.isfinite(begun) else -1.0


def stuck(record: Record) -> bool:
    """Whether a trial training on one batch brought nothing, or, where none was possible, the run has brought nothing in `TRIED` steps."""
    return record.facts["probe"]["learned"] is False if "probe" in record.facts else stands(record)


def poor(record: Record) -> bool:
    """Whether nothing was learned, or the run is over and has brought but little in `TRIED` steps: then what looks odd is more than odd."""
    return stuck(record) or bool(record.logs.get("loss")) and over(record) and tried(record) and (gained(record) or 0) <= WELL


def stands(record: Record) -> bool:
    """Whether the run itself has brought nothing in `TRIED` steps, and its loss does not fall any more."""
    so_far = gained(record)
    return so_far is not None and tried(record) and so_far <= LEARNED and (over(record) or not falls(record))


def tried(record: Record) -> bool:
    """Whether a run has had the steps in which something should show."""
    return len(record) > 0 and record.steps[-1] - record.steps[0] >= TRIED


def own_loss(record: Record) -> bool:
    """Whether the loss is a single one that is not Keras' own."""
    return record.facts.get("losses") == [None]


def over(record: Record) -> bool:
    """Whether the run has come to its end, as far as it is known how many epochs it is to have."""
    return len(record.logs.get("loss", [])) >= record.facts.get("epochs", 0)


def falls(record: Record) -> bool:
    """Whether the last epoch, or before the second one ends the last sample, was better than the one before."""
    logged = record.logs.get("loss", [])
    losses = logged if len(logged) > 1 else record.loss
    return len(losses) > 1 and losses[-1] <= FALLING * losses[-2]


def spread(record: Record, targets=None) -> float | None:
    """The loss of always naming the means of targets that are numbers, or those of one unit; `None` where there are none or the loss is another one.

    Args:
        record: whose facts name the loss.
        targets: array of the targets of some examples, which may lie closer together than all do. Defaults to all that the record knows.
    """
    found = heads(record)
    if len(found) != 1 or not found[0].target or found[0].labels and found[0].units != 1:
        return None
    known = found[0].target
    deviation = known.get("deviation", known.get("std")) if targets is None else float(np.sqrt(np.var(targets, 0).mean()))
    weight = known.get("weight", 1.0) if targets is None else 1.0
    return {"mean_squared_error": weight * deviation**2, "mean_absolute_error": weight * 0.8 * deviation}.get(found[0].loss) if deviation else None


def large_targets(record: Record) -> float | None:
    """Root mean square of targets that are numbers, where it is above `LARGE`: some 100 steps of Adam at 1e-3 move an output by about as much."""
    sizes = [head.target["rms"] for head in heads(record) if head.loss in DISTANCE and head.target and head.target["rms"] > LARGE]
    return max(sizes, default=None)


def needed(record: Record) -> float | None:
    """The loss of whoever knows only how the targets are spread, which a model has to get below; `None` where it is not known."""
    return record.facts.get("guess") or spread(record)


def guess(record: Record, targets, weights=None, sampled: bool = False) -> float | None:
    """The crossentropy that is reached by knowing only how often each class is there, above that of whoever knows the targets (`floor`).

    `None` where the loss is none, or the examples are all of one class.

    Args:
        record: whose facts name the loss.
        targets: array of the targets of some examples.
        weights: what each example counts, as `class_weight` and `sample_weight` say. Defaults to 1.
        sampled: whether these are some of many. Where they are fewer than `EACH` for each class, classes count as equally frequent: some are not among them.
    """
    found = heads(record)
    if len(found) != 1 or found[0].loss not in (*SPARSE, *ONE_HOT, *BINARY) or not found[0].target:
        return None
    values, (head,) = np.asarray(targets, "float64"), found
    counted = np.ones(len(values)) if weights is None else np.asarray(weights, "float64")
    if not counted.any():
        return None
    if head.loss in SPARSE:
        counted = np.broadcast_to(counted.reshape(-1, *[1] * (values.ndim - 1)), values.shape).ravel()
        counts = np.bincount(np.unique(values, return_inverse=True)[1].ravel(), weights=counted)
        shares = counts / counts.sum()
    else:
        rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        counted = np.repeat(counted, len(rows) // len(values))
        shares = np.average(rows, 0, counted)
        shares = np.clip(np.stack([shares, 1 - shares]) if head.loss in BINARY else shares, 0, 1)
    entropy, least = _entropies(shares).sum(0).mean(), _left(head, targets, weights)
    if sampled and head.loss not in BINARY and head.units and len(counted) < EACH * head.units:
        entropy = math.log(head.units)
    guessed = float(counted.mean() * entropy) - least
    return guessed if guessed > ROUNDING * least else None


def floor(record: Record, targets, weights=None) -> float:
    """The crossentropy of whoever knows targets that are shares themselves; 0 for classes.

    Args:
        record, targets, weights: as in `guess`.
    """
    found = heads(record)
    known = len(found) == 1 and found[0].target and found[0].loss != "kl_divergence"  # which is without it
    return _left(found[0], targets, weights) if known else 0.0


def _left(head: Head, targets, weights) -> float:
    values = np.asarray(targets, "float64")
    if head.loss not in (*ONE_HOT, *BINARY) or values.min() < 0 or values.max() > 1:
        return 0.0
    each = _entropies(np.stack([values, 1 - values])).sum(0) if head.loss in BINARY else _entropies(values).sum(-1)
    counted = np.ones(len(values)) if weights is None else np.asarray(weights, "float64")
    return float((each.reshape(len(values), -1).mean(1) * counted).mean())


def _entropies(shares):
    return -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0)


def at_rate(record: Record, rate: float) -> str:
    """Code that gives the optimizer another rate; one with a schedule does not take it while it trains."""
    optimizer = record.facts.get("optimizer") or {}
    if optimizer.get("scheduled"):
        names = [optimizer["name"], *optimizer.get("within", [])]
        return f"`optimizer={'('.join(names)}({rate:.1g}{')' * len(names)}` in `model.compile`, instead of the schedule"
    return f"`model.optimizer.learning_rate = {rate:.1g}`"
