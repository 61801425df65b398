"""A rate at which a batch is not learned but thrown off, though the same net learns it at a usual one.

Needs: a trial training on one batch, with the given optimizer and with Adam at a usual rate; update and weight norms of the first measured steps.
Thresholds: the loss rose above WORSE times its first value or was not finite, or one of the first three measured steps moved a layer by FAST of its weights
(healthy: about 1e-3, in the first steps of Adam .02); and the batch was not learned, while Adam learned it. Where the batch was learned, or none was tried:
steps above FAST, and a run that stands; or one above ENOUGH, that moves half of the layers by HALF, and a run that has brought less than WELL at its
end.
Not to be confused with: inputs out of range (then the given optimizer learns from standardized ones), a head that fits no loss (then Adam does not learn
either), the first step of FTRL, which leaves nothing of the initial weights at any rate.
"""

import numpy as np

from keras_optlab.diagnosis.curves import movement
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import WELL, at_rate, gained, large_targets, over, stands
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import bad_input_range

CODE = "learning-rate-too-high"
WORSE, FAST, ENOUGH, HALF = 2.0, 0.2, 5.0, 0.5
SCALED = " Or bring the targets into range: train on `(y - y.mean()) / y.std()`, and turn predictions back."


def find(record: Record) -> list[Finding]:
    probe, moved = record.facts.get("probe") or {}, float(movement(record)[:3].max(initial=0))
    if (record.facts.get("optimizer") or {}).get("name") == "Ftrl":
        moved = 0.0
    tried = probe.get("learned") is False
    losses = probe["loss"] if tried else record.loss
    little = over(record) and bool(record.logs.get("loss")) and (gained(record) or 0) <= WELL
    thrown = little and moved > ENOUGH and movement(record, 0.5)[:3].max() > HALF  # a last layer that starts near zero moves far at any rate
    if tried and not probe["verdicts"].get("adam") or not tried and not (stands(record) and moved > FAST or thrown):
        return []
    first, highest = losses[0], max(losses) if np.isfinite(losses).all() else np.inf
    rate = probe["rate"] if tried else max(record.learning_rate)  # of a schedule the highest
    if not (highest > WORSE * first or moved > FAST) or any(f.severity == "warning" for f in bad_input_range.find(record)):
        return []
    rises = highest > WORSE * first
    what = f"the loss rises from {first:.3g} to {highest:.3g}" if rises else f"a step moves a layer by {moved:.0%} of its weights (healthy: .1 %)"
    learned = f"{'nothing' if stands(record) else 'little'} is learned"
    then = "a batch is not learned, though Adam learns it at a usual one" if tried else learned
    evidence = {"learning_rate": rate, "threshold": WORSE * first, "update_to_weight": moved, "threshold_update_to_weight": FAST}
    return [
        Finding(
            CODE,
            "warning",
            None,
            0,
            record.steps[-1] if len(record) else 0,
            evidence | ({"loss": highest} if np.isfinite(highest) else {}),
            f"At a learning rate of {rate:.3g} {what}, and {then}.",
            f"Take a tenth, and a tenth of that: {at_rate(record, rate / 10)}." + (SCALED if large_targets(record) else ""),
        )
    ]
