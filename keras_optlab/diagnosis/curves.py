"""Curves of a run and what they are held against, for the rules that read them."""

import numpy as np

from keras_optlab.diagnosis.heads import BINARY, beside, heads, needed
from keras_optlab.diagnosis.record import Record

ACCURACIES = ("accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy")
LONG = 200  # epochs


def curve(record: Record, name: str) -> np.ndarray:
    """(epochs,): one number of the logs, losses without what is not to be learned in them; empty where it is not there for every epoch, or not finite."""
    values = np.array(record.logs.get(name, []), "float64")
    if len(values) != len(record.logs.get("loss", [])) or not np.isfinite(values).all():
        return np.zeros(0)
    return values - np.linspace(*beside(record), len(values)) if name in ("loss", "val_loss") else values


def begun(record: Record) -> float:
    """The loss that a run has to get below: that of the first samples, of which a single one may be of one easy example, or of guessing where that is less."""
    first = [loss - beside(record)[0] for loss in record.loss[:3] if np.isfinite(loss)]
    return min(max(first, default=np.inf), needed(record) or np.inf)


def step_after(record: Record, epoch: int) -> int:
    """At which step an epoch was over, from the steps in all of them; the epoch itself where no step was measured."""
    begins = record.facts.get("begins", 0)
    return round(begins + (record.steps[-1] - begins) * (epoch + 1) / len(record.logs["loss"])) if len(record) else epoch


def calls(record: Record) -> int:
    """How many batches the run has been through, as far as that is known: steps that the optimizer refused count, too."""
    paced = sum(epoch["steps"] for epoch in record.pace)
    return paced or max(len(record.facts.get("probe", {}).get("loss", [])), len(record))


def pieces(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """(n,) steps and (n,) losses: the mean loss of each stretch between measured steps and ends of epochs, and the step that ends it.

    The logs show the mean since an epoch began, which hides what single steps do. Where it is not known how many steps an epoch has, it is that mean.
    Of more than `LONG` epochs the last ones, for this is asked at each of them.
    """
    steps, shown, start = np.array(record.steps), np.array(record.loss, "float64"), record.facts.get("begins", 0)
    lengths = [epoch["steps"] for epoch in record.pace]
    if not lengths or len(steps) < 2 or len(np.unique(steps)) < len(steps) or 2 * steps[-1] - steps[-2] - start < sum(lengths) / 2:
        return steps, shown
    found, ends, since = [], record.logs.get("loss", []), max(0, len(lengths) - LONG)
    start += sum(lengths[:since])
    for epoch, length in enumerate([*lengths[since:], int(steps[-1]) + 1], since):
        inside = (steps >= start) & (steps < start + length)
        marks = dict(zip((steps[inside] - start + 1).tolist(), shown[inside].tolist()))
        if epoch < min(len(lengths), len(ends)):
            marks.setdefault(length, ends[epoch])
        before, so_far = 0, 0.0
        for count, mean in marks.items():
            found.append((start + count - 1, (mean * count - so_far) / (count - before) if np.isfinite(mean) else mean))
            before, so_far = count, mean * count
        start += length
    losses = np.array([loss for _, loss in found])
    if not any(loss < 0 for loss in (*shown, *ends)):
        losses = np.maximum(losses, 0)  # what is left of a mean that was huge is rounding
    return np.array([step for step, _ in found]), losses


def accuracies(record: Record) -> tuple[np.ndarray, np.ndarray, float]:
    """(epochs,) of training and of validation, each empty where it is not known, and what naming the largest class gives, any one where it is not known."""
    name = next((name for name in ACCURACIES if len(curve(record, name))), ACCURACIES[0])
    targets, outputs = record.facts.get("data", {}).get("y", []), heads(record)
    classes = outputs[0].units if len(outputs) == 1 and outputs[0].loss not in BINARY else None
    largest = targets[0].get("largest") if len(targets) == 1 else None
    return curve(record, name), curve(record, f"val_{name}"), largest or 1 / max(classes or 2, 2)


def skill(record: Record) -> float | None:
    """Of what guessing leaves wrong, the share that was right in the last epoch: 0 is always naming the largest class; `None` where accuracy is not known."""
    right, _, largest = accuracies(record)
    return float(right[-1] - largest) / (1 - largest) if len(right) and largest < 1 else None


def movement(record: Record, share: float = 1.0) -> np.ndarray:
    """(applied samples,): update over weight norm of the layer that moves most, of those with a kernel that did not start at zero; or of another share."""
    matrices = record.matrices()
    with np.errstate(all="ignore"):
        moved = record.per_layer("update_norm", matrices) / record.per_layer("weight_norm", matrices)
    moved = np.where(np.isfinite(moved), moved, 0)[record.applied()]
    return np.sort(moved, axis=1)[:, int(share * (moved.shape[1] - 1))] if moved.size else np.zeros(0)
