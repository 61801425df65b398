"""Targets that no model could learn from as they are.

Needs: range, kind and number of the targets, the loss and the units of each output; how many measured batches are of one class, and the losses of the epochs.
Thresholds: none for NaN, for counts that differ, for class numbers out of range and for masks that were not divided by their largest number (up to MANY,
perhaps classes); labels that are all alike are told of from FEWEST examples on, and only where all data were seen. Data are sorted by class where of at least
SEEN measured batches a share of SORTED or more are of one class each, and no more than OFTEN of those of the same one, as they are where one class is frequent:
a warning where little was learned or does not carry over, for a low rate bears it. Numbers to predict that are whole and NEARLY_ALL the same were cut, an info
unless little was learned; a number other than 0 that MARKED or more of the targets are, far away from all others, is a mark; a few dwarf the others where all
deviate by FAR times what nine tenths of them span; of images and rows, whose numbers are mostly 0, nothing is said.
NaN is an info beside a loss of one's own, which may leave it out, and labels that are all alike are one beside frozen layers (a generator learns by them) and
beside several inputs (of each pair the first one is to win).
Not to be confused with: a head with too few units (`wrong-head`), few examples of a class (`class-imbalance`), the -1 that a loss was told to ignore.
"""

import numpy as np

from keras_optlab.diagnosis.curves import curve
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, DISTANCE, ONE_HOT, SPARSE, WELL, heads, needed, over, poor
from keras_optlab.diagnosis.record import Record

CODE = "bad-labels"
FEWEST, NEARLY_ALL, FAR = 20, 0.98, 10.0
SEEN, SORTED, OFTEN = 5, 0.3, 0.75
MARKED = 0.005
MANY = 254  # number of classes in a mask; above, it is a gray value


def find(record: Record) -> list[Finding]:
    data, found = record.facts.get("data", {}), []
    own = None in record.facts.get("losses", [])

    def tell(evidence, message, advice, severity="error", **remedy):
        found.append(Finding(CODE, severity, None, 0, 0, evidence, message, advice, remedy=remedy))

    for target in data.get("y", []):
        if target["nonfinite"] > 0:
            tell(
                {"share": target["nonfinite"], "threshold": 0.0},
                f"{target['nonfinite']:.2%} of the targets are NaN or infinite.",
                NAN,
                "info" if own else "error",
            )
        if target.get("heaviest") == 0:
            message = "The weights of all examples are 0: none of them counts."
            tell({"weights": 0.0, "threshold": 0.0}, message, "Look at `sample_weight`: 1 for what counts, 0 for what does not.")
    if data.get("targets", data.get("examples")) != data.get("examples"):
        message = f"There are {data['examples']:,} inputs and {data['targets']:,} targets."
        tell(
            {"inputs": float(data["examples"]), "targets": float(data["targets"])}, message, "Give one target for each input: `x, y = x[:len(y)], y[:len(x)]`."
        )
    for head in heads(record):
        target = head.target
        if head.loss in BINARY and target and target["integer"] and target["min"] == 0 and target["max"] > 1 and (not head.flat or target["classes"] == 2):
            message = f"The targets go up to {target['max']:.0f}, but the {head.loss} wants shares between 0 and 1."
            tell({"most": target["max"], "threshold": 1.0}, message, _shares(head.flat, int(target["max"])))
        rows = target and target["row_sum"]
        if head.loss in ONE_HOT and rows and target["shape"] == [head.units] and target["integer"] and rows == [0, 1] and target["min"] == 0:
            message = f"Some of the targets are rows of {head.units} zeros: no class, of which the {head.loss} learns nothing."
            tell({"row_sum": 0.0, "threshold": 1.0}, message, "Write one column for each class, `pandas.get_dummies(labels)` without `drop_first`.", "warning")
        cut = target and head.loss in DISTANCE and head.activation == "linear" and target.get("dtype", "").startswith(("int", "uint"))
        if cut and (target["largest"] or 0) >= NEARLY_ALL and data["whole"] and data["examples"] >= FEWEST:
            message = f"{target['largest']:.1%} of the numbers to predict are the same: were they between 0 and 1 when they became whole?"
            evidence, severity = {"share": target["largest"], "threshold": NEARLY_ALL}, "warning" if poor(record) else "info"
            tell(evidence, message, 'Keep what is behind the point: `y.astype("float32")`.', severity)
            continue
        if head.loss in DISTANCE and target and "mark" in target:
            mark, share = target["mark"]
            message = f"{share:.1%} of the targets are {mark:.6g}, far away from all others, as a mark for what is missing is."
            advice = f"Leave them out: `keep = np.ravel(y) != {mark:.6g}`, `x, y = x[keep], y[keep]`."
            tell({"share": share, "threshold": MARKED, "mark": mark}, message, advice, "warning")
            continue
        if head.loss == "mean_squared_error" and head.flat and target["std"] > FAR * (target.get("high", 0) - target.get("low", 0)) > 0:
            message = f"A few targets dwarf all others: they reach from {target['min']:.3g} to {target['max']:.3g}, nine tenths of them lie between "
            message += f"{target['low']:.3g} and {target['high']:.3g}, and a squared error sees only the former."
            evidence = {"std": target["std"], "threshold": FAR * (target["high"] - target["low"])}
            tell(evidence, message, "Look at them, `np.abs(y).argsort()[-5:]`; mend them, leave them out or take `keras.losses.Huber()`.", "warning")
        if not head.labels:
            continue
        low, high, units = head.target["min"], head.target["max"], head.units
        if head.loss in SPARSE and units is not None and low >= 1 and high == units:
            message = f"The class numbers go from {low:.0f} to {high:.0f}, but those of {units} units count from 0."
            tell({"most": high, "threshold": float(units - 1)}, message, "Count classes from 0: `y = y - 1`.", units=units + 1)
        elif head.loss in (*SPARSE, *BINARY) and low < 0 or head.loss in BINARY and (low, high) == (1, 2):
            message = f"The labels are {low:.0f} to {high:.0f}, but the {head.loss} wants {'0 and 1' if head.loss in BINARY else 'class numbers from 0'}."
            numbered = f"y + {-low:.0f}" if low < 0 else f"y - {low:.0f}"
            numbered = "(y + 1) // 2" if (low, high, head.target["classes"]) == (-1, 1, 2) else numbered
            tell({"least": low, "most": high}, message, f"Count classes from 0: `y = {numbered}`.")
        elif head.target["classes"] == 1 and data["whole"] and data["examples"] >= FEWEST and head.loss in (*SPARSE, *BINARY):
            tell(
                {"classes": 1.0, "threshold": 2.0},
                f"All {data['examples']:,} labels are {low:.0f}: there is nothing to learn.",
                "Look at `np.unique(y)`.",
                "info" if record.facts.get("trainable", {}).get("frozen") or len(data.get("x", [])) > 1 else "warning",
            )
    batches, validated = record.facts.get("batches"), curve(record, "val_loss")
    if batches and record.logs.get("loss") and batches["seen"] >= SEEN:  # in a loop without epochs, real and made examples may take turns
        share, lost = batches["alike"] / batches["seen"], len(validated) and over(record) and validated[-1] > (1 - WELL) * (needed(record) or np.inf)
        if share >= SORTED and batches["most"] <= OFTEN * batches["alike"]:
            message = f"The examples are sorted by class: {batches['alike']} of {batches['seen']} batches are of one class, which is forgotten in the next."
            advice = "Shuffle them: `dataset.shuffle(len(x))` before `batch`, or arrays without `shuffle=False`."
            tell({"share": share, "threshold": SORTED}, message, advice, "warning" if lost or poor(record) else "info")
    return found


def _shares(two_values: bool, most: int) -> str:
    """What to do with whole targets above 1 before a binary crossentropy: the two values of a mask, or, in an image, perhaps classes."""
    if two_values or most > MANY:
        return f"Divide them: `y = y / {most}`."
    advice = f'For classes end with a softmax over {most + 1} units and compile with `loss="sparse_categorical_crossentropy"`;'
    return f"{advice} divide the two values of a mask, `y = y / {most}`."


NAN = "Leave them out: `keep = np.isfinite(y).reshape(len(y), -1).all(1)`, `x, y = x[keep], y[keep]`."
