"""Validation data that were not treated as the training data were.

Needs: mean, deviation and root mean square of a typical example of both inputs, losses, kind, range and root mean square of both targets.
Thresholds: sizes of inputs, or of targets that are no classes, that differ by FACTOR (pixels divided by 255 in one of them only: 255); targets written in
another way; class numbers that training never saw. Means of inputs that lie SHIFT deviations apart, where training has learned something and validation ends
above guessing: white on black and black on white. Validation that is right half as often as chance, or less, beyond two standard errors, while training is
right half way above it: other labels.
Not to be confused with: data of another source, whose sizes differ a little; overfitting; a few huge examples, which say nothing of the others.
"""

import numpy as np

from keras_optlab.diagnosis.curves import accuracies, curve
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, LEARNED, gained, heads, needed, over
from keras_optlab.diagnosis.record import Record

CODE = "train-validation-mismatch"
FACTOR, SHIFT = 10.0, 0.5
ALIKE = "Scale both alike, best inside the model: `keras.layers.Rescaling(1 / 255)` for pixels, else a `keras.layers.Normalization()` adapted to x."


def find(record: Record) -> list[Finding]:
    ours, theirs = record.facts.get("data", {}), record.facts.get("validation", {})
    found, validated = [], curve(record, "val_loss")
    lost = len(validated) and over(record) and validated[-1] >= (needed(record) or np.inf) and (gained(record) or 0) > LEARNED

    def tell(evidence, message, advice):
        found.append(Finding(CODE, "error", None, 0, 0, evidence, message, advice))

    classes = {head.target["name"]: head.units and head.units > 1 or head.loss in BINARY for head in heads(record) if head.target}
    for one, other in _paired(ours.get("x", []), theirs.get("x", [])):
        sizes = [part.get("typical", part.get("rms")) for part in (one, other)]  # records of before have no typical one
        if all(sizes) and not 1 / FACTOR < sizes[1] / sizes[0] < FACTOR:
            message = f"Validation inputs are {sizes[1] / sizes[0]:.3g} times as large as those of training: typical root mean squares are "
            message += f"{sizes[1]:.3g} and {sizes[0]:.3g}."
            tell({"ratio": sizes[1] / sizes[0], "threshold": FACTOR}, message, ALIKE)
        elif lost and one.get("std") and other.get("mean") is not None and abs(other["mean"] - one["mean"]) > SHIFT * one["std"]:
            message = f"Validation inputs have a mean of {other['mean']:.3g}, those of training one of {one['mean']:.3g} and a deviation of {one['std']:.3g}, "
            message += f"and nothing carries over: the validation loss is {validated[-1]:.3g}."
            tell({"shift": abs(other["mean"] - one["mean"]) / one["std"], "threshold": SHIFT}, message, ALIKE)
    right, held, _ = accuracies(record)
    examples, units = theirs.get("examples", 0), next((head.units for head in heads(record)), None) or 1
    chance = 1 / max(units, 2)
    limit = chance / 2 - 2 * (chance / 2 / max(examples, 1)) ** 0.5
    if over(record) and len(held) and len(right) and examples and held[-1] < limit and right[-1] > (1 + chance) / 2:
        message = (
            f"Of the validation examples {held[-1]:.1%} are right, less than by chance ({chance:.0%}), of those of training {right[-1]:.0%}: their labels "
        )
        message += "are of other classes."
        tell({"accuracy": float(held[-1]), "threshold": limit}, message, "Number the classes of both by the same list, `sorted(set(names))`.")
    for one, other in _paired(ours.get("y", []), theirs.get("y", [])):
        if one["one_hot"] != other["one_hot"] and one["shape"] != other["shape"]:
            tell(
                {},
                "The targets of one of training and validation are one-hot rows, those of the other are not.",
                "Write both alike: `keras.utils.to_categorical(y)`.",
            )
        elif not (one["classes"] or other["classes"]) and one.get("rms") and other.get("rms") and not 1 / FACTOR < other["rms"] / one["rms"] < FACTOR:
            message = f"Validation targets are {other['rms'] / one['rms']:.3g} times as large as those of training: root mean squares are "
            message += f"{other['rms']:.3g} and {one['rms']:.3g}."
            tell({"ratio": other["rms"] / one["rms"], "threshold": FACTOR}, message, "Scale both alike: `y_val = (y_val - mean) / deviation`, as for y.")
        elif (
            ours["whole"]
            and classes.get(one["name"])
            and one["classes"]
            and other["classes"]
            and one["shape"] == other["shape"]
            and one["integer"]
            and other["max"] > one["max"]
        ):
            message = f"The validation labels go up to {other['max']:.0f}, but training has none above {one['max']:.0f}."
            tell({"most": other["max"], "threshold": one["max"]}, message, "Shuffle before you split, and count the classes of both alike.")
    return found


def _paired(ours: list, theirs: list) -> list[tuple]:
    """By their names, where they are of a dict, whose order says nothing."""
    named = {one["name"]: one for one in theirs}
    return [(one, named[one["name"]]) for one in ours] if named.keys() == {one["name"] for one in ours} else list(zip(ours, theirs))
