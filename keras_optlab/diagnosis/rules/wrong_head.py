"""The last layer cannot give what the loss and the targets ask for.

Needs: shape and function of each output, the loss, range and kind of the targets; a trial training for what is only doubtful.
Thresholds: none where the arithmetic says it all: softmax over one unit is 1 for every input; class numbers beyond the units; more than two classes for one
sigmoid; one target for the many places of an image or a sequence, or for
several units before a loss of numbers; targets outside what a bounded function can reach by more than BEYOND of its range, the
outermost twentieth on either side left out, or below what a relu gives by BELOW of their root mean square: an info where FITS of the loss goes all the same. A
function that gives no probabilities before a crossentropy that wants them is an error only where a trial training on a batch brought nothing: Keras clips what
is no probability, and some such heads learn all the same.
They are a warning where a whole run has brought less than WELL. The same holds for a head before a Poisson loss that may give numbers below 0, which have no
logarithm.
Not to be confused with: a loss that fits no such labels (`wrong-loss`), classes counted from 1 (`bad-labels`), a sigmoid for each class before a categorical
crossentropy (Keras divides by the sum: it learns).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, DISTANCE, ONE_HOT, SHARES, SPARSE, Head, gained, heads, poor, stuck
from keras_optlab.diagnosis.record import Record

CODE = "wrong-head"
BEYOND, BELOW, FITS = 0.1, 0.5, 0.8
POSITIVE = ("exponential", "softplus", "sigmoid", "softmax", "relu", "relu6", "hard_sigmoid", "squareplus")
BOUNDS = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0)}


def find(record: Record) -> list[Finding]:
    so_far = gained(record) or 0
    doubtful = "error" if stuck(record) else "warning" if poor(record) else "info"
    judged = [(head.layer, _judged(head, doubtful, so_far > FITS)) for head in heads(record)]
    return [Finding(CODE, severity, layer, 0, 0, *told, remedy=remedy) for layer, (severity, *told, remedy) in judged if severity]


def _judged(head: Head, doubtful: str, learns: bool):
    units, function, target = head.units, head.activation, head.target
    if function == "softmax" and units == 1:
        remedy = {"activation": "linear"} if head.loss in DISTANCE else {"activation": "sigmoid", "loss": "binary_crossentropy"}
        return "error", {"units": 1.0}, f"A softmax over one unit is 1 for every input, so {head.name} always predicts the same.", ONE, remedy
    if head.flat and head.places and head.places > 1 and head.loss in (*SPARSE, *ONE_HOT, *BINARY, *DISTANCE):
        message = f"There is one target for each example, but {head.name} gives {head.places} times {units} numbers, one for each place of what it reads."
        return "error", {"places": float(head.places), "threshold": 1.0}, message, FLAT, {"flatten": True}
    if head.flat and head.places == 1 and units and units > 1 and head.loss in DISTANCE and not head.labels:
        message = f"There is one number to predict for each example, but {head.name} gives {units}: each of them is held against it."
        return "error", {"units": float(units), "threshold": 1.0}, message, "End with `keras.layers.Dense(1)`.", {"units": 1}
    if head.loss in SPARSE and head.labels and units is not None and target["max"] >= units and not (target["min"] >= 1 and target["max"] == units):
        needed = int(target["max"]) + 1
        message = f"The class numbers go up to {needed - 1}, but {head.name} gives {units} number{'s' if units > 1 else ''}."
        advice, function = f'End with `keras.layers.Dense({needed}, activation="softmax")`.', "linear" if head.from_logits else "softmax"
        return "error", {"units": float(units), "threshold": float(needed)}, message, advice, {"units": needed, "activation": function}
    if head.loss in BINARY and units == 1 and head.labels and target["classes"] > 2 and target["min"] >= 0:
        classes = int(target["max"]) + 1
        message = f"One probability cannot tell {classes} classes apart, and the binary crossentropy of labels above 1 falls without end."
        advice = f'End with `keras.layers.Dense({classes}, activation="softmax")` and `loss="sparse_categorical_crossentropy"`.'
        remedy = {"units": classes, "activation": "softmax", "loss": "sparse_categorical_crossentropy"}
        return "error", {"classes": float(target["classes"]), "threshold": 2.0}, message, advice, remedy
    if (
        head.loss in (*ONE_HOT, *BINARY)
        and function == "softmax"
        and target
        and target["row_sum"]
        and target["integer"]
        and target["row_sum"][1] >= 2
        and target["max"] == 1
    ):
        message = f"Examples belong to up to {target['row_sum'][1]:.0f} classes at once, but the numbers of a softmax add up to 1."
        advice = f'End with {_dense(units, "sigmoid")} and `loss="binary_crossentropy"`.'
        severity = "info" if learns and head.loss in ONE_HOT else "error"  # as rows of what somebody has bought may be
        return severity, {"row_sum": target["row_sum"][1], "threshold": 1.0}, message, advice, {"activation": "sigmoid", "loss": "binary_crossentropy"}
    if head.loss in DISTANCE and function in BOUNDS and target and not (head.labels and units is not None and units > 1):
        low, high = BOUNDS[function]
        beyond = max(low - target.get("low", target["min"]), target.get("high", target["max"]) - high) / (high - low)
        if beyond > BEYOND:
            message = f"Targets reach from {target['min']:.3g} to {target['max']:.3g}, which a {function} never gives: it stays within {low:g} and {high:g}."
            advice = f"End with {_dense(units)}, without a function, or scale the targets."
            return "info" if learns else "error", {"beyond": beyond, "threshold": BEYOND}, message, advice, {"activation": "linear"}
    if head.loss in DISTANCE and function in ("relu", "relu6", "softplus") and target and target.get("low", target["min"]) < -BELOW * max(target["rms"], 1e-12):
        message = f"Targets go down to {target['min']:.3g}, but a {function} gives nothing below 0."
        advice = f"End with {_dense(units)}, without a function."
        return "info" if learns else "warning", {"least": target["min"], "threshold": 0.0}, message, advice, {"activation": "linear"}
    if head.loss in (*SPARSE, *ONE_HOT, *BINARY) and not head.from_logits and function is not None and function not in SHARES:
        wanted = "sigmoid" if head.loss in BINARY else "softmax"
        message = f"The loss {head.loss} takes probabilities, but {head.name} ends {'without a function' if function == 'linear' else f'with {function}'}."
        advice = f"End with {_dense(units, wanted)}, or give the loss `from_logits=True` and end without a function."
        return doubtful, {}, message, advice, {"activation": wanted}
    if head.loss == "poisson" and function is not None and function not in POSITIVE:
        message = f"The Poisson loss takes the logarithm of what {head.name} predicts, which ends with {function} and may give numbers below 0."
        return doubtful, {}, message, f"End with {_dense(units, 'exponential')}.", {"activation": "exponential"}
    return None, None


def _dense(units: int | None, function: str | None = None) -> str:
    """A last layer as code; its function alone where it is not known how many units there are."""
    if units is None:
        return f'`activation="{function}"`' if function else "`activation=None`"
    return f'`keras.layers.Dense({units}, activation="{function}")`' if function else f"`keras.layers.Dense({units})`"


FLAT = (
    "Put `keras.layers.Flatten()` before the dense layers; after a recurrent layer leave out `return_sequences=True`, or take "
    "`keras.layers.GlobalAveragePooling1D()`."
)
ONE = 'End with `keras.layers.Dense(1, activation="sigmoid")` for two classes, without a function for numbers, with one unit for each of more classes.'
