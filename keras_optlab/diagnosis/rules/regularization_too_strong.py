"""The penalty on the weights outweighs what there is to learn.

Needs: the first loss of a trial training, or of the run where none was needed, and how much of it are penalties.
Thresholds: penalties TIMES the rest (l2 of .1 on a layer of 512 units: 26 times; of 1e-3: a quarter), or as large as the rest where no trial learned the batch
or the run stands. Of a run without a trial it is an info while it goes on, and a warning where at its end less than WELL of the loss of guessing is gone.
Not to be confused with: usual penalties; losses that a model adds for other reasons, such as those of a variational autoencoder.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import TRIED, WELL, gained, over, stands
from keras_optlab.diagnosis.record import Record

CODE = "regularization-too-strong"
TIMES = 10.0


def find(record: Record) -> list[Finding]:
    probe, severity = record.facts.get("probe"), "warning"
    if probe:
        penalty, rest = probe["penalty"], max(1e-7, *map(abs, probe["loss"]))  # a cosine begins at about 0
        threshold = TIMES if (probe["learned"] or any(probe["verdicts"].values())) and not stands(record) else 1.0
    else:
        (penalty, now), losses = record.facts.get("penalty", (0.0, 0.0)), [loss for loss in record.loss if np.isfinite(loss)]
        if not losses:
            return []
        rest, threshold = max(1e-7, abs(losses[0] - penalty), abs(losses[-1] - now)), TIMES
        learns = not over(record) or record.steps[-1] - record.steps[0] < TRIED or (gained(record) or 0.0) > WELL
        severity = "info" if learns else "warning"
    if not penalty > threshold * rest:
        return []
    begins = "" if probe else " at the start"
    message = f"Beside a loss of {rest:.3g}, the penalties on the weights are {penalty:.3g}{begins}: {penalty / rest:.2g} times as much."
    advice = "Take a hundredth: `kernel_regularizer=keras.regularizers.L2(1e-4)`."
    return [Finding(CODE, severity, None, 0, 0, {"times": penalty / rest, "threshold": threshold}, message, advice)]
