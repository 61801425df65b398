"""Predictions that do not depend on the input.

Needs: of each look at a batch the deviation of the predictions over its examples and the share of the class that is named most; the targets' deviation and
their largest class; a trial training, the loss of the run.
Thresholds: a deviation of at most FLAT, of the targets' own where they are numbers; or one class for each of at least FEWEST examples and a deviation of at
most CLOSE; in every look from step WARM_UP on, and only where the trial brought nothing. Of numbers, HARDLY of the targets' own deviation at the end of a run
that stands.
Not to be confused with: imbalance (nothing is told where the largest class holds OFTEN of the examples), targets that are all alike (`bad-labels`).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import heads, over, stands, stuck
from keras_optlab.diagnosis.record import Record, predictions

CODE = "constant-prediction"
FLAT, CLOSE, FEWEST, WARM_UP, OFTEN, HARDLY = 1e-3, 0.05, 20, 20, 0.9, 0.1


def find(record: Record) -> list[Finding]:
    looks = [look for look in record.looks if look["step"] >= WARM_UP]
    targets = [head.target or {} for head in heads(record)] or record.facts.get("data", {}).get("y", [])
    if not looks or not stuck(record):
        return []
    outputs = predictions(looks[-1])
    for i, name in enumerate(outputs):
        target = targets[i] if len(targets) == len(outputs) else {}
        if not target.get("std", 1.0) or (target.get("largest") or 0.0) >= OFTEN:
            continue
        seen = [(predictions(look).get(name), look["examples"]) for look in looks]
        scale = 1.0 if target.get("classes") else target.get("std", 1.0)
        at_rest = not target.get("classes") and target.get("std") and over(record) and stands(record) and (seen[-1][0] or {}).get("spread") is not None
        hardly = at_rest and seen[-1][0]["spread"] <= HARDLY * scale
        if not hardly and not all(one and _constant(one, examples, scale) for one, examples in seen):
            continue
        now, where = seen[-1][0], "" if len(outputs) == 1 else f" of `{name}`"
        evidence = {"spread": now["spread"], "threshold": (HARDLY if hardly else FLAT) * scale} | (
            {} if now["largest"] is None else {"largest": now["largest"]}
        )
        than = "" if target.get("classes") or "std" not in target else f", the targets by {target['std']:.1e}"
        message = f"The predictions{where} are {'nearly ' if hardly else ''}the same for each of {seen[-1][1]} examples: they deviate by "
        message += f"{now['spread']:.1e} from one to the next{than}."
        return [Finding(CODE, "warning", None, looks[0]["step"], looks[-1]["step"], evidence, message, ADVICE)]
    return []


def _constant(one: dict, examples: int, scale: float) -> bool:
    if one["spread"] is None:
        return False
    return one["spread"] <= FLAT * scale or one["largest"] == 1.0 and one["spread"] <= CLOSE and examples >= FEWEST


ADVICE = (
    "Somewhere between input and output all is lost: look for a layer that gives the same for each example, `keras_optlab.diagnose(model, x, y)`, and for "
    "inputs that are all alike, `x.std(0)`."
)
