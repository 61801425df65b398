"""The loss does not fit how the targets are written.

Needs: the loss, shape and function of each output, shape and kind of the targets; a trial training for what is only doubtful; losses and
accuracies of the epochs and the correlation of predictions and targets.
Thresholds: none: whether targets are one number or one-hot rows, whole or not, within 0 and 1, is a matter of form; a logarithmic loss bears a twentieth of its
targets below 0, a loss in percent as many that are 0; labels that are smoothed by SMOOTHED. A softmax or sigmoid before a loss with `from_logits=True`, or one
of several classes at once, is a warning only where a trial training brought nothing: TensorFlow looks through the former, elsewhere the gradient is flat but
not gone. Targets of a binary crossentropy that lie outside 0 and 1 by no more than NOISE are noisy labels, as adversarial nets are given: an info.
A loss of the user's own has no end where it falls in each of EPOCHS epochs or more, in the last half of them by as much as in the first or more, and as far
below 0 as TIMES what it began with, and as LOW; likelihoods may be negative, too, but come to rest, and a critic, who grades -1 and 1, is held back otherwise.
A loss leads away from the labels where it falls and in each of the last EPOCHS epochs less than SELDOM of what guessing hits are right, two standard errors
less, or, of a loss of the user's own that falls by more than WELL, no more than by guessing: where no class holds OFTEN of the examples, nobody who learns is
wrong that often. So does a loss of the user's own of several classes, of masks or of several numbers if their correlation with the targets is -AWAY or less,
and beyond three standard errors; costs, distances and the grades of a critic go against the targets, and an accuracy says nothing where that correlation is
above AWAY.
Not to be confused with: a head that has too few units (`wrong-head`), labels that are -1 and 1 (`bad-labels`), a squared error of one-hot rows (it learns).
"""

import numpy as np

from keras_optlab.diagnosis.curves import accuracies, curve
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, DISTANCE, LEARNED, ONE_HOT, SHARES, SPARSE, WELL, Head, gained, heads, over, own_loss, stuck
from keras_optlab.diagnosis.record import Record, predictions

CODE = "wrong-loss"
NOISE, EPOCHS, TIMES = 0.25, 3, 2.0
SELDOM, OFTEN, AWAY, LOW, SMOOTHED = 0.5, 0.75, 0.2, -2.0, 0.8


def find(record: Record) -> list[Finding]:
    found = [*(_judged(head, stuck(record)) for head in heads(record)), _without_end(record) or _turned(record)]
    return [Finding(CODE, severity, None, 0, 0, *told, remedy=remedy) for severity, *told, remedy in filter(None, found)]


def _judged(head: Head, is_stuck: bool):
    units, target, loss = head.units, head.target, head.loss
    several = units is not None and units > 1
    if loss in ONE_HOT and units == 1 and head.activation != "softmax":
        message = f"The {loss} of one number is the same whatever {head.name} predicts: it compares the classes with each other."
        if target and not (target["integer"] and 0 <= target["min"] and target["max"] <= 1):
            return "error", {"units": 1.0}, message, NUMBERS, {"activation": "linear", "loss": "mean_squared_error"}
        advice = 'Compile with `loss="binary_crossentropy"` and end with `keras.layers.Dense(1, activation="sigmoid")`.'
        return "error", {"units": 1.0}, message, advice, {"activation": "sigmoid", "loss": "binary_crossentropy"}
    if loss == "cosine_similarity" and units == 1:
        message = f"The cosine similarity of one number is its sign: it says nothing of how far {head.name} is off."
        return "error", {"units": 1.0}, message, NUMBERS, {"activation": "linear", "loss": "mean_squared_error"}
    if head.from_logits and head.activation in SHARES and loss in (*SPARSE, *ONE_HOT, *BINARY):
        message = f"The loss has `from_logits=True`, but {head.name} ends with a {head.activation} already."
        return "warning" if is_stuck else "info", {}, message, "End without a function, or leave `from_logits` out.", {"activation": "linear"}
    if head.smoothing >= SMOOTHED:
        message = f"A `label_smoothing` of {head.smoothing:.3g} leaves next to nothing of the labels: it is the share that is spread over all classes."
        return "error", {"smoothing": head.smoothing, "threshold": SMOOTHED}, message, "Take a tenth: `label_smoothing=0.1`.", {}
    if target is None:
        return None
    if loss in (*ONE_HOT, *BINARY) and several and head.flat and target["integer"]:
        message = f"The {loss} wants a row of {units} numbers for each example, but the targets are one whole number each."
        advice = 'Compile with `loss="sparse_categorical_crossentropy"`.'
        return "error", {"units": float(units)}, message, advice, {"activation": "softmax", "loss": "sparse_categorical_crossentropy"}
    if loss in SPARSE and target["one_hot"] and several and target["shape"][-1:] == [units]:
        message = f"The {loss} wants one class number for each example, but the targets are one-hot rows of {units}."
        advice = 'Compile with `loss="categorical_crossentropy"`.'
        return "error", {"units": float(units)}, message, advice, {"activation": "softmax", "loss": "categorical_crossentropy"}
    if loss in SPARSE and not target["integer"]:
        message = f"The {loss} wants class numbers, but the targets are no whole numbers: they reach from {target['min']:.3g} to {target['max']:.3g}."
        advice, remedy = 'For numbers compile with `loss="mean_squared_error"` and end with `Dense(1)`.', {"activation": "linear", "loss": "mean_squared_error"}
        return "error", {"least": target["min"], "most": target["max"]}, message, advice, remedy | ({"units": 1} if head.flat else {})
    at_once = target["integer"] and target["min"] == 0 and target["max"] == 1 and (target["row_sum"] or (0, 0))[1] >= 2
    if loss in ONE_HOT and several and at_once and head.activation != "softmax":
        message = f"Examples belong to up to {target['row_sum'][1]:.0f} classes at once, but the {loss} makes the classes share one probability."
        advice = f'Compile with `loss="binary_crossentropy"` and end with `keras.layers.Dense({units}, activation="sigmoid")`.'
        severity, remedy = "warning" if is_stuck else "info", {"activation": "sigmoid", "loss": "binary_crossentropy"}
        return severity, {"row_sum": target["row_sum"][1], "threshold": 1.0}, message, advice, remedy
    if loss == "mean_absolute_percentage_error" and 0 in (target.get("low"), target.get("high")):
        message = f"The {loss} divides by the targets, and a twentieth of them or more are 0."
        return "warning", {"low": target["low"], "threshold": 0.0}, message, NUMBERS, {"loss": "mean_absolute_error"}
    if loss in DISTANCE and several and head.labels:
        message = f"The {loss} compares each of the {units} outputs with the class number itself."
        needed, advice = int(max(units, target["max"] + 1)), 'Compile with `loss="sparse_categorical_crossentropy"`.'
        remedy = {"units": needed, "activation": "softmax", "loss": "sparse_categorical_crossentropy"}
        return "error", {"units": float(units)}, message, advice, remedy
    if loss == "mean_squared_logarithmic_error" and target.get("low", target["min"]) < 0:
        message = f"The {loss} takes targets below 0, which have no logarithm, for 0: here they go down to {target['min']:.3g}, a twentieth of them or more."
        return "warning", {"low": target.get("low", target["min"]), "threshold": 0.0}, message, NUMBERS, {"loss": "mean_squared_error"}
    if loss in BINARY and not target["integer"] and (target["min"] < 0 or target["max"] > 1):
        message = f"The {loss} wants targets between 0 and 1, but they reach from {target['min']:.3g} to {target['max']:.3g}."
        advice = 'Compile with `loss="mean_squared_error"` and end without a function.'
        severity = "info" if -NOISE <= target["min"] and target["max"] <= 1 + NOISE else "error"
        return severity, {"least": target["min"], "most": target["max"]}, message, advice, {"activation": "linear", "loss": "mean_squared_error"}
    return None


def _without_end(record: Record):
    """A loss of the user's own that falls below 0 and no slower than before: its minus is missing, or a square."""
    losses, critic = curve(record, "loss"), any(head.labels and head.target["min"] == -1 and head.target["classes"] == 2 for head in heads(record))
    if critic or not own_loss(record) or len(losses) < EPOCHS or not over(record) or losses[-1] >= 0:
        return None
    fell, half = -np.diff(losses), len(losses) // 2
    if losses[-1] > LOW or not (fell > 0).all() or fell[half:].mean() < fell[:half].mean() or losses[-1] > -TIMES * abs(losses[0]):
        return None
    message = f"The loss has come from {losses[0]:.3g} to {losses[-1]:.3g}, and falls no slower than it did: it has no lowest value."
    advice = "Look for a sign or a square that is missing in the loss: `keras.ops.square(y - p)` is never below 0."
    return "warning", {"loss": float(losses[-1]), "threshold": 0.0}, message, advice, {}


def _turned(record: Record):
    """A loss that falls while no more are right than by guessing, or while predictions turn away from the targets."""
    (right, _, largest), found, fell, own = accuracies(record), heads(record), gained(record) or 0, own_loss(record)
    if not over(record) or fell <= LEARNED or len(found) != 1 or found[0].target is None:
        return None
    units, target, examples = found[0].units or 0, found[0].target, max(record.facts["data"]["examples"], 1)
    agreement = next(iter(predictions(record.looks[-1]).values()), {}).get("agreement") if record.looks else None
    least = max(AWAY, 3 / (record.looks[-1]["examples"] * (units or 1) * (found[0].places or 1)) ** 0.5) if agreement is not None else 1.0
    masks, classes = (found[0].places or 1) > 1 and 0 <= target["min"] and target["max"] <= 1, found[0].labels or target["one_hot"]
    comparable = masks or units > 1 and classes if found[0].activation in SHARES else units > 1 and not classes
    if own and agreement is not None and agreement <= -least and comparable:
        message = f"The loss falls, but predictions turn away from the targets: their correlation is {agreement:.2f}."
        return "warning", {"agreement": agreement, "threshold": -least}, message, SIGN, {}
    binary = found[0].labels and units == 1 and target["min"] == 0 and target["max"] == 1 and found[0].activation != "softmax"
    several = units > 1 and (found[0].labels or target["one_hot"] and target["shape"] == [units])
    guessed = 0.5 if binary else 1 / max(units, 1)
    noise = lambda share: 2 * (share * (1 - share) / examples) ** 0.5
    by_largest = own and fell > WELL
    limit = largest + noise(largest) if by_largest else SELDOM * guessed - noise(guessed)
    if len(right) < EPOCHS or largest >= OFTEN or (agreement or 0) > AWAY or not (binary or several) or (right[-EPOCHS:] >= limit).any():
        return None
    message = f"The loss falls, but {right[-1]:.1%} are right, where {'naming the largest class' if by_largest else 'guessing'} is right "
    message += f"{largest if by_largest else guessed:.0%} of the time: it leads away from the labels."
    return "warning", {"accuracy": float(right[-1]), "threshold": limit}, message, SIGN, {}


SIGN = "Look for a sign that is missing in the loss: it must be least where model and labels agree, as `keras.losses.MeanSquaredError()` is."
NUMBERS = (
    'For numbers compile with `loss="mean_squared_error"` and end with `keras.layers.Dense(1)`; for classes compile with '
    '`loss="sparse_categorical_crossentropy"` and end with a softmax over one unit for each.'
)
