"""The training has come to rest far above what is needed: the model cannot do what is asked of it.

Needs: the loss of every epoch, the loss of guessing by the spread of the targets, the sizes of the layers and whether they stand in one row.
Thresholds: after at least EPOCHS epochs and STEPS steps the loss has stayed within REST of itself over the last third of the epochs, or, after twice as many,
deviates by no more than that in it and was no lower than in the third before, and is above NOTHING of that of guessing, as is that of validation, and the
accuracy is not RIGHT of the way above the largest class, nor an AUC above RANKED; or it is above FAR of it, and all has to go through a dense layer of NARROW
units or fewer, that are half or less of what the classes need.
Not to be confused with: noise in the data (a rest above FAR alone is not told of), a run that is slow (`slow-convergence`), steps that are too large
(`oscillating-loss`).
"""

from keras_optlab.diagnosis.curves import curve, skill, step_after
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import needed, over
from keras_optlab.diagnosis.record import Record

CODE = "underfitting"
EPOCHS, STEPS, REST, NOTHING, RIGHT, FAR, NARROW, RANKED = 6, 50, 0.03, 0.9, 0.1, 0.5, 2, 0.6


def find(record: Record) -> list[Finding]:
    losses, guessed = curve(record, "loss"), needed(record)
    if len(losses) < EPOCHS or not over(record) or guessed is None or not len(record) or record.steps[-1] < STEPS:
        return []
    third = max(2, len(losses) // 3)
    before, last, narrow = float(losses[-third - 1]), float(losses[-third:].mean()), _narrow(record)
    right = (skill(record) or 0) > RIGHT  # weighted classes may make any loss of it
    right = right or any(values[-1] > RANKED for name, values in record.logs.items() if name.startswith("auc") and values)
    better = len(curve(record, "val_loss")) and curve(record, "val_loss")[-1] <= NOTHING * guessed  # which are not weighted there
    level = len(losses) >= 2 * EPOCHS and losses[-third:].std() <= REST * abs(last) and last >= (1 - REST) * losses[-2 * third : -third].mean()
    nothing = (level or max(abs(losses[-third - 1 :] - before)) <= REST * abs(before)) and last > NOTHING * guessed and not right and not better
    if not nothing and not (narrow and last > FAR * guessed):
        return []
    at = f"The loss is still {last:.3g}; guessing by the spread of the targets alone gives {guessed:.3g}"
    message, advice = (
        f"{at}, and it hardly falls any more.",
        'Look at whether x tells anything of y; a larger model: `keras.layers.Dense(128, activation="relu")`.',
    )
    if narrow:
        message = f"{at}: the {narrow['units']} unit{'s' if narrow['units'] > 1 else ''} of `{narrow['name']}` let no more through."
        advice = f"Make it wider: `keras.layers.{narrow['kind']}({32 * narrow['units']}, ...)`."
    evidence = {"loss": last, "guess": guessed, "threshold": NOTHING if nothing else FAR, "fell": before - float(losses[-1])}
    return [Finding(CODE, "warning", narrow and narrow["name"], step_after(record, len(losses) - third - 1), record.steps[-1], evidence, message, advice)]


def _narrow(record: Record) -> dict | None:
    """The narrowest layer, through which less goes than comes in and has to come out."""
    outputs, layers = record.facts.get("outputs", []), record.facts.get("layers", [])
    data = record.facts.get("data", {"x": [], "y": []})
    itself = data["x"] and [x["shape"] for x in data["x"]] == [y["shape"] for y in data["y"]]  # an autoencoder is to be narrow
    if not record.facts.get("row") or len(outputs) != 1 or not outputs[0]["shape"] or outputs[0]["shape"][-1] is None or itself:
        return None
    enough = (outputs[0]["shape"][-1] - 1) / 2
    hidden = [one for one in layers if one["kind"] == "Dense" and "units" in one and one["name"] != outputs[0]["layer"]]
    return min((one for one in hidden if one["units"] <= min(NARROW, enough) and one["units"] < one["inputs"]), key=lambda one: one["units"], default=None)
