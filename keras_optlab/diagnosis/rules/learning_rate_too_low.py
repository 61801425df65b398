"""A rate at which the weights hardly move, though the same net learns at a usual one; or a schedule that is over before it has learned.

Needs: update and weight norms of a trial training on one batch, from which of its first 100 steps a schedule leaves nearly nothing of its largest rate, and
whether Adam at a usual rate learned that batch.
Thresholds: no layer's update is above FROZEN of its weights in any measured step (healthy: about 1e-3), or none above SLOW and the trial lowered its loss by
less than GAIN (plain SGD at 1e-5 may have 4.7e-5, at 1e-3 in a net that learns slowly 6e-5); or the schedule was over within the trial, which runs at the
scheduled rates then; and Adam learned the batch.
Not to be confused with: vanishing gradients (some layers still move), fine-tuning at 1e-5 (its loss falls), warm-up (a schedule is judged at its highest
rate), a short schedule for a short training (its trial learns), steps that the optimizer skips, a run that learns but slowly (`slow-convergence`).
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules.loss_not_decreasing import GAIN

CODE = "learning-rate-too-low"
FROZEN, SLOW = 2e-5, 5e-5


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe or probe["learned"] or not probe["verdicts"].get("adam") or not len(record.applied()):
        return []
    over = (record.facts.get("optimizer") or {}).get("over")
    if over is not None:
        message = f"The schedule has used up its rate of {probe['rate']:.3g} by step {over}, before a batch is learned, while Adam at a usual rate learns it."
        advice = "Count a schedule in steps of training, not in epochs: `decay_steps = epochs * len(x) // batch_size`."
        return [Finding(CODE, "warning", None, over, record.steps[-1], {"learning_rate": probe["rate"], "over": float(over)}, message, advice)]
    applied, first = record.applied(), probe["loss"][0]
    with np.errstate(all="ignore"):
        moved = (record.per_layer("update_norm") / record.per_layer("weight_norm"))[applied]
    moved = float(np.where(np.isfinite(moved), moved, 0).max())
    stands = abs(first - float(np.mean(probe["loss"][-5:]))) <= GAIN * abs(first)
    threshold = SLOW if stands else FROZEN
    if not moved <= threshold:
        return []
    rate = probe["rate"]
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[0],
            record.steps[-1],
            {"learning_rate": rate, "update_to_weight": moved, "threshold": threshold},
            f"At a learning rate of {rate:.3g} no layer moves by more than {moved:.1e} of its weights in a step (healthy: about 1e-3), while Adam "
            "at a usual rate learns the same batch.",
            f"Take a hundred times as much: `optimizer.learning_rate = {100 * rate:.1g}`.",
        )
    ]
