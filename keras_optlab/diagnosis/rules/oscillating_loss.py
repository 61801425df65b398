"""The loss goes up and down and comes no further: each step throws away what the ones before it brought.

Needs: the losses of the epochs, and between the measured steps where it is known how many steps an epoch has; update and weight norms; the loss of guessing
by the spread of the targets.
Thresholds: in the last half of at least EPOCHS epochs, or of at least SAMPLES stretches between measured steps past step WARM_UP, the loss turns at TURNS or
more of the points in between, typically goes up and down by SWING of itself and is above NO_BETTER of what it began with and of guessing, while in the
typical step some layer moves by LARGE of its weights (healthy: about 1e-3).
Not to be confused with: the noise of small batches in a run that learns, cyclic rates, a single spike (`gradient-spike`), growth without end
(`exploding-gradient`).
"""

import numpy as np

from keras_optlab.diagnosis.curves import begun, curve, movement, pieces, step_after
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import at_rate, over
from keras_optlab.diagnosis.record import Record

CODE = "oscillating-loss"
EPOCHS, SAMPLES, WARM_UP, TURNS, SWING, NO_BETTER, LARGE = 6, 8, 20, 0.4, 0.1, 0.9, 5e-3


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    if len(applied) < 2 or not over(record) or not np.isfinite(begun(record)):
        return []
    epochs, (steps, sampled) = curve(record, "loss"), pieces(record)
    sampled = sampled[steps > record.steps[0] + WARM_UP]
    curves = [
        ("epochs", epochs[len(epochs) // 2 :], len(epochs) >= EPOCHS),
        ("stretches between measured steps", sampled[len(sampled) // 2 :], len(sampled) >= SAMPLES),
    ]
    moved = float(np.median(movement(record)))
    bar, batch = NO_BETTER * begun(record), record.facts.get("batch_size")
    for what, values, enough in curves:
        if not enough or not np.isfinite(values).all():
            continue
        turns, level = float(np.mean(np.diff(np.sign(np.diff(values))) != 0)), float(values.mean())
        swing = float(np.median(np.abs(np.diff(values)))) / max(abs(level), 1e-12)
        if turns >= TURNS and swing >= SWING and min(level, float(values[-1])) >= bar and moved >= LARGE:
            return [
                Finding(
                    CODE,
                    "warning",
                    None,
                    step_after(record, len(epochs) // 2) if what == "epochs" else int(steps[-len(values)]),
                    record.steps[-1],
                    {"swing": swing, "threshold": SWING, "loss": level, "update_to_weight": moved},
                    f"From one of the last {len(values)} {what} to the next the loss typically changes by {swing:.0%}, and it is no better than at the start "
                    f"({begun(record):.3g}), in steps of {moved:.1e} of the weights (healthy: about 1e-3).",
                    f"Lower the rate, {at_rate(record, max(record.learning_rate) / 10)}"
                    + (f", or take larger batches: `model.fit(x, y, batch_size={4 * batch})`." if batch else "."),
                )
            ]
    return []
