"""A layer with a bounded function, such as tanh or sigmoid, most of whose values stand at a bound, where the function is flat.

Needs: of each look at a batch the share of values within a hundredth of the function's range of a bound; a trial training, and what the run has brought. The
last layer is not looked at, for it is to come close to 0 and 1.
Thresholds: SHARE of the values (a layer drawn as usual that reads standardized inputs: less than .05), in every look, or in each since the first EARLY steps.
A warning where the trial brought nothing; and from EXTREME on, where the last layer alone may learn a batch, if the run has brought next to nothing after
TRIED steps. Else an info, as wherever the targets are large.
Not to be confused with: a layer that strives for targets far beyond 1 (`loss-not-decreasing` names them); a net that learned to say yes or no, whose functions
come to their bounds with time; gates of recurrent layers, which are not seen.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import LEARNED, TRIED, gained, large_targets, stuck
from keras_optlab.diagnosis.record import Record, onset

CODE = "saturated-activation"
SHARE, EARLY, EXTREME = 0.7, 50, 0.9


def find(record: Record) -> list[Finding]:
    found, last = [], {output["layer"] for output in record.facts.get("outputs", [])}
    for name, now in record.looks[-1]["layers"].items() if record.looks else ():
        if now["saturated"] is None or name.rpartition("/")[2] in last:
            continue
        shares = [look["layers"].get(name, {}).get("saturated") or 0.0 for look in record.looks]
        began = onset([share >= SHARE for share in shares])
        if began == len(shares) or began and record.looks[began]["step"] > EARLY:
            continue
        message = f"{shares[-1]:.0%} of what `{name}` gives stand at the bounds of its {now['activation']}, where it is flat and passes no gradient."
        advice = (
            f'Bring inputs and weights to their usual size, or take a function that is not bounded: `keras.layers.Dense({now["units"]}, activation="relu", '
            'kernel_initializer="he_normal")`.'
        )
        evidence = {"share": shares[-1], "threshold": SHARE}
        first, latest = record.looks[began]["step"], record.looks[-1]["step"]
        so_far = gained(record)
        sick = stuck(record) or shares[-1] >= EXTREME and latest >= TRIED and so_far is not None and so_far <= LEARNED
        found.append(Finding(CODE, "warning" if sick and not large_targets(record) else "info", name, first, latest, evidence, message, advice))
    return sorted(found, key=lambda one: one.severity == "info")[:1]  # what saturates later may follow from what does so first
