"""The loss falls steadily but so slowly that the run ends long before it is done.

Needs: the loss of every epoch and of the first step, the loss that knowing only the spread of the targets brings, update and weight norms; a trial training
where there was one.
Thresholds: after at least EPOCHS epochs and STEPS steps the loss has fallen by GAIN and still falls in STEADY of the last half's epochs, it fell in the last
half by PACE of what it fell in the first or more (or a trial on one batch has shown that Adam learns it and the given optimizer does not; one that learned it
shows that the rate is well), it is above FAR of the loss it began with or of guessing, whichever is less, at the pace of the last half as many epochs again
would not bring it below NEAR of that, and in the typical measured step no layer moves by more than SMALL of its weights (healthy: about 1e-3). Or the run
stands, though its loss falls as steadily, and on one batch Adam learns in as many steps in which the given optimizer does not, moving the weights by HEALTHY or
less and not thrown off (to a loss THROWN times the first); Adam itself only up to a rate of USUAL. Or the run had FEW steps in all, has brought less than PART
(a tenth where it is not known how many are right), and less than half of what guessing leaves is right.
Not to be confused with: noise in the data, towards which a loss comes to rest; a plateau (`underfitting`, `vanishing-gradient`), a schedule that has come to
its end, fine-tuning (it begins low, WELL below guessing), a rate with which nothing is learned (`learning-rate-too-low`).
"""

import numpy as np

from keras_optlab.diagnosis.curves import begun, curve, movement, skill, step_after
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import LEARNED, WELL, at_rate, gained, over, stands
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules.loss_not_decreasing import GAIN

CODE = "slow-convergence"
EPOCHS, STEPS, STEADY, FAR, NEAR, SMALL, PACE = 4, 50, 0.9, 0.6, 0.4, 7e-4, 0.25
FEW, PART, THROWN, HEALTHY, USUAL = 20, 0.3, 2.0, 1e-3, 3e-4


def find(record: Record) -> list[Finding]:
    losses = curve(record, "loss")
    if len(losses) < EPOCHS or not over(record) or not len(record):
        return []
    if found := _few(record, losses) or _unable(record, losses):
        return found
    if record.steps[-1] < STEPS or not np.isfinite(begun(record)):
        return []
    if (gained(record) or 0) > WELL:
        return []
    half = losses[len(losses) // 2 :]
    first = max(begun(record), 1e-12)
    reached = float(losses[-1]) / first
    ahead = (2 * float(losses[-1]) - float(losses[len(losses) // 2 - 1])) / first
    moved = float(np.median(movement(record)[1:])) if len(record.applied()) > 1 else np.nan
    fell = losses[len(losses) // 2] - losses[-1], losses[0] - losses[len(losses) // 2]
    trial = record.facts.get("probe", {})
    rate_is_low = trial.get("learned") is False and trial["verdicts"].get("adam", False)
    if trial.get("learned") or not (rate_is_low or fell[0] >= PACE * fell[1]):
        return []
    if losses[0] - losses[-1] < GAIN * abs(losses[0]):
        return []
    if not (np.mean(np.diff(half) < 0) >= STEADY and reached > FAR and ahead > NEAR and 0 < moved <= SMALL):
        return []
    rate = record.learning_rate[-1]
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[0],
            step_after(record, len(losses) - 1),
            {
                "loss": float(losses[-1]),
                "part": reached,
                "threshold": FAR,
                "update_to_weight": moved,
                "threshold_update_to_weight": SMALL,
                "learning_rate": rate,
            },
            f"After {len(losses)} epochs the loss still falls steadily but has come only from {losses[0]:.4g} to {losses[-1]:.4g}, in steps of {moved:.1e} of "
            "the weights (healthy: about 1e-3).",
            f"Take ten times the rate, {at_rate(record, 10 * max(record.learning_rate))}, or train for longer.",
        )
    ]


def _few(record: Record, losses) -> list[Finding]:
    count = sum(epoch["steps"] for epoch in record.pace)
    right = skill(record)
    enough = (gained(record) or 0) > LEARNED if right is None else right > WELL
    if not 0 < count <= FEW or not losses[-1] < losses[0] or (gained(record) or 0) > PART or enough:
        return []
    message = f"There were {count} steps in all, and the loss has come from {losses[0]:.4g} to {losses[-1]:.4g}."
    advice = "More steps an epoch, `batch_size=32` and no `steps_per_epoch`, or more epochs."
    return [Finding(CODE, "warning", None, record.steps[0], record.steps[-1], {"steps": float(count), "threshold": float(FEW)}, message, advice)]


def _unable(record: Record, losses) -> list[Finding]:
    trial = record.facts.get("probe", {})
    if trial.get("learned") is not False or not trial["verdicts"].get("adam") or max(trial["loss"]) > THROWN * abs(trial["loss"][0]) or not stands(record):
        return []
    name, rate = (record.facts.get("optimizer") or {}).get("name", "the optimizer"), max(record.learning_rate)
    steady = np.mean(np.diff(losses[len(losses) // 2 :]) < 0) >= STEADY
    if not steady or np.median(movement(record)) > HEALTHY and name != "Ftrl" or "Adam" in name and rate > USUAL:  # FTRL draws all weights anew
        return []
    message = (
        f"After {len(losses)} epochs the loss is {losses[-1]:.4g}, {losses[0]:.4g} after the first. A single batch, too, {name} learns too slowly at a rate "
    )
    message += f"of {rate:.3g}, while Adam at a usual one learns it in as many steps."
    evidence = {"loss": float(losses[-1]), "gain": float(gained(record) or 0), "threshold": LEARNED, "learning_rate": rate}
    advice = f"Take ten times the rate, {at_rate(record, 10 * rate)}, or `keras.optimizers.Adam(1e-3)`."
    return [Finding(CODE, "warning", None, record.steps[0], record.steps[-1], evidence, message, advice)]
