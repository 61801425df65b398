"""Steps that the optimizer refuses, because loss scaling found a gradient that is not finite.

Needs: which sampled steps were skipped, how many batches there were.
Thresholds: the samples at the end, SAMPLES or more, are all skipped and stand for more than NORMAL batches; or all of them are, and the loss was the same in
EPOCHS epochs or more; or, past MANY batches, SHARE of the samples. A dynamic scale of 2**15 that is halved at each of them is below 1 after 16.
Not to be confused with: the skips with which a dynamic scale finds its level at the start and, rarely, later; gradients that are not finite at any scale
(`non-finite`).
"""

import numpy as np

from keras_optlab.diagnosis.curves import calls, curve
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "skipped-steps"
SAMPLES, NORMAL, MANY, SHARE, EPOCHS = 3, 20, 100, 0.5, 5


def find(record: Record) -> list[Finding]:
    skipped = np.array(record.skipped, bool)
    if not skipped.any():
        return []
    share, batches = float(skipped.mean()), calls(record)
    losses = curve(record, "loss")
    stands = len(losses) >= EPOCHS and np.ptp(losses) <= 1e-6 * abs(losses[0])
    whole = skipped[-SAMPLES:].all() and (share * batches >= NORMAL and len(skipped) >= SAMPLES or share == 1 and stands)
    if not (whole or batches >= MANY and share >= SHARE):
        return []
    first, last = np.flatnonzero(skipped)[[0, -1]]
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[first],
            record.steps[last],
            {"share": share, "threshold": SHARE, "samples": float(len(skipped))},
            f"The optimizer has refused {share:.0%} of {len(skipped)} measured steps, as loss scaling does with gradients that are not finite"
            + (": no weight has changed." if share == 1 else "."),
            "Look for NaN in the data, `np.isfinite(x).all()`, begin with a smaller scale, "
            "`keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)`, or take a type with a wider range: "
            '`keras.config.set_dtype_policy("mixed_bfloat16")`.',
        )
    ]
