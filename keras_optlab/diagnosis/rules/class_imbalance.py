"""One class holds nearly all examples.

Needs: the share of the largest class, what the run has brought.
Thresholds: SHARE, from FEWEST examples on. Only an info, for accuracy says little then, but such data are learned every day; a warning from NEARLY_ALL on
where the head is for more than two classes, or where a run has brought nothing. A trial on one batch, in which one or two examples are of the other class,
tells nothing of that.
Not to be confused with: labels that are all alike (`bad-labels`), something rare against all else (two classes).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import heads, stands
from keras_optlab.diagnosis.record import Record

CODE = "class-imbalance"
SHARE, NEARLY_ALL, FEWEST = 0.9, 0.95, 50


def find(record: Record) -> list[Finding]:
    data = record.facts.get("data", {})
    found, several = [], any(head.units and head.units > 2 for head in heads(record))
    for target in data.get("y", []):
        share = target["largest"]
        if share is not None and SHARE <= share < 1 and data["examples"] >= FEWEST:
            severity = "warning" if share >= NEARLY_ALL and (several or stands(record)) else "info"
            message = f"{share:.1%} of the examples are of one class: whoever always names it is right as often."
            advice = "Weigh the others up, `model.fit(x, y, class_weight={0: 1.0, 1: 10.0})`, and look at recall or AUC rather than accuracy."
            found.append(Finding(CODE, severity, None, 0, 0, {"share": share, "threshold": SHARE}, message, advice))
    return found
