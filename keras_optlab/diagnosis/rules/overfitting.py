"""The training examples are learned by heart, and that costs on the others.

Needs: losses of training and validation of every epoch, accuracies where there are any, the loss that knowing only the spread of the targets brings.
Thresholds, from EPOCHS epochs on: the training loss is at most APART of the validation loss, or the validation loss has been RISEN times its best for PATIENCE
epochs while that of training fell, or the validation loss was best in the first third of the epochs and never below NOTHING of that of guessing, while that of
training came below FELL of it; or, after STEPS steps, validation was never below that, does not fall, and is right no more often than guessing (by RIGHT of
what is missing), while training came below BEGUN of it. A warning in that last case, and where it costs: LOST of what the training accuracy is above guessing
does not carry over (two standard errors of the validation accuracy allowed), or, without accuracies, the validation loss is above COSTS of the loss of guessing
and began at HUGE times it or less (above, weights are so large that loss says little of what is right); else an info, for most sound runs overfit a little.
Not to be confused with: validation data of another range (`train-validation-mismatch`), moving statistics that are not up to date (`stale-batch-norm`), noise
of few validation examples.
"""

import numpy as np

from keras_optlab.diagnosis.curves import accuracies, curve, step_after
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import needed, over
from keras_optlab.diagnosis.record import Record

CODE = "overfitting"
EPOCHS, PATIENCE, APART, RISEN, LOST, COSTS, HUGE, NOTHING, FELL = 5, 3, 0.1, 1.25, 0.4, 0.5, 5.0, 0.95, 0.9
STEPS, RIGHT, BEGUN = 100, 0.1, 0.97


def find(record: Record) -> list[Finding]:
    weight = _weight(record)
    trained, validated = curve(record, "loss") / weight, curve(record, "val_loss")
    if len(trained) < EPOCHS or not over(record) or len(validated) != len(trained) or min(trained.min(), validated.min()) < -1e-3:
        return []
    best = int(validated.argmin())
    last, now = float(np.median(validated[-PATIENCE:])), float(np.median(trained[-PATIENCE:]))
    risen = len(trained) - 1 - best >= PATIENCE and last >= RISEN * max(validated[best], 1e-3) and now < trained[best]
    apart = now <= APART * last and now < trained[0]
    lost, guessed = _lost(record), needed(record) and needed(record) / weight
    nothing = guessed is not None and 3 * best < len(trained) and validated[best] >= NOTHING * guessed and now <= FELL * min(guessed, trained[0])
    never = guessed is not None and _nothing_carries_over(record, trained, validated, guessed)
    if not (risen or apart or nothing or never):
        return []
    high = guessed is not None and last >= COSTS * guessed and validated[0] <= HUGE * guessed
    costs = never or (high if lost is None else lost >= LOST)
    evidence = {"loss": now, "val_loss": last, "best_val_loss": float(validated[best]), "threshold": APART if apart else RISEN if risen else NOTHING}
    known = {"lost": lost, "guess": guessed}
    since = f" and has risen since epoch {best + 1}, when it was {validated[best]:.3g}" if risen else ""
    since += f"; guessing gives {guessed:.3g}" if nothing or never else ""
    part = lost if costs and lost and lost > 0 else None
    carried = "; nothing carries over" if never else ""
    carried = carried if part is None else f"; of what the training accuracy is above guessing, {part:.0%} does not carry over"
    return [
        Finding(
            CODE,
            "warning" if costs else "info",
            None,
            step_after(record, int(np.argmax(trained <= APART * validated)) if apart and not risen else best),
            step_after(record, len(trained) - 1),
            evidence | {name: value for name, value in known.items() if value is not None},
            f"The training loss is {now:.3g}, that of validation {last:.3g}{since}{carried}.",
            "More or augmented data (`keras.layers.RandomTranslation(0.1, 0.1)`), a smaller model, weight decay "
            '(`keras.optimizers.AdamW(weight_decay=0.01)`), and `keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)`.',
        )
    ]


def _nothing_carries_over(record: Record, trained, validated, guessed: float) -> bool:
    """Whether training has begun to learn what is not so of the others at all; where it is not known how many are right, huge losses say nothing."""
    *_, right, chance = accuracies(record)
    by_chance = np.median(right[-PATIENCE:]) <= chance + RIGHT * (1 - chance) if len(right) else validated[0] <= HUGE * guessed
    stands = validated.min() >= NOTHING * guessed and np.median(validated[-PATIENCE:]) >= BEGUN * validated[0]
    learns = np.median(trained[-PATIENCE:]) <= BEGUN * min(guessed, trained[0])
    return bool(by_chance and stands and learns and len(record) and record.steps[-1] >= STEPS)


def _lost(record: Record) -> float | None:
    """Which part of what the training accuracy is above guessing the validation accuracy lacks, its noise allowed for."""
    *both, guessed = accuracies(record)
    if not all(map(len, both)):
        return None
    trained, validated = (float(np.median(values[-PATIENCE:])) for values in both)
    examples = record.facts.get("validation", {}).get("examples") or 100
    noise = 2 * (max(validated * (1 - validated), 0.02) / examples) ** 0.5
    return min(1.0, (trained - validated - noise) / (trained - guessed)) if trained > guessed + 0.1 else 0.0


def _weight(record: Record) -> float:
    """What an example of training counts on the average; those of validation count 1."""
    targets = record.facts.get("data", {}).get("y", [])
    return len(targets) == 1 and targets[0].get("weight") or 1.0
