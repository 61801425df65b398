"""Gradients or weights that are NaN or infinite, or the loss alone.

Needs: shares of non-finite entries, weight norms and losses; where no step was measured, the losses of the epochs (steps are epochs then, counted from 0).
Threshold: none. One such step that the optimizer applied makes the weights NaN for good. A loss whose gradient is finite, as that of a logarithm below 0 may
be, is told of after LOST samples.
Not to be confused with: a step that loss scaling skips because a half-precision gradient overflowed
(`skipped-steps`); where none of SKIPPED samples is applied and the loss is not finite either, it is not the scale.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "non-finite"
SKIPPED, LOST = 5, 3  # samples in a row


def find(record: Record) -> list[Finding]:
    skipped = np.array(record.skipped, bool)
    if not len(record):
        return _from_logs(record)
    if skipped[-1] and record.loss[-1] == np.inf:
        return _nothing_gets_through(record, skipped)
    table = record.table()
    if not np.isinf(table[..., :3]).any() and not (table[..., 4] > 0).any():  # NaN is what is not there
        return [] if skipped.any() else _loss_alone(record)
    weights = record.per_layer("weight_norm") == np.inf
    gradients = (record.per_layer("grad_norm") == np.inf) | (record.per_layer("nonfinite_share") > 0)
    bad = (weights | gradients).any(1) & ~skipped
    if not bad.any():
        return []
    i, last = int(np.argmax(bad)), int(np.flatnonzero(bad)[-1])
    sick = np.flatnonzero(gradients[i] | weights[i])
    whole = len(sick) == len(record.layers) > 1
    layer = None if whole else record.layers[sick[-1]]  # backwards, it begins at the layer nearest to the loss
    what = "weights" if weights[i].any() and not gradients[i].any() else "gradient"
    where = "of every layer" if whole else f"of `{layer}`"
    share = float(np.nan_to_num(record.per_layer("nonfinite_share")[i]).max())
    verb = "are" if what == "weights" else "is"
    return [
        Finding(
            CODE,
            "error",
            layer,
            record.steps[i],
            record.steps[last],
            {"layers": float(len(sick)), "share": share, "threshold": 0.0, "learning_rate": record.learning_rate[i]},
            f"The {what} {where} {verb} not finite at step {record.steps[i]} (learning rate {record.learning_rate[i]:.3g}): the weights are lost from here on.",
            "Look for NaN in the data (`np.isfinite(x).all()`), then lower the rate or clip: `optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=1.0)`.",
        )
    ]


def _from_logs(record):
    lost = np.flatnonzero(~np.isfinite(record.logs.get("loss", [])))
    if not len(lost):
        return []
    epoch, last = int(lost[0]), int(lost[-1])
    return [
        Finding(
            CODE,
            "error",
            None,
            epoch,
            last,
            {"epochs": float(len(lost)), "threshold": 0.0},
            f"The loss is not finite in {len(lost)} epoch{'s' if len(lost) > 1 else ''}, first in number {epoch + 1}.",
            "Look for NaN in the data (`np.isfinite(x).all()`), then lower the rate or clip: `optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=1.0)`.",
        )
    ]


def _loss_alone(record):
    lost = np.flatnonzero(np.isinf(record.loss))
    if len(lost) < LOST or not np.isinf(record.loss[-LOST:]).all():
        return []
    return [
        Finding(
            CODE,
            "error",
            None,
            record.steps[lost[0]],
            record.steps[-1],
            {"samples": float(len(lost)), "threshold": float(LOST)},
            f"The loss is not finite since step {record.steps[lost[0]]}, though gradients and weights are.",
            "Look in the loss for a logarithm or a root of what may be below 0 and for a division by 0: `keras.ops.softplus(sigma) + 1e-6` is above it.",
        )
    ]


def _nothing_gets_through(record, skipped):
    applied = np.flatnonzero(~skipped)
    first = int(applied[-1]) + 1 if len(applied) else 0
    count = len(record) - first
    if count < SKIPPED:
        return []
    return [
        Finding(
            CODE,
            "error",
            None,
            record.steps[first],
            record.steps[-1],
            {"samples": float(count), "threshold": float(SKIPPED)},
            f"None of the last {count} measured steps was applied (since step {record.steps[first]}): neither gradient nor loss is finite, whatever the scale.",
            'Look for NaN in the data (`np.isfinite(x).all()`), or train in a type with a wider range: `keras.config.set_dtype_policy("mixed_bfloat16")`.',
        )
    ]
