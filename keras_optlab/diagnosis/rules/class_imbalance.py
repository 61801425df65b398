"""One class holds nearly all examples.

Needs: the share of the largest class.
Threshold: SHARE, from FEWEST examples on. Only an info: accuracy says little then, but such data are learned every day.
Not to be confused with: labels that are all alike (`bad-labels`).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "class-imbalance"
SHARE, FEWEST = 0.9, 50


def find(record: Record) -> list[Finding]:
    data = record.facts.get("data", {})
    found = []
    for target in data.get("y", []):
        share = target["largest"]
        if share is not None and SHARE <= share < 1 and data["examples"] >= FEWEST:
            message = f"{share:.1%} of the examples are of one class: whoever always names it is right as often."
            advice = "Weigh the others up, `model.fit(x, y, class_weight={0: 1.0, 1: 10.0})`, and look at recall or AUC rather than accuracy."
            found.append(Finding(CODE, "info", None, 0, 0, {"share": share, "threshold": SHARE}, message, advice))
    return found
