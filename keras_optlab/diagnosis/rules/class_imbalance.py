"""One class holds nearly all examples.

Needs: the share of the largest class, by number and by weight, what the run has brought.
Thresholds: SHARE, from FEWEST examples on. Only an info, for accuracy says little then, but such data are learned every day; a warning from NEARLY_ALL on where
the head is for more than two classes and the run has not learned them (more than LITTLE of the loss is left, or of that of validation, or more than FEW where
there is none), or where a whole run has brought nothing. A trial on one batch, in which one or two
examples are of the other class, tells nothing of that.
Where weights make it so, of classes none of which holds SHARE of the examples, NEARLY_ALL is a warning at once, until accuracy shows that all are learned.
Not to be confused with: labels that are all alike (`bad-labels`), something rare against all else (two classes), numbers to predict
of which most are the same.
"""

from keras_optlab.diagnosis.curves import curve, skill
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import DISTANCE, WELL, gained, heads, needed, over, stands
from keras_optlab.diagnosis.record import Record

CODE = "class-imbalance"
SHARE, NEARLY_ALL, FEWEST, LITTLE, FEW = 0.9, 0.95, 50, 0.15, 0.03


def find(record: Record) -> list[Finding]:
    data = record.facts.get("data", {})
    found, outputs = [], heads(record)
    nothing = bool(record.logs.get("loss")) and over(record) and stands(record)
    validated, brought = curve(record, "val_loss"), gained(record) or 0
    carries = validated[-1] <= LITTLE * (needed(record) or 0) if len(validated) else brought > 1 - FEW
    learned = over(record) and brought > 1 - LITTLE and carries
    for target in data.get("y", []):  # of any output, where it is not known of which
        own = [head for head in outputs if head.target and head.target["name"] == target["name"]] or outputs
        several = any(head.units and head.units > 2 for head in own)
        numbers = any(head.loss in DISTANCE and head.activation == "linear" for head in own)
        share = None if numbers else target["largest"]
        if share is not None and SHARE <= share < 1 and data["examples"] >= FEWEST:
            severity = "warning" if share >= NEARLY_ALL and (several and not learned or nothing) else "info"
            message = f"{share:.1%} of the examples are of one class: whoever always names it is right as often."
            advice = f"{WEIGH} And look at recall or AUC rather than accuracy."
            found.append(Finding(CODE, severity, None, 0, 0, {"share": share, "threshold": SHARE}, message, advice))
        elif share is not None and share < SHARE and (target.get("heaviest") or 0.0) >= NEARLY_ALL:
            message = f"By their weights {target['heaviest']:.1%} of the loss are of one class, of which {share:.1%} of the examples are at most."
            advice = WEIGH
            severity = "info" if over(record) and (skill(record) or 0) > WELL else "warning"
            found.append(Finding(CODE, severity, None, 0, 0, {"share": target["heaviest"], "threshold": NEARLY_ALL}, message, advice))
    return found


WEIGH = "Weigh classes by how rare they are: `class_weight={c: len(y) / (classes * np.sum(y == c)) for c in range(classes)}`."
