"""So much is dropped that little is left to learn from.

Needs: the rates of the dropout layers; a trial training.
Thresholds: LARGE, a warning where the trial brought nothing; EXTREME, a warning at once.
Not to be confused with: the usual .5 before the last layer.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import stuck
from keras_optlab.diagnosis.record import Record

CODE = "dropout-too-high"
LARGE, EXTREME = 0.75, 0.9


def find(record: Record) -> list[Finding]:
    found = []
    for layer in record.facts.get("layers", []):
        rate = layer["rate"] if isinstance(layer["rate"], (int, float)) else 0
        if rate >= LARGE:
            severity = "warning" if rate >= EXTREME or stuck(record) else "info"
            message = f"`{layer['name']}` drops {rate:.0%} of what it gets."
            found.append(Finding(CODE, severity, layer["name"], 0, 0, {"rate": float(rate), "threshold": LARGE}, message, "`keras.layers.Dropout(0.3)`."))
    return found
