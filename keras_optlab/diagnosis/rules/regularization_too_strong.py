"""The penalty on the weights outweighs what there is to learn, or they are held so small that nothing gets through.

Needs: the first loss of a trial training, or of the run where none was needed, and how much of it are penalties; what constraints there are on kernels.
Thresholds: penalties TIMES the rest (l2 of .1 on a layer of 512 units: 26 times; of 1e-3: a quarter), or HALF of the rest where no trial learned the batch
or the run stands. Where layers have penalties on what they give and no trial learned the batch, a first loss TIMES that of guessing. Of a run without a trial
it is an info while it goes on, and a warning where at its end less than WELL of the loss of guessing is gone.
Where nothing is learned, kernels whose units are held below TIGHT (as Keras draws them, their norms are about 1).
A weight decay that takes more than DECAYS of the weights away in each step (AdamW as it comes: 4e-6) is a warning where little or nothing was learned.
Not to be confused with: usual penalties; losses that a model adds for other reasons, such as those of a variational autoencoder.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import WELL, gained, needed, over, poor, stands, stuck, tried
from keras_optlab.diagnosis.record import Record

CODE = "regularization-too-strong"
TIMES, HALF, DECAYS, TIGHT = 10.0, 0.5, 0.01, 0.1


def find(record: Record) -> list[Finding]:
    optimizer = record.facts.get("optimizer") or {}
    decays = (optimizer.get("decay") or 0.0) * optimizer.get("learning_rate", 0.0)  # as Keras applies it, whatever the optimizer
    if decays > DECAYS and poor(record):
        message = f"Each step takes {decays:.2g} of the weights away, the rate of {optimizer['learning_rate']:.3g} times a decay of {optimizer['decay']:.3g}."
        advice = f"`keras.optimizers.{optimizer['name']}(..., weight_decay=0.01)`."
        return [Finding(CODE, "warning", None, 0, 0, {"decays": decays, "threshold": DECAYS}, message, advice)]
    limit, layer = min(((one["limit"], one["name"]) for one in record.facts.get("layers", []) if "limit" in one), default=(TIGHT, None))
    if limit < TIGHT and stuck(record):
        message = f"The units of `{layer}` are held below a norm of {limit:.3g}; as Keras draws them, it is about 1."
        advice = "`kernel_constraint=keras.constraints.MaxNorm(3)`."
        return [Finding(CODE, "warning", layer, 0, 0, {"limit": limit, "threshold": TIGHT}, message, advice)]
    probe, severity, guessed = record.facts.get("probe"), "warning", needed(record)
    if (active := record.facts.get("active_penalties")) and guessed and stuck(record) and len(record) and record.loss[0] > TIMES * guessed:
        message = (
            f"The loss begins at {record.loss[0]:.3g}, guessing gives {guessed:.3g}: the penalty on what `{active[0]}` gives outweighs what there is to learn."
        )
        evidence = {"times": record.loss[0] / guessed, "threshold": TIMES}
        return [Finding(CODE, "warning", active[0], 0, 0, evidence, message, "Take far less: `activity_regularizer=keras.regularizers.L1(1e-5)`.")]
    if probe:
        penalty, rest = probe["penalty"], max(1e-7, *map(abs, probe["loss"]))  # a cosine begins at about 0
        threshold = TIMES if (probe["learned"] or any(probe["verdicts"].values())) and not stands(record) else HALF
    else:
        (penalty, now), losses = record.facts.get("penalty", (0.0, 0.0)), [loss for loss in record.loss if np.isfinite(loss)]
        if not losses:
            return []
        rest, threshold = max(1e-7, abs(losses[0] - penalty), abs(losses[-1] - now)), TIMES
        learns = not over(record) or not tried(record) or (gained(record) or 0.0) > WELL
        severity = "info" if learns else "warning"
    if not penalty > threshold * rest:
        return []
    begins = "" if probe else " at the start"
    message = f"Beside a loss of {rest:.3g}, the penalties on the weights are {penalty:.3g}{begins}: {penalty / rest:.2g} times as much."
    advice = "Take far less: `kernel_regularizer=keras.regularizers.L2(1e-4)`."
    return [Finding(CODE, severity, None, 0, 0, {"times": penalty / rest, "threshold": threshold}, message, advice)]
