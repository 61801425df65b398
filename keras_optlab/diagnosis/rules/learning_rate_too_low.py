"""A rate at which the weights hardly move, though the same net learns at a usual one; or a schedule that is over before it has learned.

Needs: update and weight norms of a trial training on one batch, from which of its first 100 steps a schedule leaves nearly nothing of its largest rate, and
whether Adam at a usual rate learned that batch.
Thresholds: no layer's update is above FROZEN of its weights in any measured step (healthy: about 1e-3), or none above SLOW and the trial lowered its loss by
less than GAIN (plain SGD at 1e-5 may have 4.7e-5, at 1e-3 in a net that learns slowly 6e-5); or the schedule was over within the trial, which runs at the
scheduled rates then; and Adam learned the batch. Without a trial: no layer above FROZEN in a run of TRIED steps or more, at whose end the loss is within GAIN
of that of its first epoch and less than DONE of the loss of guessing is gone, for some nets begin below that by chance. Or the rate was GONE of its largest or
less from the first EARLY of the run's steps on, and it has brought less than WELL (DONE where the rate is GONE of that again), or nothing though a trial has
learned the batch, with the given optimizer or with Adam; but not where the loss of RESTED epochs before was no longer falling, for then it was right to come
down.
Not to be confused with: vanishing gradients (some layers still move), fine-tuning at 1e-5 (its loss falls), warm-up (a schedule is judged at its highest
rate), a short schedule for a short training (its trial learns), steps that the optimizer skips, a run that learns but slowly (`slow-convergence`).
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import FALLING, LEARNED, TRIED, WELL, at_rate, gained, over, tried
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules.loss_not_decreasing import GAIN

CODE = "learning-rate-too-low"
FROZEN, SLOW, DONE = 2e-5, 5e-5, 0.8
GONE, EARLY, RESTED = 0.02, 0.2, 3


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not len(record.applied()):
        return []
    if spent := _spent(record):
        return spent
    if not probe or probe["learned"]:
        return _frozen(record)
    if not probe["verdicts"].get("adam"):
        return []
    spent = (record.facts.get("optimizer") or {}).get("over")
    if spent is not None:
        message = f"The schedule has used up its rate of {probe['rate']:.3g} by step {spent}, before a batch is learned, while Adam at a usual rate learns it."
        advice = "Count a schedule in steps of training, not in epochs: `decay_steps = epochs * len(x) // batch_size`."
        return [Finding(CODE, "warning", None, spent, record.steps[-1], {"learning_rate": probe["rate"], "over": float(spent)}, message, advice)]
    moved, first = _moved(record), probe["loss"][0]
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
            f"Take a hundred times as much: {at_rate(record, 100 * rate)}.",
        )
    ]


def _moved(record: Record) -> float:
    """The largest part of its weights that a layer has moved by in a measured step."""
    with np.errstate(all="ignore"):
        moved = (record.per_layer("update_norm") / record.per_layer("weight_norm"))[record.applied()]
    return float(np.where(np.isfinite(moved), moved, 0).max(initial=0))


def _spent(record: Record) -> list[Finding]:
    """Of a run whose rate was all but gone early, be it by a schedule or by a callback."""
    probe, rates, steps = record.facts.get("probe"), np.array(record.learning_rate), np.array(record.steps) - record.steps[0]
    low = rates <= GONE * rates.max()
    since = len(low) - int(np.argmin(low[::-1])) if not low.all() else 0
    if not low[-1] or steps[-1] < TRIED or steps[since - 1] > EARLY * steps[-1] or not over(record):
        return []
    if (gained(record) or 0) > (DONE if rates[-1] <= GONE**2 * rates.max() else WELL):
        return []
    if (gained(record) or 0) <= LEARNED and not probe or probe and not (probe["learned"] or probe["verdicts"].get("adam")):
        return []
    pace = record.steps[-1] / max(len(record.logs.get("loss", [])), 1)
    before = record.logs.get("loss", [])[: int(record.steps[since] / max(pace, 1))]
    if len(before) > RESTED and min(before[-RESTED:]) > FALLING * before[-RESTED - 1]:
        return []  # it came down because the loss was at rest
    step, largest, now = record.steps[since], float(rates.max()), float(rates[-1])
    message = f"By step {step} of {record.steps[-1]} the rate has come down from {largest:.3g} to {rates[since]:.3g}, before much was learned."
    advice = "Let it fall later: a schedule counts steps of training, not epochs, `decay_steps = epochs * len(x) // batch_size`."
    return [
        Finding(CODE, "warning", None, step, record.steps[-1], {"learning_rate": largest, "over": float(step), "left": now, "threshold": GONE}, message, advice)
    ]


def _frozen(record: Record) -> list[Finding]:
    losses, moved = record.logs.get("loss", []), _moved(record)
    if len(losses) < 2 or not over(record) or not tried(record) or not 0 < moved <= FROZEN:
        return []
    if not abs(losses[0] - losses[-1]) <= GAIN * abs(losses[0]) or (gained(record) or 0) >= DONE:
        return []
    rate = max(record.learning_rate)
    message = (
        f"At a learning rate of {rate:.3g} no layer has moved by more than {moved:.1e} of its weights in a step (healthy: about 1e-3), and the loss stands "
    )
    message += f"at {losses[-1]:.3g}."
    advice, evidence = f"Take a hundred times as much: {at_rate(record, 100 * rate)}.", {"learning_rate": rate, "update_to_weight": moved}
    return [Finding(CODE, "warning", None, record.steps[0], record.steps[-1], evidence | {"threshold": FROZEN}, message, advice)]
