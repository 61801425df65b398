"""So much is dropped that little is left to learn from.

Needs: the rates of the dropout layers; a trial training; the loss of a look, in which nothing is dropped.
Thresholds: LARGE, a warning where the trial brought nothing; EXTREME, a warning at once. Where the loss without it is half of guessing or less, an info.
Not to be confused with: the usual .5 before the last layer.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import WELL, needed, stuck
from keras_optlab.diagnosis.record import Record, predictions

CODE = "dropout-too-high"
LARGE, EXTREME = 0.75, 0.9


def find(record: Record) -> list[Finding]:
    found, last = [], predictions(record.looks[-1]) if record.looks else {}
    whole = next((one["loss"] for one in last.values() if one.get("loss") is not None), None)
    learns = whole is not None and whole <= (1 - WELL) * (needed(record) or 0)
    for layer in record.facts.get("layers", []):
        rate = layer["rate"] if isinstance(layer["rate"], (int, float)) else 0
        if rate >= LARGE:
            severity = "warning" if (rate >= EXTREME or stuck(record)) and not learns else "info"
            message = f"`{layer['name']}` drops {rate:.0%} of what it gets."
            found.append(Finding(CODE, severity, layer["name"], 0, 0, {"rate": float(rate), "threshold": LARGE}, message, "`keras.layers.Dropout(0.3)`."))
    return found
